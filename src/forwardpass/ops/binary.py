"""Element-wise operators of several operands with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower import binary_step, broadcast_strides, copy_step, dtype_reason, given, scale_shift_step
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator

_AB = ("A", "B")


def _infer(kinds: str) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        shapes.required(types, 0, "A", kinds)
        dtype = shapes.same_dtype(types, _AB)
        return [shapes.tensor(dtype, shapes.broadcast_all(types))]

    return infer


def _accumulator(ctx: Lowering, out: Tensor) -> Tensor:
    """Where a chain of steps keeps its value: the output, unless a later operand may live in that memory."""
    names = ctx.node.inputs
    return ctx.temporary(out.shape) if set(names[:2]) & set(names[2:]) else out


def _lower(kernel: str, cost: int) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx)
        if reason:
            return reason
        out = ctx.output()
        operands = [given(ctx, k) for k in range(len(ctx.types))]
        if len(operands) == 1:
            return copy_step(ctx, operands[0], out)
        value = operands[0]
        held = _accumulator(ctx, out)
        for k, operand in enumerate(operands[1:]):
            target = out if k == len(operands) - 2 else held
            reason = binary_step(ctx, kernel, value, operand, target, cost=cost)
            if reason:
                return reason
            value = target
        return None

    return lower


def divide(a: Array, b: Array) -> Array:
    """a / b; integers are truncated toward zero, as ONNX says since opset 14."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    quotient = np.floor_divide(a, b)
    inexact = (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + inexact.astype(quotient.dtype))


def power(a: Array, b: Array) -> Array:
    """a ** b in the dtype of a."""
    if a.dtype.kind in "iu" and (b.dtype.kind == "f" or (b.dtype.kind == "i" and bool(np.any(b < 0)))):
        # NumPy has no integer power with a negative exponent.
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.asarray(np.power(a, b), dtype=a.dtype)


def _infer_pow(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a = shapes.required(types, 0, "X", "fi")
    shapes.required(types, 1, "Y", "fiu")
    return [shapes.tensor(a.dtype, shapes.broadcast_all(types))]


_SHAPES = (
    Case(((2, 3, 5), (2, 3, 5))),
    Case(((2, 3, 5), (5,)), name="row"),
    Case(((3, 1), (1, 5)), name="outer"),
    Case(((4, 1, 1), (2, 1, 3, 1)), name="both"),
    Case(((), (7,)), name="scalar"),
    Case(((0, 3), (3,)), name="empty"),
)
_INTEGERS = Case((np.array([7, -7, 7, -7, 0]), np.array([2, 2, -2, -2, 3])), name="integers")
_NAN = Case((np.array([np.nan, 1, np.inf], np.float32), np.array([1, np.nan, -np.inf], np.float32)), name="nan")


def _binary(op: str, kernel: str, function: Callable[[Any, Any], Any], *, cost: int = 1) -> None:
    operator(
        op,
        infer=_infer("fiu"),
        reference=lambda attributes, a, b: np.asarray(function(a, b)),
        arity=(2, 2),
        lower=_lower(kernel, cost),
        cases=(*_SHAPES, _INTEGERS, _NAN),
        elementwise=True,
        strided=True,
    )


_binary("Add", "add_f32", np.add)
_binary("Sub", "sub_f32", np.subtract)
_binary("Mul", "mul_f32", np.multiply)
_binary("Div", "div_f32", divide, cost=4)

_BASES = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 10.0], np.float32)

operator(
    "Pow",
    infer=_infer_pow,
    reference=lambda attributes, a, b: power(a, b),
    arity=(2, 2),
    lower=_lower("pow_f32", 25),
    cases=(
        Case((_BASES, np.array([0.0, 0.5, -1.0, 2.0, 3.0, -2.5], np.float32))),
        Case((_BASES[:, None], np.array([2.0, -1.0, 0.0], np.float32)), name="broadcast"),
        Case((-_BASES[1:], np.float32(3.0)), constants=(1,), name="cube of negatives"),
        Case((-_BASES[1:], np.float32(0.5)), constants=(1,), name="root of negatives"),
        Case((np.array([2, -3, 4]), np.array([3, 2, 0])), name="integers"),
        Case((_BASES, np.array([2], np.int64)), constants=(1,), name="integer exponent"),
        Case(((0, 3), (3,)), name="empty"),
    ),
    elementwise=True,
    strided=True,
)


