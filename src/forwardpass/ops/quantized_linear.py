"""Matrix products and convolutions of integers, exact in int32, and their quantised forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .conv import check_channels, convolve, kernel_of
from .linear import check_bias, matmul_shape
from .quantization import (
    EIGHT_BITS,
    check_parameter,
    check_scalar,
    check_zero_point,
    integer_product,
    one_of,
    requantized,
    scalar,
)
from .registry import Attributes, Constants, Types, operator

__all__ = ["CONVOLUTION", "convolution_shape", "infer_quantized_convolution", "quantized_convolution"]

_INT32 = np.dtype(np.int32)
_FLOAT8 = (dtypes.FLOAT8E4M3FN, dtypes.FLOAT8E4M3FNUZ, dtypes.FLOAT8E5M2, dtypes.FLOAT8E5M2FNUZ)
_SCALES = (np.dtype(np.float32), np.dtype(np.float16), dtypes.BFLOAT16, np.dtype(np.float64))
CONVOLUTION = {**windows.WINDOW, "auto_pad": "NOTSET", "group": 1}
"""Attributes of a convolution, and their defaults."""


def _check_rows(types: Types, index: int, name: str, size: Dim) -> None:
    """Raise GraphError unless a parameter is one element, one per row (or column), or of the operand's rank."""
    found = shapes.at(types, index)
    if found is not None and found.shape is not None and len(found.shape) == 1 and found.shape[0] != 1:
        shapes.unify(size, found.shape[0], f"the rows or columns and the length of input {name}")


def _rows(parameter: Array | None, *, operand: int) -> Any:
    """A parameter of a matrix product's operand as what broadcasts to it: one element, or one per row."""
    if parameter is None:
        return 0
    parameter = dtypes.decode(parameter)
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter[:, None] if parameter.ndim == 1 and operand == 0 else parameter


def _edge(shape: Sequence[Dim] | None, index: int) -> Dim:
    """The rows (-2) or columns (-1) of an operand; None where unknown or where it is a vector."""
    return None if shape is None or len(shape) < 2 else shape[index]


def _infer_matmul_integer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a, b = one_of(types, 0, "A", EIGHT_BITS), one_of(types, 1, "B", EIGHT_BITS)
    check_zero_point(types, 2, "a_zero_point", a.dtype)
    check_zero_point(types, 3, "b_zero_point", b.dtype)
    left, right = shapes.rank_of(a, "A", 1), shapes.rank_of(b, "B", 1)
    _check_rows(types, 2, "a_zero_point", _edge(left, -2))
    _check_rows(types, 3, "b_zero_point", _edge(right, -1))
    return [shapes.tensor(_INT32, matmul_shape(left, right))]


def _matmul_integer(
    attributes: Attributes, a: Array, b: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None
) -> Array:
    left = a.astype(np.int32) - _rows(a_zero_point, operand=0)
    return integer_product(left, b.astype(np.int32) - _rows(b_zero_point, operand=1))


operator("MatMulInteger", infer=_infer_matmul_integer, reference=_matmul_integer, arity=(2, 4))


