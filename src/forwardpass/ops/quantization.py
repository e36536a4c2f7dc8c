"""Arithmetic that the quantised operators share: ranges, granularity, rounding, exact products of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import largest, name_of
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .registry import Types

__all__ = [
    "EIGHT_BITS",
    "blocks_fit",
    "check_parameter",
    "check_scalar",
    "check_zero_point",
    "dequantized",
    "dynamic_parameters",
    "integer_product",
    "one_of",
    "range_of",
    "requantized",
    "rounded",
    "scalar",
    "spread",
]

EIGHT_BITS = (np.dtype(np.int8), np.dtype(np.uint8))


def one_of(types: Types, index: int, name: str, allowed: Sequence[np.dtype[Any]]) -> TensorType:
    """The type of an input that must be there, of one of some dtypes."""
    found = shapes.required(types, index, name)
    if found.dtype not in allowed:
        expected = " or ".join(name_of(d) for d in allowed)
        raise GraphError(f"input {name} has the wrong dtype", expected=expected, got=name_of(found.dtype))
    return found


def check_zero_point(types: Types, index: int, name: str, dtype: np.dtype[Any]) -> None:
    """Raise GraphError unless the zero point at that input is absent or of the dtype of what it belongs to."""
    found = shapes.at(types, index)
    if found is not None and shapes.required(types, index, name).dtype != dtype:
        raise GraphError(f"input {name} has the wrong dtype", expected=name_of(dtype), got=name_of(found.dtype))


def check_scalar(types: Types, index: int, name: str) -> None:
    """Raise GraphError unless the input is absent, a scalar or a vector of one element."""
    found = shapes.at(types, index)
    shape = None if found is None else shapes.rank_of(found, name, 0, 1)
    if shape:
        shapes.unify(1, shape[0], f"input {name} must be a scalar: one element and its length")


def check_parameter(types: Types, index: int, name: str, size: Dim) -> None:
    """Raise GraphError unless the input is absent, a scalar, or a vector of one or of `size` elements."""
    found = shapes.at(types, index)
    shape = None if found is None else shapes.rank_of(found, name, 0, 1)
    if shape and shape[0] != 1:
        shapes.unify(size, shape[0], f"input {name} must be a scalar or one per channel: the channels and its length")


def range_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The smallest and largest value of an integer type, narrow ones included."""
    high = int(largest(dtype))
    carrier = dtype[0] if dtype.names else dtype
    return (0 if carrier.kind == "u" else -high - 1), high


def scalar(value: Array | None, absent: float = 0) -> Any:
    """The one element of a per-tensor parameter; `absent` where it is None."""
    return np.int32(absent) if value is None else value.ravel()[0]


def blocks_fit(size: Dim, blocks: Dim, block_size: int) -> bool:
    """Whether a dimension may be cut into so many blocks of that size."""
    if not isinstance(size, int) or not isinstance(blocks, int):
        return True
    return -(-size // block_size) == blocks


def spread(parameter: Array, shape: Sequence[int], axis: int, block_size: int) -> Array:
    """A scale or zero point in a shape that broadcasts to the tensor it belongs to.

    Parameters
    ----------
    parameter
        One element: per tensor. One dimension: per index of `axis`. The tensor's rank: one per block.
    """
    if parameter.size == 1 and parameter.ndim < 2:
        return parameter.reshape(())
    axis = shapes.axis_of(axis, len(shape))
    if block_size:
        return np.repeat(parameter, block_size, axis).take(np.arange(shape[axis]), axis)
    return parameter.reshape([-1 if k == axis else 1 for k in range(len(shape))])


def rounded(values: Array, zero_point: Array | int, dtype: np.dtype[Any]) -> Array:
    """saturate(round(values) + zero_point), ties to even; NaN becomes the smallest value.

    Narrow integers come as int8 or uint8.
    """
    low, high = range_of(dtype)
    # float64 holds every sum of a rounded float32 in range and a zero point; float16 would not.
    whole = np.rint(values).astype(np.float64) + np.asarray(zero_point, np.float64)
    whole = np.clip(np.where(np.isnan(whole), low, whole), low, high)
    return np.asarray(whole.astype(dtype[0] if dtype.names else dtype))


def requantized(total: Array, scale: Array, zero_point: Array, dtype: np.dtype[Any]) -> Array:
    """int32 sums of products, times float32 scales, as a quantised type."""
    values = total.astype(np.float32) * np.asarray(scale, np.float32)
    return rounded(values, zero_point.astype(np.int32), dtype)


def dequantized(values: Array, scale: Array, zero_point: Array | None) -> Array:
    """(values - zero_point) * scale of 8-bit integers with one scale, in the dtype of the scale."""
    centred = values.astype(np.int32) - np.int32(scalar(zero_point))
    return np.asarray(centred.astype(scale.dtype) * scalar(scale))


def integer_product(a: Array, b: Array) -> Array:
    """The int32 matrix product of integers of at most 17 bits; wraps around like int32 sums do.

    It goes through float64: exact below 2^53, and the only product of NumPy's that is vectorised.
    """
    total = np.matmul(a.astype(np.float64), b.astype(np.float64))
    return np.asarray(np.asarray(total).astype(np.int64).astype(np.int32))


def dynamic_parameters(x: Array) -> tuple[Any, Any]:
    """The scale (in the dtype of x) and zero point by which a tensor is quantised to uint8."""
    high = np.maximum(x.max(initial=-np.inf), 0).astype(x.dtype)
    low = np.minimum(x.min(initial=np.inf), 0).astype(x.dtype)
    # All zeros: the text would divide by 0; any scale represents them.
    scale = x.dtype.type(1) if high == low else (high - low) / x.dtype.type(255)
    zero_point = rounded(np.asarray(-low / scale), 0, np.dtype(np.uint8))
    return np.asarray(scale, x.dtype), zero_point
