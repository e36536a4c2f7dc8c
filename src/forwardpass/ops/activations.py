"""Element-wise operators of one operand, and the table of those that can be an epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Node, TensorType
from ..records import field, record
from . import shapes
from .lower import dtype_reason, given, unary_step
from .registry import Attributes, Case, Constants, Lowering, Types, operator

__all__ = ["ACTIVATIONS", "Activation", "activate", "activation_of"]

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _through_float64(function: Callable[[Any], Any], x: Array) -> Array:
    return np.asarray(np.asarray(function(np.asarray(x, np.float64)), np.float64), dtype=x.dtype)


def erf(x: Array) -> Array:
    """The error function, correct to an ulp of float64."""
    return _through_float64(_erf, x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow: exp is only taken of values that are not positive."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(x, x.dtype.type(0)))


def _gelu(x: Array) -> Array:
    # erfc and not 1 + erf: the sum cancels where x is far below zero.
    return np.asarray(0.5 * x * _through_float64(_erfc, -x / x.dtype.type(math.sqrt(2))))


def _gelu_tanh(x: Array) -> Array:
    # (1 + tanh(u)) / 2 = sigmoid(2u), which does not cancel.
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return np.asarray(x * sigmoid(2 * u))


def _negative_part(x: Array) -> Array:
    return np.asarray(np.minimum(x, x.dtype.type(0)))


def _positive_part(x: Array) -> Array:
    return np.asarray(np.maximum(x, x.dtype.type(0)))


def _clip(x: Array, low: float, high: float) -> Array:
    return np.asarray(np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(_negative_part(x)))


def _celu(x: Array, alpha: float) -> Array:
    return _positive_part(x) + _negative_part(alpha * np.expm1(_negative_part(x / alpha)))


def _hard(x: Array, alpha: float, beta: float) -> Array:
    return _clip(alpha * x + beta, 0, 1)


@record(frozen=True, slots=True)
class Activation:
    """A row of unary.def.

    Attributes
    ----------
    row
        Its name there; the kernel is `<row>_f32`.
    reference
        `(x, alpha, beta) -> y` in the dtype of x.
    op
        The ONNX operator.
    parameters
        ONNX attributes and defaults that become alpha and beta, in this order.
    fixed
        ONNX attributes whose value tells this row from others of the same operator.
    cost
        Operations per element, roughly.
    kinds
        Kinds of dtype that the operator takes.
    """

    row: str
    reference: Callable[[Any, float, float], Any]
    op: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    cost: int = 1
    kinds: str = "f"


def _row(
    op: str,
    row: str,
    reference: Callable[[Any, float, float], Any],
    parameters: Mapping[str, float] | None = None,
    *,
    fixed: Mapping[str, Any] | None = None,
    cost: int = 1,
    kinds: str = "f",
) -> Activation:
    return Activation(row, reference, op, parameters or {}, fixed or {}, cost, kinds)


_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

ACTIVATIONS: dict[str, Activation] = {
    "Relu": _row("Relu", "relu", lambda x, a, b: _positive_part(x), kinds="fi"),
    "LeakyRelu": _row("LeakyRelu", "leaky_relu", lambda x, a, b: np.where(x < 0, a * x, x), {"alpha": 0.01}, cost=2),
    "Clip": _row("Clip", "clip", _clip, {"min": -math.inf, "max": math.inf}, cost=2, kinds="fiu"),
    "Elu": _row("Elu", "elu", lambda x, a, b: _elu(x, a), {"alpha": 1.0}, cost=12),
    "Selu": _row("Selu", "selu", lambda x, a, b: b * _elu(x, a), _SELU, cost=13),
    "Celu": _row("Celu", "celu", lambda x, a, b: _celu(x, a), {"alpha": 1.0}, cost=13),
    "Sigmoid": _row("Sigmoid", "sigmoid", lambda x, a, b: sigmoid(x), cost=12),
    "HardSigmoid": _row("HardSigmoid", "hard_sigmoid", _hard, {"alpha": 0.2, "beta": 0.5}, cost=3),
    "HardSwish": _row("HardSwish", "hard_swish", lambda x, a, b: x * _hard(x, 1 / 6, 0.5), cost=4),
    "Tanh": _row("Tanh", "tanh", lambda x, a, b: np.tanh(x), cost=12),
    "Softplus": _row("Softplus", "softplus", lambda x, a, b: softplus(x), cost=20),
    "Softsign": _row("Softsign", "softsign", lambda x, a, b: x / (1 + np.abs(x)), cost=6),
    "Gelu": _row("Gelu", "gelu", lambda x, a, b: _gelu(x), fixed={"approximate": "none"}, cost=16),
    "GeluTanh": _row("Gelu", "gelu_tanh", lambda x, a, b: _gelu_tanh(x), fixed={"approximate": "tanh"}, cost=16),
    "Silu": _row("Swish", "silu", lambda x, a, b: x * sigmoid(x), fixed={"alpha": 1.0}, cost=13),
    "Swish": _row("Swish", "swish", lambda x, a, b: x * sigmoid(a * x), {"alpha": 1.0}, cost=14),
    "Mish": _row("Mish", "mish", lambda x, a, b: x * np.tanh(softplus(x)), cost=20),
    "Exp": _row("Exp", "exp", lambda x, a, b: np.exp(x), cost=10),
    "Log": _row("Log", "log", lambda x, a, b: np.log(x), cost=12),
    "Sqrt": _row("Sqrt", "sqrt", lambda x, a, b: np.sqrt(x), cost=4),
    "Reciprocal": _row("Reciprocal", "reciprocal", lambda x, a, b: 1 / x, cost=4),
    "Erf": _row("Erf", "erf", lambda x, a, b: erf(x), cost=14, kinds="fiu"),
    "Abs": _row("Abs", "abs", lambda x, a, b: np.abs(x), kinds="fiu"),
    "Neg": _row("Neg", "neg", lambda x, a, b: -x, kinds="fi"),
    "Floor": _row("Floor", "floor", lambda x, a, b: np.floor(x)),
    "Ceil": _row("Ceil", "ceil", lambda x, a, b: np.ceil(x)),
    "Round": _row("Round", "round", lambda x, a, b: np.rint(x)),
}
"""The value of the `activation` attribute of fused operators -> what it means. The rows are unary.def's."""


