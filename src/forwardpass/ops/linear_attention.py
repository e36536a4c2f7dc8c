"""LinearAttention: attention by a state that every token updates."""

from __future__ import annotations

import math

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator

_RULES = ("linear", "gated", "delta", "gated_delta")


def _gated(attributes: Attributes) -> bool:
    return bool(attributes["update_rule"].startswith("gated"))


def _corrected(attributes: Attributes) -> bool:
    return bool(attributes["update_rule"].endswith("delta"))


def _part(found: TensorType, name: str, heads: int) -> Dim:
    """The size of a head of a packed input."""
    shape = shapes.rank_of(found, name, 3, 3)
    width = shape[2] if shape is not None else None
    if isinstance(width, int) and width % heads:
        raise GraphError(f"input {name} does not split into {heads} heads", got=str(found))
    return width // heads if isinstance(width, int) else None


def _check_gate(found: TensorType | None, name: str, wanted: bool, rule: str, widths: tuple[Dim, ...]) -> None:
    if (found is not None) != wanted:
        what = "needs" if wanted else "has no"
        raise GraphError(f"rule {rule!r} {what} input {name}")
    if found is None:
        return
    shape = shapes.rank_of(found, name, 3, 3)
    known = shape is not None and isinstance(shape[2], int) and None not in widths
    if shape is not None and known and shape[2] not in widths:
        expected = " or ".join(map(str, widths))
        raise GraphError(f"input {name} has the wrong width", expected=expected, got=str(shape[2]))


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    q, k, v = (shapes.required(types, i, name, "f") for i, name in enumerate(("query", "key", "value")))
    shapes.same_dtype([q, k, v, *(t for i, t in enumerate(types) if i > 3)], ("query", "key", "value"))
    rule = shapes.choice(attributes, "update_rule", _RULES)
    shapes.number(attributes, "scale")
    shapes.integer(attributes, "chunk_size")
    heads, groups = (shapes.integer(attributes, name) for name in ("q_num_heads", "kv_num_heads"))
    if groups < 1 or heads < 1 or heads % groups:
        raise GraphError("attribute 'q_num_heads' is wrong", expected=f"a multiple of {groups}", got=str(heads))
    size = shapes.unify(_part(q, "query", heads), _part(k, "key", groups), "the head sizes of query and key")
    width = _part(v, "value", groups)
    batch: Dim = None
    length: Dim = None
    for found in (q, k, v, shapes.at(types, 4), shapes.at(types, 5)):
        if found is not None and found.shape is not None and len(found.shape) == 3:
            batch = shapes.unify(batch, found.shape[0], "the batches of the inputs")
            length = shapes.unify(length, found.shape[1], "the lengths of the inputs")
    each = groups * size if isinstance(size, int) else None
    _check_gate(shapes.at(types, 4), "decay", _gated(attributes), rule, (groups, each))
    _check_gate(shapes.at(types, 5), "beta", _corrected(attributes), rule, (groups, 1))
    state = (batch, groups, size, width)
    past = shapes.at(types, 3)
    dtype = q.dtype
    if past is not None:
        dtype = shapes.required(types, 3, "past_state", "f").dtype
        for a, b in zip(state, shapes.rank_of(past, "past_state", 4, 4) or ()):
            shapes.unify(a, b, "the dimensions of input past_state")
    joined = heads * width if isinstance(width, int) else None
    return [shapes.tensor(q.dtype, (batch, length, joined)), shapes.tensor(dtype, state)]


def _linear_attention(
    attributes: Attributes,
    query: Array,
    key: Array,
    value: Array,
    past: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
) -> tuple[Array, Array]:
    work = np.dtype(np.float64 if query.dtype == np.float64 else np.float32)
    batch, length, _ = query.shape
    heads, groups = attributes["q_num_heads"], attributes["kv_num_heads"]

    def packed(x: Array, count: int) -> Array:
        """(batch, length, count * size) as (length, batch, count, size)."""
        return np.asarray(x.astype(work).reshape(batch, length, count, x.shape[2] // count).swapaxes(0, 1))

    k, v = packed(key, groups), packed(value, groups)
    # The query heads of a group read one state.
    q = packed(query, heads)
    size, width = q.shape[3], v.shape[3]
    q = q.reshape(length, batch, groups, heads // groups, size)
    fade = None if decay is None else np.exp(packed(decay, groups))[..., None]
    rate = None if beta is None else packed(beta, beta.shape[2])
    state = np.zeros((batch, groups, size, width), work) if past is None else past.astype(work)
    scale = work.type(attributes["scale"] or (1 / math.sqrt(size) if size else 0))
    result = np.empty((batch, length, groups, heads // groups, width), work)
    for t in range(length):
        if fade is not None:
            state = state * fade[t]
        added = v[t]
        if rate is not None:
            added = rate[t] * (added - (k[t][:, :, None] @ state)[:, :, 0])
        state = state + k[t][..., None] * added[:, :, None]
        result[:, t] = scale * (q[t] @ state)
    kept = query.dtype if past is None else past.dtype
    return result.reshape(batch, length, heads * width).astype(query.dtype), state.astype(kept)


_PARTS: tuple[tuple[int, ...], ...] = ((2, 5, 24), (2, 5, 12), (2, 5, 8))
_HEADS = {"q_num_heads": 4, "kv_num_heads": 2}

operator(
    "LinearAttention",
    infer=_infer,
    reference=_linear_attention,
    attributes={
        "chunk_size": 64,
        "kv_num_heads": REQUIRED,
        "q_num_heads": REQUIRED,
        "scale": 0.0,
        "update_rule": "gated_delta",
    },
    arity=(3, 6),
    cases=(
        Case(_PARTS, {**_HEADS, "update_rule": "linear"}, name="linear"),
        Case((*_PARTS, None, -np.ones((2, 5, 12), np.float32)), {**_HEADS, "update_rule": "gated"}, name="gated"),
        Case(
            (*_PARTS, (2, 2, 6, 4), None, np.full((2, 5, 1), 0.25, np.float32)),
            {**_HEADS, "update_rule": "delta", "scale": 0.5},
            name="delta",
        ),
        Case(
            (*_PARTS, None, -np.ones((2, 5, 2), np.float32), np.full((2, 5, 2), 0.25, np.float32)),
            _HEADS,
            name="gated delta",
        ),
    ),
)
