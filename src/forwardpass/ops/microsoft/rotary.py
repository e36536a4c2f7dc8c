"""Rotary position embedding by tables of cosines and sines."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..lower_rotary import lower_rotary
from ..registry import Attributes, Case, Constants, Lowering, Types, operator
from . import DOMAIN

__all__ = ["check_tables", "rotate"]


def check_tables(types: Types, index: int) -> Dim:
    """The width of the cosines at that input and the sines at the next one: half of what is rotated."""
    width: Dim = None
    length: Dim = None
    for place, name in ((index, "cos_cache"), (index + 1, "sin_cache")):
        shape = shapes.rank_of(shapes.required(types, place, name, "f"), name, 2, 2)
        if shape is not None:
            length = shapes.unify(length, shape[0], "the lengths of inputs cos_cache and sin_cache")
            width = shapes.unify(width, shape[1], "the widths of inputs cos_cache and sin_cache")
    return width


def rotate(x: Array, positions: Array, cosines: Array, sines: Array, *, interleaved: bool) -> Array:
    """Pairs of numbers turned by the angle of their position.

    Parameters
    ----------
    x : [batch, heads, length, size]
        Only the first 2 * width numbers of a head are turned.
    positions : [batch or 1, length]
        Rows of the tables.
    cosines, sines : [positions, width]
    interleaved
        Pairs are neighbours, else a number and the one `width` after it.
    """
    if positions.size and (positions.min() < 0 or positions.max() >= len(cosines)):
        raise GraphError(
            "a position lies outside of cos_cache",
            expected=f"0 to {len(cosines) - 1}",
            got=f"{positions.min()} to {positions.max()}",
        )
    width = cosines.shape[1]
    working = np.result_type(x.dtype, np.float32)
    cos, sin = (t[positions][:, None].astype(working) for t in (cosines, sines))
    turned = x[..., : 2 * width].astype(working)
    y = np.array(x)
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        y[..., 0 : 2 * width : 2], y[..., 1 : 2 * width : 2] = a * cos - b * sin, b * cos + a * sin
    else:
        a, b = turned[..., :width], turned[..., width:]
        y[..., :width], y[..., width : 2 * width] = a * cos - b * sin, b * cos + a * sin
    return y


def _head_size(attributes: Attributes, hidden: Dim, width: Dim) -> Dim:
    if attributes["rotary_embedding_dim"]:
        heads = attributes["num_heads"]
        return hidden // heads if isinstance(hidden, int) else None
    return 2 * width if isinstance(width, int) else None


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "f")
    shape = shapes.rank_of(x, "input", 3, 4)
    shapes.flag(attributes, "interleaved")
    shapes.flag(attributes, "is_packed_batching")
    heads, dim = shapes.integer(attributes, "num_heads"), shapes.integer(attributes, "rotary_embedding_dim")
    if heads < 0 or dim < 0 or dim % 2 or (dim and not heads):
        raise GraphError("attribute 'rotary_embedding_dim' needs 'num_heads' and is even", got=f"{dim} and {heads}")
    positions = shapes.rank_of(shapes.required(types, 1, "position_ids", "i"), "position_ids", 0, 2)
    width = check_tables(types, 2)
    if dim:
        shapes.unify(dim // 2, width, "half of 'rotary_embedding_dim' and the width of input cos_cache")
    if shape is None:
        return [x]
    length = shape[-2] if len(shape) == 4 else shape[1]
    if positions is not None and len(positions) == 2:
        shapes.unify(shape[0], positions[0], "the batch sizes of inputs input and position_ids")
        shapes.unify(length, positions[1], "the lengths of inputs input and position_ids")
    elif positions:
        shapes.unify(1, positions[0], "a position of all sequences and the length of input position_ids")
    if len(shape) == 3:
        size = _head_size(attributes, shape[2], width)
        if isinstance(shape[2], int) and isinstance(size, int) and (size < dim or not size or shape[2] % size):
            raise GraphError("the size of a head does not fit", expected=f"a divisor of {shape[2]}", got=str(size))
    elif isinstance(shape[3], int) and isinstance(width, int) and shape[3] < 2 * width:
        raise GraphError("input cos_cache is wider than half a head", expected=str(shape[3] // 2), got=str(width))
    return [x]


def _rotary(attributes: Attributes, x: Array, positions: Array, cosines: Array, sines: Array) -> Array:
    heads = x
    if x.ndim == 3:
        size = _head_size(attributes, x.shape[2], cosines.shape[1])
        assert isinstance(size, int)
        heads = x.reshape(*x.shape[:2], x.shape[2] // size, size).transpose(0, 2, 1, 3)
    if positions.ndim < 2:
        positions = positions.reshape(1, 1) + np.arange(heads.shape[2])
    y = rotate(heads, positions, cosines, sines, interleaved=bool(attributes["interleaved"]))
    return y if x.ndim == 4 else y.transpose(0, 2, 1, 3).reshape(x.shape)


def _lower(ctx: Lowering) -> str | None:
    shape, tables = ctx.outputs[0].sizes, ctx.types[2]
    assert tables is not None
    size = shape[3] if len(shape) == 4 else _head_size(ctx.attributes, shape[2], tables.sizes[1])
    assert isinstance(size, int)
    return lower_rotary(ctx, size, 2, 1)


_TABLES: tuple[tuple[int, ...], ...] = ((10, 4), (10, 4))

operator(
    "RotaryEmbedding",
    domain=DOMAIN,
    infer=_infer,
    reference=_rotary,
    # `scale` has no meaning that any implementation gives it.
    attributes={
        "interleaved": 0,
        "num_heads": 0,
        "rotary_embedding_dim": 0,
        "is_packed_batching": 0,
        "scale": 1.0,
    },
    arity=(4, 4),
    lower=_lower,
    typed=True,
    cases=(
        Case(((2, 3, 24), np.array([[0, 1, 2], [9, 4, 4]]), *_TABLES), name="a position each"),
        Case(((2, 3, 24), np.array([4]), *_TABLES), {"interleaved": 1}, name="interleaved"),
        Case(((2, 3, 3, 12), np.array([4]), *_TABLES), {"num_heads": 3, "rotary_embedding_dim": 8}, "part of heads"),
    ),
)