def _infer_qlinear_matmul(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    allowed = (*EIGHT_BITS, *_FLOAT8)
    a, b = one_of(types, 0, "a", allowed), one_of(types, 3, "b", allowed)
    if (a.dtype in EIGHT_BITS) != (b.dtype in EIGHT_BITS):
        raise GraphError("inputs a and b mix integers and float8", got=f"{a} and {b}")
    y = one_of(types, 7, "y_zero_point", allowed).dtype
    for index, name in ((1, "a_scale"), (4, "b_scale"), (6, "y_scale")):
        one_of(types, index, name, _SCALES)
    check_zero_point(types, 2, "a_zero_point", a.dtype)
    check_zero_point(types, 5, "b_zero_point", b.dtype)
    left, right = shapes.rank_of(a, "a", 1), shapes.rank_of(b, "b", 1)
    for index, name, size in (
        (1, "a_scale", _edge(left, -2)),
        (2, "a_zero_point", _edge(left, -2)),
        (4, "b_scale", _edge(right, -1)),
        (5, "b_zero_point", _edge(right, -1)),
    ):
        _check_rows(types, index, name, size)
    return [shapes.tensor(y, matmul_shape(left, right))]


def _qlinear_matmul(attributes: Attributes, *given: Array) -> Array:
    a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point = given
    dtype = y_zero_point.dtype
    working = np.result_type(np.float32, *(s.dtype for s in (a_scale, b_scale, y_scale) if s.dtype == np.float64))
    scale = _rows(a_scale, operand=0).astype(working) * _rows(b_scale, operand=1).astype(working)
    scale = np.asarray(scale / _rows(y_scale, operand=0).astype(working))
    shift = np.asarray(_rows(y_zero_point, operand=0))
    if a.dtype in EIGHT_BITS:
        left = a.astype(np.int32) - _rows(a_zero_point, operand=0)
        total = integer_product(left, b.astype(np.int32) - _rows(b_zero_point, operand=1))
    else:
        left = dtypes.decode(a) - _rows(a_zero_point, operand=0)
        total = np.matmul(left, dtypes.decode(b) - _rows(b_zero_point, operand=1))
    if dtype in EIGHT_BITS:
        return requantized(total, scale, shift, dtype)
    return dtypes.encode(total.astype(np.float32) * scale + shift, dtype)


operator("QLinearMatMul", infer=_infer_qlinear_matmul, reference=_qlinear_matmul, arity=(8, 8), narrow=True)


def convolution_shape(
    attributes: Attributes, x: tuple[Dim, ...] | None, w: tuple[Dim, ...] | None
) -> tuple[Dim, ...] | None:
    """The shape of a convolution [N, C, *spatial] x [M, C / group, *kernel]; None where the rank is unknown."""
    known = x if x is not None else w
    if known is None:
        return None
    if x is not None and w is not None and len(x) != len(w):
        raise GraphError("inputs x and w differ in rank", expected=str(len(x)), got=str(len(w)))
    rank = len(known) - 2
    outputs, per_group = (None, None) if w is None else (w[0], w[1])
    check_channels(None if x is None else x[1], per_group, outputs, shapes.integer(attributes, "group"))
    kernel = kernel_of(attributes, None if w is None else w[2:], rank)
    out: tuple[Dim, ...] = (None,) * rank
    if kernel is not None:
        out = windows.output_sizes(attributes, (None,) * rank if x is None else x[2:], kernel)
    return (None if x is None else x[0], outputs, *out)


def _integer_convolution(
    attributes: Attributes, x: Array, w: Array, x_zero_point: Array | None, w_zero_point: Array | None
) -> Array:
    """The int32 sums. float64 holds them without rounding; what lies outside of the image counts as x_zero_point."""
    image = x.astype(np.float64) - scalar(x_zero_point)
    shift = 0 if w_zero_point is None else w_zero_point.reshape(-1, *(1,) * (w.ndim - 1))
    total = convolve(attributes, image, w.astype(np.float64) - shift)
    return total.astype(np.int64).astype(np.int32)


def _infer_conv_integer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, w = one_of(types, 0, "x", EIGHT_BITS), one_of(types, 1, "w", EIGHT_BITS)
    check_zero_point(types, 2, "x_zero_point", x.dtype)
    check_zero_point(types, 3, "w_zero_point", w.dtype)
    check_scalar(types, 2, "x_zero_point")
    shape = convolution_shape(attributes, shapes.rank_of(x, "x", 3), shapes.rank_of(w, "w", 3))
    check_parameter(types, 3, "w_zero_point", None if shape is None else shape[1])
    return [shapes.tensor(_INT32, shape)]


def _conv_integer(
    attributes: Attributes, x: Array, w: Array, x_zero_point: Array | None = None, w_zero_point: Array | None = None
) -> Array:
    return _integer_convolution(attributes, x, w, x_zero_point, w_zero_point)


operator("ConvInteger", infer=_infer_conv_integer, reference=_conv_integer, attributes=CONVOLUTION, arity=(2, 4))


def infer_quantized_convolution(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    """The shape rule of QLinearConv."""
    x, w = one_of(types, 0, "x", EIGHT_BITS), one_of(types, 3, "w", EIGHT_BITS)
    y = one_of(types, 7, "y_zero_point", EIGHT_BITS).dtype
    check_zero_point(types, 2, "x_zero_point", x.dtype)
    check_zero_point(types, 5, "w_zero_point", w.dtype)
    for index, name in ((1, "x_scale"), (6, "y_scale")):
        shapes.required(types, index, name, "f")
        check_scalar(types, index, name)
    shapes.required(types, 4, "w_scale", "f")
    check_scalar(types, 2, "x_zero_point")
    check_scalar(types, 7, "y_zero_point")
    shape = convolution_shape(attributes, shapes.rank_of(x, "x", 3), shapes.rank_of(w, "w", 3))
    outputs = None if shape is None else shape[1]
    check_parameter(types, 4, "w_scale", outputs)
    check_parameter(types, 5, "w_zero_point", outputs)
    if shapes.at(types, 8) is not None:
        one_of(types, 8, "B", (_INT32,))
        check_bias(types, 8, outputs)
    return [shapes.tensor(y, shape)]


def quantized_convolution(attributes: Attributes, *given: Array) -> Array:
    """The definition of QLinearConv: int32 sums and bias, times one scale per output channel."""
    x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point = given[:8]
    total = _integer_convolution(attributes, x, w, x_zero_point, w_zero_point)
    channels = (-1, *(1,) * (w.ndim - 2))
    if len(given) > 8 and given[8] is not None:
        total = total + given[8].reshape(channels)
    scale = np.asarray(scalar(x_scale) * w_scale / scalar(y_scale))
    return requantized(total, scale.reshape(channels), np.asarray(scalar(y_zero_point)), y_zero_point.dtype)


operator(
    "QLinearConv",
    infer=infer_quantized_convolution,
    reference=quantized_convolution,
    attributes=CONVOLUTION,
    arity=(8, 9),
)