def _variadic(op: str, kernel: str, function: Callable[[Any, Any], Any], kinds: str) -> None:
    operator(
        op,
        infer=_infer(kinds),
        reference=lambda attributes, *operands: np.array(reduce(function, operands)),
        arity=(1, None),
        lower=_lower(kernel, 1),
        cases=(
            *_SHAPES,
            _NAN,
            Case(((3, 4),), name="one"),
            Case(((3, 4), (4,), (3, 1)), name="three"),
            Case(((4,), (3, 1), (2, 1, 1), (2, 3, 4)), name="four"),
        ),
        elementwise=True,
        strided=True,
    )


_variadic("Min", "min_f32", np.minimum, "fiu")
_variadic("Max", "max_f32", np.maximum, "fiu")
_variadic("Sum", "add_f32", np.add, "f")


def _infer_prelu(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fiu")
    slope = shapes.required(types, 1, "slope")
    shapes.same_dtype(types, ("X", "slope"))
    _check_unidirectional(x.shape, slope.shape, "slope")
    return [shapes.tensor(x.dtype, x.shape)]


def _check_unidirectional(x: tuple[Dim, ...] | None, other: tuple[Dim, ...] | None, name: str) -> None:
    """Raise unless `other` can be broadcast to `x` without making it larger."""
    both = shapes.broadcast(x, other)
    if x is None or other is None or both is None:
        return
    grown = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(x, both))
    if len(both) != len(x) or grown:
        raise GraphError(
            f"input {name} does not broadcast to input X",
            expected=f"a shape that fits into {shapes.describe(x)}",
            got=shapes.describe(other),
        )


operator(
    "PRelu",
    infer=_infer_prelu,
    reference=lambda attributes, x, slope: np.asarray(np.where(x < 0, x * slope, x), dtype=x.dtype),
    arity=(2, 2),
    lower=_lower("prelu_f32", 2),
    cases=(
        Case(((2, 3, 5), (5,)), constants=(1,)),
        Case(((2, 3, 4, 5), (3, 1, 1)), constants=(1,), name="channels"),
        Case(((2, 3), (1,)), constants=(1,), name="one slope"),
        Case(((2, 3), (2, 3)), name="slope from the caller"),
        Case(((0, 3), (3,)), constants=(1,), name="empty"),
    ),
    elementwise=True,
    strided=True,
)


def _infer_scale_shift(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "x", "f")
    shapes.same_dtype(types, ("x", "scale", "shift"))
    for index, name in ((1, "scale"), (2, "shift")):
        _check_unidirectional(x.shape, shapes.required(types, index, name).shape, name)
    return [shapes.tensor(x.dtype, x.shape)]


def _lower_scale_shift(ctx: Lowering) -> str | None:
    reason = dtype_reason(ctx)
    if reason:
        return reason
    x, scale, shift, out = given(ctx, 0), given(ctx, 1), given(ctx, 2), ctx.output()
    if broadcast_strides(scale, out.shape) != broadcast_strides(shift, out.shape):
        values = [v for v in (ctx.constant(1), ctx.constant(2)) if v is not None]
        if len(values) < 2:
            return "scale and shift differ in shape and are not constant"
        common = np.broadcast_shapes(values[0].shape, values[1].shape)

        def spread(index: int) -> Tensor:
            key = ("scale_shift", *ctx.node.inputs[1:3], index)
            make = partial(np.ascontiguousarray, np.broadcast_to(values[index], common))
            return ctx.tensor(ctx.packed(key, make))

        scale, shift = spread(0), spread(1)
    return scale_shift_step(ctx, x, scale, shift, out)


operator(
    "ScaleShift",
    domain="fused",
    infer=_infer_scale_shift,
    reference=lambda attributes, x, scale, shift: np.asarray(x * scale + shift, dtype=x.dtype),
    arity=(3, 3),
    lower=_lower_scale_shift,
    cases=(
        Case(((2, 3, 4, 5), (5,), (5,)), constants=(1, 2)),
        Case(((2, 3, 4, 5), (3, 1, 1), (3, 1, 1)), constants=(1, 2), name="channels first"),
        Case(((2, 5), (), (5,)), constants=(1, 2), name="one scale"),
        Case(((2, 5), (5,), (5,)), name="from the caller"),
        Case(((0, 5), (5,), (5,)), constants=(1, 2), name="empty"),
    ),
    elementwise=True,
    strided=True,
)
