"""GroupQueryAttention: several query heads per key head, with a growing state, windows and rotary embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import GraphError, UnsupportedError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..registry import REQUIRED, Attributes, Case, Constants, Types, operator
from . import DOMAIN
from .lower_group_query import lower_group_query
from .rotary import check_tables, rotate
from .scores import attend, check_attention_bias, check_heads, join, split

_ATTRIBUTES = {
    "num_heads": REQUIRED,
    "kv_num_heads": REQUIRED,
    "scale": None,
    "softcap": 0.0,
    "causal": 1,
    "local_window_size": -1,
    "do_rotary": 0,
    "rotary_interleaved": 0,
    "smooth_softmax": -1,
    "qk_output": 0,
    "qk_norm_epsilon": 1e-6,
    "kv_cache_bit_width": 0,
    "k_quant_type": "NONE",
    "v_quant_type": "NONE",
    "sliding_window_cache": 0,
}


def _check_settings(attributes: Attributes, types: Types) -> None:
    for name in ("do_rotary", "rotary_interleaved", "sliding_window_cache", "causal"):
        shapes.flag(attributes, name)
    for name in ("softcap", "qk_norm_epsilon"):
        shapes.number(attributes, name)
    for name in ("k_quant_type", "v_quant_type"):
        if shapes.choice(attributes, name, ("NONE", "PER_TENSOR", "PER_CHANNEL")) != "NONE":
            raise UnsupportedError("GroupQueryAttention with a quantised state is not supported")
    if attributes["sliding_window_cache"]:
        raise UnsupportedError("GroupQueryAttention with sliding_window_cache is not supported")
    if shapes.integer(attributes, "qk_output") not in (0, 1, 2):
        raise GraphError("attribute 'qk_output' is wrong", expected="0, 1 or 2", got=str(attributes["qk_output"]))
    if shapes.integer(attributes, "local_window_size") > 0 and not attributes["causal"]:
        raise GraphError("attribute 'local_window_size' needs 'causal'")
    for pair in ((3, 4), (7, 8), (14, 15)):
        if (shapes.at(types, pair[0]) is None) != (shapes.at(types, pair[1]) is None):
            raise GraphError(f"inputs {pair[0]} and {pair[1]} go together")


def _check_others(types: Types, batch: Dim, length: Dim, heads: int, head: Dim) -> None:
    for index, name, size in ((5, "seqlens_k", batch), (11, "head_sink", heads), (14, "q_norm_weight", head)):
        if shapes.at(types, index) is not None:
            shape = shapes.rank_of(shapes.required(types, index, name), name, 0, 2)
            count = None if shape is None else shapes.product(shape)
            shapes.unify(size, count, f"the number that the attention needs and the elements of input {name}")
    shapes.required(types, 5, "seqlens_k", "i")
    shapes.required(types, 6, "total_sequence_length", "i")
    if shapes.at(types, 9) is not None:
        shape = shapes.rank_of(shapes.required(types, 9, "position_ids", "i"), "position_ids", 2, 2)
        if shape is not None:
            shapes.unify(length, shape[1], "the lengths of inputs query and position_ids")


def _sizes(attributes: Attributes, types: Types) -> tuple[Dim, Dim, int, int, Dim]:
    """Batch, length, query heads, key heads, and the size of a head."""
    query = shapes.rank_of(shapes.required(types, 0, "query", "f"), "query", 3, 3) or (None,) * 3
    groups = shapes.integer(attributes, "kv_num_heads")
    if groups < 1 or shapes.integer(attributes, "num_heads") % groups:
        raise GraphError("attribute 'kv_num_heads' does not divide 'num_heads'", got=str(groups))
    if shapes.at(types, 1) is None:
        packed = {"all": attributes["num_heads"] + 2 * groups}
        _, head = check_heads(packed, "all", query[2], "the packed size of input query")
        return query[0], query[1], attributes["num_heads"], groups, head
    heads, head = check_heads(attributes, "num_heads", query[2], "the hidden size of input query")
    for index, name in ((1, "key"), (2, "value")):
        shape = shapes.rank_of(shapes.required(types, index, name, "f"), name, 3, 3) or (None,) * 3
        _, size = check_heads(attributes, "kv_num_heads", shape[2], f"the hidden size of input {name}")
        for a, b, what in ((query[0], shape[0], "batch"), (query[1], shape[1], "length"), (head, size, "head")):
            shapes.unify(a, b, f"the sizes ({what}) of inputs query and {name}")
    return query[0], query[1], heads, groups, head


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.required(types, 0, "query", "f").dtype
    _check_settings(attributes, types)
    batch, length, heads, groups, head = _sizes(attributes, types)
    _check_others(types, batch, length, heads, head)
    if attributes["do_rotary"]:
        width = check_tables(types, 7)
        if isinstance(width, int) and isinstance(head, int) and 2 * width > head:
            raise GraphError("input cos_cache is wider than half a head", expected=str(head // 2), got=str(width))
    room: Dim = 0
    for index, name in ((3, "past_key"), (4, "past_value")):
        if shapes.at(types, index) is None:
            continue
        state = shapes.required(types, index, name)
        if state.dtype != dtype:
            raise UnsupportedError("GroupQueryAttention with a quantised state is not supported")
        shape = shapes.rank_of(state, name, 4, 4) or (None,) * 4
        for given, wanted, what in zip(shape, (batch, groups, None, head), ("batch", "key heads", "", "head")):
            shapes.unify(wanted, given, f"the sizes ({what}) of the attention and of input {name}")
        room = shape[2]
    known = shapes.value_of(types, constants, 6, "total_sequence_length")
    total = None if known is None else known[0]
    present = max(room, total) if isinstance(room, int) and total is not None else None
    check_attention_bias(types, 10, batch, heads, length, None)
    hidden = heads * head if isinstance(head, int) else None
    cache = shapes.tensor(dtype, (batch, groups, present, head))
    y = shapes.tensor(dtype, (batch, length, hidden))
    return [y, cache, cache, shapes.tensor(dtype, (batch, heads, length, total))]


def _normalized(x: Array, weight: Array | None, epsilon: float) -> Array:
    """Heads with root mean square 1, times the weights."""
    if weight is None:
        return x
    wide = x.astype(np.result_type(x.dtype, np.float32))
    inverse = 1 / np.sqrt(np.square(wide).mean(axis=-1, keepdims=True) + epsilon)
    return np.asarray(wide * inverse * weight, x.dtype)


def _present(past: Array | None, new: Array, before: Array, total: int) -> Array:
    """The state [batch, heads, room, size]: what is known of the past, then the new rows of every sequence."""
    batch, heads, length, size = new.shape
    room = max(total, 0 if past is None else past.shape[2])
    made = np.zeros((batch, heads, room, size), new.dtype)
    if past is not None:
        made[:, :, : past.shape[2]] = past
    for b, start in enumerate(before):
        # Rows of padding behind a short sequence may not fit.
        count = min(length, room - int(start))
        made[b, :, start : start + count] = new[b, :, :count]
        made[b, :, start + count :] = 0 if past is None else made[b, :, start + count :]
    return made


def _hidden(attributes: Attributes, before: Array, ends: Array, length: int, total: int) -> Any:
    """Which keys [batch, 1, length, total] a query must not see."""
    keys = np.arange(total)
    hidden = keys >= ends[:, None, None]
    if attributes["causal"]:
        places = before[:, None] + np.arange(length)
        hidden = hidden | (keys > places[:, :, None])
        window = attributes["local_window_size"]
        if window > 0:
            hidden = hidden | (keys <= places[:, :, None] - window)
    return np.broadcast_to(hidden, (len(before), length, total))[:, None]


def _parts(attributes: Attributes, query: Array, key: Array | None, value: Array | None) -> list[Array]:
    """Q, K and V as [batch, heads, length, size]."""
    heads, groups = attributes["num_heads"], attributes["kv_num_heads"]
    if key is None or value is None:
        packed = split(query, heads + 2 * groups)
        return np.split(packed, [heads, heads + groups], axis=1)
    return [split(query, heads), split(key, groups), split(value, groups)]


def _places(before: Array, length: int, positions: Array | None, *, prompt: bool) -> Array:
    """The positions [batch, length] of the new tokens. Of those given for a first prompt, the first one counts."""
    steps = np.arange(length)
    if positions is None:
        return before[:, None] + steps
    return positions.ravel()[:1, None] + steps if prompt else positions


def _group_query(attributes: Attributes, *given: Array | None) -> tuple[Array, ...]:
    filled = (*given, *[None] * 16)[:16]
    query, key, value, past_key, past_value, ends, total, cosines, sines, positions, bias, sink = filled[:12]
    assert query is not None
    assert ends is not None
    assert total is not None
    q, k, v = _parts(attributes, query, key, value)
    q = _normalized(q, filled[14], attributes["qk_norm_epsilon"])
    k = _normalized(k, filled[15], attributes["qk_norm_epsilon"])
    length, count = q.shape[2], int(total.ravel()[0])
    lengths = ends.ravel().astype(np.int64) + 1
    if lengths.size and (lengths.min() < 1 or lengths.max() > count):
        raise GraphError("input seqlens_k is out of range", expected=f"0 to {count - 1}", got=str(ends.tolist()))
    # A first prompt has nothing before it, even where its sequences are shorter than the padded batch.
    before = np.zeros_like(lengths) if length == count else lengths - length
    if before.size and before.min() < 0:
        raise GraphError("input seqlens_k is less than the new tokens", got=str(ends.tolist()))
    if attributes["do_rotary"] and cosines is not None and sines is not None:
        places = _places(before, length, positions, prompt=length == count)
        turn = {"interleaved": bool(attributes["rotary_interleaved"])}
        q, k = rotate(q, places, cosines, sines, **turn), rotate(k, places, cosines, sines, **turn)
    keys, values = _present(past_key, k, before, count), _present(past_value, v, before, count)
    repeats = attributes["num_heads"] // attributes["kv_num_heads"]
    if attributes["smooth_softmax"] == 1 and sink is None:
        sink = np.zeros(attributes["num_heads"], np.float32)
    y, scores, weights = attend(
        q,
        np.repeat(keys[:, :, :count], repeats, 1),
        np.repeat(values[:, :, :count], repeats, 1),
        float(attributes["scale"]) if attributes["scale"] else 1 / math.sqrt(q.shape[3]),
        added=bias,
        hidden=_hidden(attributes, before, lengths, length, count),
        softcap=attributes["softcap"],
        sink=sink,
    )
    chosen = scores if attributes["qk_output"] == 1 else weights
    return join(y), keys, values, chosen.astype(query.dtype)


_HEADS = {"num_heads": 4, "kv_num_heads": 2}
_NEW = ((2, 3, 32), (2, 3, 16), (2, 3, 16))
_PAST = ((2, 2, 6, 8), (2, 2, 6, 8))
_LAST, _TOTAL = np.array([6, 4], np.int32), np.array(7, np.int32)
_TABLES: tuple[tuple[int, ...], ...] = ((10, 4), (10, 4))

operator(
    "GroupQueryAttention",
    domain=DOMAIN,
    infer=_infer,
    reference=_group_query,
    attributes=_ATTRIBUTES,
    arity=(1, 16),
    lower=lower_group_query,
    typed=True,
    cases=(
        Case((*_NEW, None, None, _LAST - 4, np.array(3, np.int32)), _HEADS, "prompt", (6,)),
        Case((*_NEW, *_PAST, _LAST, _TOTAL, *_TABLES), {**_HEADS, "do_rotary": 1}, "past", (6,)),
        Case((*_NEW, *_PAST, _LAST, _TOTAL), {**_HEADS, "local_window_size": 3, "softcap": 2.0}, "window", (6,)),
        Case(
            (*_NEW, *_PAST, _LAST, _TOTAL, *_TABLES, *[None] * 5, (8,), (8,)),
            {**_HEADS, "do_rotary": 1},
            "heads normalised",
            (6,),
        ),
        Case(
            ((2, 3, 64), None, None, *_PAST, _LAST, _TOTAL, *[None] * 7, (8,), (1, 8)),
            {**_HEADS, "qk_norm_epsilon": 0.1},
            "packed, heads normalised",
            (6, 15),
        ),
    ),
)
