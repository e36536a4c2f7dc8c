"""Element-wise operators of several operands with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .activations import activate
from .linear import EPILOGUE, check_epilogue
from .lower import binary_step, copy_step, dtype_reason, given, scale_shift_step
from .lower_linear import epilogue
from .lower_typed import kernel_type, pair_step
from .numeric import FLOATS, NUMBERS, SIGNED, WIDE_INTEGERS, DTypes, rounded_once, typed, unidirectional
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator

_AB = ("A", "B")
_BASES_OF_POW = FLOATS | (SIGNED & WIDE_INTEGERS)


def _infer(allowed: DTypes) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        typed(types, 0, "A", allowed)
        dtype = shapes.same_dtype(types, _AB)
        return [shapes.tensor(dtype, shapes.broadcast_all(types))]

    return infer


def _accumulator(ctx: Lowering, out: Tensor) -> Tensor:
    """Where a chain of steps keeps its value: the output, unless a later operand may live in that memory."""
    names = ctx.node.inputs
    return ctx.temporary(out.shape, ctx.outputs[0].dtype) if set(names[:2]) & set(names[2:]) else out


_INTEGER_KERNELS = {f"{op}_f32": f"{op}_int" for op in ("add", "sub", "mul", "div", "min", "max")}


def _lower(kernel: str, cost: int) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        element = kernel_type(ctx, 0)
        integers = _INTEGER_KERNELS.get(kernel, "") if "int" in element else ""
        reason = None if integers else dtype_reason(ctx)
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
            if integers:
                reason = pair_step(ctx, integers, element, value, operand, target)
            else:
                reason = binary_step(ctx, kernel, value, operand, target, cost=cost)
            if reason:
                return reason
            value = target
        return None

    return lower


lower_sum = _lower("add_f32", 1)
"""Sum of any number of operands."""


def check_divisor(a: Array, b: Array) -> None:
    """Refuse what divides some integer by zero."""
    if b.dtype.kind in "iu" and a.size and not np.all(b):
        raise GraphError("integer division by zero")


def divide(a: Array, b: Array) -> Array:
    """a / b; integers are truncated toward zero, as ONNX says since opset 14."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    check_divisor(a, b)
    quotient = np.floor_divide(a, b)
    inexact = (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + inexact.astype(quotient.dtype))


def power(a: Array, b: Array) -> Array:
    """a ** b in the dtype of a."""
    if a.dtype.kind == "f":
        return np.asarray(np.power(a, b), dtype=a.dtype)
    if b.dtype.kind == "f":
        return np.asarray(np.power(a.astype(np.float64), b).astype(a.dtype))
    # Products of unsigned integers wrap as those of signed ones do, and any exponent fits.
    whole = np.power(a.astype(np.uint64), np.where(b < 0, 0, b).astype(np.uint64)).astype(a.dtype)
    if not np.any(b < 0):
        return np.asarray(whole)
    fraction = np.power(a.astype(np.float64), np.minimum(b, 0)).astype(a.dtype)
    return np.where(b < 0, fraction, whole)


def _infer_pow(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a = typed(types, 0, "X", _BASES_OF_POW)
    typed(types, 1, "Y", NUMBERS)
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
        infer=_infer(NUMBERS),
        reference=lambda attributes, a, b: np.asarray(function(a, b)),
        arity=(2, 2),
        lower=_lower(kernel, cost),
        typed=True,
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


def _variadic(op: str, kernel: str, function: Callable[[Any, Any], Any], allowed: DTypes) -> None:
    operator(
        op,
        infer=_infer(allowed),
        reference=rounded_once(lambda attributes, *operands: np.array(reduce(function, operands))),
        arity=(1, None),
        lower=_lower(kernel, 1),
        typed=True,
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


_variadic("Min", "min_f32", np.minimum, NUMBERS)
_variadic("Max", "max_f32", np.maximum, NUMBERS)
_variadic("Sum", "add_f32", np.add, FLOATS)


def _infer_prelu(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS | WIDE_INTEGERS)
    slope = shapes.required(types, 1, "slope")
    shapes.same_dtype(types, ("X", "slope"))
    unidirectional(x, slope, "slope")
    return [shapes.tensor(x.dtype, x.shape)]


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
    x = typed(types, 0, "x", FLOATS)
    shapes.same_dtype(types, ("x", "scale", "shift"))
    check_epilogue(attributes)
    for index, name in ((1, "scale"), (2, "shift")):
        unidirectional(x, shapes.required(types, index, name), name)
    return [shapes.tensor(x.dtype, x.shape)]


def _scale_shift(attributes: Attributes, x: Array, scale: Array, shift: Array) -> Array:
    y = np.asarray(x * scale + shift, dtype=x.dtype)
    return activate(attributes["activation"], y, attributes["alpha"], attributes["beta"])


def _lower_scale_shift(ctx: Lowering) -> str | None:
    reason = dtype_reason(ctx)
    if reason:
        return reason
    x, scale, shift, out = given(ctx, 0), given(ctx, 1), given(ctx, 2), ctx.output()
    return scale_shift_step(ctx, x, scale, shift, out, epilogue(ctx))


operator(
    "ScaleShift",
    domain="fused",
    infer=_infer_scale_shift,
    reference=_scale_shift,
    attributes=EPILOGUE,
    arity=(3, 3),
    lower=_lower_scale_shift,
    cases=(
        Case(((2, 3, 4, 5), (5,), (5,)), constants=(1, 2)),
        Case(((2, 3, 4, 5), (3, 1, 1), (3, 1, 1)), constants=(1, 2), name="channels first"),
        Case(((2, 5), (), (5,)), constants=(1, 2), name="one scale"),
        Case(((2, 5), (5,), (5,)), name="from the caller"),
        Case(((0, 5), (5,), (5,)), constants=(1, 2), name="empty"),
        Case(((2, 3, 4, 5), (5,), (5,)), {"activation": "Relu"}, constants=(1, 2), name="activation"),
        Case(((2, 3, 4, 19), (2, 1, 1, 19), (2, 3, 4, 19)), {"activation": "HardSwish"}, name="factors of channels"),
    ),
    elementwise=True,
    strided=True,
)
