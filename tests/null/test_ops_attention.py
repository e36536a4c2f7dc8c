"""Attention and its relatives, against the text of the standard written as loops over single queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import FLOAT, INT, body

from forwardpass.dtypes import BFLOAT16, decode, encode
from forwardpass.errors import GraphError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate_node, infer_node
from tolerance import NETWORK_FLOAT64, network_of

OUTPUTS = ["y", "present_key", "present_value", "qk"]
Arrays = list["np.ndarray | None"]


def _node(op: str, values: Any, outputs: list[str], domain: str = "", **attributes: Any) -> Node:
    return Node(op, [f"in{k}" if v is not None else "" for k, v in enumerate(values)], outputs, attributes, domain)


def attention(*values: Any, **attributes: Any) -> list[Any]:
    return evaluate_node(_node("Attention", values, OUTPUTS, **attributes), values)


def _one_query(settings: dict[str, Any], q: Any, k: Any, v: Any, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output and qk_matmul_output of one query of one head."""
    scores = np.array([float(np.dot(q, key)) for key in k]) * (settings["scale"] or 1 / math.sqrt(len(q)))
    steps = [scores]
    cap = settings["softcap"]
    capped = cap * np.tanh(scores / cap) if cap else scores
    steps += [capped, capped + bias]
    if not len(k) or np.isneginf(bias).all():
        weights = np.zeros(len(k))
    else:
        weights = np.exp(steps[2] - steps[2].max())
        weights /= weights.sum()
    steps.append(weights)
    result = sum((w * row for w, row in zip(weights, v)), np.zeros(v.shape[1]))
    return result, steps[settings["qk_matmul_output_mode"]]


