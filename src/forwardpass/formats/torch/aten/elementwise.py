"""Element by element: activations, arithmetic, comparisons, choice."""

# ruff: noqa: A002 - arguments have the names of ATen's schema

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten

_BOOL, _FLOAT = np.dtype(np.bool_), np.dtype(np.float32)


def _unary(op: str, e: Emitter, self: Any, **ignored: Any) -> Ref:
    return e.node(op, e.floating(self))


_FLOATING = {
    "relu6": "",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "erf": "Erf",
    **{n: n.capitalize() for n in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh")},
    **{n: n.capitalize() for n in ("asinh", "acosh", "atanh", "reciprocal", "selu", "mish")},
    "silu": "Swish",
    "hardswish": "HardSwish",
    "softsign": "Softsign",
}
for _name, _op in _FLOATING.items():
    if _op:
        aten(_name, f"{_name}_")(partial(_unary, _op))


def _any_type(op: str, e: Emitter, self: Any, **ignored: Any) -> Ref:
    return e.node(op, self)


for _name, _op in {"relu": "Relu", "abs": "Abs", "neg": "Neg", "sign": "Sign", "sgn": "Sign"}.items():
    aten(_name, f"{_name}_")(partial(_any_type, _op))


@aten("floor", "ceil", "round", "trunc")
def _rounded(e: Emitter, self: Any) -> Ref:
    op = e.op
    if e.dtype_of(self).kind in "iub":
        return e.node("Identity", self)
    if op == "trunc":
        return e.node("Mul", e.node("Sign", self), e.node("Floor", e.node("Abs", self)))
    return e.node(op.capitalize(), self)


@aten("relu6", "relu6_")
def relu6(e: Emitter, self: Any) -> Ref:
    return _clip(e, self, 0, 6)


def _clip(e: Emitter, x: Any, low: Any, high: Any) -> Ref:
    dtype = e.dtype_of(x)
    bounds = [None if b is None else e.cast(b, dtype) for b in (low, high)]
    return e.node("Clip", x, *bounds)


@aten("hardtanh", "hardtanh_")
def hardtanh(e: Emitter, self: Any, min_val: float = -1, max_val: float = 1) -> Ref:
    return _clip(e, self, min_val, max_val)


@aten("clamp", "clamp_", "clip")
def clamp(e: Emitter, self: Any, min: Any = None, max: Any = None) -> Ref:
    if any(isinstance(b, float) for b in (min, max)):
        self = e.floating(self)
    if not isinstance(min, Ref) and not isinstance(max, Ref):
        return _clip(e, self, min, max)
    for bound, op in ((min, "Max"), (max, "Min")):
        if bound is not None:
            self = e.node(op, *e.promoted(self, bound))
    return Ref(self)


@aten("clamp_min", "clamp_min_")
def clamp_min(e: Emitter, self: Any, min: Any) -> Ref:
    return clamp(e, self, min)


@aten("clamp_max", "clamp_max_")
def clamp_max(e: Emitter, self: Any, max: Any) -> Ref:
    return clamp(e, self, None, max)


@aten("hardsigmoid", "hardsigmoid_")
def hardsigmoid(e: Emitter, self: Any) -> Ref:
    return e.node("HardSigmoid", self, alpha=1 / 6, beta=0.5)


@aten("gelu", "gelu_")
def gelu(e: Emitter, self: Any, approximate: str = "none") -> Ref:
    return e.node("Gelu", self, approximate=approximate)


@aten("elu", "elu_")
def elu(e: Emitter, self: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Ref:
    if input_scale != 1:
        raise e.refuse("elu with a scaled input", input_scale)
    y = e.node("Elu", self, alpha=float(alpha))
    return y if scale == 1 else e.node("Mul", y, e.cast(float(scale), e.dtype_of(self)))


@aten("celu", "celu_")
def celu(e: Emitter, self: Any, alpha: float = 1.0) -> Ref:
    return e.node("Celu", self, alpha=float(alpha))


@aten("leaky_relu", "leaky_relu_")
def leaky_relu(e: Emitter, self: Any, negative_slope: float = 0.01) -> Ref:
    return e.node("LeakyRelu", self, alpha=float(negative_slope))


@aten("prelu", "_prelu_kernel")
def prelu(e: Emitter, self: Any, weight: Any) -> Ref:
    rank = e.rank_of(self)
    if e.rank_of(weight) == 1 and rank > 2:
        weight = e.reshape(weight, [-1, *[1] * (rank - 2)])
    return e.node("PRelu", self, weight)


@aten("softplus")
def softplus(e: Emitter, self: Any, beta: float = 1, threshold: float = 20) -> Ref:
    if beta == 1:
        return e.node("Softplus", self)
    scale = e.cast(float(beta), e.dtype_of(self))
    return e.node("Div", e.node("Softplus", e.node("Mul", self, scale)), scale)


@aten("log_sigmoid", "log_sigmoid_forward")
def log_sigmoid(e: Emitter, self: Any) -> Ref:
    return e.node("Neg", e.node("Softplus", e.node("Neg", self)))


@aten("glu")
def glu(e: Emitter, self: Any, dim: int = -1) -> Ref:
    left, right = e.nodes_of("Split", 2, self, axis=e.axis(self, dim), num_outputs=2)
    return e.node("Mul", left, e.node("Sigmoid", right))


@aten("threshold", "threshold_")
def threshold(e: Emitter, self: Any, threshold: float, value: float) -> Ref:
    dtype = e.dtype_of(self)
    return e.node("Where", e.node("Greater", self, e.cast(threshold, dtype)), self, e.cast(value, dtype))


@aten("rsqrt", "rsqrt_")
def rsqrt(e: Emitter, self: Any) -> Ref:
    return e.node("Reciprocal", e.node("Sqrt", e.floating(self)))


@aten("square")
def square(e: Emitter, self: Any) -> Ref:
    return e.node("Mul", self, self)


@aten("log2", "log10")
def log_to_base(e: Emitter, self: Any) -> Ref:
    base = 2.0 if e.op == "log2" else 10.0
    x = e.floating(self)
    return e.node("Mul", e.node("Log", x), e.cast(1 / math.log(base), e.dtype_of(x)))


@aten("exp2")
def exp2(e: Emitter, self: Any) -> Ref:
    x = e.floating(self)
    return e.node("Pow", e.cast(2.0, e.dtype_of(x)), x)


@aten("log1p", "expm1")
def near_one(e: Emitter, self: Any) -> Ref:
    """log(1 + x) and exp(x) - 1, which lose no digits of a small x."""
    x = e.floating(self)
    dtype = e.dtype_of(x)
    one, two = e.cast(1.0, dtype), e.cast(2.0, dtype)
    if e.op == "expm1":  # exp(x) - 1 = 2 t / (1 - t) with t = tanh(x / 2)
        t = e.node("Tanh", e.node("Div", x, two))
        small = e.node("Div", e.node("Mul", two, t), e.node("Sub", one, t))
        large = e.node("Sub", e.node("Exp", x), one)
        return e.node("Where", e.node("Less", e.node("Abs", x), one), small, large)
    u = e.node("Add", one, x)
    exact = e.node("Equal", u, one)  # then log(1 + x) is x
    scaled = e.node("Div", e.node("Mul", e.node("Log", u), x), e.node("Where", exact, one, e.node("Sub", u, one)))
    finite = e.node("Less", e.node("Abs", x), e.cast(1e6, dtype))
    return e.node("Where", exact, x, e.node("Where", finite, scaled, e.node("Log", u)))


@aten("isnan", "isinf")
def _classified(e: Emitter, self: Any) -> Ref:
    return e.node("IsNaN" if e.op == "isnan" else "IsInf", self)


# ---- two operands


def _scaled(e: Emitter, other: Any, alpha: Any) -> Any:
    if alpha == 1:
        return other
    if not isinstance(other, Ref):
        return other * alpha
    return e.node("Mul", *e.promoted(other, alpha))


@aten("add", "add_")
def add(e: Emitter, self: Any, other: Any, alpha: Any = 1) -> Ref:
    left, right = e.promoted(self, _scaled(e, other, alpha))
    return e.node("Or" if e.dtype_of(left).kind == "b" else "Add", left, right)


@aten("sub", "sub_")
def sub(e: Emitter, self: Any, other: Any, alpha: Any = 1) -> Ref:
    return e.node("Sub", *e.promoted(self, _scaled(e, other, alpha)))


@aten("rsub")
def rsub(e: Emitter, self: Any, other: Any, alpha: Any = 1) -> Ref:
    return e.node("Sub", *reversed(e.promoted(_scaled(e, self, alpha), other)))


@aten("mul", "mul_")
def mul(e: Emitter, self: Any, other: Any) -> Ref:
    left, right = e.promoted(self, other)
    return e.node("And" if e.dtype_of(left).kind == "b" else "Mul", left, right)


@aten("div", "div_", "true_divide")
def div(e: Emitter, self: Any, other: Any, rounding_mode: str | None = None) -> Ref:
    left, right = e.promoted(self, other)
    whole = e.dtype_of(left).kind in "iub"
    if rounding_mode is None:
        return e.node("Div", e.floating(left), e.floating(right))
    if rounding_mode == "floor":
        return floor_divide(e, left, right)
    quotient = e.node("Div", left, right)
    if whole:
        return quotient
    return e.node("Mul", e.node("Sign", quotient), e.node("Floor", e.node("Abs", quotient)))


@aten("floor_divide")
def floor_divide(e: Emitter, self: Any, other: Any) -> Ref:
    left, right = e.promoted(self, other)
    if e.dtype_of(left).kind == "f":
        return e.node("Floor", e.node("Div", left, right))
    # The remainder that has the sign of the divisor leaves a multiple of it.
    return e.node("Div", e.node("Sub", left, e.node("Mod", left, right)), right)


@aten("remainder")
def remainder(e: Emitter, self: Any, other: Any) -> Ref:
    left, right = e.promoted(self, other)
    if e.dtype_of(left).kind in "iu":
        return e.node("Mod", left, right)
    whole = e.node("Floor", e.node("Div", left, right))
    return e.node("Sub", left, e.node("Mul", whole, right))


@aten("fmod")
def fmod(e: Emitter, self: Any, other: Any) -> Ref:
    return e.node("Mod", *e.promoted(self, other), fmod=1)


@aten("pow", "pow_")
def power(e: Emitter, self: Any, exponent: Any) -> Ref:
    if not isinstance(exponent, Ref):
        if exponent == 2:
            return e.node("Mul", self, self)
        if exponent == 0.5:
            return e.node("Sqrt", e.floating(self))
        if exponent == 1:
            return e.node("Identity", self)
    return e.node("Pow", *e.promoted(self, exponent))


@aten("maximum", "minimum", "max.other", "min.other")
def _larger(e: Emitter, self: Any, other: Any) -> Ref:
    return e.node("Max" if e.op.startswith("max") else "Min", *e.promoted(self, other))


_COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}


def _compare(op: str, e: Emitter, self: Any, other: Any) -> Ref:
    return e.node(op, *e.promoted(self, other))


for _name, _op in _COMPARISONS.items():
    aten(_name, f"{_name}_")(partial(_compare, _op))


@aten("ne", "ne_")
def ne(e: Emitter, self: Any, other: Any) -> Ref:
    return e.node("Not", e.node("Equal", *e.promoted(self, other)))


def _logical(op: str, e: Emitter, self: Any, other: Any) -> Ref:
    return e.node(op, e.cast(self, _BOOL), e.cast(other, _BOOL))


for _name, _op in {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}.items():
    aten(_name)(partial(_logical, _op))


def _bitwise(op: str, e: Emitter, self: Any, other: Any) -> Ref:
    left, right = e.promoted(self, other)
    return e.node(op if e.dtype_of(left).kind == "b" else f"Bitwise{op}", left, right)


for _name, _op in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    aten(f"bitwise_{_name}", f"bitwise_{_name}_", f"__{_name}__")(partial(_bitwise, _op))


@aten("logical_not")
def logical_not(e: Emitter, self: Any) -> Ref:
    return e.node("Not", e.cast(self, _BOOL))


@aten("bitwise_not")
def bitwise_not(e: Emitter, self: Any) -> Ref:
    return e.node("Not" if e.dtype_of(self).kind == "b" else "BitwiseNot", self)


@aten("where")
def where(e: Emitter, condition: Any, self: Any, other: Any) -> Ref:
    return e.node("Where", e.cast(condition, _BOOL), *e.promoted(self, other))


@aten("masked_fill", "masked_fill_")
def masked_fill(e: Emitter, self: Any, mask: Any, value: Any) -> Ref:
    return e.node("Where", mask, e.cast(value, e.dtype_of(self)), self)


@aten("addcmul", "addcdiv")
def addcmul(e: Emitter, self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Ref:
    op = "Mul" if e.op == "addcmul" else "Div"
    return add(e, self, e.node(op, *e.promoted(tensor1, tensor2)), value)


@aten("lerp")
def lerp(e: Emitter, self: Any, end: Any, weight: Any) -> Ref:
    return add(e, self, mul(e, e.node("Sub", end, self), weight))
