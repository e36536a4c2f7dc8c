"""FlexAttention: attention whose scores and probabilities pass through graphs that the model gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16, DTYPES, decode, encode, is_narrow
from ..errors import GraphError
from ..graph import Array, TensorType, Value
from . import shapes
from .bodies import body_of, captured, entered
from .evaluate import infer_body, run_body
from .registry import Attributes, Constants, Types, operator

_PRECISIONS = (1, 10, 11, 16)
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _precision(attributes: Attributes, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which the probabilities are computed."""
    given = attributes["softmax_precision"]
    return (_FLOAT64 if dtype == _FLOAT64 else _FLOAT32) if given is None else DTYPES[given]


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    q, k, v = (shapes.required(types, i, name, "f") for i, name in enumerate("QKV"))
    dtype = shapes.same_dtype((q, k, v), "QKV")
    given = attributes["softmax_precision"]
    if given is not None and shapes.integer(attributes, "softmax_precision") not in _PRECISIONS:
        raise GraphError("attribute 'softmax_precision' is wrong", expected="1, 10, 11 or 16", got=str(given))
    if attributes["scale"] is not None and not shapes.number(attributes, "scale") >= 0:
        raise GraphError("attribute 'scale' is negative", got=str(attributes["scale"]))
    unknown = (None,) * 4
    dims = [shapes.rank_of(t, name, 4, 4) or unknown for t, name in ((q, "Q"), (k, "K"), (v, "V"))]
    batch = shapes.unify(dims[0][0], dims[1][0], "the batches of Q and K")
    batch = shapes.unify(batch, dims[2][0], "the batches of Q and V")
    groups = shapes.unify(dims[1][1], dims[2][1], "the heads of K and V")
    heads = dims[0][1]
    if isinstance(heads, int) and isinstance(groups, int) and (not groups or heads % groups):
        raise GraphError("the heads of Q are no multiple of those of K", expected=f"times {groups}", got=str(heads))
    keys = shapes.unify(dims[1][2], dims[2][2], "the lengths of K and V")
    shapes.unify(dims[0][3], dims[1][3], "the head sizes of Q and K")
    scores = TensorType(_precision(attributes, dtype), (batch, heads, dims[0][2], keys))
    others = len(types) - captured(attributes, len(types), 3)
    for name in ("score_mod", "prob_mod"):
        if attributes[name] is not None:
            _check_body(attributes, name, scores, types[others:], constants[others:])
    return [shapes.tensor(dtype, (batch, heads, dims[0][2], dims[2][3]))]


def _check_body(attributes: Attributes, name: str, scores: TensorType, types: Types, constants: Constants) -> None:
    body = body_of(attributes, name, 1 + len(types))
    found = infer_body(body, entered(body, [scores, *types], [np.zeros(0), *constants]))
    if len(found) != 1 or found[0].dtype != scores.dtype or found[0].container:
        raise GraphError(f"{name} gives something else than it takes", expected=str(scores), got=str(found[0]))
    for a, b in zip(scores.shape or (), shapes.rank_of(found[0], f"of {name}", 4, 4) or ()):
        shapes.unify(a, b, f"the dimensions of what {name} takes and gives")


def _changed(body: Any, x: Array, dtype: np.dtype[Any], outer: tuple[Value, ...]) -> Array:
    """What a body makes of the scores or probabilities, which it sees in the type of the softmax."""
    if body is None:
        return x
    given = encode(x, dtype) if is_narrow(dtype) else x.astype(dtype)
    return decode(np.asarray(run_body(body, [given, *outer])[0])).astype(x.dtype)


def _flex(attributes: Attributes, q: Array, k: Array, v: Array, *outer: Value) -> Array:
    dtype = q.dtype
    precision = _precision(attributes, dtype)
    work = _FLOAT64 if _FLOAT64 in (dtype, precision) else _FLOAT32
    query, key, value = (decode(x).astype(work) for x in (q, k, v))
    batch, heads, queries, size = query.shape
    groups, keys = key.shape[1:3]
    scale = attributes["scale"] if attributes["scale"] is not None else 1 / math.sqrt(size) if size else 0
    root = work.type(math.sqrt(scale))
    # Each group of query heads shares the heads of a key and value: one more axis, over which those are broadcast.
    split = (query * root).reshape(batch, groups, heads // groups, queries, size)
    products = split @ (key * root)[:, :, None].swapaxes(-1, -2)
    scores = products.reshape(batch, heads, queries, keys)
    scores = _changed(attributes["score_mod"], scores, precision, outer)
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = powers.sum(axis=-1, keepdims=True)
    weights = _changed(attributes["prob_mod"], powers / np.where(total == 0, 1, total), precision, outer)
    shared = weights.reshape(batch, groups, heads // groups, queries, keys)
    result = (shared @ value[:, :, None]).reshape(batch, heads, queries, value.shape[3])
    return encode(result, dtype) if dtype == BFLOAT16 else result.astype(dtype)


operator(
    "FlexAttention",
    infer=_infer,
    reference=_flex,
    attributes={"prob_mod": None, "scale": None, "score_mod": None, "softmax_precision": None, "captures": 0},
    arity=(3, None),
    domain="ai.onnx.preview",
    narrow=True,
)
