"""Attention: softmax(Q K^T) V with masks, caches and groups of heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16, DTYPES, decode, encode, name_of
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from ..records import record
from . import shapes
from .lower_attention import lower_attention
from .registry import Attributes, Case, Constants, Types, operator

Shape4 = tuple[Dim, Dim, Dim, Dim]
_UNKNOWN: Shape4 = (None, None, None, None)
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64), BFLOAT16)
_PRECISIONS = (1, 10, 11, 16)

# What qk_matmul_output_mode asks for.
_SOFTCAPPED, _BIASED, _PROBABILITIES = 1, 2, 3


def _check_attributes(attributes: Attributes) -> None:
    shapes.flag(attributes, "is_causal")
    for name in ("left_window_size", "right_window_size"):
        if shapes.integer(attributes, name) < -1:
            raise GraphError(f"attribute {name!r} is wrong", expected="-1 or more", got=str(attributes[name]))
    if shapes.integer(attributes, "qk_matmul_output_mode") not in range(4):
        raise GraphError(
            "attribute 'qk_matmul_output_mode' is wrong",
            expected="0 to 3",
            got=str(attributes["qk_matmul_output_mode"]),
        )
    precision = attributes["softmax_precision"]
    if precision is not None and shapes.integer(attributes, "softmax_precision") not in _PRECISIONS:
        raise GraphError("attribute 'softmax_precision' is wrong", expected="1, 10, 11 or 16", got=str(precision))
    if shapes.number(attributes, "softcap") < 0:
        raise GraphError("attribute 'softcap' is negative", got=str(attributes["softcap"]))
    if attributes["scale"] is not None and not shapes.number(attributes, "scale") >= 0:
        raise GraphError("attribute 'scale' is negative", got=str(attributes["scale"]))


def _by_heads(attributes: Attributes, found: TensorType, name: str, key: str) -> Shape4:
    """The shape (batch, heads, sequence, head) that an input has or is cut into."""
    shape = shapes.rank_of(found, name, 3, 4)
    heads = None if attributes[key] is None else shapes.integer(attributes, key)
    if heads is not None and heads < 1:
        raise GraphError(f"attribute {key!r} is wrong", expected="1 or more", got=str(heads))
    if shape is None:
        return _UNKNOWN
    if len(shape) == 4:
        batch, own, sequence, size = shape
        return batch, shapes.unify(own, heads, f"attribute {key!r} and the heads of input {name}"), sequence, size
    if heads is None:
        raise GraphError(f"attribute {key!r} is missing", expected="a number of heads for inputs of rank 3")
    batch, sequence, width = shape
    if isinstance(width, int) and width % heads:
        raise GraphError(f"input {name} does not split into {heads} heads", got=str(found))
    return batch, heads, sequence, width // heads if isinstance(width, int) else None


@record(frozen=True, slots=True)
class _Sizes:
    """The dimensions that the inputs agree on."""

    batch: Dim
    heads: Dim
    groups: Dim
    queries: Dim
    keys: Dim
    head: Dim
    value: Dim


def _sizes(attributes: Attributes, types: Types) -> _Sizes:
    """Check the shapes of Q, K, V and of what was kept of earlier calls. `keys` counts those too."""
    q, k, v = (shapes.required(types, i, name, "f") for i, name in enumerate("QKV"))
    if len({len(t.shape) for t in (q, k, v) if t.shape is not None}) > 1:
        raise GraphError("inputs Q, K and V differ in rank", expected="3 or 4 for all", got=f"{q}, {k}, {v}")
    batch, heads, queries, head = _by_heads(attributes, q, "Q", "q_num_heads")
    k_batch, groups, keys, k_head = _by_heads(attributes, k, "K", "kv_num_heads")
    v_batch, v_groups, v_keys, value = _by_heads(attributes, v, "V", "kv_num_heads")
    batch = shapes.unify(shapes.unify(batch, k_batch, "the batches of Q and K"), v_batch, "the batches of Q and V")
    head = shapes.unify(head, k_head, "the head sizes of Q and K")
    groups = shapes.unify(groups, v_groups, "the heads of K and V")
    keys = shapes.unify(keys, v_keys, "the lengths of K and V")
    if isinstance(heads, int) and isinstance(groups, int) and (not groups or heads % groups):
        raise GraphError(
            "the heads of Q are no multiple of those of K", expected=f"a multiple of {groups}", got=str(heads)
        )
    for index, name, size in ((4, "past_key", head), (5, "past_value", value)):
        past = shapes.at(types, index)
        if past is None:
            continue
        shape = shapes.rank_of(past, name, 4, 4) or _UNKNOWN
        for a, b in zip((batch, groups, None, size), shape):
            shapes.unify(a, b, f"the dimensions of input {name} and of K and V")
        if index == 5:
            before = (types[4].shape or _UNKNOWN)[2] if types[4] is not None else None
            length = shapes.unify(before, shape[2], "the lengths of past_key and past_value")
            keys = keys + length if isinstance(keys, int) and isinstance(length, int) else None
    return _Sizes(batch, heads, groups, queries, keys, head, value)


def _check_mask(found: TensorType, sizes: _Sizes) -> None:
    shape = shapes.rank_of(found, "attn_mask", 1, 4)
    if shape is None:
        return
    if isinstance(shape[-1], int) and isinstance(sizes.keys, int) and shape[-1] > sizes.keys:
        raise GraphError("input attn_mask is too wide", expected=f"{sizes.keys} keys at most", got=str(found))
    for d, wanted in zip(shape[-2::-1], (sizes.queries, sizes.heads, sizes.batch)):
        if d != 1:
            shapes.unify(wanted, d, "the dimensions of input attn_mask and of the scores")


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_attributes(attributes)
    q, v = shapes.required(types, 0, "Q", "f"), shapes.required(types, 2, "V", "f")
    for found, name, same in zip(types, ("Q", "K", "V", "attn_mask", "past_key", "past_value"), (0, 0, 2, -1, 0, 2)):
        expected = (q, None, v, None)[same]
        if found is not None and expected is not None and (found.dtype not in _FLOATS or found.dtype != expected.dtype):
            raise GraphError(
                f"input {name} has the wrong dtype", expected=name_of(expected.dtype), got=name_of(found.dtype)
            )
    sizes = _sizes(attributes, types)
    if (shapes.at(types, 4) is None) != (shapes.at(types, 5) is None):
        raise GraphError("inputs past_key and past_value are only of use together")
    if shapes.at(types, 3) is not None:
        _check_mask(shapes.required(types, 3, "attn_mask", "fiub"), sizes)
    if shapes.at(types, 6) is not None:
        if shapes.at(types, 4) is not None:
            raise GraphError("input nonpad_kv_seqlen does not go with past_key and past_value")
        lengths = shapes.rank_of(shapes.required(types, 6, "nonpad_kv_seqlen", "i"), "nonpad_kv_seqlen", 1, 1)
        shapes.unify(sizes.batch, (lengths or (None,))[0], "the batch and the size of input nonpad_kv_seqlen")
    result: tuple[Dim, ...] | None = (sizes.batch, sizes.heads, sizes.queries, sizes.value)
    if q.shape is None:
        result = None
    elif len(q.shape) == 3:
        both = (sizes.heads, sizes.value)
        result = (sizes.batch, sizes.queries, shapes.product(both) if None not in both else None)
    return [
        shapes.tensor(q.dtype, result),
        shapes.tensor(q.dtype, (sizes.batch, sizes.groups, sizes.keys, sizes.head)),
        shapes.tensor(v.dtype, (sizes.batch, sizes.groups, sizes.keys, sizes.value)),
        shapes.tensor(q.dtype, (sizes.batch, sizes.heads, sizes.queries, sizes.keys)),
    ]


Rounding = Callable[[Any], Array]


def _rounding(dtype: np.dtype[Any]) -> Rounding:
    """Rounds numbers to a type and keeps them in one to calculate with: float64, or else float32."""
    if dtype == np.float16:
        return lambda x: np.asarray(x).astype(np.float16).astype(np.float32)
    if dtype == BFLOAT16:
        return lambda x: decode(encode(np.asarray(x, np.float32), BFLOAT16))
    return lambda x: np.asarray(x, dtype)


def _cast(x: Array, dtype: np.dtype[Any]) -> Array:
    return encode(x, dtype) if dtype == BFLOAT16 else x.astype(dtype)


def _split(x: Array, heads: int | None) -> Array:
    """(batch, sequence, heads * size) as (batch, heads, sequence, size)."""
    if x.ndim == 4:
        return x
    assert heads is not None
    return np.asarray(x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2))


def _bias(
    attributes: Attributes,
    shape: tuple[int, int, int, int],
    past: int,
    mask: Array | None,
    lengths: Array | None,
    dtype: np.dtype[Any],
) -> Array:
    """What is added to the scores: the mask where a key may be attended, else -inf."""
    queries, keys = shape[2:]
    value = np.zeros((1, 1, 1, 1), dtype)
    if mask is not None:
        mask = decode(mask)
        value = np.where(mask, 0, -np.inf).astype(dtype) if mask.dtype == np.bool_ else mask.astype(dtype)
        missing = [(0, 0)] * (value.ndim - 1) + [(0, keys - value.shape[-1])]
        value = np.pad(value, missing, constant_values=-np.inf)
    # The place of a query among the keys; per sample where lengths are given.
    offset = np.full((1, 1, 1, 1), past) if lengths is None else lengths.reshape(-1, 1, 1, 1) - queries
    place = offset + np.arange(queries)[:, None]
    column = np.arange(keys)
    allowed = np.ones((1, 1, queries, keys), np.bool_)
    if attributes["is_causal"]:
        allowed = allowed & (column <= place)
    if attributes["left_window_size"] >= 0:
        allowed = allowed & (column >= place - attributes["left_window_size"])
    if attributes["right_window_size"] >= 0:
        allowed = allowed & (column <= place + attributes["right_window_size"])
    if lengths is not None:
        allowed = allowed & (column < lengths.reshape(-1, 1, 1, 1))
    return np.asarray(np.where(allowed, value, dtype.type(-np.inf)))


def _total(x: Array, dtype: np.dtype[Any]) -> Array:
    """The sum over the last axis, rounded to a type.

    bfloat16 rounds each addition, as ONNX's own results do, but only of 8 terms: a long sum would come to a halt.
    """
    rounded = _rounding(dtype)
    if dtype == BFLOAT16:
        missing = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 8)]
        parts = np.pad(x, missing).reshape(*x.shape[:-1], -1, 8)
        x = parts[..., 0]
        for k in range(1, 8):
            x = rounded(x + parts[..., k])
    return rounded(x.sum(axis=-1, keepdims=True))


def _softmax(x: Array, hidden: Array, dtype: np.dtype[Any]) -> Array:
    """Softmax over the last axis, each operation rounded to a type; rows that are `hidden` are zero."""
    rounded = _rounding(dtype)
    x = rounded(x)
    top = x.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = rounded(np.exp(rounded(x - np.where(np.isneginf(top), 0, top))))
    total = _total(powers, dtype)
    return np.asarray(np.where(hidden, 0, rounded(powers / np.where(total == 0, 1, total))))


def _attention(
    attributes: Attributes,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, ...]:
    dtype, rank = q.dtype, q.ndim
    rounded = _rounding(dtype)
    query = decode(_split(q, attributes["q_num_heads"]))
    key, value = (_split(x, attributes["kv_num_heads"]) for x in (k, v))
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        key, value = (np.concatenate(pair, axis=2) for pair in ((past_key, key), (past_value, value)))
    batch, heads, queries, size = query.shape
    groups, keys = key.shape[1:3]
    scale = 1 / math.sqrt(size) if attributes["scale"] is None and size else attributes["scale"] or 0
    root = rounded(math.sqrt(scale))
    work = rounded(0).dtype

    # Each group of query heads shares the heads of a key and value: one more axis, over which those are broadcast.
    grouped = rounded(query.astype(work) * root).reshape(batch, groups, heads // groups, queries, size)
    columns = rounded(decode(key).astype(work) * root)[:, :, None].swapaxes(-1, -2)
    scores = rounded(grouped @ columns).reshape(batch, heads, queries, keys)
    kept = scores
    if attributes["softcap"] > 0:
        cap = rounded(attributes["softcap"])
        scores = rounded(rounded(np.tanh(rounded(scores / cap))) * cap)
    if attributes["qk_matmul_output_mode"] >= _SOFTCAPPED:
        kept = scores
    bias = _bias(attributes, scores.shape, past, mask, lengths, work)
    biased = rounded(scores + bias)
    if attributes["qk_matmul_output_mode"] == _BIASED:
        kept = biased
    precision = attributes["softmax_precision"]
    hidden = np.isneginf(bias.max(axis=-1, keepdims=True, initial=-np.inf))
    weights = rounded(_softmax(biased, hidden, dtype if precision is None else DTYPES[precision]))
    if attributes["qk_matmul_output_mode"] == _PROBABILITIES:
        kept = weights

    shared = weights.reshape(batch, groups, heads // groups, queries, keys)
    result = (shared @ decode(value)[:, :, None]).reshape(batch, heads, queries, value.shape[3])
    if rank == 3:
        result = result.swapaxes(1, 2).reshape(batch, queries, heads * value.shape[3])
    return _cast(result, dtype), key, value, _cast(kept, dtype)


_HEADS = {"q_num_heads": 4, "kv_num_heads": 4}
_LEFT = np.tril(np.ones((3, 5), np.bool_))

operator(
    "Attention",
    infer=_infer,
    reference=_attention,
    attributes={
        "is_causal": 0,
        "kv_num_heads": None,
        "left_window_size": -1,
        "q_num_heads": None,
        "qk_matmul_output_mode": 0,
        "right_window_size": -1,
        "scale": None,
        "softcap": 0.0,
        "softmax_precision": None,
    },
    arity=(3, 7),
    lower=lower_attention,
    typed=True,
    narrow=True,
    cases=(
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 6)), name="4-D"),
        Case(((2, 3, 32), (2, 5, 32), (2, 5, 24)), _HEADS, name="3-D"),
        Case(((2, 3, 32), (2, 5, 16), (2, 5, 12)), {"q_num_heads": 4, "kv_num_heads": 2}, name="groups"),
        Case(((2, 4, 5, 8), (2, 1, 5, 8), (2, 1, 5, 8)), {"is_causal": 1}, name="causal"),
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 8), _LEFT), name="mask of bools"),
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 8), (2, 1, 3, 5)), {"scale": 0.25}, name="mask of numbers"),
        Case(
            ((2, 2, 3, 8), (2, 2, 3, 8), (2, 2, 3, 8), None, (2, 2, 4, 8), (2, 2, 4, 8)),
            {"is_causal": 1, "qk_matmul_output_mode": _PROBABILITIES},
            name="past",
        ),
        Case(
            ((2, 2, 3, 8), (2, 2, 3, 8), (2, 2, 3, 8)),
            {"softcap": 1.5, "qk_matmul_output_mode": _SOFTCAPPED},
            name="soft cap",
        ),
    ),
)
