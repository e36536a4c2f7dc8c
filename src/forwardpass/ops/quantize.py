"""Conversion between numbers and their quantised forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .quantization import blocks_fit, dynamic_parameters, one_of, rounded, spread
from .registry import Attributes, Constants, Types, operator

__all__ = ["check_granularity", "dequantize", "quantize"]

_FLOAT8 = (dtypes.FLOAT8E4M3FN, dtypes.FLOAT8E4M3FNUZ, dtypes.FLOAT8E5M2, dtypes.FLOAT8E5M2FNUZ)
_INTEGERS = tuple(dtypes.DTYPES[k] for k in (2, 3, 4, 5, 21, 22, 25, 26))
_QUANTIZED = (*_INTEGERS, *_FLOAT8, dtypes.FLOAT4E2M1, dtypes.FLOAT6E2M3, dtypes.FLOAT6E3M2)
# float64 is none of the standard's; graphs are evaluated in it for a reference more exact than their own.
_NUMBERS = tuple(dtypes.DTYPES[k] for k in (1, 10, 16, 11))
_INT32 = np.dtype(np.int32)


def _dtype(attributes: Attributes, name: str, allowed: Sequence[np.dtype[Any]]) -> np.dtype[Any] | None:
    """The dtype that an attribute names; None where it is 0, which stands for absent."""
    code = shapes.integer(attributes, name)
    if code == 0:
        return None
    found = dtypes.DTYPES.get(code)
    if found is None or found not in allowed:
        expected = "the number of " + ", ".join(dtypes.name_of(d) for d in allowed)
        raise GraphError(f"attribute {name!r} is wrong", expected=expected, got=str(code))
    return found


def _check_blocks(x: Sequence[Dim], scale: Sequence[Dim], axis: int, block_size: int, name: str) -> None:
    if len(scale) != len(x):
        expected = f"the rank of the tensor, {len(x)}, for blocks of {block_size}"
        raise GraphError(f"input {name} has the wrong rank", expected=expected, got=shapes.describe(scale))
    axis = shapes.axis_of(axis, len(x))
    for k, (size, count) in enumerate(zip(x, scale)):
        if k != axis:
            shapes.unify(size, count, f"dimension {k} of the tensor and of input {name}")
        elif not blocks_fit(size, count, block_size):
            raise GraphError(
                f"input {name} does not have one element per block",
                expected=f"{size} / {block_size} rounded up along axis {axis}",
                got=str(count),
            )


def check_granularity(types: Types, axis: int, block_size: int, names: tuple[str, str]) -> None:
    """Raise GraphError unless the scale (input 1) and the zero point (input 2) fit the tensor (input 0)."""
    if block_size < 0:
        raise GraphError("attribute 'block_size' is wrong", expected="at least 0", got=str(block_size))
    x = shapes.required(types, 0, "x").shape
    scale = shapes.required(types, 1, names[0]).shape
    zero_point = shapes.at(types, 2)
    if scale is not None and x is not None and scale not in ((), (1,)):
        if block_size:
            _check_blocks(x, scale, axis, block_size, names[0])
        else:
            shapes.rank_of(types[1], names[0], 0, 1)  # type: ignore[arg-type]
            if scale[0] is not None and not isinstance(scale[0], str):
                along = x[shapes.axis_of(axis, len(x))]
                shapes.unify(along, scale[0], f"the tensor's size along the axis and the length of {names[0]}")
    if zero_point is not None and zero_point.shape is not None and scale is not None:
        same = len(scale) == len(zero_point.shape) or {scale, zero_point.shape} <= {(), (1,)}
        if not same:
            raise GraphError(
                f"inputs {names[0]} and {names[1]} differ in shape",
                expected=shapes.describe(scale),
                got=shapes.describe(zero_point.shape),
            )
        for a, b in zip(scale, zero_point.shape):
            shapes.unify(a, b, f"the sizes of inputs {names[0]} and {names[1]}")


def _infer_quantize(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = one_of(types, 0, "x", (*_NUMBERS, _INT32))
    one_of(types, 1, "y_scale", (*_NUMBERS, _INT32, dtypes.FLOAT8E8M0))
    shapes.flag(attributes, "saturate")
    _dtype(attributes, "precision", _NUMBERS)
    asked = _dtype(attributes, "output_dtype", _QUANTIZED)
    given = None if shapes.at(types, 2) is None else one_of(types, 2, "y_zero_point", _QUANTIZED).dtype
    if asked is not None and given is not None and asked != given:
        raise GraphError(
            "attribute 'output_dtype' is not the dtype of input y_zero_point",
            expected=dtypes.name_of(given),
            got=dtypes.name_of(asked),
        )
    axis, block_size = shapes.integer(attributes, "axis"), shapes.integer(attributes, "block_size")
    check_granularity(types, axis, block_size, ("y_scale", "y_zero_point"))
    return [TensorType(given or asked or np.dtype(np.uint8), x.shape)]


def _in(array: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers rounded to a floating dtype; those of a narrow one are carried by float32."""
    if dtypes.is_narrow(dtype):
        return dtypes.decode(dtypes.encode(array, dtype))
    return dtypes.decode(array).astype(dtype)


