"""Operators that put elements at given indices: ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import decode, encode, is_narrow
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .gather import check_indices, check_inside, mesh
from .lower_scatter import lower_scatter_elements, lower_scatter_nd, lower_tensor_scatter
from .registry import Attributes, Case, Constants, Types, operator

_REDUCTIONS: dict[str, np.ufunc] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _put(x: Array, places: tuple[Any, ...], updates: Array, reduction: str) -> Array:
    """A copy of `x` with the updates put at the places, or combined with what is there, one after the other."""
    if reduction == "none":
        y = np.array(x)
        y[places] = updates
        return y
    y = np.array(decode(x))
    _REDUCTIONS[reduction].at(y, places, decode(updates))
    return encode(y, x.dtype) if is_narrow(x.dtype) else y


def _infer_scatter(attributes: Attributes, types: Types) -> tuple[TensorType, TensorType, TensorType]:
    x = shapes.required(types, 0, "data")
    indices = shapes.required(types, 1, "indices", "i")
    updates = shapes.required(types, 2, "updates")
    shapes.same_dtype([x, updates], ["data", "updates"])
    shapes.choice(attributes, "reduction", ("none", *_REDUCTIONS))
    return x, indices, updates


def _unify_all(a: tuple[Dim, ...], b: tuple[Dim, ...], what: str) -> None:
    for k, (p, q) in enumerate(zip(a, b)):
        shapes.unify(p, q, f"dimension {k} of {what}")


def _infer_scatter_elements(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, indices, updates = _infer_scatter(attributes, types)
    axis = shapes.integer(attributes, "axis")
    data = shapes.rank_of(x, "data", 1)
    if data is not None:
        axis = shapes.axis_of(axis, len(data))
        places = shapes.rank_of(indices, "indices", len(data), len(data))
        values = shapes.rank_of(updates, "updates", len(data), len(data))
        if places is not None:
            check_inside(places, data, axis)
        if places is not None and values is not None:
            _unify_all(places, values, "inputs indices and updates")
        check_indices(shapes.at(constants, 1), data[axis])
    return [shapes.tensor(x.dtype, x.shape)]


def _scatter_elements(attributes: Attributes, x: Array, indices: Array, updates: Array) -> Array:
    axis = shapes.axis_of(attributes["axis"], x.ndim)
    places = mesh(indices.shape, x.ndim)
    places[axis] = indices
    return _put(x, tuple(places), updates, attributes["reduction"])


def _floats(*values: float) -> Array:
    return np.array(values, np.float32)


_TWICE = np.array([[0, 2, 1, 0], [0, 2, -2, 0]])

operator(
    "ScatterElements",
    infer=_infer_scatter_elements,
    reference=_scatter_elements,
    lower=lower_scatter_elements,
    typed=True,
    attributes={"axis": 0, "reduction": "none"},
    arity=(3, 3),
    cases=(
        Case(((3, 4), np.array([[2, 0, -1, 1], [0, 1, 1, 2]]), (2, 4))),
        Case(((3, 4), np.array([[3, -4], [1, 0], [2, 1]]), (3, 2)), {"axis": 1}, constants=(1,), name="axis"),
        Case(((3, 4, 2), np.array([[[1], [0]]], np.int32), (1, 2, 1)), {"axis": -1}, name="part of the data"),
        Case(((3, 4), _TWICE, (2, 4)), {"reduction": "add"}, name="add"),
        Case(((3, 4), _TWICE, (2, 4)), {"reduction": "mul"}, name="mul"),
        Case(((3, 4), _TWICE, (2, 4)), {"reduction": "max"}, name="max"),
        Case(((3, 4), _TWICE, (2, 4)), {"reduction": "min"}, name="min"),
        Case(((3, 4), np.zeros((0, 4), np.int64), (0, 4)), name="nothing"),
    ),
    narrow=True,
)


def _infer_scatter_nd(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, indices, updates = _infer_scatter(attributes, types)
    data, places = shapes.rank_of(x, "data", 1), shapes.rank_of(indices, "indices", 1)
    count = None if places is None else places[-1]
    if data is None or places is None or not isinstance(count, int):
        return [shapes.tensor(x.dtype, x.shape)]
    if not 1 <= count <= len(data):
        raise GraphError(
            "the last dimension of input indices does not fit input data",
            expected=f"1 to {len(data)}",
            got=str(count),
        )
    expected = (*places[:-1], *data[count:])
    values = shapes.rank_of(updates, "updates", len(expected), len(expected))
    if values is not None:
        _unify_all(expected, values, "indices and data, and of updates")
    value = shapes.at(constants, 1)
    for k in range(count):
        check_indices(None if value is None else value[..., k], data[k])
    return [shapes.tensor(x.dtype, x.shape)]


operator(
    "ScatterND",
    infer=_infer_scatter_nd,
    reference=lambda attributes, x, indices, updates: _put(
        x, tuple(np.moveaxis(indices, -1, 0)), updates, attributes["reduction"]
    ),
    attributes={"reduction": "none"},
    arity=(3, 3),
    lower=lower_scatter_nd,
    typed=True,
    cases=(
        Case(((3, 4), np.array([[2, 0], [-1, 3]]), (2,)), constants=(1,)),
        Case(((3, 4), np.array([[2], [-3]]), (2, 4)), name="rows"),
        Case(((2, 3, 4), np.array([[[0, 1]], [[1, -1]]]), (2, 1, 4)), name="more dimensions"),
        Case(((3, 4), np.array([[2], [0], [2], [-1]]), (4, 4)), {"reduction": "add"}, name="add"),
        Case(((3, 4), np.array([[2], [0], [2], [-1]]), (4, 4)), {"reduction": "mul"}, name="mul"),
        Case(((5,), np.array([[1], [1], [4]]), _floats(3, -3, 0.5)), {"reduction": "max"}, name="max"),
        Case(((5,), np.array([[1], [1], [4]]), _floats(3, -3, 0.5)), {"reduction": "min"}, name="min"),
        Case(((3, 4), np.zeros((0, 2), np.int64), (0,)), name="nothing"),
    ),
    narrow=True,
)


def _infer_tensor_scatter(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    cache, update = shapes.required(types, 0, "past_cache"), shapes.required(types, 1, "update")
    shapes.same_dtype([cache, update], ["past_cache", "update"])
    axis = shapes.integer(attributes, "axis")
    linear = shapes.choice(attributes, "mode", ("linear", "circular")) == "linear"
    old = shapes.rank_of(cache, "past_cache", 2)
    if old is None:
        return [TensorType(cache.dtype, update.shape and (None,) * len(update.shape))]
    axis = shapes.axis_of(axis, len(old))
    if axis == 0:
        raise GraphError("attribute 'axis' is wrong", expected="another axis than that of the batch", got="0")
    new = shapes.rank_of(update, "update", len(old), len(old))
    out = list(old)
    for k, d in enumerate(new or ()):
        if k != axis:
            out[k] = shapes.unify(old[k], d, f"dimension {k} of inputs past_cache and update")
    last = new[axis] if new is not None else None
    room = old[axis]
    if isinstance(last, int) and isinstance(room, int) and last > room:
        raise GraphError("input update is longer than input past_cache", expected=f"at most {room}", got=str(last))
    _check_starts(types, constants, old[0], room, last if linear else None)
    return [shapes.tensor(cache.dtype, out)]


def _check_starts(types: Types, constants: Constants, batch: Dim, room: Dim, length: Dim) -> None:
    """Check write_indices; `length` is what has to fit behind them without wrapping around."""
    starts = shapes.value_of(types, constants, 2, "write_indices")
    given = shapes.at(types, 2)
    if given is not None and given.shape is not None:
        rank = shapes.rank_of(given, "write_indices", 1, 1)
        assert rank is not None
        shapes.unify(batch, rank[0], "the batch and the length of input write_indices")
    for start in starts or ():
        past = isinstance(room, int) and isinstance(length, int) and start + length > room
        if start < 0 or past:
            raise GraphError(
                "input write_indices is out of range",
                expected="at least 0" if start < 0 else f"at most {room} less the {length} of update",
                got=str(start),
            )


def _tensor_scatter(attributes: Attributes, cache: Array, update: Array, starts: Array | None = None) -> Array:
    axis = shapes.axis_of(attributes["axis"], cache.ndim)
    places = mesh(update.shape, cache.ndim)
    if starts is not None:
        places[axis] = places[axis] + starts.reshape(-1, *(1,) * (cache.ndim - 1))
    if attributes["mode"] == "circular":
        places[axis] = places[axis] % max(cache.shape[axis], 1)
    y = np.array(cache)
    y[tuple(places)] = update
    return y


operator(
    "TensorScatter",
    infer=_infer_tensor_scatter,
    reference=_tensor_scatter,
    lower=lower_tensor_scatter,
    typed=True,
    attributes={"axis": -2, "mode": "linear"},
    arity=(2, 3),
    cases=(
        Case(((2, 3, 6, 4), (2, 3, 2, 4))),
        Case(((2, 3, 6, 4), (2, 3, 2, 4), np.array([4, 1])), name="starts"),
        Case(((2, 6, 4), (2, 3, 4), np.array([5, 0])), {"axis": 1, "mode": "circular"}, name="circular"),
        Case(((2, 3, 5), (2, 3, 1), np.array([4, 2])), {"axis": -1}, name="last axis"),
    ),
    narrow=True,
)
