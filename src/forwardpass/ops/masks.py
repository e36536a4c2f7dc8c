"""Operators that choose by conditions: Where, NonZero, Compress."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower_typed import lower_where
from .registry import Attributes, Case, Constants, Types, operator

_INT64 = np.dtype(np.int64)
_MASK = np.array([[True, False, True], [False, False, True]])


def _infer_where(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.required(types, 0, "condition", "b")
    dtype = shapes.same_dtype(types[1:], ("X", "Y"))
    return [shapes.tensor(dtype, shapes.broadcast_all(types))]


operator(
    "Where",
    infer=_infer_where,
    reference=lambda attributes, condition, x, y: np.where(condition, x, y),
    arity=(3, 3),
    lower=lower_where,
    cases=(
        Case((_MASK, (2, 3), (2, 3))),
        Case((_MASK, (), (2, 1)), name="broadcast"),
        Case((np.array([[True], [False]]), (4, 1, 5), (5,)), name="broadcast condition"),
        Case((_MASK, (2, 3), np.float32(-1e9)), constants=(2,), name="constant"),
        Case((np.array(True), (2, 2), (2, 2)), name="scalar condition"),
        Case((np.zeros((0, 3), bool), (0, 3), (1, 3)), name="empty"),
        Case((_MASK, np.arange(6).reshape(2, 3), np.array([7])), name="integers"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)


def _infer_non_zero(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X")
    return [TensorType(_INT64, (None if x.shape is None else len(x.shape), None))]


def _non_zero(attributes: Attributes, x: Array) -> Array:
    if not x.ndim:  # no coordinates, of one element or none
        return np.zeros((0, int(bool(x))), np.int64)
    return np.array(np.nonzero(x), np.int64)


operator(
    "NonZero",
    infer=_infer_non_zero,
    reference=_non_zero,
    cases=(
        Case((np.array([[1, 0, 3], [0, 0, -2]]),)),
        Case((np.array([0, 5, 0, 7]),), name="1-D"),
        Case((np.zeros((2, 3), np.int64),), name="none"),
    ),
)


def _infer_compress(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    condition = shapes.required(types, 1, "condition", "b")
    length = shapes.rank_of(condition, "condition", 1, 1)
    axis = None if attributes["axis"] is None else shapes.integer(attributes, "axis")
    shape = shapes.rank_of(x, "input", 0 if axis is None else 1)
    value = shapes.at(constants, 1)
    kept: Dim = None if value is None else int(np.count_nonzero(value))
    if shape is None:
        return [TensorType(x.dtype, (kept,) if axis is None else None)]
    axis = None if axis is None else shapes.axis_of(axis, len(shape))
    size = shapes.product(shape) if axis is None else shape[axis]
    longest = length[0] if length else None
    if isinstance(size, int) and isinstance(longest, int) and longest > size:
        raise GraphError("input condition is too long", expected=f"at most {size}", got=str(longest))
    return [shapes.tensor(x.dtype, (kept,) if axis is None else (*shape[:axis], kept, *shape[axis + 1 :]))]


operator(
    "Compress",
    infer=_infer_compress,
    reference=lambda attributes, x, condition: np.compress(condition, x, axis=attributes["axis"]),
    attributes={"axis": None},
    arity=(2, 2),
    cases=(
        Case(((3, 2), np.array([False, True, True])), {"axis": 0}, constants=(1,)),
        Case(((3, 2), np.array([False, True])), {"axis": -1}, constants=(1,), name="last axis"),
        Case(((3, 2), np.array([False, True, False, False, True])), constants=(1,), name="flattened"),
        Case((np.arange(6).reshape(3, 2), np.array([True])), {"axis": 0}, name="condition from a call"),
    ),
    narrow=True,
)
