"""RotaryEmbedding: pairs of elements of each head turned by an angle that depends on the position."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower_rotary import lower_rotary
from .registry import Attributes, Case, Constants, Lowering, Types, operator


def _head(attributes: Attributes, found: TensorType) -> tuple[Dim, Dim, Dim]:
    """Batch, sequence length and head size of the input."""
    shape = shapes.rank_of(found, "X", 3, 4)
    heads = None if attributes["num_heads"] is None else shapes.integer(attributes, "num_heads")
    if shape is None:
        return None, None, None
    if len(shape) == 4:
        return shape[0], shape[2], shape[3]
    if not heads or heads < 0:
        raise GraphError("attribute 'num_heads' is wrong", expected="1 or more for inputs of rank 3", got=str(heads))
    width = shape[2]
    if isinstance(width, int) and width % heads:
        raise GraphError(f"input X does not split into {heads} heads", got=str(found))
    return shape[0], shape[1], width // heads if isinstance(width, int) else None


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "f")
    shapes.same_dtype(types[:3], ("X", "cos_cache", "sin_cache"))
    shapes.flag(attributes, "interleaved")
    batch, length, size = _head(attributes, x)
    turned: Dim = shapes.integer(attributes, "rotary_embedding_dim") or size
    if isinstance(turned, int) and (turned < 0 or turned % 2 or (isinstance(size, int) and turned > size)):
        raise GraphError("the part to rotate is wrong", expected=f"an even size up to {size}", got=str(turned))
    half = turned // 2 if isinstance(turned, int) else None
    positions = shapes.at(types, 3)
    for index, name in ((1, "cos_cache"), (2, "sin_cache")):
        rank = 3 if positions is None else 2
        shape = shapes.rank_of(shapes.required(types, index, name, "f"), name, rank, rank)
        for a, b in zip((half, length, batch), (shape or ())[::-1] if rank == 3 else (shape or ())[:0:-1]):
            shapes.unify(a, b, f"the dimensions of inputs X and {name}")
    if positions is not None:
        given = shapes.rank_of(shapes.required(types, 3, "position_ids", "i"), "position_ids", 2, 2)
        for a, b in zip((batch, length), given or ()):
            shapes.unify(a, b, "the dimensions of inputs X and position_ids")
    return [x]


def _rotary(attributes: Attributes, x: Array, cos: Array, sin: Array, positions: Array | None = None) -> Array:
    dtype = x.dtype
    if dtype == np.float16:
        x, cos, sin = (a.astype(np.float32) for a in (x, cos, sin))
    if positions is not None:
        if positions.size and not 0 <= int(positions.min()) <= int(positions.max()) < len(cos):
            got = f"{positions.min()} to {positions.max()}"
            raise GraphError("input position_ids is out of range", expected=f"0 to {len(cos) - 1}", got=got)
        cos, sin = cos[positions], sin[positions]
    heads = x if x.ndim == 4 else x.reshape(*x.shape[:2], attributes["num_heads"], -1).swapaxes(1, 2)
    size = attributes["rotary_embedding_dim"] or heads.shape[3]
    cos, sin = cos[:, None], sin[:, None]
    first: Any
    second: Any
    if attributes["interleaved"]:
        first, second = slice(0, size, 2), slice(1, size, 2)
    else:
        first, second = slice(0, size // 2), slice(size // 2, size)
    result = heads.astype(x.dtype)
    result[..., first] = cos * heads[..., first] - sin * heads[..., second]
    result[..., second] = sin * heads[..., first] + cos * heads[..., second]
    if x.ndim == 3:
        result = result.swapaxes(1, 2).reshape(x.shape)
    return np.asarray(result, dtype)


def _lower(ctx: Lowering) -> str | None:
    shape = ctx.outputs[0].sizes
    size = shape[3] if len(shape) == 4 else shape[2] // ctx.attributes["num_heads"]
    return lower_rotary(ctx, size, 1, None if shapes.at(ctx.types, 3) is None else 3)


_TABLE: tuple[tuple[int, ...], ...] = ((10, 4), (10, 4))
_POSITIONS = np.array([[0, 1, 2], [9, 4, 4]])

operator(
    "RotaryEmbedding",
    infer=_infer,
    reference=_rotary,
    attributes={"interleaved": 0, "num_heads": None, "rotary_embedding_dim": 0},
    arity=(3, 4),
    lower=_lower,
    typed=True,
    cases=(
        Case(((2, 3, 3, 8), *_TABLE, _POSITIONS), name="halves"),
        Case(((2, 3, 3, 8), *_TABLE, _POSITIONS), {"interleaved": 1}, name="interleaved"),
        Case(((2, 3, 24), *_TABLE, _POSITIONS), {"num_heads": 3}, name="3-D"),
        Case(((2, 3, 3, 12), *_TABLE, _POSITIONS), {"rotary_embedding_dim": 8}, name="part"),
        Case(((2, 3, 3, 8), (2, 3, 4), (2, 3, 4)), name="angles given"),
    ),
)