def _expected(settings: dict[str, Any], values: Arrays) -> list[np.ndarray]:
    """All outputs for inputs of rank 4."""
    q, k, v, mask, past_key, past_value, lengths = values
    assert q is not None
    assert k is not None
    assert v is not None
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    batch, heads, queries, _ = q.shape
    keys, share = k.shape[2], heads // k.shape[1]
    y, qk = np.zeros((batch, heads, queries, v.shape[3])), np.zeros((batch, heads, queries, keys))
    full = np.zeros((1, 1, 1, 0)) if mask is None else np.broadcast_to(mask, (batch, heads, queries, mask.shape[-1]))
    for b, h, i in np.ndindex(batch, heads, queries):
        place = i + (past if lengths is None else int(lengths[b]) - queries)
        bias = np.full(keys, -np.inf if mask is not None else 0.0)
        if mask is not None:
            row = full[b, h, i]
            bias[: len(row)] = np.where(row, 0, -np.inf) if row.dtype == np.bool_ else row
        for j in range(keys):
            hidden = settings["is_causal"] and j > place
            hidden |= 0 <= settings["left_window_size"] < place - j
            hidden |= 0 <= settings["right_window_size"] < j - place
            if hidden or (lengths is not None and j >= lengths[b]):
                bias[j] = -np.inf
        y[b, h, i], qk[b, h, i] = _one_query(settings, q[b, h, i], k[b, h // share], v[b, h // share], bias)
    return [y, k, v, qk]


@st.composite
def _problems(draw: Any) -> tuple[dict[str, Any], Arrays]:
    size = st.integers(1, 4)
    batch, groups, share, queries, new, head, value = (draw(size) for _ in range(7))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    heads = groups * share
    cache = draw(st.sampled_from(("none", "past", "lengths")))
    past = draw(st.integers(0, 3)) if cache == "past" else 0
    keys = past + new
    values: Arrays = [
        rng.standard_normal((batch, heads, queries, head)),
        rng.standard_normal((batch, groups, new, head)),
        rng.standard_normal((batch, groups, new, value)),
    ]
    shape = tuple(d if draw(st.booleans()) else 1 for d in (batch, heads, queries))
    width = draw(st.integers(1, keys))
    kind = draw(st.sampled_from(("none", "bool", "numbers")))
    mask = rng.standard_normal((*shape, width)) if kind == "numbers" else rng.random((*shape, width)) < 0.7
    drop = draw(st.integers(0, 3)) if shape == (1, 1, 1) else 0
    values.append(None if kind == "none" else mask.reshape(mask.shape[drop:]))
    both = [rng.standard_normal((batch, groups, past, d)) if cache == "past" else None for d in (head, value)]
    values += [*both, rng.integers(0, new + 1, batch) if cache == "lengths" else None]
    settings = {
        "is_causal": draw(st.integers(0, 1)),
        "left_window_size": draw(st.integers(-1, 3)),
        "right_window_size": draw(st.integers(-1, 2)),
        "scale": draw(st.sampled_from((None, 0.25))),
        "softcap": draw(st.sampled_from((0.0, 1.5))),
        "qk_matmul_output_mode": draw(st.integers(0, 3)),
    }
    return settings, values


def _inferred(values: Any, settings: dict[str, Any], dims: Any) -> list[TensorType]:
    types = [None if v is None else TensorType(v.dtype, dims(v)) for v in values]
    return infer_node(_node("Attention", values, OUTPUTS, **settings), types)


@given(_problems())
def test_attention_is_what_the_text_says_query_by_query(problem: tuple[dict[str, Any], Arrays]) -> None:
    settings, values = problem
    found = attention(*values, **settings)
    for y, z in zip(found, _expected(settings, values)):
        np.testing.assert_allclose(y, z, **NETWORK_FLOAT64)
    assert _inferred(values, settings, lambda v: v.shape) == [TensorType.of(f) for f in found]
    for unknown in (lambda v: None, lambda v: (None,) * v.ndim, lambda v: tuple(f"n{d}" for d in v.shape)):
        for t, f in zip(_inferred(values, settings, unknown), found):
            assert t.dtype == f.dtype
            known = t.shape or (None,) * f.ndim
            assert all(d is None or int(str(d).lstrip("n")) == size for d, size in zip(known, f.shape))


@given(_problems())
def test_heads_side_by_side_are_heads_one_after_the_other(problem: tuple[dict[str, Any], Arrays]) -> None:
    settings, values = problem
    flat = [
        v if v is None or k > 2 else v.swapaxes(1, 2).reshape(v.shape[0], v.shape[2], -1) for k, v in enumerate(values)
    ]
    heads = {"q_num_heads": values[0].shape[1], "kv_num_heads": values[1].shape[1]}
    y, *others = attention(*values, **settings)
    found, *found_others = attention(*flat, **settings, **heads)
    np.testing.assert_allclose(found, y.swapaxes(1, 2).reshape(found.shape), **NETWORK_FLOAT64)
    for f, o in zip(found_others, others):
        np.testing.assert_allclose(f, o, **NETWORK_FLOAT64)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("keys", [5, 700])
def test_halves_stay_near_the_exact_result(half: str, keys: int, rng: np.random.Generator) -> None:
    def narrowed(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float16) if half == "float16" else encode(a, BFLOAT16)

    values = [narrowed(rng.standard_normal((1, 2, n, 8))) for n in (3, keys, keys)]
    exact = attention(*(decode(v).astype(np.float64) for v in values))[0]
    found = attention(*values)[0]
    assert found.dtype == values[0].dtype
    step = 2.0**-10 if half == "float16" else 2.0**-7
    # The scores, the powers, their sum and the products are each rounded to the type.
    assert np.abs(decode(found).astype(np.float64) - exact).max() <= 16 * step * np.abs(exact).max()


def test_the_softmax_has_a_precision_of_its_own(rng: np.random.Generator) -> None:
    values = [(4 * rng.standard_normal((1, 1, 4, 8))).astype(np.float16) for _ in range(3)]
    coarse, fine = (attention(*values, softmax_precision=p, qk_matmul_output_mode=3)[3] for p in (10, 1))
    assert coarse.dtype == fine.dtype == np.float16
    assert not np.array_equal(coarse, fine)
    scores = attention(*values, qk_matmul_output_mode=2)[3].astype(np.float32)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_array_equal(fine, (powers / powers.sum(-1, keepdims=True)).astype(np.float16))


def test_hidden_keys_may_hold_anything() -> None:
    q, v = np.ones((1, 1, 2, 2), np.float32), np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
    k = np.array([[1, 0], [np.inf, np.inf], [0, 1]], np.float32)[None, None]
    mask = np.array([[True, False, True], [False, False, False]])
    y, _, _, weights = attention(q, np.where(np.isinf(k), 7, k), v, mask, qk_matmul_output_mode=3)
    np.testing.assert_array_equal(y[0, 0, 0], (v[0, 0, 0] + v[0, 0, 2]) / 2)
    np.testing.assert_array_equal(weights[0, 0, 1], 0)
    blind = attention(q, k, v, np.zeros((2, 3), np.bool_))[0]
    np.testing.assert_array_equal(blind, 0)


_Q = (2, 4, 3, 8)


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        ([_Q, (2, 3, 5, 8), (2, 3, 5, 8)], {}, "no multiple"),
        ([_Q, (2, 4, 5, 7), (2, 4, 5, 8)], {}, "head sizes"),
        ([_Q, (2, 4, 5, 8), (2, 4, 6, 8)], {}, "lengths of K and V"),
        ([_Q, (1, 4, 5, 8), (2, 4, 5, 8)], {}, "batches"),
        ([_Q, (2, 5, 32), (2, 5, 32)], {"q_num_heads": 4, "kv_num_heads": 4}, "differ in rank"),
        ([(2, 3, 32)] * 3, {}, "q_num_heads"),
        ([(2, 3, 30)] * 3, {"q_num_heads": 4, "kv_num_heads": 4}, "does not split"),
        ([_Q] * 3, {"q_num_heads": 3}, "q_num_heads"),
        ([_Q, _Q, _Q, (3, 4)], {}, "too wide"),
        ([_Q, _Q, _Q, (2, 3)], {}, "attn_mask"),
        ([_Q, _Q, _Q, None, _Q], {}, "together"),
        ([_Q, _Q, _Q, None, _Q, (2, 4, 2, 8)], {}, "lengths of past_key"),
        ([_Q] * 3, {"left_window_size": -2}, "left_window_size"),
        ([_Q] * 3, {"qk_matmul_output_mode": 4}, "0 to 3"),
        ([_Q] * 3, {"softmax_precision": 7}, "softmax_precision"),
        ([_Q] * 3, {"softcap": -1.0}, "softcap"),
    ],
)
def test_wrong_attention_is_an_error(shapes: Any, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        attention(*(None if s is None else np.zeros(s, np.float32) for s in shapes), **attributes)


# RotaryEmbedding


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(),
    st.integers(0, 4), st.integers(0, 999),
)  # fmt: skip
def test_pairs_are_turned_by_their_angles(
    batch: int, heads: int, length: int, pairs: int, interleaved: bool, looked_up: bool, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    turned, size = 2 * pairs, 2 * pairs + more
    x = rng.standard_normal((batch, heads, length, size))
    angles = rng.standard_normal((7, pairs) if looked_up else (batch, length, pairs))
    positions = rng.integers(0, 7, (batch, length)) if looked_up else None
    expected = x.copy()
    for b, h, t, p in np.ndindex(batch, heads, length, pairs):
        angle = angles[b, t, p] if positions is None else angles[positions[b, t], p]
        places = (2 * p, 2 * p + 1) if interleaved else (p, p + pairs)
        spun = complex(*(x[b, h, t, k] for k in places)) * complex(math.cos(angle), math.sin(angle))
        expected[b, h, t, places[0]], expected[b, h, t, places[1]] = spun.real, spun.imag
    values = [x, np.cos(angles), np.sin(angles), positions]
    attributes = {"interleaved": int(interleaved), "rotary_embedding_dim": turned if more else 0}
    (found,) = evaluate_node(_node("RotaryEmbedding", values, ["y"], **attributes), values)
    np.testing.assert_allclose(found, expected, **NETWORK_FLOAT64)
    values[0] = x.swapaxes(1, 2).reshape(batch, length, heads * size)
    (flat,) = evaluate_node(_node("RotaryEmbedding", values, ["y"], num_heads=heads, **attributes), values)
    np.testing.assert_allclose(flat, expected.swapaxes(1, 2).reshape(flat.shape), **NETWORK_FLOAT64)


def test_positions_outside_of_the_table_are_errors() -> None:
    table = np.zeros((4, 2), np.float32)
    for position in (-1, 4):
        values = [np.zeros((1, 1, 1, 4), np.float32), table, table, np.array([[position]])]
        with pytest.raises(GraphError, match="0 to 3"):
            evaluate_node(_node("RotaryEmbedding", values, ["y"]), values)


# LinearAttention


@given(
    st.sampled_from(("linear", "gated", "delta", "gated_delta")), st.integers(1, 3), st.integers(1, 2),
    st.integers(0, 4), st.booleans(), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_the_state_follows_its_rule_token_by_token(
    rule: str, groups: int, share: int, length: int, wide: bool, past: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    batch, dk, dv, heads = 2, 3, 4, groups * share
    q, k, v = (rng.standard_normal((batch, length, n)) for n in (heads * dk, groups * dk, groups * dv))
    state = rng.standard_normal((batch, groups, dk, dv)) if past else np.zeros((batch, groups, dk, dv))
    decay = -rng.random((batch, length, groups * dk if wide else groups)) if "gated" in rule else None
    beta = rng.random((batch, length, groups if wide else 1)) if "delta" in rule else None
    values = [q, k, v, state if past else None, decay, beta]
    attributes = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": rule}
    y, present = evaluate_node(_node("LinearAttention", values, ["y", "present"], **attributes), values)
    expected, kept = np.zeros((batch, length, heads * dv)), state.copy()
    for b, t, g in np.ndindex(batch, length, groups):
        s, key = kept[b, g], k[b, t, g * dk : (g + 1) * dk]
        added = v[b, t, g * dv : (g + 1) * dv]
        if decay is not None:
            s = np.exp(decay[b, t].reshape(groups, -1)[g])[:, None] * s
        if beta is not None:
            added = beta[b, t, g if wide else 0] * (added - s.T @ key)
        kept[b, g] = s + np.outer(key, added)
        for h in range(g * share, (g + 1) * share):
            expected[b, t, h * dv : (h + 1) * dv] = q[b, t, h * dk : (h + 1) * dk] @ kept[b, g] / math.sqrt(dk)
    np.testing.assert_allclose(y, expected, **NETWORK_FLOAT64)
    np.testing.assert_allclose(present, kept, **NETWORK_FLOAT64)


@pytest.mark.parametrize(("rule", "absent"), [("gated", 4), ("gated_delta", 4), ("gated_delta", 5)])
def test_a_rule_needs_its_gates(rule: str, absent: int) -> None:
    shapes = [(1, 2, 4), (1, 2, 4), (1, 2, 4), None, (1, 2, 1), (1, 2, 1)]
    attributes = {"q_num_heads": 1, "kv_num_heads": 1}
    values = [None if s is None or k == absent else np.zeros(s, np.float32) for k, s in enumerate(shapes)]
    with pytest.raises(GraphError, match="needs input"):
        evaluate_node(_node("LinearAttention", values, ["y", "s"], update_rule=rule, **attributes), values)
    values = [None if s is None else np.zeros(s, np.float32) for s in shapes]
    with pytest.raises(GraphError, match="has no input decay"):
        evaluate_node(_node("LinearAttention", values, ["y", "s"], update_rule="delta", **attributes), values)


# FlexAttention


def _shifted(inputs: dict[str, TensorType], op: str) -> Graph:
    return body(inputs, [Node(op, list(inputs), ["out"])], ["out"])


def test_scores_and_probabilities_pass_through_bodies(rng: np.random.Generator) -> None:
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6)))
    outer = rng.standard_normal((3, 5)).astype(np.float32)
    inputs = {"x": TensorType(FLOAT, None), "outer": TensorType(FLOAT, None)}
    values = [q, k, v, outer]
    attributes = {"score_mod": _shifted(inputs, "Add"), "prob_mod": _shifted(inputs, "Mul"), "captures": 1}
    (y,) = evaluate_node(_node("FlexAttention", values, ["y"], "ai.onnx.preview", **attributes), values)
    weights = attention(q, k, v, outer, qk_matmul_output_mode=3)[3] * outer
    expected = weights @ np.repeat(v, 2, axis=1)
    np.testing.assert_allclose(y, expected, **network_of([v, expected]))
    wrong = body(inputs, [Node("Cast", ["x"], ["y"], {"to": 7})], ["y"])
    with pytest.raises(GraphError, match="something else"):
        evaluate_node(_node("FlexAttention", values, ["y"], "ai.onnx.preview", score_mod=wrong, captures=1), values)
    types = [TensorType.of(a) for a in (q, k, v)]
    assert infer_node(_node("FlexAttention", [q, k, v], ["y"], "ai.onnx.preview"), types)[0].shape == (2, 4, 3, 6)
    with pytest.raises(GraphError, match="dtype"):
        infer_node(_node("FlexAttention", [q, k, v], ["y"], "ai.onnx.preview"), [*types[:2], TensorType(INT, None)])
