"""Products and convolutions of 8-bit integers with floating or quantised results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, TensorType
from .. import shapes
from ..linear import check_bias, matmul_shape
from ..quantization import (
    EIGHT_BITS,
    check_parameter,
    check_scalar,
    check_zero_point,
    dynamic_parameters,
    integer_product,
    one_of,
    requantized,
    rounded,
    scalar,
)
from ..quantized_linear import CONVOLUTION, infer_quantized_convolution, quantized_convolution
from ..registry import Attributes, Constants, Types, operator
from . import DOMAIN

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)


def _infer_gemm(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a, b = one_of(types, 0, "A", EIGHT_BITS), one_of(types, 3, "B", EIGHT_BITS)
    shapes.number(attributes, "alpha")
    left = shapes.rank_of(a, "A", 2, 2) or (None, None)
    right = shapes.rank_of(b, "B", 2, 2) or (None, None)
    rows, k_a = left[::-1] if shapes.flag(attributes, "transA") else left
    k_b, columns = right[::-1] if shapes.flag(attributes, "transB") else right
    shapes.unify(k_a, k_b, "the inner dimensions (K) of A and B")
    for index, name, size in ((1, "a_scale", 1), (4, "b_scale", columns)):
        shapes.required(types, index, name, "f")
        check_parameter(types, index, name, size)
    check_zero_point(types, 2, "a_zero_point", a.dtype)
    check_scalar(types, 2, "a_zero_point")
    check_zero_point(types, 5, "b_zero_point", b.dtype)
    check_parameter(types, 5, "b_zero_point", columns)
    if shapes.at(types, 6) is not None:
        c = one_of(types, 6, "C", (_INT32,))
        full = shapes.broadcast((rows, columns), c.shape)
        if full is not None and (
            len(full) > 2 or any(isinstance(p, int) and p != q for p, q in zip((rows, columns), full))
        ):
            raise GraphError("input C does not broadcast to the product", got=str(c))
    if (shapes.at(types, 7) is None) != (shapes.at(types, 8) is None):
        raise GraphError("inputs y_scale and y_zero_point go together")
    if shapes.at(types, 7) is None:
        return [shapes.tensor(shapes.required(types, 1, "a_scale").dtype, (rows, columns))]
    check_scalar(types, 7, "y_scale")
    check_scalar(types, 8, "y_zero_point")
    return [shapes.tensor(one_of(types, 8, "y_zero_point", EIGHT_BITS).dtype, (rows, columns))]


def _gemm(attributes: Attributes, *given: Array | None) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (*given, *[None] * 3)[:9]
    assert a is not None
    assert a_scale is not None
    assert b is not None
    assert b_scale is not None
    left = a.T if attributes["transA"] else a
    right = b.T if attributes["transB"] else b
    columns = 0 if b_zero is None else b_zero.reshape(-1).astype(np.int32)
    total = integer_product(left.astype(np.int32) - np.int32(scalar(a_zero)), right.astype(np.int32) - columns)
    if c is not None:
        total = total + c
    scale = scalar(a_scale) * b_scale.reshape(-1) * a_scale.dtype.type(attributes["alpha"])
    if y_scale is None or y_zero is None:
        return np.asarray(total.astype(a_scale.dtype) * scale)
    return requantized(total, scale / scalar(y_scale), np.asarray(scalar(y_zero)), y_zero.dtype)


operator(
    "QGemm",
    domain=DOMAIN,
    infer=_infer_gemm,
    reference=_gemm,
    attributes={"alpha": 1.0, "transA": 0, "transB": 0},
    arity=(6, 9),
)


def _column_parameter(types: Types, index: int, name: str, columns: Any) -> None:
    """Raise GraphError unless a parameter of B is one element, one per column, or of B's rank."""
    found = shapes.at(types, index)
    if found is not None and found.shape is not None and found.shape not in ((), (1,)):
        shapes.unify(columns, found.shape[-1], f"the columns of input B and the length of input {name}")


def _product_type(types: Types, a: TensorType, b: TensorType, dtype: np.dtype[Any], bias: int) -> list[TensorType]:
    left, right = shapes.rank_of(a, "A", 1), shapes.rank_of(b, "B", 2)
    check_bias(types, bias, None if right is None else right[-1])
    return [shapes.tensor(dtype, matmul_shape(left, right))]