def activate(name: str, x: Array, alpha: float = 0.0, beta: float = 0.0) -> Array:
    """The activation of that name, "" for none.

    Raises
    ------
    GraphError
        There is none.
    """
    if not name:
        return x
    if name not in ACTIVATIONS:
        raise GraphError(f"unknown activation {name!r}", expected=f"one of {', '.join(ACTIVATIONS)}")
    with np.errstate(all="ignore"):
        return np.asarray(ACTIVATIONS[name].reference(x, alpha, beta), dtype=x.dtype)


def _match(op: str, attributes: Attributes) -> tuple[str, float, float] | None:
    # Rows with fixed attributes are more special than those without: Swish with alpha = 1 is Silu.
    rows = sorted((a for a in ACTIVATIONS.items() if a[1].op == op), key=lambda row: not row[1].fixed)
    for name, row in rows:
        if all(attributes.get(k, v) == v for k, v in row.fixed.items()):
            values = [shapes.number({k: attributes.get(k, v)}, k) for k, v in row.parameters.items()]
            alpha, beta = (*values, 0.0, 0.0)[:2]
            return name, alpha, beta
    return None


def activation_of(node: Node, constants: Mapping[str, Array]) -> tuple[str, float, float] | None:
    """How a node would be an epilogue: the attributes `activation`, `alpha` and `beta` of the fused operator.

    Parameters
    ----------
    node
        Any node.
    constants
        The graph's constants, for the bounds of Clip.

    Returns
    -------
    tuple or None
        None where the node is no activation of its input 0, or has bounds that are not constant.
    """
    if node.domain or not node.inputs or not node.inputs[0]:
        return None
    if node.op != "Clip":
        return _match(node.op, node.attributes)
    bounds = [-math.inf, math.inf]
    for k, name in enumerate(node.inputs[1:3]):
        if name:
            if name not in constants or constants[name].size != 1:
                return None
            bounds[k] = float(constants[name].reshape(()))
    return "Clip", bounds[0], bounds[1]


