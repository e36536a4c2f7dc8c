"""Functions of keras.ops that graphs hold in the place of layers, where they are simple."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...builder import core
from ..archive import excerpt
from .call import Call, flatten
from .kinds import Flow, layer

_BINARY = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Maximum": "Max",
    "Minimum": "Min", "Power": "Pow", "Matmul": "MatMul", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual",
    "Less": "Less", "LessEqual": "LessOrEqual", "Equal": "Equal", "Mod": "Mod",
}  # fmt: skip
_UNARY = {
    "Abs": "Abs", "Absolute": "Abs", "Negative": "Neg", "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Sin": "Sin",
    "Cos": "Cos", "Floor": "Floor", "Ceil": "Ceil", "Round": "Round", "Sign": "Sign", "Erf": "Erf",
    "Reciprocal": "Reciprocal", "Tan": "Tan", "Sinh": "Sinh", "Cosh": "Cosh",
}  # fmt: skip
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus",
    "Softsign": "softsign", "Silu": "silu", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu",
    "HardSwish": "hard_silu", "Mish": "mish", "Selu": "selu",
}  # fmt: skip
_REDUCTIONS = {
    "Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd",
    "Logsumexp": "ReduceLogSumExp", "Amax": "ReduceMax", "Amin": "ReduceMin",
}  # fmt: skip


def _value(c: Call, value: Any) -> str:
    """An operand: a tensor, or a number or list of numbers as a constant."""
    if isinstance(value, Flow):
        return value.value
    if isinstance(value, dict) and isinstance(value.get("config"), dict):  # an array
        value = value["config"].get("value")
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if not array.size or not np.all(np.isfinite(array)):
        raise c.unsupported("an operand that is not read", got=excerpt(repr(value)))
    return c.constant("operand", array)


def _operands(c: Call, count: int) -> list[str]:
    values = [*c.args, *(c.kwargs[k] for k in ("x1", "x2", "x") if k in c.kwargs)]
    if len(values) < count:
        raise c.layer.error("inputs", f"{count} operands", len(values))
    return [_value(c, v) for v in values[:count]]


def _argument(c: Call, key: str, position: int, default: Any = None) -> Any:
    """An argument of an operation: of its construction, of the call by keyword, or by position."""
    if key in c.layer.config:
        return c.layer.config[key]
    if key in c.kwargs:
        return c.kwargs[key]
    return c.args[position] if position < len(c.args) else default


def _integers(c: Call, key: str, value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**31 for v in values):
        raise c.layer.error(key, "integers", value)
    return values


def _axes(c: Call, x: str, position: int = 1) -> list[int]:
    value = _argument(c, "axis", position)
    return list(range(c.rank(x))) if value is None else [a % c.rank(x) for a in _integers(c, "axis", value)]


@layer(*(f"ops.{k}" for k in _BINARY))
def binary(c: Call) -> str:
    return c.node(_BINARY[c.layer.real], _operands(c, 2))


@layer(*(f"ops.{k}" for k in _UNARY), masking="pass")
def unary(c: Call) -> str:
    return c.node(_UNARY[c.layer.real], _operands(c, 1))


@layer(*(f"ops.{k}" for k in _ACTIVATIONS), masking="pass")
def function(c: Call) -> str:
    return core.ACTIVATIONS[_ACTIVATIONS[c.layer.real]](c, *_operands(c, 1))


@layer(*(f"ops.{k}" for k in _REDUCTIONS))
def reduction(c: Call) -> str:
    (x,) = _operands(c, 1)
    keep = bool(_argument(c, "keepdims", 2, False))
    return c.node(_REDUCTIONS[c.layer.real], [x, c.ints(_axes(c, x), "axes")], keepdims=int(keep))


def _square(c: Call, x: str) -> str:
    return c.node("Mul", [x, x])


def _rsqrt(c: Call, x: str) -> str:
    return c.node("Reciprocal", [c.node("Sqrt", [x])])


def _softmax(c: Call, x: str) -> str:
    (axis,) = _axes(c, x)
    return c.node("LogSoftmax" if c.layer.real == "LogSoftmax" else "Softmax", [x], axis=axis)


def _gelu(c: Call, x: str) -> str:
    return c.node("Gelu", [x], approximate="tanh" if _argument(c, "approximate", 1, True) else "none")


def _slope(c: Call, x: str) -> str:
    slope = _argument(c, "negative_slope", 1, 0.2)
    return c.node("LeakyRelu", [x], alpha=_real(c, "negative_slope", slope))


def _elu(c: Call, x: str) -> str:
    return c.node("Elu", [x], alpha=_real(c, "alpha", _argument(c, "alpha", 1, 1.0)))


def _clip(c: Call, x: str) -> str:
    ends = [c.number(_real(c, k, _argument(c, k, p)), k) for p, k in ((1, "x_min"), (2, "x_max"))]
    return c.node("Clip", [x, *ends])


def _real(c: Call, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise c.layer.error(key, "a number", value)
    return float(value)


def _reshape(c: Call, x: str) -> str:
    shape = _integers(c, "newshape", [-1 if d is None else d for d in _list(c, "newshape")])
    front = c.shape(x)[0]
    # A batch that calls decide is the free size of the target, which the first 0 keeps for an empty batch too.
    if shape and shape[0] == -1 and not isinstance(front, int):
        shape = [0, *shape[1:]] if _same_rest(c, x, shape[1:]) else shape
    return c.reshape(x, shape)


def _same_rest(c: Call, x: str, rest: list[int]) -> bool:
    known = c.shape(x)[1:]
    if not all(isinstance(d, int) for d in known) or -1 in rest:
        return False
    return int(np.prod([d for d in known if isinstance(d, int)])) == int(np.prod(rest))


def _list(c: Call, key: str) -> list[Any]:
    value = _argument(c, key, 1)
    if not isinstance(value, list):
        raise c.layer.error(key, "a list", value)
    return value


def _transpose(c: Call, x: str) -> str:
    order = _argument(c, "axes", 1)
    rank = c.rank(x)
    found = list(range(rank))[::-1] if order is None else [a % rank for a in _integers(c, "axes", order)]
    return c.transpose(x, found)


def _squeeze(c: Call, x: str) -> str:
    return c.node("Squeeze", [x, c.ints(_axes(c, x), "axes")])


def _expand(c: Call, x: str) -> str:
    return c.node("Unsqueeze", [x, c.ints(_integers(c, "axis", _argument(c, "axis", 1)), "axes")])


_MOVES: dict[str, Callable[[Call, str], str]] = {
    "Square": _square, "Rsqrt": _rsqrt, "Softmax": _softmax, "LogSoftmax": _softmax, "Gelu": _gelu,
    "LeakyRelu": _slope, "Elu": _elu, "Clip": _clip, "Reshape": _reshape, "Transpose": _transpose, "Squeeze": _squeeze,
    "ExpandDims": _expand,
}  # fmt: skip


@layer(*(f"ops.{k}" for k in _MOVES))
def move(c: Call) -> str:
    return _MOVES[c.layer.real](c, *_operands(c, 1))


@layer("ops.Concatenate")
def concatenate(c: Call) -> str:
    values = [f.value for f in c.flows]
    (axis,) = _integers(c, "axis", _argument(c, "axis", 1, 0))
    return c.node("Concat", values, axis=axis)


@layer("ops.Stack")
def stack(c: Call) -> str:
    (axis,) = _integers(c, "axis", _argument(c, "axis", 1, 0))
    place = c.ints([axis], "axes")
    return c.node("Concat", [c.node("Unsqueeze", [f.value, place]) for f in c.flows], axis=axis)


@layer("ops.NotEqual")
def not_equal(c: Call) -> str:
    return c.node("Not", [c.node("Equal", _operands(c, 2))])


@layer("ops.LogicalAnd", "ops.LogicalOr", integers=True)
def logic(c: Call) -> str:
    values = [c.cast(x, np.bool_) for x in _operands(c, 2)]
    return c.node("And" if c.layer.real == "LogicalAnd" else "Or", values)


@layer("ops.LogicalNot", integers=True)
def logical_not(c: Call) -> str:
    return c.node("Not", [c.cast(_operands(c, 1)[0], np.bool_)])


@layer("ops.Any", "ops.All")
def quantifier(c: Call) -> str:
    """Of truth values, which are 0 and 1 here."""
    (x,) = _operands(c, 1)
    truth = c.cast(c.cast(x, np.bool_), np.float32)
    keep = int(bool(_argument(c, "keepdims", 2, False)))
    op = "ReduceMax" if c.layer.real == "Any" else "ReduceMin"
    return c.cast(c.node(op, [truth, c.ints(_axes(c, x), "axes")], keepdims=keep), np.bool_)


@layer("ops.ZerosLike", "ops.OnesLike")
def filled(c: Call) -> str:
    (x,) = _operands(c, 1)
    dtype = _argument(c, "dtype", 1)
    if dtype not in (None, "float32", "int32", "bool"):
        raise c.unsupported("a dtype that is not read", got=excerpt(repr(dtype)))
    shape = c.node("Shape", [x])
    value = np.array([c.layer.real == "OnesLike"], np.dtype(dtype or "float32"))
    return c.node("ConstantOfShape", [shape], value=value)


@layer("ops.Cast")
def cast(c: Call) -> str:
    dtype = _argument(c, "dtype", 1)
    if dtype not in ("float32", "int32", "int64", "bool"):
        raise c.unsupported("a cast that is not read", got=excerpt(repr(dtype)))
    return c.cast(_operands(c, 1)[0], np.dtype(dtype))


@layer("ops.GetItem")
def get_item(c: Call) -> str:
    """Indexing with integers and slices."""
    (x, *_) = (f.value for f in flatten(c.args))
    key = c.args[1] if len(c.args) > 1 else c.kwargs.get("key")
    items = key if isinstance(key, list) else [key]
    if len(items) > c.rank(x):
        raise c.unsupported("an index that is not read", got=excerpt(repr(key)))
    dropped = []
    for axis, item in enumerate(items):
        if isinstance(item, dict) and item.get("class_name") == "__slice__" and isinstance(item.get("config"), dict):
            x = _sliced(c, x, axis, item["config"])
        elif isinstance(item, int) and not isinstance(item, bool):
            x = c.cut(x, axis, item, item + 1 if item != -1 else None)
            dropped.append(axis)
        else:
            raise c.unsupported("an index that is not read", got=excerpt(repr(item)))
    return c.node("Squeeze", [x, c.ints(dropped, "axes")]) if dropped else x


def _sliced(c: Call, x: str, axis: int, config: dict[str, Any]) -> str:
    start, stop, step = (config.get(k) for k in ("start", "stop", "step"))
    if all(v is None for v in (start, stop, step)):
        return x
    good = all(v is None or (isinstance(v, int) and abs(v) < 2**31) for v in (start, stop, step))
    if not good or step == 0:
        raise c.unsupported("an index that is not read", got=excerpt(repr(config)))
    step = 1 if step is None else int(step)
    begin = (0 if step > 0 else -1) if start is None else start
    return c.cut(x, axis, begin, stop, step)
