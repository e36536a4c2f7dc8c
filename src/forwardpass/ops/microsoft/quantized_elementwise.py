"""Element-wise operators, Softmax, Concat and Where on 8-bit integers: dequantise, calculate, quantise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..activations import sigmoid
from ..quantization import EIGHT_BITS, check_scalar, check_zero_point, dequantized, one_of, range_of, rounded, scalar
from ..registry import REQUIRED, Attributes, Constants, Types, operator
from . import DOMAIN

__all__ = ["check_quantized", "quantized"]


def check_quantized(types: Types, place: int, name: str) -> TensorType:
    """The type of an 8-bit tensor, after which come its scale and its zero point: scalars."""
    x = one_of(types, place, name, EIGHT_BITS)
    check_scale(types, place + 1, name, x.dtype)
    return x


def check_scale(types: Types, place: int, name: str, dtype: np.dtype[Any]) -> None:
    """Raise GraphError unless a scale and perhaps a zero point of that dtype are there, both scalars."""
    shapes.required(types, place, f"scale of {name}", "f")
    check_scalar(types, place, f"scale of {name}")
    check_zero_point(types, place + 1, f"zero point of {name}", dtype)
    check_scalar(types, place + 1, f"zero point of {name}")


def quantized(values: Array, scale: Array | None, zero_point: Array | None, dtype: np.dtype[Any]) -> Array:
    """Numbers as an 8-bit type with one scale."""
    return rounded(np.asarray(values / scalar(scale)), scalar(zero_point), dtype)


def _infer_binary(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a, b = check_quantized(types, 0, "A"), check_quantized(types, 3, "B")
    check_zero_point(types, 3, "B", a.dtype)
    check_scale(types, 6, "C", a.dtype)
    return [shapes.tensor(a.dtype, shapes.broadcast(a.shape, b.shape))]


def _binary(function: Callable[[Array, Array], Any]) -> Callable[..., Array]:
    def reference(attributes: Attributes, *given: Any) -> Array:
        a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = (*given, None)[:8]
        y = function(dequantized(a, a_scale, a_zero), dequantized(b, b_scale, b_zero))
        return quantized(np.asarray(y), c_scale, c_zero, a.dtype)

    return reference


operator("QLinearAdd", domain=DOMAIN, infer=_infer_binary, reference=_binary(np.add), arity=(2, 8))
operator("QLinearMul", domain=DOMAIN, infer=_infer_binary, reference=_binary(np.multiply), arity=(2, 8))


def _infer_unary(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = check_quantized(types, 0, "X")
    check_scale(types, 3, "Y", x.dtype)
    if "alpha" in attributes:
        shapes.number(attributes, "alpha")
    return [x]


def _mapped(function: Callable[[Array], Any], x: Array, *given: Array | None) -> Array:
    """Of 8 bits there are 256: the function is evaluated once for each, then looked up."""
    x_scale, x_zero, y_scale, y_zero = (*given, None)[:4]
    assert x_scale is not None
    low, high = range_of(x.dtype)
    table = quantized(
        np.asarray(function(dequantized(np.arange(low, high + 1), x_scale, x_zero))), y_scale, y_zero, x.dtype
    )
    return np.asarray(table[x.astype(np.int32) - low])


def _leaky_relu(attributes: Attributes, *given: Any) -> Array:
    def function(x: Array) -> Array:
        return np.where(x >= 0, x, x * x.dtype.type(attributes["alpha"]))

    return _mapped(function, *given)


operator(
    "QLinearSigmoid",
    domain=DOMAIN,
    infer=_infer_unary,
    reference=lambda attributes, *given: _mapped(sigmoid, *given),
    arity=(2, 5),
)
operator(
    "QLinearLeakyRelu",
    domain=DOMAIN,
    infer=_infer_unary,
    reference=_leaky_relu,
    attributes={"alpha": 0.01},
    arity=(2, 5),
)


def _infer_softmax(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    (y,) = _infer_unary(attributes, types, constants)
    if shapes.integer(attributes, "opset") < 1:
        raise GraphError("attribute 'opset' is wrong", expected="at least 1", got=str(attributes["opset"]))
    axis = shapes.integer(attributes, "axis")
    if y.shape is not None:
        shapes.axis_of(axis, len(y.shape))
    return [y]


def _softmax(attributes: Attributes, x: Array, x_scale: Array, x_zero: Array | None, *given: Array | None) -> Array:
    y_scale, y_zero = (*given, None)[:2]
    axis = shapes.axis_of(attributes["axis"], x.ndim)
    # Before opset 13 Softmax ran over all dimensions from `axis` on.
    axes = tuple(range(axis, x.ndim)) if attributes["opset"] < 13 else axis
    values = dequantized(x, x_scale, x_zero)
    exponents = np.exp(values - values.max(axis=axes, keepdims=True, initial=-np.inf))
    return quantized(exponents / exponents.sum(axis=axes, keepdims=True), y_scale, y_zero, x.dtype)


operator(
    "QLinearSoftmax",
    domain=DOMAIN,
    infer=_infer_softmax,
    reference=_softmax,
    attributes={"axis": -1, "opset": REQUIRED},
    arity=(2, 5),
)


def _joined(parts: Sequence[tuple[Dim, ...] | None], axis: int) -> tuple[Dim, ...] | None:
    """The shape of tensors concatenated along an axis."""
    known = [p for p in parts if p is not None]
    if not known:
        return None
    rank = len(known[0])
    axis = shapes.axis_of(axis, rank)
    if any(len(p) != rank for p in known):
        raise GraphError("the inputs differ in rank", got=", ".join(shapes.describe(p) for p in known))
    out: list[Dim] = list(known[0])
    for p in known[1:]:
        out = [
            d if k == axis else shapes.unify(d, e, "the sizes of the inputs") for k, (d, e) in enumerate(zip(out, p))
        ]
    sizes = [None if p is None else p[axis] for p in parts]
    out[axis] = sum(d for d in sizes if isinstance(d, int)) if all(isinstance(d, int) for d in sizes) else None
    return tuple(out)


def _infer_concat(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    y = one_of(types, 1, "Y_zero_point", EIGHT_BITS)
    check_scale(types, 0, "Y", y.dtype)
    if len(types) % 3 != 2:
        raise GraphError("the inputs are no triples of tensor, scale and zero point", got=f"{len(types)} inputs")
    parts = []
    for place in range(2, len(types), 3):
        part = check_quantized(types, place, f"{place}")
        check_zero_point(types, place, f"{place}", y.dtype)
        parts.append(part.shape)
    return [shapes.tensor(y.dtype, _joined(parts, shapes.integer(attributes, "axis")))]


def _concat(attributes: Attributes, y_scale: Array, y_zero: Array, *given: Array) -> Array:
    parts = [_mapped(lambda x: x, *given[place : place + 3], y_scale, y_zero) for place in range(0, len(given), 3)]
    return np.concatenate(parts, attributes["axis"])


operator(
    "QLinearConcat",
    domain=DOMAIN,
    infer=_infer_concat,
    reference=_concat,
    attributes={"axis": REQUIRED},
    arity=(5, None),
)


def _infer_where(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    condition = shapes.required(types, 0, "condition", "b")
    x, y = check_quantized(types, 1, "X"), check_quantized(types, 4, "Y")
    check_zero_point(types, 4, "Y", x.dtype)
    check_scale(types, 7, "Z", x.dtype)
    return [shapes.tensor(x.dtype, shapes.broadcast(condition.shape, shapes.broadcast(x.shape, y.shape)))]


def _where(attributes: Attributes, condition: Array, *given: Array) -> Array:
    scale, zero_point = given[6], given[7]
    x = _mapped(lambda v: v, *given[0:3], scale, zero_point)
    return np.where(condition, x, _mapped(lambda v: v, *given[3:6], scale, zero_point))


operator("QLinearWhere", domain=DOMAIN, infer=_infer_where, reference=_where, arity=(9, 9))
