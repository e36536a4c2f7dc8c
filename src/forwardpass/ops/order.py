"""Operators that order the elements along an axis: TopK, ArgMax, ArgMin, Hardmax, Unique."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .lower_order import lower_arg, lower_hardmax, lower_top_k
from .registry import Attributes, Case, Constants, Types, operator

_INT64 = np.dtype(np.int64)


def _infer_top_k(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fiu")
    shapes.required(types, 1, "K", "iu")
    given = shapes.value_of(types, constants, 1, "K")
    axis = shapes.integer(attributes, "axis")
    shapes.flag(attributes, "largest")
    shapes.flag(attributes, "sorted")
    if given is not None and len(given) != 1:
        raise GraphError("input K has the wrong length", expected="1", got=str(len(given)))
    shape = shapes.rank_of(x, "X", 1)
    if shape is None:
        return [TensorType(x.dtype, None), TensorType(_INT64, None)]
    axis = shapes.axis_of(axis, len(shape))
    count, size = None if given is None else given[0], shape[axis]
    if count is not None and (count < 0 or (isinstance(size, int) and count > size)):
        most = f"0 to {size}" if isinstance(size, int) else "at least 0"
        raise GraphError("input K is out of range", expected=most, got=str(count))
    out = (*shape[:axis], count, *shape[axis + 1 :])
    return [shapes.tensor(x.dtype, out), shapes.tensor(_INT64, out)]


def _top_k(attributes: Attributes, x: Array, k: Array) -> tuple[Array, Array]:
    axis = shapes.axis_of(attributes["axis"], x.ndim)
    count = int(k.reshape(()))
    # Descending order is ascending order from the other end, so that of equal elements the first comes first.
    ordered = np.flip(x, axis) if attributes["largest"] else x
    index = np.argsort(ordered, axis=axis, kind="stable")
    if attributes["largest"]:
        index = np.flip(x.shape[axis] - 1 - index, axis)
    index = np.ascontiguousarray(np.take(index, np.arange(count), axis=axis))
    return np.take_along_axis(x, index, axis=axis), index.astype(np.int64)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


_NANS = np.array([[1, np.nan, 3, np.nan, -np.inf, np.inf], [np.nan] * 6], np.float32)
_TIES = np.array([[1, 3, 3, 2, 1], [0, 0, 0, 0, 0], [5, 4, 5, 4, 5]], np.float32)

operator(
    "TopK",
    infer=_infer_top_k,
    reference=_top_k,
    attributes={"axis": -1, "largest": 1, "sorted": 1},
    arity=(2, 2),
    lower=lower_top_k,
    strided=True,
    typed=True,
    cases=(
        Case(((3, 9), _ints(4)), constants=(1,)),
        Case(((3, 9), _ints(9)), {"largest": 0}, constants=(1,), name="smallest"),
        Case(((4, 3, 2), _ints(2)), {"axis": 0}, constants=(1,), name="axis"),
        Case((_TIES, _ints(3)), constants=(1,), name="ties"),
        Case((_TIES, _ints(4)), {"largest": 0}, constants=(1,), name="smallest ties"),
        Case((_TIES, _ints(2)), name="K from a call"),
        Case((np.array([3, -1, 2, 9]), _ints(2)), constants=(1,), name="integers"),
        Case((_NANS, _ints(4)), constants=(1,), name="NaN"),
        Case((_NANS, _ints(4)), {"largest": 0}, constants=(1,), name="NaN, smallest"),
        Case(((2, 300), _ints(40)), constants=(1,), name="long rows"),
    ),
)


def _infer_arg(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data", "fiu")
    axis = shapes.integer(attributes, "axis")
    keep = shapes.flag(attributes, "keepdims")
    shapes.flag(attributes, "select_last_index")
    shape = shapes.rank_of(x, "data", 1)
    if shape is None:
        return [TensorType(_INT64, None)]
    axis = shapes.axis_of(axis, len(shape))
    if shape[axis] == 0 and 0 not in shape[:axis] + shape[axis + 1 :]:
        raise GraphError("the dimension to reduce is empty", expected="at least 1", got="0")
    return [shapes.tensor(_INT64, (*shape[:axis], *([1] if keep else []), *shape[axis + 1 :]))]


def _arg(function: Callable[..., Array]) -> Callable[..., Array]:
    def reference(attributes: Attributes, x: Array) -> Array:
        axis = shapes.axis_of(attributes["axis"], x.ndim)
        keep = bool(attributes["keepdims"])
        if not x.size:  # NumPy has no index even where there is nothing to be indexed
            return np.asarray(x.sum(axis=axis, keepdims=keep), np.int64)
        if not attributes["select_last_index"]:
            return np.asarray(function(x, axis=axis, keepdims=keep), np.int64)
        return np.asarray(x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=keep), np.int64)

    return reference


_ARG_CASES = (
    Case(((3, 4),)),
    Case(((3, 4, 5),), {"axis": 1, "keepdims": 0}, name="middle"),
    Case(((3, 33),), {"axis": -1}, name="rows"),
    Case(((2, 10),), {"axis": -1, "keepdims": 0}, name="classes"),
    Case((_TIES,), {"axis": 1}, name="ties"),
    Case((_TIES,), {"axis": 1, "select_last_index": 1}, name="last of ties"),
    Case((_TIES,), {"axis": 0, "select_last_index": 1, "keepdims": 0}, name="last of ties of columns"),
    Case((_NANS,), {"axis": 1}, name="NaN"),
    Case((_NANS,), {"axis": 1, "select_last_index": 1}, name="last NaN"),
    Case((_NANS,), {"axis": 0}, name="NaN in columns"),
    Case((np.arange(-6, 6).reshape(3, 4) % 5,), {"axis": 1}, name="integers"),
    Case(((2, 200),), {"axis": 1}, name="long rows"),
    Case(((1, 21, 9, 11),), {"axis": 1, "keepdims": 0}, name="segmentation"),
)

for _name, _function, _kernel in (("ArgMax", np.argmax, "arg_max_any"), ("ArgMin", np.argmin, "arg_min_any")):
    operator(
        _name,
        infer=_infer_arg,
        reference=_arg(_function),
        attributes={"axis": 0, "keepdims": 1, "select_last_index": 0},
        lower=lower_arg(_kernel),
        strided=True,
        typed=True,
        cases=_ARG_CASES,
    )


def _infer_hardmax(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "f")
    axis = shapes.integer(attributes, "axis")
    if x.shape is not None:
        shapes.axis_of(axis, len(x.shape))
    return [shapes.tensor(x.dtype, x.shape)]


def _hardmax(attributes: Attributes, x: Array) -> Array:
    y = np.zeros_like(x)
    if x.size:
        axis = attributes["axis"]
        np.put_along_axis(y, np.argmax(x, axis=axis, keepdims=True), 1, axis=axis)
    return y


operator(
    "Hardmax",
    infer=_infer_hardmax,
    reference=_hardmax,
    attributes={"axis": -1},
    lower=lower_hardmax,
    strided=True,
    typed=True,
    cases=(
        Case(((3, 4),)),
        Case(((3, 4, 5),), {"axis": 1}, name="axis"),
        Case((_TIES,), name="ties"),
        Case(((0, 3),), name="empty"),
    ),
)


def _infer_unique(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X")
    axis = None if attributes["axis"] is None else shapes.integer(attributes, "axis")
    shapes.flag(attributes, "sorted")
    places = TensorType(_INT64, (None,))
    if axis is None:
        size = None if x.shape is None else shapes.product(x.shape)
        return [TensorType(x.dtype, (None,)), places, TensorType(_INT64, (size,)), places]
    shape = shapes.rank_of(x, "X", 1)
    if shape is None:
        return [TensorType(x.dtype, None), places, places, places]
    axis = shapes.axis_of(axis, len(shape))
    parts = shapes.tensor(x.dtype, (*shape[:axis], None, *shape[axis + 1 :]))
    return [parts, places, TensorType(_INT64, (shape[axis],)), places]


def _unique(attributes: Attributes, x: Array) -> tuple[Array, Array, Array, Array]:
    axis = attributes["axis"]
    # Ranks of the values in their place: NumPy has no unique rows of strings.
    ranks = np.unique(x, return_inverse=True)[1].reshape(x.shape)
    if axis is None:
        rows = ranks.reshape(-1, 1)
    else:
        axis = shapes.axis_of(axis, x.ndim)
        moved = np.moveaxis(ranks, axis, 0)
        rows = moved.reshape(len(moved), math.prod(moved.shape[1:]))
    if not rows.shape[1]:
        rows = np.zeros((len(rows), 1), np.int64)  # rows without elements are equal
    _, first, inverse, counts = np.unique(rows, axis=0, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    if not attributes["sorted"]:
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first, inverse, counts = first[order], place[inverse], counts[order]
    y = x.reshape(-1)[first] if axis is None else np.take(x, first, axis=axis)
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


_ROWS = np.array([[2, 3, 4], [1, 0, 0], [2, 3, 4], [1, 0, 0], [0, 9, 9]])

operator(
    "Unique",
    infer=_infer_unique,
    reference=_unique,
    attributes={"axis": None, "sorted": 1},
    cases=(
        Case((_ROWS,)),
        Case((np.array([2, 1, 1, 3, 4, 3]),), {"sorted": 0}, name="unsorted"),
        Case((_ROWS,), {"axis": 0}, name="rows"),
        Case((_ROWS.T,), {"axis": -1}, name="columns"),
    ),
)
