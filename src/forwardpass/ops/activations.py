"""The table of the functions of one operand that kernels have: each is an operator, and can be an epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16
from ..errors import GraphError, suggest
from ..graph import Array, Node
from ..records import field, record
from . import shapes
from .numeric import FLOATS, NUMBERS, SIGNED, DTypes, widened
from .registry import Attributes

__all__ = ["ACTIVATIONS", "Activation", "activate", "activation_of", "match"]

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


def _shrink(x: Array, bias: float, threshold: float) -> Array:
    # Without a bias 64-bit integers need no detour through floating point.
    below, above = (x + bias, x - bias) if bias else (x, x)
    return np.where(x < -threshold, below, np.where(x > threshold, above, 0))


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
    dtypes
        What the operator takes.
    """

    row: str
    reference: Callable[[Any, float, float], Any]
    op: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    cost: int = 1
    dtypes: DTypes = FLOATS


def _row(
    op: str,
    row: str,
    reference: Callable[[Any, float, float], Any],
    parameters: Mapping[str, float] | None = None,
    *,
    fixed: Mapping[str, Any] | None = None,
    cost: int = 1,
    dtypes: DTypes = FLOATS,
) -> Activation:
    return Activation(row, reference, op, parameters or {}, fixed or {}, cost, dtypes)


_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

ACTIVATIONS: dict[str, Activation] = {
    "Relu": _row("Relu", "relu", lambda x, a, b: _positive_part(x), dtypes=FLOATS | SIGNED),
    "LeakyRelu": _row("LeakyRelu", "leaky_relu", lambda x, a, b: np.where(x < 0, a * x, x), {"alpha": 0.01}, cost=2),
    "Clip": _row("Clip", "clip", _clip, {"min": -math.inf, "max": math.inf}, cost=2, dtypes=NUMBERS),
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
    # Opset 9 had it for integers too.
    "Erf": _row("Erf", "erf", lambda x, a, b: erf(x), cost=14, dtypes=NUMBERS),
    "Abs": _row("Abs", "abs", lambda x, a, b: np.abs(x), dtypes=NUMBERS),
    "Neg": _row("Neg", "neg", lambda x, a, b: -x, dtypes=FLOATS | SIGNED),
    "Floor": _row("Floor", "floor", lambda x, a, b: np.floor(x)),
    "Ceil": _row("Ceil", "ceil", lambda x, a, b: np.ceil(x)),
    "Round": _row("Round", "round", lambda x, a, b: np.rint(x)),
    "Sign": _row("Sign", "sign", lambda x, a, b: np.sign(x), dtypes=NUMBERS),
    "Shrink": _row("Shrink", "shrink", _shrink, {"bias": 0.0, "lambd": 0.5}, cost=4, dtypes=NUMBERS - {BFLOAT16}),
    "ThresholdedRelu": _row(
        "ThresholdedRelu", "thresholded_relu", lambda x, a, b: np.where(x > a, x, x.dtype.type(0)), {"alpha": 1.0}
    ),
    "Sin": _row("Sin", "sin", lambda x, a, b: np.sin(x), cost=32),
    "Cos": _row("Cos", "cos", lambda x, a, b: np.cos(x), cost=32),
    "Tan": _row("Tan", "tan", lambda x, a, b: np.tan(x), cost=36),
    "Asin": _row("Asin", "asin", lambda x, a, b: np.arcsin(x), cost=16),
    "Acos": _row("Acos", "acos", lambda x, a, b: np.arccos(x), cost=16),
    "Atan": _row("Atan", "atan", lambda x, a, b: np.arctan(x), cost=16),
    "Sinh": _row("Sinh", "sinh", lambda x, a, b: np.sinh(x), cost=24),
    "Cosh": _row("Cosh", "cosh", lambda x, a, b: np.cosh(x), cost=18),
    "Asinh": _row("Asinh", "asinh", lambda x, a, b: np.arcsinh(x), cost=36),
    "Acosh": _row("Acosh", "acosh", lambda x, a, b: np.arccosh(x), cost=36),
    "Atanh": _row("Atanh", "atanh", lambda x, a, b: np.arctanh(x), cost=28),
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
        hint = suggest(name, ACTIVATIONS)
        raise GraphError(f"unknown activation {name!r}", expected=f"one of {', '.join(ACTIVATIONS)}", hint=hint)
    with np.errstate(all="ignore"):
        return np.asarray(ACTIVATIONS[name].reference(widened(x), alpha, beta), dtype=x.dtype)


def match(op: str, attributes: Attributes) -> tuple[str, float, float] | None:
    """The name in `ACTIVATIONS`, alpha and beta of an operator with these attributes; None where it has no row."""
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
        return match(node.op, node.attributes)
    bounds = [-math.inf, math.inf]
    for k, name in enumerate(node.inputs[1:3]):
        if name:
            if name not in constants or constants[name].size != 1:
                return None
            bounds[k] = float(constants[name].reshape(()))
    return "Clip", bounds[0], bounds[1]
