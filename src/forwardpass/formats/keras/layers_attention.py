"""Attention: of several heads, and the plain and the additive form of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .call import Call
from .config import Layer
from .kinds import Flow, layer

_MASKED = -0.7 * float(np.finfo(np.float32).max)
"""A score that leaves no weight, and equal weights where all scores are masked."""


def _head_weights(found: Layer) -> list[str]:
    leaves = ["kernel", *["bias"] * found.flag("use_bias", True)]
    return [f"{part}_dense/{leaf}" for part in ("query", "key", "value", "output") for leaf in leaves]


def _project(c: Call, x: str, part: str, heads: int, size: int) -> str:
    """[N, time, in] -> [N, heads, time, size]."""
    width = c.size(x, -1)
    kernel = c.weight(f"{part}_dense/kernel", [width, heads, size]).reshape(width, heads * size)
    y = c.node("MatMul", [x, c.constant(f"{part}_kernel", kernel)])
    if c.layer.flag("use_bias", True):
        bias = c.weight(f"{part}_dense/bias", [heads, size]).reshape(heads * size)
        y = c.node("Add", [y, c.constant(f"{part}_bias", bias)])
    return c.transpose(c.reshape(y, [0, 0, heads, size]), [0, 2, 1, 3])


@layer("MultiHeadAttention", weights=_head_weights)
def multi_head_attention(c: Call) -> list[Flow]:
    if any(c.layer.config.get(k) for k in ("use_gate", "sliding_window", "partition_dim")):
        raise c.unsupported("this form of attention is not read", got="use_gate or sliding_window")
    flows = _inputs(c)
    if any(c.rank(f.value) != 3 for f in flows):
        raise c.unsupported("attention over other than [N, time, size] is not read")
    heads, size = c.layer.integer("num_heads"), c.layer.integer("key_dim")
    depth = c.layer.integer("value_dim") if c.layer.config.get("value_dim") is not None else size
    query, value, key = flows
    q = _project(c, query.value, "query", heads, size)
    k = _project(c, key.value, "key", heads, size)
    v = _project(c, value.value, "value", heads, depth)
    q = c.node("Mul", [q, c.number(1.0 / float(np.sqrt(size)), "scale")])
    scores = c.node("MatMul", [q, c.transpose(k, [0, 1, 3, 2])])
    masks = [(query.mask, 2), (value.mask, 1), (key.mask if key != value else None, 1)]
    scores, known = _masked(c, scores, masks, heads=True)
    scores = c.node("Softmax", [scores], axis=-1)
    returned = bool(c.keyword("return_attention_scores", False))
    if known and c.version > 2 and (returned or c.layer.number("dropout", 0.0) > 0):
        # On this way Keras 3 takes a Softmax layer, which gives no weight where all is masked; else equal weights.
        scores = c.node("Mul", [scores, c.cast(known, np.float32)])
    joined = c.transpose(c.node("MatMul", [scores, v]), [0, 2, 1, 3])
    y = Flow(_output(c, c.reshape(joined, [0, 0, heads * depth]), heads, depth), query.mask)
    return [y, Flow(scores)] if returned else [y]


def _output(c: Call, x: str, heads: int, depth: int) -> str:
    kernel = c.weight("output_dense/kernel", [heads, depth, None])
    y = c.node("MatMul", [x, c.constant("output_kernel", kernel.reshape(heads * depth, kernel.shape[2]))])
    if c.layer.flag("use_bias", True):
        y = c.node("Add", [y, c.constant("output_bias", c.weight("output_dense/bias", [kernel.shape[2]]))])
    return y


def _inputs(c: Call) -> tuple[Flow, Flow, Flow]:
    """Query, value and key, which is the value where it is not given."""
    named = [c.kwargs[k] for k in ("query", "value", "key") if isinstance(c.kwargs.get(k), Flow)]
    flows = [*c.flows, *named]
    if len(flows) not in (2, 3):
        raise c.layer.error("inputs", "query, value and perhaps key", len(flows))
    masks = [c.keyword(f"{part}_mask") for part in ("query", "value", "key")]
    query, value, key = (
        Flow(f.value, c.cast(m.value, np.bool_)) if isinstance(m, Flow) else f
        for f, m in zip((flows[0], flows[1], flows[-1]), masks)
    )
    return query, value, value if len(flows) == 2 else key


def _masked(c: Call, scores: str, masks: Sequence[tuple[str | None, int]], *, heads: bool) -> tuple[str, str]:
    """Scores [N, (heads,) time, steps] without the pairs that must not see each other, and which pairs may, or "".

    Each mask comes with the axis that it lacks of [N, time, steps].
    """
    conditions = [c.node("Unsqueeze", [mask, c.ints([axis], "axes")]) for mask, axis in masks if mask is not None]
    given = c.keyword("attention_mask")
    if isinstance(given, Flow):
        conditions.append(c.cast(given.value, np.bool_))
    elif given is not None:
        raise c.unsupported("an attention mask that is no tensor is not read")
    found = ""
    for condition in conditions:
        found = condition if not found else c.node("And", [found, condition])
    if found and heads and c.rank(found) == 3:
        found = c.node("Unsqueeze", [found, c.ints([1], "axes")])
    if c.keyword("use_causal_mask", False) or c.layer.flag("causal", False):
        past = _causal(c, scores)
        found = past if not found else c.node("And", [found, past])
    return (c.node("Where", [found, scores, c.number(_MASKED, "masked")]) if found else scores), found


def _causal(c: Call, scores: str) -> str:
    """[time, steps]: whether a step is not after the time."""
    rank = c.rank(scores)
    ends = [c.node("Shape", [scores], start=rank - k, end=rank - k + 1) for k in (2, 1)]
    zero, one = c.constant("zero", np.array(0, np.int64)), c.constant("one", np.array(1, np.int64))
    rows, columns = (c.node("Range", [zero, c.node("Squeeze", [end, c.ints([0], "axes")]), one]) for end in ends)
    return c.node("GreaterOrEqual", [c.node("Unsqueeze", [rows, c.ints([1], "axes")]), columns])


def _scale_weights(found: Layer) -> list[str]:
    additive = found.kind == "AdditiveAttention"
    return ["scale"] if found.flag("use_scale", additive) else []


@layer("Attention", "AdditiveAttention", weights=_scale_weights)
def attention(c: Call) -> list[Flow]:
    if c.layer.config.get("score_mode", "dot") != "dot":
        raise c.unsupported("this score is not read", expected="dot", got=str(c.layer.config["score_mode"])[:40])
    query, value, key = _inputs(c)
    if c.layer.kind == "Attention":
        scores = c.node("MatMul", [query.value, c.transpose(key.value, [0, 2, 1])])
        if "scale" in c.unit.own:
            scores = c.node("Mul", [scores, c.constant("scale", c.weight("scale", []))])
    else:
        one, two = (c.node("Unsqueeze", [f.value, c.ints([axis], "axes")]) for f, axis in ((query, 2), (key, 1)))
        terms: Any = c.node("Tanh", [c.node("Add", [one, two])])
        if "scale" in c.unit.own:
            terms = c.node("Mul", [terms, c.constant("scale", c.weight("scale", [c.size(query.value, -1)]))])
        scores = c.node("ReduceSum", [terms, c.ints([-1], "axes")], keepdims=0)
    scores, _ = _masked(c, scores, [(value.mask, 1)], heads=False)
    weights = c.node("Softmax", [scores], axis=-1)
    y = c.node("MatMul", [weights, value.value])
    if query.mask is not None:
        y = c.node("Mul", [y, c.node("Unsqueeze", [c.cast(query.mask, np.float32), c.ints([-1], "axes")])])
    results = [Flow(y, query.mask)]
    return [*results, Flow(weights)] if c.keyword("return_attention_scores", False) else results