def _quotient(x: Array, scale: Array, precision: np.dtype[Any]) -> Array:
    if precision == _INT32:  # exact quotients: those of int32 values need more than float32
        return np.asarray(dtypes.decode(x).astype(np.float64) / scale)
    if precision == dtypes.FLOAT8E8M0:  # powers of two: the division is exact
        return np.asarray(dtypes.decode(x).astype(np.float32) / dtypes.decode(scale))
    quotient = np.asarray(_in(x, precision) / _in(scale, precision))
    return _in(quotient, precision) if dtypes.is_narrow(precision) else quotient


def quantize(attributes: Attributes, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    """The definition of QuantizeLinear."""
    dtype = _dtype(attributes, "output_dtype", _QUANTIZED) or np.dtype(np.uint8)
    dtype = dtype if zero_point is None else zero_point.dtype
    precision = _dtype(attributes, "precision", _NUMBERS) or scale.dtype
    place = (x.shape, attributes["axis"], attributes["block_size"])
    quotient = _quotient(x, spread(scale, *place), precision)
    shift = None if zero_point is None else spread(dtypes.decode(zero_point), *place)
    if dtype in _INTEGERS:
        whole = rounded(quotient, 0 if shift is None else shift, dtype)
        return dtypes.encode(whole, dtype) if dtypes.is_narrow(dtype) else whole
    return dtypes.encode(quotient if shift is None else quotient + shift, dtype, saturate=bool(attributes["saturate"]))


operator(
    "QuantizeLinear",
    infer=_infer_quantize,
    reference=quantize,
    attributes={"axis": 1, "saturate": 1, "block_size": 0, "output_dtype": 0, "precision": 0},
    arity=(2, 3),
    narrow=True,
)


def _infer_dequantize(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = one_of(types, 0, "x", (*_QUANTIZED, _INT32))
    scale = one_of(types, 1, "x_scale", (*_NUMBERS, dtypes.FLOAT8E8M0)).dtype
    if shapes.at(types, 2) is not None:
        one_of(types, 2, "x_zero_point", (x.dtype,))
    dtype = _dtype(attributes, "output_dtype", _NUMBERS) or scale
    if dtype == dtypes.FLOAT8E8M0:
        raise GraphError(
            "attribute 'output_dtype' is missing", expected="the output's dtype where the scale is float8_e8m0fnu"
        )
    axis, block_size = shapes.integer(attributes, "axis"), shapes.integer(attributes, "block_size")
    check_granularity(types, axis, block_size, ("x_scale", "x_zero_point"))
    return [TensorType(dtype, x.shape)]


def dequantize(attributes: Attributes, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    """The definition of DequantizeLinear: computed in float32 at least, then rounded once."""
    dtype = _dtype(attributes, "output_dtype", _NUMBERS) or scale.dtype
    working = np.dtype(np.float64 if np.float64 in (dtype, scale.dtype) else np.float32)
    place = (x.shape, attributes["axis"], attributes["block_size"])
    values = dtypes.decode(x)
    if zero_point is not None:
        shift = spread(dtypes.decode(zero_point), *place)
        # The difference of two int32 needs 33 bits.
        exact = np.float32 if values.dtype.kind == "f" else np.int64 if values.dtype == _INT32 else np.int32
        values = values.astype(exact) - shift.astype(exact)
    y = np.asarray(values.astype(working) * spread(dtypes.decode(scale), *place).astype(working))
    return dtypes.encode(y, dtype) if dtypes.is_narrow(dtype) else y.astype(dtype)


operator(
    "DequantizeLinear",
    infer=_infer_dequantize,
    reference=dequantize,
    attributes={"axis": 1, "block_size": 0, "output_dtype": 0},
    arity=(2, 3),
    narrow=True,
)


def _infer_dynamic(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = one_of(types, 0, "x", tuple(np.dtype(d) for d in (np.float32, np.float64)))
    uint8 = np.dtype(np.uint8)
    return [TensorType(uint8, x.shape), TensorType(x.dtype, ()), TensorType(uint8, ())]


def _dynamic(attributes: Attributes, x: Array) -> tuple[Array, Array, Array]:
    scale, zero_point = dynamic_parameters(x)
    return rounded(x / scale, zero_point, zero_point.dtype), scale, zero_point


operator("DynamicQuantizeLinear", infer=_infer_dynamic, reference=_dynamic)
