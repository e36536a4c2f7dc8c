"""Attention and MultiHeadAttention: with and without the projections of the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import GraphError, UnsupportedError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..linear import check_bias
from ..registry import REQUIRED, Attributes, Case, Constants, Types, operator
from . import DOMAIN
from .lower_attention import lower_multi_head
from .scores import attend, check_attention_bias, check_heads, join, length_after, padding_mask, split

_LOWEST = float(np.finfo(np.float32).min)


def _check_settings(attributes: Attributes) -> None:
    shapes.flag(attributes, "unidirectional")
    for name in ("scale", "mask_filter_value"):
        if attributes[name] is not None:
            shapes.number(attributes, name)


def _scale(attributes: Attributes, size: int) -> float:
    given = attributes["scale"]
    return float(given) if given else 1 / math.sqrt(size)


def _check_mask(types: Types, index: int, name: str, batch: Dim, *, starts: bool) -> None:
    """Raise GraphError unless a mask is absent or of a known form; `starts`: one with ends and starts of keys is."""
    if shapes.at(types, index) is None:
        return
    shape = shapes.rank_of(shapes.required(types, index, name, "i"), name, 1, 4)
    if shape is None:
        return
    if len(shape) == 4:
        raise UnsupportedError(f"input {name} of rank 4 is not supported", hint="masks of rank 1 to 3 are")
    if len(shape) > 1:
        shapes.unify(batch, shape[0], f"the batch size and the first dimension of input {name}")
    elif isinstance(batch, int) and isinstance(shape[0], int):
        allowed = [batch, 2 * batch] if starts else [batch]
        if shape[0] == 3 * batch + 2 and shape[0] not in allowed:
            raise UnsupportedError(f"input {name} with cumulated lengths is not supported")
        if shape[0] not in allowed:
            expected = " or ".join(map(str, allowed))
            raise GraphError(f"input {name} has the wrong length", expected=expected, got=str(shape[0]))


def _added(attributes: Attributes, mask: Array | None, bias: Array | None, q: Array, total: int) -> Any:
    """What is added to the scores: attention bias, padding, and what lies behind a token if it only looks back."""
    batch, length = q.shape[0], q.shape[2]
    filtered = attributes["mask_filter_value"]
    added: Any = None
    if mask is not None:
        added = padding_mask(mask, batch, total, -10000.0 if filtered is None else filtered)
    if attributes["unidirectional"] and length > 1:
        later = np.arange(total) > np.arange(total - length, total)[:, None]
        added = np.where(later, np.float32(_LOWEST), np.float32(0) if added is None else added)
    if bias is not None:
        added = bias if added is None else bias + added
    return added


def _projected(attributes: Attributes, total: Dim) -> list[Dim]:
    """The hidden sizes of Q, K and V."""
    if attributes["qkv_hidden_sizes"]:
        given = shapes.integers(attributes, "qkv_hidden_sizes", 3, least=1)
        if given[0] != given[1]:
            raise GraphError("attribute 'qkv_hidden_sizes' is wrong", expected="equal sizes of Q and K", got=str(given))
        shapes.unify(sum(given), total, "the sum of attribute 'qkv_hidden_sizes' and the columns of input weights")
        return list(given)
    if not isinstance(total, int):
        return [None] * 3
    if total % 3:
        raise GraphError("the columns of input weights are no multiple of 3", got=str(total))
    return [total // 3] * 3


def _infer_attention(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.rank_of(shapes.required(types, 0, "input", "f"), "input", 3, 3) or (None,) * 3
    w = shapes.rank_of(shapes.required(types, 1, "weights", "f"), "weights", 2, 2) or (None,) * 2
    dtype = shapes.required(types, 0, "input").dtype
    _check_settings(attributes)
    if attributes["do_rotary"] or attributes["past_present_share_buffer"] or shapes.at(types, 6) is not None:
        raise UnsupportedError("Attention with do_rotary or with a shared buffer of states is not supported")
    shapes.unify(x[2], w[0], "the features of input input and the rows of input weights")
    check_bias(types, 2, w[1])
    sizes = _projected(attributes, w[1])
    heads, head = check_heads(attributes, "num_heads", sizes[0], "the hidden size of Q and K")
    check_heads(attributes, "num_heads", sizes[2], "the hidden size of V")
    _check_mask(types, 3, "mask_index", x[0], starts=True)
    past: Dim = 0
    if shapes.at(types, 4) is not None:
        found = shapes.rank_of(shapes.required(types, 4, "past", "f"), "past", 5, 5) or (None,) * 5
        for given, wanted, name in zip(found, (2, x[0], heads, None, head), ("states", "batch", "heads", "", "size")):
            shapes.unify(wanted, given, f"the {name} of the attention and of input past")
        past = found[3]
    total = length_after(past, x[1])
    check_attention_bias(types, 5, x[0], heads, x[1], total)
    y = shapes.tensor(dtype, (x[0], x[1], sizes[2]))
    if sizes[2] != sizes[0]:  # keys and values of different sizes have no common state
        if shapes.at(types, 4) is not None:
            raise GraphError("input past needs equal sizes of K and V", got=f"{sizes[1]} and {sizes[2]}")
        return [y]
    return [y, shapes.tensor(dtype, (2, x[0], heads, total, head))]


def _attention(attributes: Attributes, *given: Array | None) -> tuple[Array, ...]:
    x, weights, bias, mask, past, attention_bias = (*given, *[None] * 4)[:6]
    assert x is not None
    assert weights is not None
    sizes = attributes["qkv_hidden_sizes"] or [weights.shape[1] // 3] * 3
    projected = np.matmul(x, weights) if bias is None else np.matmul(x, weights) + bias
    parts = np.split(projected, [sizes[0], sizes[0] + sizes[1]], axis=2)
    q, k, v = (split(p, attributes["num_heads"]) for p in parts)
    if past is not None:
        k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
    added = _added(attributes, mask, attention_bias, q, k.shape[2])
    y, _, _ = attend(q, k, v, _scale(attributes, q.shape[3]), added=added)
    return (join(y), np.stack([k, v])) if k.shape == v.shape else (join(y),)


operator(
    "Attention",
    domain=DOMAIN,
    infer=_infer_attention,
    reference=_attention,
    attributes={
        "num_heads": REQUIRED,
        "unidirectional": 0,
        "scale": None,
        "mask_filter_value": None,
        "qkv_hidden_sizes": None,
        "do_rotary": 0,
        "rotary_embedding_dim": 0,
        "past_present_share_buffer": 0,
    },
    arity=(2, 7),
)


def _key_and_value(types: Types, hidden: Dim, heads: int, head: Dim) -> tuple[Dim, Dim]:
    """The length of the keys and the hidden size of V, for the forms that key and value come in."""
    key = shapes.at(types, 1)
    if key is None:
        if shapes.at(types, 2) is not None:
            raise GraphError("input value is given without input key")
        return None, hidden
    shape = shapes.rank_of(shapes.required(types, 1, "key", "f"), "key", 3, 5)
    if shape is None:
        return None, None
    if len(shape) == 5:  # [batch, length, heads, 2, size]
        if shapes.at(types, 2) is not None:
            raise GraphError("input value is given, though input key holds it")
        shapes.unify(heads, shape[2], "attribute 'num_heads' and dimension 2 of input key")
        shapes.unify(2, shape[3], "key and value and dimension 3 of input key")
        return shape[1], hidden
    value = shapes.rank_of(shapes.required(types, 2, "value", "f"), "value", len(shape), len(shape))
    if len(shape) == 3:
        shapes.unify(hidden, shape[2], "the hidden sizes of inputs query and key")
        return shape[1], None if value is None else value[2]
    shapes.unify(heads, shape[1], "attribute 'num_heads' and dimension 1 of input key")
    shapes.unify(head, shape[3], "the sizes of a head of inputs query and key")
    size = None if value is None else value[3]
    return shape[2], heads * size if isinstance(size, int) else None


def _infer_multi_head(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    query = shapes.required(types, 0, "query", "f")
    found = shapes.rank_of(query, "query", 3, 5)
    _check_settings(attributes)
    if shapes.at(types, 8) is not None or shapes.at(types, 9) is not None:
        raise UnsupportedError("MultiHeadAttention with a shared buffer of states is not supported")
    packed = found is not None and len(found) == 5
    if found is not None and not packed:
        shapes.rank_of(query, "query", 3, 3)
    if shapes.at(types, 1) is None and found is not None and not packed:
        raise GraphError("input key is absent", expected="query [batch, length, heads, 3, size]", got=str(query))
    batch, length = (None, None) if found is None else found[:2]
    hidden = None if found is None else shapes.product((found[2], found[4])) if packed else found[2]
    heads, head = check_heads(attributes, "num_heads", hidden, "the hidden size of input query")
    keys, v_hidden = _key_and_value(types, hidden, heads, head)
    keys = length if shapes.at(types, 1) is None else keys
    _, v_head = check_heads(attributes, "num_heads", v_hidden, "the hidden size of input value")
    _check_mask(types, 4, "key_padding_mask", batch, starts=False)
    past: Dim = 0
    if (shapes.at(types, 6) is None) != (shapes.at(types, 7) is None):
        raise GraphError("inputs past_key and past_value go together")
    for index, name, size in ((6, "past_key", head), (7, "past_value", v_head)):
        if shapes.at(types, index) is not None:
            state = shapes.rank_of(shapes.required(types, index, name, "f"), name, 4, 4) or (None,) * 4
            for given, wanted, what in zip(state, (batch, heads, None, size), ("batch", "heads", "", "size")):
                shapes.unify(wanted, given, f"the {what} of the attention and of input {name}")
            past = state[2]
    total = length_after(past, keys)
    check_attention_bias(types, 5, batch, heads, length, total)
    return [
        shapes.tensor(query.dtype, (batch, length, v_hidden)),
        shapes.tensor(query.dtype, (batch, heads, total, head)),
        shapes.tensor(query.dtype, (batch, heads, total, v_head)),
        shapes.tensor(query.dtype, (batch, heads, length, total)),
    ]


def _heads(query: Array, key: Array | None, value: Array | None, bias: Array | None, heads: int) -> list[Array]:
    """Q, K and V as [batch, heads, length, size], from whatever form they come in."""
    if key is None:
        parts = [np.moveaxis(query[:, :, :, k], 1, 2) for k in range(3)]
    elif key.ndim == 5:
        parts = [split(query, heads), *(np.moveaxis(key[:, :, :, k], 1, 2) for k in range(2))]
    elif value is not None and value.ndim == 4:
        parts = [split(query, heads), key, value]
    else:
        assert value is not None
        parts = [split(query, heads), split(key, heads), split(value, heads)]
    if bias is None:
        return parts
    sizes = [p.shape[1] * p.shape[3] for p in parts]
    biases = np.split(bias, [sizes[0], sizes[0] + sizes[1]])
    return [p + b.reshape(heads, 1, p.shape[3]) for p, b in zip(parts, biases)]


def _multi_head(attributes: Attributes, *given: Array | None) -> tuple[Array, ...]:
    query, key, value, bias, mask, attention_bias, past_key, past_value = (*given, *[None] * 7)[:8]
    assert query is not None
    q, k, v = _heads(query, key, value, bias, attributes["num_heads"])
    if past_key is not None and past_value is not None:
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    added = _added(attributes, mask, attention_bias, q, k.shape[2])
    y, scores, _ = attend(q, k, v, _scale(attributes, q.shape[3]), added=added)
    return join(y), k, v, scores.astype(query.dtype)


_KEYS = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], np.int32)
_QKV = ((2, 4, 24), (2, 4, 24), (2, 4, 15))

operator(
    "MultiHeadAttention",
    domain=DOMAIN,
    infer=_infer_multi_head,
    reference=_multi_head,
    attributes={"num_heads": REQUIRED, "unidirectional": 0, "scale": None, "mask_filter_value": None},
    arity=(1, 10),
    lower=lower_multi_head,
    typed=True,
    cases=(
        Case(_QKV, {"num_heads": 3}),
        Case((*_QKV, (63,), _KEYS), {"num_heads": 3, "scale": 0.3}, constants=(3,), name="bias and mask"),
        Case((*_QKV, None, None, (1, 1, 4, 4)), {"num_heads": 3, "unidirectional": 1}, name="added"),
    ),
)
