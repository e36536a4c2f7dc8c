"""Arithmetic, comparisons, activations and reductions."""

from __future__ import annotations

import numpy as np

from ...errors import UnsupportedError
from .call import Call, operator

__all__: list[str] = []

_BINARY = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "POW": "Pow", "MAXIMUM": "Max", "MINIMUM": "Min",
    "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual",
    "EQUAL": "Equal", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
}  # fmt: skip
_UNARY = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EXP": "Exp", "FLOOR": "Floor", "HARD_SWISH": "HardSwish",
    "LOG": "Log", "LOGICAL_NOT": "Not", "LOGISTIC": "Sigmoid", "NEG": "Neg", "ROUND": "Round", "SIGN": "Sign",
    "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh",
}  # fmt: skip
_REDUCTIONS = {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}  # fmt: skip
_EPSILON = 1e-6
"""Below this the sum of squares is not divided by."""


@operator(*_BINARY)
def binary(c: Call) -> str:
    y = c.node(_BINARY[c.kind], c.x(0), c.x(1))
    return c.activated(y, 0) if c.kind in ("ADD", "SUB", "MUL", "DIV") else y


@operator(*_UNARY)
def unary(c: Call) -> str:
    return c.node(_UNARY[c.kind], c.x())


@operator("RELU", "RELU_N1_TO_1", "RELU6", "RELU_0_TO_1")
def relu(c: Call) -> str:
    return c.activate(c.x(), c.kind)


@operator("NOT_EQUAL")
def not_equal(c: Call) -> str:
    return c.node("Not", c.node("Equal", c.x(0), c.x(1)))


@operator("SQUARE")
def square(c: Call) -> str:
    return c.node("Mul", c.x(), c.x())


@operator("SQUARED_DIFFERENCE")
def squared_difference(c: Call) -> str:
    y = c.node("Sub", c.x(0), c.x(1))
    return c.node("Mul", y, y)


@operator("RSQRT")
def rsqrt(c: Call) -> str:
    return c.node("Reciprocal", c.node("Sqrt", c.x()))


@operator("ADD_N")
def add_n(c: Call) -> str:
    return c.node("Sum", *c.all())


@operator("LEAKY_RELU")
def leaky_relu(c: Call) -> str:
    return c.node("LeakyRelu", c.x(), alpha=float(c.option(0, form="f")))


@operator("PRELU")
def prelu(c: Call) -> str:
    return c.node("PRelu", c.x(0), c.x(1))


@operator("GELU")
def gelu(c: Call) -> str:
    return c.node("Gelu", c.x(), approximate="tanh" if c.flag(0) else "none")


@operator("SOFTMAX", "LOG_SOFTMAX")
def softmax(c: Call) -> str:
    x = c.x()
    beta = float(c.option(0, form="f")) if c.kind == "SOFTMAX" else 1.0
    if beta != 1.0:
        x = c.node("Mul", x, c.constant(beta))
    return c.node("Softmax" if c.kind == "SOFTMAX" else "LogSoftmax", x, axis=-1)


@operator("L2_NORMALIZATION")
def l2_normalization(c: Call) -> str:
    x = c.x()
    squares = c.node("ReduceSum", c.node("Mul", x, x), c.ints([-1]), keepdims=1)
    y = c.node("Div", x, c.node("Sqrt", c.node("Max", squares, c.constant(_EPSILON))))
    return c.activated(y, 0)


@operator(*_REDUCTIONS)
def reduce(c: Call) -> str:
    return c.node(_REDUCTIONS[c.kind], c.x(0), c.ints(c.integers(1)), keepdims=int(c.flag(0)))


@operator("REDUCE_ANY", "REDUCE_ALL")
def reduce_logical(c: Call) -> str:
    op = "ReduceMax" if c.kind == "REDUCE_ANY" else "ReduceMin"
    found = c.node(op, c.cast(c.x(0), np.uint8), c.ints(c.integers(1)), keepdims=int(c.flag(0)))
    return c.cast(found, np.bool_)


@operator("ARG_MAX", "ARG_MIN")
def arg(c: Call) -> str:
    (axis,) = c.integers(1)
    found = c.node("ArgMax" if c.kind == "ARG_MAX" else "ArgMin", c.x(0), axis=axis, keepdims=0)
    return c.cast(found, c.target.dtype)


@operator("CUMSUM")
def cumsum(c: Call) -> str:
    (axis,) = c.integers(1)
    return c.node("CumSum", c.x(0), c.ints(axis), exclusive=int(c.flag(0)), reverse=int(c.flag(1)))


@operator("TOPK_V2")
def top(c: Call) -> list[str]:
    values, places = c.nodes("TopK", [c.x(0), c.ints(c.integers(1))], 2, axis=-1)
    return [values, c.cast(places, np.int32)]


@operator("SELECT", "SELECT_V2")
def select(c: Call) -> str:
    if c.kind == "SELECT" and c.rank(c.x(0)) not in (c.rank(c.x(1)), 0):
        raise UnsupportedError("a condition of another rank", where=c.where)
    return c.node("Where", c.x(0), c.x(1), c.x(2))
