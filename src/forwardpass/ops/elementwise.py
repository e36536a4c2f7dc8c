"""Element-wise arithmetic beside that of unary.py and binary.py."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .activations import sigmoid
from .binary import check_divisor, lower_sum
from .lower import binary_step, scalar
from .lower_typed import lower_integer
from .numeric import FLOATS, NUMBERS, rounded_once, typed
from .registry import Attributes, Case, Constants, Lowering, Types, operator

_WHOLE = np.arange(-6, 6, dtype=np.int64).reshape(3, 4)


def _infer_mod(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.flag(attributes, "fmod")
    typed(types, 0, "A", NUMBERS)
    dtype = shapes.same_dtype(types, ("A", "B"))
    return [shapes.tensor(dtype, shapes.broadcast_all(types))]


def _mod(attributes: Attributes, a: Array, b: Array) -> Array:
    check_divisor(a, b)
    return np.asarray((np.fmod if attributes["fmod"] else np.mod)(a, b))


def _lower_mod(ctx: Lowering) -> str | None:
    if ctx.attributes["fmod"]:
        return "the truncated remainder has no native kernel"
    return lower_integer("mod_int")(ctx)


_DIVIDED = np.array([-4.3, 7.2, 5.0, 4.3, -7.2, 8.0, -0.25], np.float32)
_DIVISORS = np.array([2.1, -3.4, 8.0, -2.1, 3.4, 5.0, 2.0], np.float32)

operator(
    "Mod",
    infer=_infer_mod,
    reference=_mod,
    attributes={"fmod": 0},
    arity=(2, 2),
    lower=_lower_mod,
    strided=True,
    typed=True,
    cases=(
        Case((_WHOLE, np.int64(4)), constants=(1,)),
        Case((_WHOLE, np.array([3, -3, 2, -5])), name="signs"),
        Case((_WHOLE, np.array([3, -3, 2, -5])), {"fmod": 1}, name="truncated"),
        Case((_DIVIDED, _DIVISORS), {"fmod": 1}, name="float"),
        Case((_DIVIDED, np.float32(2.5)), {"fmod": 1}, constants=(1,), name="float scalar"),
        Case((_DIVIDED, _DIVISORS[:, None]), {"fmod": 1}, name="outer"),
        Case(((0, 3), (3,)), {"fmod": 1}, name="empty"),
    ),
    elementwise=True,
)


def _infer_mean(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    for index in range(len(types)):
        typed(types, index, f"data_{index}", FLOATS)
    dtype = shapes.same_dtype(types, [f"data_{index}" for index in range(len(types))])
    return [shapes.tensor(dtype, shapes.broadcast_all(types))]


def _mean(attributes: Attributes, *operands: Array) -> Array:
    return np.asarray(reduce(np.add, operands) / len(operands), dtype=operands[0].dtype)


def _lower_mean(ctx: Lowering) -> str | None:
    y, divisor = ctx.output(), scalar(ctx, len(ctx.types))
    return lower_sum(ctx) or binary_step(ctx, "div_f32", y, divisor, y, cost=4)


operator(
    "Mean",
    infer=_infer_mean,
    reference=rounded_once(_mean),
    arity=(1, None),
    lower=_lower_mean,
    strided=True,
    cases=(
        Case(((2, 3, 5), (2, 3, 5))),
        Case(((3, 4),), name="one"),
        Case(((3, 4), (4,), (3, 1)), name="three"),
        Case(((4,), (3, 1), (2, 1, 1), (2, 3, 4)), name="four"),
        Case(((0, 3), (3,)), name="empty"),
    ),
    elementwise=True,
)


def _infer_swiglu(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.number(attributes, "alpha")
    a = typed(types, 0, "A", FLOATS)
    b = typed(types, 1, "B", FLOATS)
    dtype = shapes.same_dtype(types, ("A", "B"))
    if a.shape is None or b.shape is None:
        return [shapes.tensor(dtype, b.shape if a.shape is None else a.shape)]
    if len(a.shape) != len(b.shape):
        raise GraphError(
            "inputs A and B differ in rank", expected=shapes.describe(a.shape), got=shapes.describe(b.shape)
        )
    pairs = zip(a.shape, b.shape)
    return [shapes.tensor(dtype, [shapes.unify(p, q, "the shapes of A and B") for p, q in pairs])]


def _swiglu(attributes: Attributes, a: Array, b: Array) -> Array:
    return np.asarray(a * sigmoid(attributes["alpha"] * a) * b, dtype=a.dtype)


operator(
    "SwiGLU",
    infer=_infer_swiglu,
    reference=rounded_once(_swiglu),
    attributes={"alpha": 1.0},
    arity=(2, 2),
    cases=(
        Case(((2, 3, 5), (2, 3, 5))),
        Case(((3, 7), (3, 7)), {"alpha": 1.702}, name="alpha"),
        Case(((0, 4), (0, 4)), name="empty"),
    ),
    elementwise=True,
)
