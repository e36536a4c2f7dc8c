"""Nodes that work element by element, and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardpass.dtypes import code_of
from onnx_graphs.grower import Grower, Val
from onnx_graphs.older import Skip

__all__ = ["ADDERS"]

_FUNCTIONS = (
    "Relu", "Selu", "HardSwish", "Sigmoid", "Tanh", "Softplus", "Softsign", "Mish", "Erf", "Exp", "Log", "Sqrt",
    "Reciprocal", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
)  # fmt: skip
SMOOTH: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_FUNCTIONS, ()),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Swish": ("alpha",),
}
"""Continuous functions and their attributes, which are numbers."""
JUMPS = {"Floor": (), "Ceil": (), "Round": (), "Sign": (), "ThresholdedRelu": ("alpha",), "Shrink": ("bias", "lambd")}


def unary(g: Grower) -> None:
    op = g.one_of(*SMOOTH)
    g.emit(op, [g.pick("f")], _numbers(g, SMOOTH[op]))


def jump(g: Grower) -> None:
    op = g.one_of(*JUMPS)
    kinds = "fiu" if op in ("Sign", "Shrink") else "f"
    g.emit(op, [g.pick(kinds, exact=True)], _numbers(g, JUMPS[op]))


def _numbers(g: Grower, names: tuple[str, ...]) -> dict[str, float]:
    return {name: g.one_of(0.5, 1.0, 0.25, 1.5, 2.0) for name in names if g.chance(2)}


def plain(g: Grower) -> None:
    op = g.one_of("Abs", "Neg", "Identity", "Not", "BitwiseNot", "Gelu", "IsNaN", "IsInf")
    kinds = {"Not": "b", "BitwiseNot": "iu", "Gelu": "f", "IsNaN": "f", "IsInf": "f", "Identity": "fiub", "Neg": "fi"}
    attributes = {}
    if op == "Gelu":
        attributes = {"approximate": g.one_of("none", "tanh")}
    if op == "IsInf" and g.chance(2):
        attributes = {"detect_negative": g.number(0, 1), "detect_positive": g.number(0, 1)}
    x = g.pick(kinds.get(op, "fiu"), exact=op.startswith("Is"))
    if op.startswith("Is"):
        array = x.array.copy()
        if not array.size:
            raise Skip("empty")
        array.flat[0] = g.one_of(np.nan, np.inf, -np.inf)
        x = g.given(array)
        g.values.remove(x)  # its numbers are for this node alone
    g.emit(op, [x], attributes)


def arithmetic(g: Grower) -> None:
    op = g.one_of("Add", "Sub", "Mul", "Div", "Add", "Mul")
    x = g.pick("fffiu")
    y = g.partner(x, nonzero=True) if op == "Div" and (x.dtype.kind != "f" or g.chance(2)) else g.partner(x)
    if op == "Div" and x.dtype.kind in "iu" and g.chance(2):
        x = g.partner(x, x.shape)
    pair = [x, y] if op == "Div" else g.one_of([x, y], [y, x])
    g.emit(op, pair)


def power(g: Grower) -> None:
    if g.chance(3):
        x = g.source(g.dtype("i"), g.shape())
        g.emit("Pow", [x, g.numbers(g.one_of(np.int64, np.int32), g.broadcastable(x.shape), positive=True) % 4])
        return
    x = g.source(g.dtype("f"), g.shape(), positive=True)
    y = g.numbers(g.one_of(x.dtype, np.float32, np.int64), g.broadcastable(x.shape))
    g.emit("Pow", [x, g.given(np.asarray(y, y.dtype)) if g.chance(2) else np.asarray(2, y.dtype)])


def modulo(g: Grower) -> None:
    x = g.pick("iuf", exact=True)
    fmod = 1 if x.dtype.kind == "f" else g.number(0, 1)
    g.emit("Mod", [x, g.partner(x, nonzero=True)], {"fmod": fmod})


def prelu(g: Grower) -> None:
    x = g.pick("f")
    slope = tuple(1 if g.chance(2) else d for d in x.shape)[g.number(0, x.rank) :]
    g.emit("PRelu", [x, g.source(x.dtype, slope)])


def comparison(g: Grower) -> None:
    op = g.one_of("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    x = g.pick("fiub" if op == "Equal" else "fiu", exact=True)
    g.emit(op, [x, g.partner(x, exact=True)])


def logic(g: Grower) -> None:
    op = g.one_of("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift")
    x = g.pick("b" if op in ("And", "Or", "Xor") else ("u" if op == "BitShift" else "iu"))
    if op == "BitShift":
        y = g.given(g.numbers(x.dtype, g.broadcastable(x.shape)) % 4)
        g.emit(op, [x, y], {"direction": g.one_of("LEFT", "RIGHT")})
        return
    g.emit(op, [x, g.partner(x)])


def variadic(g: Grower) -> None:
    op = g.one_of("Sum", "Mean", "Max", "Min")
    x = g.pick("f" if op in ("Sum", "Mean") else "ffi")
    others: list[Val] = []
    for _ in range(g.number(0, 3)):
        base = np.broadcast_shapes(x.shape, *(o.shape for o in others))
        other = g.partner(x) if g.root.opset >= 8 else g.partner(x, x.shape)
        try:
            np.broadcast_shapes(base, other.shape)
        except ValueError:
            continue
        others.append(other)
    g.emit(op, [x, *others])


def where(g: Grower) -> None:
    x = g.pick("ffiub")
    y = g.partner(x)
    shape = np.broadcast_shapes(x.shape, y.shape)
    known = [v for v in g.values if v.dtype == bool and np.broadcast_shapes(v.shape, (1,)) and v.shape == shape]
    condition = known[-1] if known else g.source(bool, g.broadcastable(shape))
    g.emit("Where", [condition, x, y])


def clip(g: Grower) -> None:
    x = g.pick("fffiu")
    low, high = sorted(g.numbers(x.dtype, (2,)).tolist())
    bounds = [
        np.asarray(low, x.dtype) if g.number(0, 3) else None,
        np.asarray(high, x.dtype) if g.number(0, 3) else None,
    ]
    g.emit("Clip", [x, *bounds])


def cast(g: Grower) -> None:
    x = g.pick("fiub", exact=True) if g.chance(2) else g.pick("f")
    kinds = "fiub" if x.exact else "f"
    to = g.dtype(kinds)
    if x.array.size and x.dtype.kind in "fi" and (to.kind == "u" or to.name == "int8"):
        limit = np.iinfo(to)
        if x.array.min() < limit.min or x.array.max() > limit.max:
            raise Skip("undefined")
    if not np.isfinite(x.array).all() and to.kind != "f":
        raise Skip("undefined")
    made = g.emit("Cast", [x], {"to": code_of(to)}) if g.number(0, 3) else g.emit("CastLike", [x, g.numbers(to, (1,))])
    if to.kind == "f" and (made[0].array.astype(np.float64) != x.array.astype(np.float64)).any():
        made[0].exact = False
        g.root.exact.discard(made[0].name)


def dropout(g: Grower) -> None:
    x = g.pick("f")
    ratio = np.asarray(0.25, np.float32) if g.chance(2) else None
    training = np.asarray(False) if ratio is not None and g.root.opset >= 12 and g.chance(2) else None
    # Before opset 12 the mask was of the dtype of the data once, and then not defined.
    g.emit("Dropout", [x, ratio, training], outputs=g.number(1, 2) if g.root.opset >= 12 else 1)


def quantize(g: Grower) -> None:
    """Scales are powers of two, so that no quotient is near a tie by rounding alone."""
    to = np.dtype(g.one_of("uint8", "int8", "int32"))
    axis = None
    x = g.pick("f", exact=True) if to.name != "int32" else g.source("int32", g.shape(1))
    if to.name != "int32" and g.chance(2):
        x = g.source(to, g.shape())
    form: tuple[int, ...] = ()
    if x.rank and g.root.opset >= 13 and g.chance(2):
        axis = g.axis(x.rank)
        form = (x.shape[axis],)
    scale = np.asarray(2.0 ** g.root.rng.integers(-5, 2, form), np.float32)
    if x.dtype.kind == "f":
        scale = scale.astype(x.dtype)
        zero = g.numbers(to, form) if g.number(0, 2) or to.name == "int8" else None
        g.emit("QuantizeLinear", [x, scale, zero], {"axis": axis})
        return
    zero = None if to.name == "int32" or g.chance(3) else g.numbers(to, form)
    g.emit("DequantizeLinear", [x, scale, zero], {"axis": axis})


def reduction(g: Grower) -> None:
    op = "Reduce" + g.one_of("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    kinds = "fff" if op in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean") else "fffi"
    x = g.pick(kinds, full=op not in ("ReduceSum", "ReduceL1", "ReduceSumSquare"))
    axes = np.asarray(g.axes(x.rank, least=0), np.int64)
    attributes: dict[str, Any] = {"keepdims": g.number(0, 1)}
    if axes.size == 0:
        inputs: list[Any] = [x]
        if g.root.opset >= 18 and g.chance(2):
            attributes["noop_with_empty_axes"] = g.number(0, 1)
            if g.chance(2):
                inputs.append(axes)
    else:
        inputs = [x, axes]
    g.emit(op, inputs, attributes)


def arg_reduction(g: Grower) -> None:
    x = g.pick("ffi", low=1, exact=True, full=True)
    last = g.number(0, 1) if g.root.opset >= 12 else None
    axis = g.axis(x.rank) if g.number(0, 2) else None
    attributes = {"axis": axis, "keepdims": g.number(0, 1), "select_last_index": last}
    g.emit(g.one_of("ArgMax", "ArgMin"), [x], attributes)


def softmax(g: Grower) -> None:
    op = g.one_of("Softmax", "LogSoftmax", "Softmax", "Hardmax")
    x = g.pick("f", low=1, exact=op == "Hardmax", full=True)
    g.emit(op, [x], {"axis": g.axis(x.rank) if g.number(0, 3) or x.rank == 1 else None})


def cumulative(g: Grower) -> None:
    x = g.pick("ffi", low=1)
    attributes = {"exclusive": g.number(0, 1), "reverse": g.number(0, 1)}
    g.emit("CumSum", [x, np.asarray(g.axis(x.rank), np.int64)], attributes if g.chance(2) else {})


def top(g: Grower) -> None:
    x = g.pick("ffi", low=1, exact=True)
    axis = g.axis(x.rank)
    least = 0 if g.root.opset >= 10 else 1
    if x.shape[axis] < least:
        raise Skip("empty")
    k = np.array([g.number(least, x.shape[axis])], np.int64)
    attributes = {"axis": axis, "largest": g.number(0, 1) if g.root.opset >= 11 else None}
    g.emit("TopK", [x, k], attributes, outputs=2)


ADDERS = (
    unary, unary, jump, plain, arithmetic, arithmetic, power, modulo, prelu, comparison, logic, variadic, where, clip,
    cast, dropout, quantize, reduction, reduction, arg_reduction, softmax, cumulative, top,
)  # fmt: skip
