"""Operators that take elements at given indices: Gather, GatherElements, GatherND."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType, Value
from . import shapes
from .lower_typed import lower_gather, lower_gather_elements, lower_gather_nd
from .registry import Attributes, Case, Constants, Types, operator

__all__ = ["check_indices", "mesh"]


def check_indices(value: Value, size: Dim, name: str = "indices") -> None:
    """Check indices into a dimension where both are known; negative ones count from its end.

    Raises
    ------
    GraphError
        An index is out of range.
    """
    if not isinstance(value, np.ndarray) or not isinstance(size, int) or not value.size:
        return
    low, high = int(value.min()), int(value.max())
    if low < -size or high >= size:
        raise GraphError(
            f"input {name} is out of range",
            expected=f"{-size} to {size - 1}" if size else "no index, as the dimension is empty",
            got=f"{low} to {high}",
        )


def mesh(shape: tuple[int, ...], count: int) -> list[Array]:
    """For each of the first `count` dimensions its positions, shaped so that they broadcast to `shape`."""
    rank = len(shape)
    return [np.arange(shape[k]).reshape(-1, *(1,) * (rank - 1 - k)) for k in range(count)]


def _infer_gather(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    indices = shapes.required(types, 1, "indices", "i")
    axis = shapes.integer(attributes, "axis")
    shape = shapes.rank_of(x, "data", 1)
    if shape is None or indices.shape is None:
        return [TensorType(x.dtype, None)]
    axis = shapes.axis_of(axis, len(shape))
    check_indices(shapes.at(constants, 1), shape[axis])
    return [shapes.tensor(x.dtype, (*shape[:axis], *indices.shape, *shape[axis + 1 :]))]


operator(
    "Gather",
    infer=_infer_gather,
    # The dtype is given since NumPy makes a lone string an array of another dtype.
    reference=lambda attributes, x, indices: np.asarray(np.take(x, indices, axis=attributes["axis"]), x.dtype),
    attributes={"axis": 0},
    arity=(2, 2),
    lower=lower_gather,
    cases=(
        Case(((5, 3), np.array([4, 0, -1])), constants=(1,)),
        Case(((5, 3), np.array([[0, 2], [1, 1]])), {"axis": 1}, constants=(1,), name="axis"),
        Case(((5, 3), np.array(-2)), constants=(1,), name="scalar index"),
        Case(((5, 3), np.array([], np.int64)), constants=(1,), name="nothing"),
        Case(((2, 7, 3), np.array([[6], [-7]], np.int32)), {"axis": -2}, name="indices from a call"),
        Case((np.arange(12).reshape(3, 4), np.array([2, 2])), constants=(1,), name="integers"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)


def _infer_gather_elements(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    indices = shapes.required(types, 1, "indices", "i")
    axis = shapes.integer(attributes, "axis")
    data, places = shapes.rank_of(x, "data", 1), indices.shape
    if data is not None:
        axis = shapes.axis_of(axis, len(data))
        places = shapes.rank_of(indices, "indices", len(data), len(data))
    if data is None or places is None:
        rank = None if data is None else len(data)
        return [TensorType(x.dtype, places if places is not None or rank is None else (None,) * rank)]
    check_inside(places, data, axis)
    check_indices(shapes.at(constants, 1), data[axis])
    return [shapes.tensor(x.dtype, places)]


def check_inside(places: tuple[Dim, ...], data: tuple[Dim, ...], axis: int) -> None:
    """Check that indices of one dimension do not reach beyond the others.

    Raises
    ------
    GraphError
        They have more positions along a dimension than the data has.
    """
    for k, (p, d) in enumerate(zip(places, data)):
        if k != axis and isinstance(p, int) and isinstance(d, int) and p > d:
            raise GraphError(
                f"dimension {k} of input indices is larger than that of input data", expected=f"at most {d}", got=str(p)
            )


def _gather_elements(attributes: Attributes, x: Array, indices: Array) -> Array:
    axis = shapes.axis_of(attributes["axis"], x.ndim)
    # NumPy would broadcast where the indices cover less than the data.
    covered = tuple(slice(None) if k == axis else slice(n) for k, n in enumerate(indices.shape))
    return np.take_along_axis(x[covered], indices, axis=axis)


operator(
    "GatherElements",
    infer=_infer_gather_elements,
    reference=_gather_elements,
    attributes={"axis": 0},
    arity=(2, 2),
    lower=lower_gather_elements,
    cases=(
        Case(((3, 4), np.array([[2, 0, -1, 1], [0, 0, 1, 2]]))),
        Case(((3, 4), np.array([[3, 0], [-4, 1], [2, 2]])), {"axis": 1}, constants=(1,), name="axis"),
        Case(((3, 4, 2), np.array([[[1], [0]]], np.int32)), {"axis": -1}, name="part of the data"),
        Case(((5,), np.array([4, 4, 0, -5])), constants=(1,), name="1-D"),
        Case(((3, 4), np.zeros((0, 4), np.int64)), name="nothing"),
        Case((np.arange(6).reshape(2, 3), np.array([[1, 0, 1]])), name="integers"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)


def _infer_gather_nd(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    indices = shapes.required(types, 1, "indices", "i")
    batch = shapes.integer(attributes, "batch_dims")
    if batch < 0:
        raise GraphError("attribute 'batch_dims' is wrong", expected="at least 0", got=str(batch))
    data = shapes.rank_of(x, "data", batch + 1)
    places = shapes.rank_of(indices, "indices", batch + 1)
    count = None if places is None else places[-1]
    if data is None or places is None or not isinstance(count, int):
        return [TensorType(x.dtype, None)]
    if not 1 <= count <= len(data) - batch:
        raise GraphError(
            "the last dimension of input indices does not fit input data",
            expected=f"1 to {len(data) - batch}",
            got=str(count),
        )
    lead = [
        shapes.unify(d, p, f"batch dimension {k} of data and indices")
        for k, (d, p) in enumerate(zip(data[:batch], places))
    ]
    value = shapes.at(constants, 1)
    for k in range(count):
        check_indices(None if value is None else value[..., k], data[batch + k])
    return [shapes.tensor(x.dtype, (*lead, *places[batch:-1], *data[batch + count :]))]


def _gather_nd(attributes: Attributes, x: Array, indices: Array) -> Array:
    own = mesh(indices.shape[:-1], attributes["batch_dims"])
    # The ellipsis makes the result an array where it has no dimensions.
    places = (*own, *np.moveaxis(indices, -1, 0), ...)
    return np.asarray(x[places])


operator(
    "GatherND",
    infer=_infer_gather_nd,
    reference=_gather_nd,
    attributes={"batch_dims": 0},
    arity=(2, 2),
    lower=lower_gather_nd,
    cases=(
        Case(((3, 4), np.array([[2, 0], [-1, 3]])), constants=(1,)),
        Case(((3, 4), np.array([[2], [0], [-3]])), name="rows"),
        Case(((2, 3, 4, 5), np.array([[[0, 1]], [[2, -1]]])), {"batch_dims": 1}, name="batch"),
        Case(((2, 3, 4), np.array([[[1], [0], [3]], [[2], [2], [0]]])), {"batch_dims": 2}, name="two batch dimensions"),
        Case(((3, 4), np.array([1, 2])), constants=(1,), name="one element"),
        Case(((3, 4), np.zeros((0, 2), np.int64)), name="nothing"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)
