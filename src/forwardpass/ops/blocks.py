"""Operators that move blocks of pixels into channels and back: DepthToSpace, SpaceToDepth."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower_scatter import lower_depth_to_space, lower_space_to_depth
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator


def _divided(d: Dim, by: int, what: str) -> Dim:
    if isinstance(d, int):
        if d % by:
            raise GraphError(f"the {what} cannot be divided by the block", expected=f"a multiple of {by}", got=str(d))
        return d // by
    return d if by == 1 else None


def _image(attributes: Attributes, types: Types) -> tuple[TensorType, tuple[Dim, ...] | None, int]:
    x = shapes.required(types, 0, "input")
    size = shapes.integer(attributes, "blocksize")
    if size < 1:
        raise GraphError("attribute 'blocksize' is wrong", expected="at least 1", got=str(size))
    shapes.choice(attributes, "mode", ("DCR", "CRD"))
    return x, shapes.rank_of(x, "input", 4, 4), size


def _infer_depth_to_space(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, shape, size = _image(attributes, types)
    if shape is None:
        return [TensorType(x.dtype, (None,) * 4)]
    n, c, h, w = shape
    pixels = (shapes.product((h, size)), shapes.product((w, size)))
    return [shapes.tensor(x.dtype, (n, _divided(c, size * size, "channels"), *pixels))]


def _depth_to_space(attributes: Attributes, x: Array) -> Array:
    n, c, h, w = x.shape
    b, dcr = attributes["blocksize"], attributes["mode"] == "DCR"
    depth = c // (b * b)
    blocks = x.reshape((n, b, b, depth, h, w) if dcr else (n, depth, b, b, h, w))
    moved = blocks.transpose((0, 3, 4, 1, 5, 2) if dcr else (0, 1, 4, 2, 5, 3))
    return np.asarray(moved.reshape(n, depth, h * b, w * b))


operator(
    "DepthToSpace",
    infer=_infer_depth_to_space,
    reference=_depth_to_space,
    lower=lower_depth_to_space,
    typed=True,
    strided=True,
    attributes={"blocksize": REQUIRED, "mode": "DCR"},
    cases=(
        Case(((2, 8, 2, 3),), {"blocksize": 2}),
        Case(((2, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}, name="CRD"),
        Case(((1, 27, 3, 2),), {"blocksize": 3, "mode": "CRD"}, name="blocks of 3"),
        Case(((1, 3, 2, 2),), {"blocksize": 1}, name="blocks of 1"),
    ),
    narrow=True,
)


def _infer_space_to_depth(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, shape, size = _image(attributes, types)
    if shape is None:
        return [TensorType(x.dtype, (None,) * 4)]
    n, c, h, w = shape
    pixels = (_divided(h, size, "height"), _divided(w, size, "width"))
    return [shapes.tensor(x.dtype, (n, shapes.product((c, size * size)), *pixels))]


def _space_to_depth(attributes: Attributes, x: Array) -> Array:
    n, c, h, w = x.shape
    b, dcr = attributes["blocksize"], attributes["mode"] == "DCR"
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    moved = blocks.transpose((0, 3, 5, 1, 2, 4) if dcr else (0, 1, 3, 5, 2, 4))
    return np.asarray(moved.reshape(n, c * b * b, h // b, w // b))


operator(
    "SpaceToDepth",
    infer=_infer_space_to_depth,
    reference=_space_to_depth,
    lower=lower_space_to_depth,
    typed=True,
    strided=True,
    attributes={"blocksize": REQUIRED, "mode": "DCR"},
    cases=(
        Case(((2, 2, 4, 6),), {"blocksize": 2}),
        Case(((2, 2, 4, 6),), {"blocksize": 2, "mode": "CRD"}, name="CRD"),
        Case(((1, 3, 6, 3),), {"blocksize": 3}, name="blocks of 3"),
        Case(((1, 3, 2, 2),), {"blocksize": 1}, name="blocks of 1"),
    ),
    narrow=True,
)
