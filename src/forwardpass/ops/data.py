"""Constants, operators on shapes, and those that take or repeat boxes of values: Slice, Expand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import STRING
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from ..tracked import call, integer
from . import shapes
from .lower import copy_step, given, window_of
from .lower_typed import move_reason
from .registry import Attributes, Case, Constants, Lowering, Types, operator


def _infer_shape(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    count: Dim = None
    if x.shape is not None:
        count = len(x.shape[shapes.axes_between(attributes, len(x.shape))])
    return [TensorType(np.dtype(np.int64), (count,))]


operator(
    "Shape",
    infer=_infer_shape,
    reference=lambda attributes, x: np.array(x.shape[shapes.axes_between(attributes, x.ndim)], np.int64),
    attributes={"start": 0, "end": None},
    cases=(
        Case(((2, 3, 4),)),
        Case(((2, 3, 4),), {"start": 1}, name="start"),
        Case(((2, 3, 4),), {"start": -3, "end": -1}, name="both"),
        Case(((2, 3, 4),), {"start": 2, "end": 1}, name="none"),
        Case(((),), name="scalar"),
    ),
    narrow=True,
)


def _infer_size(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.required(types, 0, "data")
    return [TensorType(np.dtype(np.int64), ())]


operator(
    "Size",
    infer=_infer_size,
    reference=lambda attributes, x: np.array(x.size, np.int64),
    cases=(Case(((2, 3, 4),)), Case(((),), name="scalar"), Case(((2, 0),), name="empty")),
    narrow=True,
)

_VALUES: dict[str, tuple[Any, int | None]] = {
    "value": (None, None),
    "sparse_value": (None, None),
    "value_float": (np.float32, 0),
    "value_floats": (np.float32, 1),
    "value_int": (np.int64, 0),
    "value_ints": (np.int64, 1),
    "value_string": (STRING, 0),
    "value_strings": (STRING, 1),
}
"""Attribute of Constant -> dtype and rank; None for a tensor. A sparse one is held as the dense one it stands for."""


def _constant(attributes: Attributes) -> Array:
    given_ = [k for k in _VALUES if attributes[k] is not None]
    if len(given_) != 1:
        raise GraphError("a Constant has one value", expected=f"one of {', '.join(_VALUES)}", got=str(given_))
    name = given_[0]
    value, (dtype, rank) = attributes[name], _VALUES[name]
    if rank is None:
        if not isinstance(value, np.ndarray):
            raise GraphError(f"attribute {name!r} is wrong", expected="an array", got=type(value).__name__)
        return value
    array = np.asarray(value, dtype)
    if array.ndim != rank or (dtype is STRING and not all(isinstance(v, str) for v in array.ravel())):
        expected = ("a " if rank == 0 else "a list of ") + name.removeprefix("value_")
        raise GraphError(f"attribute {name!r} is wrong", expected=expected, got=repr(value))
    return array


operator(
    "Constant",
    infer=lambda attributes, types, constants: [TensorType.of(_constant(attributes))],
    reference=_constant,
    attributes=dict.fromkeys(_VALUES),
    arity=(0, 0),
    cases=(
        Case((), {"value": np.arange(6, dtype=np.float32).reshape(2, 3)}),
        Case((), {"value_float": 1.5}, name="float"),
        Case((), {"value_ints": [1, 2, 3]}, name="integers"),
    ),
)


def _fill_value(attributes: Attributes) -> Array:
    value = attributes["value"]
    if value is None:
        return np.zeros((), np.float32)
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise GraphError("attribute 'value' is wrong", expected="an array of one element", got=repr(value))
    return value.reshape(())


def _infer_constant_of_shape(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = _fill_value(attributes).dtype
    shape = shapes.value_of(types, constants, 0, "input")
    if shape is not None:
        return [shapes.tensor(dtype, shape)]
    source = shapes.required(types, 0, "input").shape
    rank = source[0] if source else None
    return [TensorType(dtype, (None,) * rank if isinstance(rank, int) else None)]


def _constant_of_shape(attributes: Attributes, shape: Array) -> Array:
    value = _fill_value(attributes)
    return np.full([int(d) for d in shape.ravel()], value, value.dtype)


operator(
    "ConstantOfShape",
    infer=_infer_constant_of_shape,
    reference=_constant_of_shape,
    attributes={"value": None},
    cases=(
        Case((np.array([2, 3]),), constants=(0,)),
        Case((np.array([4]),), {"value": np.array([7])}, constants=(0,), name="value"),
        Case((np.array([], np.int64),), constants=(0,), name="scalar"),
        Case((np.array([0, 3]),), constants=(0,), name="empty"),
    ),
)


def _slices(
    rank: int,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> list[slice]:
    """What a Slice takes along every dimension, as Python writes it."""
    along = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    if len({len(starts), len(ends), len(along), len(steps)}) != 1:
        got = f"{len(starts)}, {len(ends)}, {len(along)}, {len(steps)}"
        raise GraphError("starts, ends, axes and steps differ in length", expected="equal lengths", got=got)
    if 0 in steps:
        raise GraphError("input steps has a step of 0", expected="steps other than 0", got=str(list(steps)))
    taken = [slice(None)] * rank
    for axis, start, end, step in zip(shapes.axes_of(along, rank), starts, ends, steps):
        taken[axis] = slice(start, end, step)
    return taken


def _infer_slice(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    values = [shapes.value_of(types, constants, k, n) for k, n in enumerate(("starts", "ends", "axes", "steps"), 1)]
    unknown = any(v is None and shapes.at(types, k) is not None for k, v in enumerate(values, 1))
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    starts, ends, axes, steps = values
    if unknown or starts is None or ends is None:
        return [TensorType(x.dtype, (None,) * len(x.shape))]
    out: list[Dim] = []
    for d, taken in zip(x.shape, _slices(len(x.shape), starts, ends, axes, steps)):
        if isinstance(d, int):
            out.append(call(_count, *_indices(taken, d)))
        else:
            out.append(d if taken == slice(None) else None)
    return [shapes.tensor(x.dtype, out)]


def _indices(taken: slice, size: int) -> tuple[int, int, int]:
    """Start, stop and step for a dimension of that size.

    ONNX clamps an end far below zero to -1, which Python writes as None; slice.indices does the same. It clamps a
    start below zero to 0 whatever the step, where Python takes nothing if the step is negative.
    """
    found: tuple[int, int, int] = call(_clamped, taken.start, taken.stop, taken.step, size)
    return found


def _clamped(start: int | None, stop: int | None, step: int | None, size: int) -> tuple[int, int, int]:
    first, last, by = slice(start, stop, step).indices(size)
    return (max(first, 0) if size else first), last, by


def _count(start: int, stop: int, step: int) -> int:
    return len(range(start, stop, step))


def _listed(value: Array | None) -> list[int] | None:
    return None if value is None else list(map(integer, value.ravel()))


def _slice(
    attributes: Attributes,
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    taken = _slices(x.ndim, _listed(starts) or [], _listed(ends) or [], _listed(axes), _listed(steps))
    found = [_indices(s, d) for s, d in zip(taken, x.shape)]
    within = tuple(slice(start, None if stop < 0 else stop, step) for start, stop, step in found)
    return np.ascontiguousarray(x[within]) if x.ndim else x


def _lower_slice(ctx: Lowering) -> str | None:
    reason = move_reason(ctx)
    if reason:
        return reason
    values = [ctx.constant(k) for k in range(1, 5)]
    if any(v is None and ctx.input(k) is not None for k, v in enumerate(values, 1)):
        return "starts, ends, axes or steps are not constant"
    starts, ends, axes, steps = (_listed(v) for v in values)
    x, y = given(ctx), ctx.output()
    found = [_indices(s, d) for s, d in zip(_slices(len(x.shape), starts or [], ends or [], axes, steps), x.shape)]
    source = window_of(x, [f[0] for f in found], y.shape, [f[2] for f in found])
    return copy_step(ctx, source, y)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


operator(
    "Slice",
    infer=_infer_slice,
    reference=_slice,
    arity=(3, 5),
    lower=_lower_slice,
    typed=True,
    narrow=True,
    cases=(
        Case(((5, 7), _ints(1, 2), _ints(4, 7)), constants=(1, 2)),
        Case(((5, 7), _ints(-3), _ints(2**62), _ints(1)), constants=(1, 2, 3), name="to the end"),
        Case(((5, 7), _ints(0), _ints(7), _ints(-1), _ints(3)), constants=(1, 2, 3, 4), name="steps"),
        Case(
            ((5, 7), _ints(-1), _ints(-(2**63)), _ints(0), _ints(-2)),
            constants=(1, 2, 3, 4),
            name="backwards",
        ),
        Case(((5, 7), _ints(3), _ints(3), _ints(0)), constants=(1, 2, 3), name="nothing"),
    ),
    strided=True,
)


def _infer_expand(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    wanted = shapes.value_of(types, constants, 1, "shape")
    shape = shapes.unknown(x.dtype, shapes.length_of(types, 1)).shape
    if wanted is not None:
        shape = shapes.tensor(x.dtype, wanted).shape
    return [shapes.tensor(x.dtype, shapes.broadcast(x.shape, shape))]


def _expand(attributes: Attributes, x: Array, shape: Array) -> Array:
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in shape.ravel()))))


def _lower_expand(ctx: Lowering) -> str | None:
    if ctx.constant(1) is None:
        return "whether the shape fits is only known when the model runs"
    return move_reason(ctx) or copy_step(ctx, given(ctx), ctx.output())


operator(
    "Expand",
    infer=_infer_expand,
    reference=_expand,
    arity=(2, 2),
    lower=_lower_expand,
    typed=True,
    narrow=True,
    cases=(
        Case(((3, 1), _ints(2, 1, 4)), constants=(1,)),
        Case(((3, 4), _ints(1)), constants=(1,), name="smaller shape"),
        Case(((), _ints(2, 2)), constants=(1,), name="scalar"),
        Case(((1, 3), _ints(0, 3)), constants=(1,), name="empty"),
    ),
    strided=True,
)
