"""Operands of com.microsoft's attention, for its definitions and for its kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "BATCH", "GROUPS", "LENGTH", "SETTINGS", "WIDE", "counts", "mask_of", "normal", "past", "queries", "tables",
    "trimmed",
]  # fmt: skip

Operands = list[Any]
BATCH, LENGTH = 2, 4
WIDE = 16  # onnxruntime turns heads of multiples of 16 alone
GROUPS = {"num_heads": 4, "kv_num_heads": 2}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"scale": 0.2, "softcap": 3.0},
    {"local_window_size": 2},
    {"smooth_softmax": 1},
    {"do_rotary": 1},
    {"do_rotary": 1, "rotary_interleaved": 1},
]
"""Attributes of GroupQueryAttention beside `GROUPS`."""


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape, np.float32)


def trimmed(inputs: Operands) -> Operands:
    """Without absent inputs at the end."""
    while inputs[-1] is None:
        inputs = inputs[:-1]
    return inputs


def mask_of(rng: np.random.Generator, kind: str, total: int) -> Any:
    """Input mask_index for `total` keys; None for another kind."""
    if kind == "ends":
        return np.array([total - 1, total], np.int32)
    if kind == "ends and starts":
        return np.array([total, total - 1, 1, 0], np.int32)
    if kind == "keys":
        return np.array([[1] * (total - 2) + [0, 0], [0] + [1] * (total - 1)], np.int32)
    if kind == "last keys":
        return np.array([[1, 0], [0, 1]], np.int32)
    if kind == "pairs":
        # Where no key is seen, scores of -10000 and more differ by their rounding alone.
        seen = rng.random((BATCH, LENGTH, total)) < 0.7
        seen[:, :, 0] = True
        return seen.astype(np.int32)
    return None


def tables(rng: np.random.Generator, length: int, width: int) -> Operands:
    """The cosines and the sines of a rotary embedding."""
    angles = rng.uniform(0, 6, (length, width)).astype(np.float32)
    return [np.cos(angles), np.sin(angles)]


def queries(rng: np.random.Generator, length: int, batch: int = BATCH) -> Operands:
    """Query, key and value of GroupQueryAttention."""
    return [normal(rng, batch, length, heads * WIDE) for heads in (4, 2, 2)]


def past(rng: np.random.Generator, length: int, batch: int = BATCH) -> Operands:
    """Its past keys and values."""
    return [normal(rng, batch, 2, length, WIDE) for _ in range(2)]


def counts(*lengths: int, total: int = 0) -> Operands:
    """Its inputs seqlens_k and total_sequence_length."""
    return [np.array(lengths, np.int32) - 1, np.array(total or max(lengths), np.int32)]
