"""Operators that make values from a few numbers: Range, OneHot, EyeLike."""

from __future__ import annotations

import math

import numpy as np

from ..dtypes import DTYPES, decode, kind_of
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower_scatter import lower_one_hot
from .registry import Attributes, Case, Constants, Types, operator


def _steps(start: float, limit: float, delta: float) -> int:
    """How many elements a Range has."""
    if not delta:
        raise GraphError("input delta is wrong", expected="another step than 0", got="0")
    if isinstance(start, int):
        whole: int = -((start - limit) // delta)  # type: ignore[assignment]  # all three are integers then
        return whole if whole > 0 else 0
    count = (limit - start) / delta
    if not math.isfinite(count):
        raise GraphError("the range is not finite", got=f"{start} to {limit} by {delta}")
    return max(0, math.ceil(count))


def _infer_range(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    names = ("start", "limit", "delta")
    dtype = shapes.same_dtype(types, names)
    for k, name in enumerate(names):
        shapes.rank_of(shapes.required(types, k, name, "fiu"), name, 0, 1)
    if shapes.integer(attributes, "stash_type") not in (1, 11):
        raise GraphError("attribute 'stash_type' is wrong", expected="1 or 11", got=str(attributes["stash_type"]))
    values = [shapes.at(constants, k) for k in range(3)]
    count: Dim = None
    if all(isinstance(v, np.ndarray) for v in values):
        count = _steps(*(decode(v).reshape(()).item() for v in values))
    return [shapes.tensor(dtype, (count,))]


def _range(attributes: Attributes, start: Array, limit: Array, delta: Array) -> Array:
    first, last, step = (v.reshape(()).item() for v in (start, limit, delta))
    count = _steps(first, last, step)
    if start.dtype.kind != "f":
        return np.asarray(first + np.arange(count, dtype=np.int64) * step).astype(start.dtype)
    # Wider than stash_type asks for, and rounded once.
    return np.asarray(first + np.arange(count, dtype=np.float64) * step).astype(start.dtype)


def _floats(*values: float) -> tuple[Array, ...]:
    return tuple(np.array(v, np.float32) for v in values)


operator(
    "Range",
    infer=_infer_range,
    reference=_range,
    attributes={"stash_type": 1},
    arity=(3, 3),
    cases=(
        Case(_floats(1, 5, 2), constants=(0, 1, 2)),
        Case(_floats(0, 1, 0.25), constants=(0, 1, 2), name="up to the limit"),
        Case(_floats(3, -3, -1.5), constants=(0, 1, 2), name="down"),
        Case(_floats(3, 1, 1), constants=(0, 1, 2), name="nothing"),
        Case((np.int64(10), np.int64(4), np.int64(-2)), name="integers"),
        Case((np.int32(-3), np.int32(8), np.int32(4)), constants=(0, 1, 2), name="int32"),
    ),
)


def _infer_one_hot(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    indices = shapes.required(types, 0, "indices", "fiu")
    shapes.rank_of(shapes.required(types, 1, "depth", "fiu"), "depth", 0, 1)
    values = shapes.required(types, 2, "values")
    length = shapes.rank_of(values, "values", 1, 1)
    if length:
        shapes.unify(2, length[0], "the pair of values and the length of input values")
    axis = shapes.integer(attributes, "axis")
    given = shapes.at(constants, 1)
    depth = None if given is None else int(given.reshape(()))
    if depth is not None and depth < 0:
        raise GraphError("input depth is wrong", expected="at least 0", got=str(depth))
    if indices.shape is None:
        return [TensorType(values.dtype, None)]
    axis = shapes.axis_of(axis, len(indices.shape) + 1)
    return [shapes.tensor(values.dtype, (*indices.shape[:axis], depth, *indices.shape[axis:]))]


def _one_hot(attributes: Attributes, indices: Array, depth: Array, values: Array) -> Array:
    classes = int(depth.reshape(()))
    axis = shapes.axis_of(attributes["axis"], indices.ndim + 1)
    # What lies outside int64, or is no number, is no class.
    usable = (indices >= -math.ldexp(1, 62)) & (indices <= math.ldexp(1, 62))
    whole = np.where(usable, indices, classes).astype(np.int64)
    whole = np.expand_dims(np.where(whole < 0, whole + classes, whole), axis)
    on = whole == np.arange(classes).reshape(-1, *(1,) * (indices.ndim - axis))
    return np.asarray(values[on.astype(np.intp)])


_OFF_ON = np.array([0, 1], np.float32)

operator(
    "OneHot",
    infer=_infer_one_hot,
    reference=_one_hot,
    lower=lower_one_hot,
    typed=True,
    attributes={"axis": -1},
    arity=(3, 3),
    cases=(
        Case((np.array([0, 2, 1]), np.int64(3), _OFF_ON), constants=(1, 2)),
        Case((np.array([[0, 2], [1, -1]]), np.int64(3), _OFF_ON), {"axis": 0}, constants=(1, 2), name="first axis"),
        Case((np.array([[0, 2], [1, 1]]), np.int64(3), _OFF_ON), {"axis": -2}, constants=(1, 2), name="middle"),
        Case((np.array([4, 5, -5, -6]), np.int64(5), _OFF_ON), constants=(1, 2), name="out of range"),
        Case((np.array([1, 0]), np.int64(3), np.array([2, 9])), name="integers"),
        Case((np.array([1.0, 2.0], np.float32), np.float32(4), _OFF_ON), constants=(1, 2), name="floats"),
    ),
    narrow=True,
)


def _infer_eye_like(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "fiub")
    shapes.integer(attributes, "k")
    dtype = x.dtype
    if attributes["dtype"] is not None:
        code = shapes.integer(attributes, "dtype")
        if code not in DTYPES or kind_of(DTYPES[code]) not in "fiub":
            raise GraphError("attribute 'dtype' is wrong", expected="a type of numbers or bool", got=str(code))
        dtype = DTYPES[code]
    return [shapes.tensor(dtype, shapes.rank_of(x, "input", 2, 2) or (None, None))]


def _eye_like(attributes: Attributes, x: Array) -> Array:
    dtype = x.dtype if attributes["dtype"] is None else DTYPES[attributes["dtype"]]
    rows, columns = x.shape
    diagonal = min(max(attributes["k"], -rows), columns)
    return np.eye(rows, columns, k=diagonal, dtype=np.float32 if dtype.names else dtype)


operator(
    "EyeLike",
    infer=_infer_eye_like,
    reference=_eye_like,
    attributes={"dtype": None, "k": 0},
    cases=(
        Case(((3, 4),)),
        Case(((4, 3),), {"k": -1, "dtype": 1}, name="below"),
        Case((np.zeros((3, 4), np.int32),), {"k": 2, "dtype": 1}, name="above"),
        Case((np.zeros((3, 3), np.int32),), {"dtype": 9}, name="bool"),
    ),
)
