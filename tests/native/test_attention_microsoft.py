"""MultiHeadAttention and Attention of com.microsoft in native kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_operands import BATCH, LENGTH, mask_of, normal
from judged import judge

from forwardpass.ops.microsoft import DOMAIN

B, S, N, H = BATCH, LENGTH, 3, 8
D = N * H


MASKS = ["none", "ends", "keys", "last keys", "pairs"]
SETTINGS: list[dict[str, Any]] = [{}, {"unidirectional": 1}, {"scale": 0.3, "mask_filter_value": -50.0}]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attributes", SETTINGS)
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head(rng: np.random.Generator, mask: str, attributes: Any, bias: bool) -> None:
    q, k, v = normal(rng, B, S, D), normal(rng, B, S, D), normal(rng, B, S, N * 5)
    b = normal(rng, 2 * D + N * 5) if bias else None
    for added in (None, normal(rng, B, N, S, S), normal(rng, 1, 1, S, S)):
        inputs = (q, k, v, b, mask_of(rng, mask, S), added)
        judge("MultiHeadAttention", inputs, (3,) if bias else (), DOMAIN, num_heads=N, **attributes)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_multi_head_with_a_past(rng: np.random.Generator, mask: str, unidirectional: int) -> None:
    past = (normal(rng, B, N, 3, H), normal(rng, B, N, 3, H))
    inputs = (normal(rng, B, S, D), normal(rng, B, S, D), normal(rng, B, S, D), None, mask_of(rng, mask, 3 + S))
    for outputs in (1, 3):
        judge("MultiHeadAttention", (*inputs, None, *past), (), DOMAIN, outputs, num_heads=N,
              unidirectional=unidirectional)  # fmt: skip


def test_packed_forms(rng: np.random.Generator) -> None:
    q, pair = normal(rng, B, S, D), normal(rng, B, 6, N, 2, H)
    judge("MultiHeadAttention", (q, pair), (), DOMAIN, num_heads=N)
    judge("MultiHeadAttention", (normal(rng, B, S, N, 3, H),), (), DOMAIN, num_heads=N)
    keys = (normal(rng, B, N, 6, H), normal(rng, B, N, 6, H))
    judge("MultiHeadAttention", (q, *keys), (), DOMAIN, num_heads=N)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attributes", SETTINGS)
def test_attention(rng: np.random.Generator, mask: str, attributes: Any) -> None:
    weights = normal(rng, 10, 3 * D) * np.float32(0.3)
    inputs = (normal(rng, B, S, 10), weights, normal(rng, 3 * D), mask_of(rng, mask, S))
    judge("Attention", inputs, (1, 2), DOMAIN, num_heads=N, **attributes)
    judge("Attention", (*inputs, None, normal(rng, 1, 1, S, S)), (1, 2), DOMAIN, num_heads=N, **attributes)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("length", [1, S])
def test_attention_with_a_past(rng: np.random.Generator, mask: str, unidirectional: int, length: int) -> None:
    seen = mask_of(rng, mask, 3 + length)
    if mask == "pairs":
        seen = seen[:, :length]
    inputs = (normal(rng, B, length, 10), normal(rng, 10, 3 * D) * np.float32(0.3), normal(rng, 3 * D), seen)
    for outputs in (1, 2):
        judge("Attention", (*inputs, normal(rng, 2, B, N, 3, H)), (1, 2), DOMAIN, outputs, num_heads=N,
              unidirectional=unidirectional)  # fmt: skip


def test_attention_whose_state_is_wanted(rng: np.random.Generator) -> None:
    inputs = (normal(rng, B, S, 10), normal(rng, 10, 3 * D) * np.float32(0.3), normal(rng, 3 * D))
    judge("Attention", inputs, (1, 2), DOMAIN, 2, num_heads=N, unidirectional=1)


def test_attention_with_another_size_of_values(rng: np.random.Generator) -> None:
    sizes = [D, D, N * 5]
    inputs = (normal(rng, B, S, 10), normal(rng, 10, sum(sizes)) * np.float32(0.3))
    judge("Attention", inputs, (1,), DOMAIN, num_heads=N, qkv_hidden_sizes=sizes)