def _infer_to_float(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a, b = one_of(types, 0, "A", EIGHT_BITS), one_of(types, 1, "B", EIGHT_BITS)
    dtype = shapes.required(types, 2, "a_scale", "f").dtype
    shapes.required(types, 3, "b_scale", "f")
    inner = None if a.shape is None else a.shape[-1]
    columns = None if b.shape is None else b.shape[-1]
    check_parameter(types, 2, "a_scale", inner)
    check_zero_point(types, 4, "a_zero_point", a.dtype)
    check_parameter(types, 4, "a_zero_point", inner)
    check_zero_point(types, 5, "b_zero_point", b.dtype)
    _column_parameter(types, 3, "b_scale", columns)
    _column_parameter(types, 5, "b_zero_point", columns)
    return _product_type(types, a, b, dtype, 6)


def _scaled_product(a: Array, a_scale: Array, b: Array, b_scale: Array, bias: Array | None) -> Array:
    """a and b are integers without their zero points."""
    dtype = a_scale.dtype
    if a_scale.size > 1:  # one per column of A: the scales belong into the sums
        y = np.asarray(np.matmul(a * a_scale.astype(np.float64), b) * b_scale, dtype)
    else:
        y = integer_product(a, b).astype(dtype) * (a_scale.reshape(()) * b_scale)
    return np.asarray(y if bias is None else y + bias, dtype)


def _to_float(attributes: Attributes, *given: Array | None) -> Array:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*given, *[None] * 3)[:7]
    assert a is not None
    assert b is not None
    assert a_scale is not None
    assert b_scale is not None
    left, right = a.astype(np.int32), b.astype(np.int32)
    left = left if a_zero is None else left - a_zero
    right = right if b_zero is None else right - b_zero
    return _scaled_product(left, a_scale, right, b_scale, bias)


operator("MatMulIntegerToFloat", domain=DOMAIN, infer=_infer_to_float, reference=_to_float, arity=(4, 7))


def _infer_dynamic(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a, b = shapes.required(types, 0, "A", "f"), one_of(types, 1, "B", EIGHT_BITS)
    shapes.required(types, 2, "b_scale", "f")
    columns = None if b.shape is None else b.shape[-1]
    _column_parameter(types, 2, "b_scale", columns)
    check_zero_point(types, 3, "b_zero_point", b.dtype)
    _column_parameter(types, 3, "b_zero_point", columns)
    return _product_type(types, a, b, a.dtype, 4)


def _dynamic(
    attributes: Attributes,
    a: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array | None = None,
    bias: Array | None = None,
) -> Array:
    a_scale, a_zero = dynamic_parameters(a)
    left = rounded(a / a_scale, a_zero, a_zero.dtype).astype(np.int32) - a_zero
    right = b.astype(np.int32)
    return _scaled_product(left, a_scale, right if b_zero is None else right - b_zero, b_scale, bias)


operator("DynamicQuantizeMatMul", domain=DOMAIN, infer=_infer_dynamic, reference=_dynamic, arity=(3, 5))


def _infer_conv(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    if not shapes.flag(attributes, "channels_last"):
        return infer_quantized_convolution(attributes, types, constants)
    x = one_of(types, 0, "x", EIGHT_BITS)
    shape = shapes.rank_of(x, "x", 3)
    moved = x if shape is None else TensorType(x.dtype, (shape[0], shape[-1], *shape[1:-1]))
    (y,) = infer_quantized_convolution(attributes, [moved, *types[1:]], constants)
    return [y if y.shape is None else TensorType(y.dtype, (y.shape[0], *y.shape[2:], y.shape[1]))]


def _conv(attributes: Attributes, x: Array, *given: Array) -> Array:
    if not attributes["channels_last"]:
        return quantized_convolution(attributes, x, *given)
    return np.moveaxis(quantized_convolution(attributes, np.moveaxis(x, -1, 1), *given), 1, -1)


operator(
    "QLinearConv",
    domain=DOMAIN,
    infer=_infer_conv,
    reference=_conv,
    attributes={**CONVOLUTION, "channels_last": 0},
    arity=(8, 9),
)
