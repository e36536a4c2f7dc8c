"""Attention and recurrence of com.microsoft, against onnxruntime, on random inputs."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from attention_operands import (
    BATCH,
    GROUPS,
    LENGTH,
    SETTINGS,
    WIDE,
    counts,
    mask_of,
    normal,
    past,
    queries,
    tables,
    trimmed,
)
from judge import judged as judged_of
from judge import ours as ours_of
from judge import theirs, weights_for

from forwardpass.errors import Error, GraphError, UnsupportedError
from forwardpass.ops.microsoft import DOMAIN

judged = functools.partial(judged_of, domain=DOMAIN)
ours = functools.partial(ours_of, domain=DOMAIN)
B, S, N, H = BATCH, LENGTH, 3, 8
D = N * H
HEADS = {"num_heads": N}


MASKS = ["none", "ends", "ends and starts", "keys", "pairs"]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.3, "mask_filter_value": -50.0}])
def test_attention(rng: np.random.Generator, mask: str, past: int, attributes: Any) -> None:
    x, weights, bias = normal(rng, B, S, 10), normal(rng, 10, 3 * D) * 0.5, normal(rng, 3 * D)
    state = normal(rng, 2, B, N, past, H) if past else None
    # onnxruntime refuses a past with a bias of the scores.
    for added in [None] if past else [None, normal(rng, B, N, S, S), normal(rng, 1, 1, S, S)]:
        inputs = trimmed([x, weights, bias, mask_of(rng, mask, past + S), state, added])
        judged("Attention", inputs, {**HEADS, **attributes}, outputs=2, rtol=1e-4, atol=1e-5)


def test_attention_with_another_size_of_values(rng: np.random.Generator) -> None:
    sizes = [D, D, N * 5]
    attributes = {**HEADS, "qkv_hidden_sizes": sizes}
    inputs = [normal(rng, B, S, 10), normal(rng, 10, sum(sizes)), normal(rng, sum(sizes))]
    judged("Attention", inputs, attributes, rtol=1e-4)
    # Without a bias, the process of onnxruntime ends.
    (y,) = ours("Attention", inputs[:2], attributes)
    np.testing.assert_allclose(y, ours("Attention", [*inputs[:2], inputs[2] * 0], attributes)[0], rtol=1e-6)


@pytest.mark.parametrize("mask", ["none", "ends", "keys", "pairs"])
@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.3, "mask_filter_value": -50.0}])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head(rng: np.random.Generator, mask: str, attributes: Any, bias: bool) -> None:
    q, k, v = normal(rng, B, S, D), normal(rng, B, S, D), normal(rng, B, S, N * 5)
    b = normal(rng, 2 * D + N * 5) if bias else None
    for added in (None, normal(rng, B, N, S, S), normal(rng, 1, N, S, S)):
        inputs = trimmed([q, k, v, b, mask_of(rng, mask, S), added])
        judged("MultiHeadAttention", inputs, {**HEADS, **attributes}, outputs=3, rtol=1e-4)


@pytest.mark.parametrize("mask", ["none", "ends", "keys", "pairs"])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_multi_head_with_a_past(rng: np.random.Generator, mask: str, unidirectional: int) -> None:
    past = [normal(rng, B, N, 3, H), normal(rng, B, N, 3, H)]
    inputs = [normal(rng, B, S, D), normal(rng, B, S, D), normal(rng, B, S, D), normal(rng, 3 * D)]
    inputs += [mask_of(rng, mask, 3 + S), normal(rng, B, N, S, 3 + S), *past]
    judged("MultiHeadAttention", inputs, {**HEADS, "unidirectional": unidirectional}, outputs=4, rtol=1e-4)


def test_cross_attention(rng: np.random.Generator) -> None:
    q = normal(rng, B, S, D)
    mask = np.array([[1, 1, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1]], np.int32)
    judged("MultiHeadAttention", [q, normal(rng, B, 6, D), normal(rng, B, 6, D), None, mask], HEADS, rtol=1e-4)
    keys = [normal(rng, B, N, 6, H), normal(rng, B, N, 6, H)]
    judged("MultiHeadAttention", [q, *keys, None, mask], HEADS, rtol=1e-4)


def test_packed_forms(rng: np.random.Generator) -> None:
    # onnxruntime has them on GPUs alone; they must be the plain form of the same numbers.
    q, k, v = (normal(rng, B, S, N, H) for _ in range(3))
    plain = ours("MultiHeadAttention", [a.reshape(B, S, D) for a in (q, k, v)], HEADS)[0]
    pair = ours("MultiHeadAttention", [q.reshape(B, S, D), np.stack([k, v], 3)], HEADS)[0]
    triple = ours("MultiHeadAttention", [np.stack([q, k, v], 3)], HEADS)[0]
    assert np.array_equal(pair, plain)
    assert np.array_equal(triple, plain)


def test_what_is_not_supported(rng: np.random.Generator) -> None:
    x, weights = normal(rng, B, S, 10), normal(rng, 10, 3 * D)
    with pytest.raises(UnsupportedError, match="do_rotary"):
        ours("Attention", [x, weights], {**HEADS, "do_rotary": 1})
    with pytest.raises(UnsupportedError, match="rank 4"):
        ours("Attention", [x, weights, None, np.ones((B, 1, S, S), np.int32)], HEADS)
    with pytest.raises(GraphError, match="num_heads"):
        ours("Attention", [x, weights], {"num_heads": 5})
    with pytest.raises(GraphError, match="outputs"):
        ours("Attention", [x, weights], {**HEADS, "qkv_hidden_sizes": [N * 6, N * 6, 3 * D - N * 12]}, outputs=2)
    with pytest.raises(GraphError, match="length"):
        ours("Attention", [x, weights, None, np.ones(5, np.int32)], HEADS)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("part", [False, True])
def test_rotary(rng: np.random.Generator, interleaved: int, rank: int, each: bool, part: bool) -> None:
    x = normal(rng, B, S, D) if rank == 3 else normal(rng, B, N, S, H)
    positions = rng.integers(0, 9, (B, S)) if each else np.array([3])
    attributes: dict[str, Any] = {"interleaved": interleaved}
    if part:
        attributes.update(num_heads=N, rotary_embedding_dim=4)
    judged("RotaryEmbedding", [x, positions, *tables(rng, 9, 2 if part else H // 2)], attributes)


def test_rotary_positions_are_checked(rng: np.random.Generator) -> None:
    with pytest.raises(GraphError, match="position"):
        ours("RotaryEmbedding", [normal(rng, B, S, D), np.array([6]), *tables(rng, 9, 4)], {})


@pytest.mark.parametrize("attributes", SETTINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_group_query_prompt(rng: np.random.Generator, attributes: Any, packed: bool) -> None:
    q, k, v = queries(rng, S)
    given = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
    turn = tables(rng, 16, WIDE // 2) if attributes.get("do_rotary") else []
    inputs = [*given, None, None, *counts(S, S), *turn]
    judged("GroupQueryAttention", inputs, {**GROUPS, **attributes}, outputs=3, rtol=1e-4)


@pytest.mark.parametrize("attributes", SETTINGS)
@pytest.mark.parametrize("room", [5, 9])
def test_group_query_next_token(rng: np.random.Generator, attributes: Any, room: int) -> None:
    q, k, v = queries(rng, 1)
    state = past(rng, room)
    turn = tables(rng, 16, WIDE // 2) if attributes.get("do_rotary") else []
    inputs = [q, k, v, *state, *counts(4, 6), *turn]
    y, keys, values = ours("GroupQueryAttention", inputs, {**GROUPS, **attributes}, outputs=3)
    assert keys.shape[2] == max(room, 6)
    types = [y.dtype] * 3
    expected = theirs("GroupQueryAttention", inputs, {**GROUPS, **attributes}, domain=DOMAIN, types=types)
    np.testing.assert_allclose(y, expected[0], rtol=1e-4, atol=1e-5)
    for mine, other in ((keys, expected[1]), (values, expected[2])):
        # What lies behind a sequence's end is nobody's.
        for b, length in enumerate((4, 6)):
            np.testing.assert_allclose(mine[b, :, :length], other[b, :, :length], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", [1, 2])
def test_group_query_with_bias_sink_and_scores(rng: np.random.Generator, output: int) -> None:
    q, k, v = queries(rng, S)
    bias, sink = normal(rng, B, 4, S, S), normal(rng, 4)
    attributes = {**GROUPS, "qk_output": output, "softcap": 2.0}
    inputs = [q, k, v, None, None, *counts(S, S), None, None, None, bias]
    y, *_, scores = ours("GroupQueryAttention", [*inputs, sink], attributes, outputs=4)
    expected = theirs("GroupQueryAttention", [*inputs, sink], attributes, domain=DOMAIN, types=[y.dtype] * 4)
    np.testing.assert_allclose(y, expected[0], rtol=1e-4, atol=1e-5)
    seen = np.tril(np.ones((S, S), bool))
    np.testing.assert_allclose(scores[..., seen], expected[3][..., seen], rtol=1e-4, atol=1e-5)


def test_group_query_padded_prompt(rng: np.random.Generator) -> None:
    inputs = [*queries(rng, S), None, None]
    inputs += [*counts(2, S), *tables(rng, 16, WIDE // 2)]
    attributes = {**GROUPS, "do_rotary": 1}
    found = ours("GroupQueryAttention", inputs, attributes, outputs=3)
    expected = theirs("GroupQueryAttention", inputs, attributes, domain=DOMAIN, types=[y.dtype for y in found])
    for b, length in enumerate((2, S)):
        np.testing.assert_allclose(found[0][b, :length], expected[0][b, :length], rtol=1e-4, atol=1e-5)
        for y, z in zip(found[1:], expected[1:]):
            np.testing.assert_allclose(y[b, :, :length], z[b, :, :length], rtol=1e-4, atol=1e-5)


def test_group_query_both_ways(rng: np.random.Generator) -> None:
    inputs = [*queries(rng, S), None, None]
    judged("GroupQueryAttention", [*inputs, *counts(S, S)], {**GROUPS, "causal": 0}, rtol=1e-4)


def test_group_query_of_given_positions(rng: np.random.Generator) -> None:
    attributes, turn = {**GROUPS, "do_rotary": 1}, tables(rng, 16, WIDE // 2)
    q, k, v = queries(rng, S)
    positions = np.array([[2, 5, 6, 9], [1, 3, 4, 0]])
    judged("GroupQueryAttention", [q, k, v, None, None, *counts(S, S), *turn, positions], attributes, rtol=1e-4)
    state = past(rng, 5)
    inputs = [q[:, :1], k[:, :1], v[:, :1], *state, *counts(6, 6), *turn, np.array([[7], [2]])]
    judged("GroupQueryAttention", inputs, attributes, outputs=3, rtol=1e-4)


@pytest.mark.parametrize("attributes", SETTINGS)
def test_group_query_several_more_tokens(rng: np.random.Generator, attributes: Any) -> None:
    q, k, v = queries(rng, S, batch=1)
    state = past(rng, 5, batch=1)
    turn = tables(rng, 16, WIDE // 2) if attributes.get("do_rotary") else []
    inputs = [q, k, v, *state, *counts(5 + S), *turn]
    judged("GroupQueryAttention", inputs, {**GROUPS, **attributes}, outputs=3, rtol=1e-4)


def test_group_query_normalises_heads(rng: np.random.Generator) -> None:
    # onnxruntime has it on GPUs alone: heads normalised before are the same.
    q, k, v = queries(rng, S)
    weights = [normal(rng, WIDE), normal(rng, WIDE)]
    inputs = [q, k, v, None, None, *counts(S, S), *[None] * 7, *weights]

    def scaled(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        heads = x.reshape(B, S, -1, WIDE)
        root = np.sqrt(np.square(heads).mean(-1, keepdims=True) + 1e-6)
        return (heads / root * weight).reshape(x.shape).astype(np.float32)

    plain = [scaled(q, weights[0]), scaled(k, weights[1]), *inputs[2:7]]
    for y, z in zip(*(ours("GroupQueryAttention", i, GROUPS, outputs=3) for i in (inputs, plain))):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)


def test_bad_group_queries(rng: np.random.Generator) -> None:
    inputs = [*queries(rng, S), None, None]
    for change in ({"kv_num_heads": 3}, {"k_quant_type": "PER_TENSOR"}, {"sliding_window_cache": 1}, {"qk_output": 3}):
        with pytest.raises(Error):
            ours("GroupQueryAttention", [*inputs, *counts(S, S)], {**GROUPS, **change})
    with pytest.raises(GraphError, match="seqlens_k"):
        ours("GroupQueryAttention", [*inputs, np.array([7, 3], np.int32), np.array(S, np.int32)], GROUPS)


LSTMS: list[dict[str, Any]] = [
    {},
    {"direction": "reverse"},
    {"direction": "bidirectional"},
    {"clip": 0.8},
    {"input_forget": 1},
    {"activations": ["HardSigmoid", "Relu", "Softsign"]},
]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("attributes", LSTMS)
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_dynamic_lstm(rng: np.random.Generator, dtype: str, attributes: Any, channels: bool, state: bool) -> None:
    steps, batch, width, hidden = 5, 3, 6, 4
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    info = np.iinfo(dtype)
    weights = [
        weights_for("uint8", rng.integers(info.min, info.max + 1, (count, n, 4 * hidden)).astype(dtype))
        for n in (width, hidden)
    ]
    per = (count, 4 * hidden) if channels else (count,)
    # onnxruntime takes zero points other than 0 for unsigned weights alone, and one for all channels.
    zero = np.full(per, 128 if dtype == "uint8" else 0, dtype)
    scales = [rng.uniform(0.004, 0.01, per).astype(np.float32) for _ in range(2)]
    others: list[Any] = [None] * 5
    if state:
        states = [normal(rng, count, batch, hidden), normal(rng, count, batch, hidden)]
        others = [normal(rng, count, 8 * hidden), None, *states, normal(rng, count, 3 * hidden)]
    inputs = [normal(rng, steps, batch, width), *weights, *others, scales[0], zero, scales[1], zero]
    judged("DynamicQuantizeLSTM", inputs, {"hidden_size": hidden, **attributes}, outputs=3, rtol=1e-3, atol=1e-4)