def _register(op: str, kinds: str, attributes: Mapping[str, Any], cases: Sequence[Case]) -> None:
    def infer(bound: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = shapes.required(types, 0, "X", kinds)
        for name, default in attributes.items():
            if isinstance(default, float):
                shapes.number(bound, name)
            else:
                shapes.choice(bound, name, [a.fixed[name] for a in ACTIVATIONS.values() if a.op == op])
        return [shapes.tensor(x.dtype, x.shape)]

    def matched(bound: Attributes) -> tuple[str, float, float]:
        found = _match(op, bound)
        assert found is not None, "infer has checked the attributes"
        return found

    def reference(bound: Attributes, x: Array) -> Array:
        name, alpha, beta = matched(bound)
        return activate(name, x, alpha, beta)

    def lower(ctx: Lowering) -> str | None:
        name, alpha, beta = matched(ctx.attributes)
        row = ACTIVATIONS[name]
        return dtype_reason(ctx) or unary_step(ctx, row.row, alpha, beta, given(ctx), ctx.output(), cost=row.cost)

    operator(
        op,
        infer=infer,
        reference=reference,
        attributes=attributes,
        lower=lower,
        cases=cases,
        elementwise=True,
        strided=True,
    )


_SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 88.0, -88.0, 1e30, -1e30], np.float32)
_HALVES = np.arange(-4, 4.25, 0.25, dtype=np.float32)
_PLAIN = (
    Case(((2, 3, 5),)),
    Case(((),), name="scalar"),
    Case(((0, 4),), name="empty"),
    Case((_HALVES,), name="halves"),
    Case((np.linspace(-20, 20, 67, dtype=np.float32),), name="wide"),
)
_MORE: dict[str, tuple[Case, ...]] = {
    "LeakyRelu": (Case(((3, 7),), {"alpha": 0.3}),),
    "Elu": (Case(((3, 7),), {"alpha": 2.0}),),
    "Selu": (Case(((3, 7),), {"alpha": 2.0, "gamma": 3.0}),),
    "Celu": (Case(((3, 7),), {"alpha": 2.0}),),
    "HardSigmoid": (Case(((3, 7),), {"alpha": 0.5, "beta": 0.25}),),
    "Gelu": (Case(((3, 7),), {"approximate": "tanh"}), Case((_HALVES,), {"approximate": "tanh"})),
    "Swish": (Case(((3, 7),), {"alpha": 1.702}), Case(((3, 7),), {"alpha": 0.0})),
    **{op: (Case((_SPECIAL,), name="special"),) for op in ("Relu", "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt")},
    "Exp": (Case((_SPECIAL,), name="special"),),
    "Tanh": (Case((_SPECIAL,), name="special"),),
    "Sigmoid": (Case((_SPECIAL,), name="special"),),
    "Erf": (Case((_SPECIAL,), name="special"),),
    "Log": (Case((np.array([0.0, 1e-30, 0.5, 1.0, 2.0, 1e30, np.inf, -1.0], np.float32),), name="special"),),
    "Reciprocal": (Case((np.array([0.0, -0.0, np.inf, 3.0, -7.0], np.float32),), name="special"),),
}


def _register_all() -> None:
    by_op: dict[str, list[Activation]] = {}
    for row in ACTIVATIONS.values():
        by_op.setdefault(row.op, []).append(row)
    for op, rows in by_op.items():
        if op == "Clip":
            continue
        attributes: dict[str, Any] = {}
        for row in rows:
            attributes.update({k: v for k, v in row.fixed.items() if k not in attributes})
            attributes.update(row.parameters)
        _register(op, rows[0].kinds, attributes, _PLAIN + _MORE.get(op, ()))


_register_all()


def _infer_clip(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "fiu")
    shapes.same_dtype(types, ("input", "min", "max"))
    for index, name in ((1, "min"), (2, "max")):
        bound = shapes.at(types, index)
        if bound is not None:
            shapes.rank_of(bound, name, 0, 0)
    return [shapes.tensor(x.dtype, x.shape)]


def _clip_reference(attributes: Attributes, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    y = x if low is None else np.maximum(x, low)
    return np.array(y if high is None else np.minimum(y, high), dtype=x.dtype)


def _lower_clip(ctx: Lowering) -> str | None:
    bounds = [-math.inf, math.inf]
    for k in (0, 1):
        if ctx.input(k + 1) is not None:
            value = ctx.constant(k + 1)
            if value is None:
                return f"{('min', 'max')[k]} is not a constant"
            bounds[k] = float(value.reshape(()))
    return dtype_reason(ctx) or unary_step(ctx, "clip", bounds[0], bounds[1], given(ctx), ctx.output(), cost=2)


_LOW, _HIGH = np.float32(-0.5), np.float32(0.75)

operator(
    "Clip",
    infer=_infer_clip,
    reference=_clip_reference,
    arity=(1, 3),
    lower=_lower_clip,
    cases=(
        Case(((3, 5), _LOW, _HIGH), constants=(1, 2)),
        Case(((3, 5), None, _HIGH), constants=(2,), name="max alone"),
        Case(((3, 5), _LOW), constants=(1,), name="min alone"),
        Case(((3, 5),), name="no bounds"),
        Case(((3, 5), _HIGH, _LOW), constants=(1, 2), name="crossed bounds"),
        Case(((0, 5), _LOW, _HIGH), constants=(1, 2), name="empty"),
        Case((np.arange(-5, 6), np.int64(-2), np.int64(3)), constants=(1, 2), name="integers"),
        Case(((3, 5), _LOW, _HIGH), name="bounds from the caller"),
    ),
    elementwise=True,
    strided=True,
)
