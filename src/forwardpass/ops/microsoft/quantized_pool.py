"""Means of 8-bit integers: pools and reductions with a scale of input and output."""

from __future__ import annotations

import math

import numpy as np

from ...errors import GraphError
from ...graph import Array, TensorType
from .. import shapes, windows
from ..pool import average_pool
from ..quantization import dequantized, requantized, scalar
from ..registry import REQUIRED, Attributes, Constants, Types, operator
from . import DOMAIN
from .quantized_elementwise import check_quantized, check_scale, quantized


def _infer_global(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = check_quantized(types, 0, "X")
    check_scale(types, 3, "Y", x.dtype)
    last = shapes.flag(attributes, "channels_last")
    shape = shapes.rank_of(x, "X", 3)
    if shape is None:
        return [TensorType(x.dtype, None)]
    if 0 in (shape[1:-1] if last else shape[2:]):
        raise GraphError("the image has no pixels", expected="at least one", got=str(x))
    ones = (1,) * (len(shape) - 2)
    return [shapes.tensor(x.dtype, (shape[0], *ones, shape[-1]) if last else (*shape[:2], *ones))]


def _global(attributes: Attributes, x: Array, *given: Array | None) -> Array:
    x_scale, x_zero, y_scale, y_zero = (*given, None)[:4]
    axes = tuple(range(1, x.ndim - 1) if attributes["channels_last"] else range(2, x.ndim))
    count = math.prod(x.shape[a] for a in axes)
    total = x.sum(axis=axes, keepdims=True, dtype=np.int64) - np.int64(scalar(x_zero)) * count
    scale = np.asarray(scalar(x_scale) / (scalar(y_scale) * np.float32(count)))
    return requantized(total, scale, np.asarray(scalar(y_zero)), x.dtype)


operator(
    "QLinearGlobalAveragePool",
    domain=DOMAIN,
    infer=_infer_global,
    reference=_global,
    attributes={"channels_last": 0},
    arity=(2, 5),
)


def _infer_average(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = check_quantized(types, 0, "X")
    check_scale(types, 3, "Y", x.dtype)
    last = shapes.flag(attributes, "channels_last")
    ceil_mode = shapes.flag(attributes, "ceil_mode")
    shapes.flag(attributes, "count_include_pad")
    shape = shapes.rank_of(x, "X", 3)
    if shape is None:
        return [TensorType(x.dtype, None)]
    spatial = shape[1:-1] if last else shape[2:]
    kernel = shapes.integers(attributes, "kernel_shape", len(spatial), least=1)
    out = windows.output_sizes(attributes, spatial, kernel, ceil_mode=ceil_mode)
    return [shapes.tensor(x.dtype, (shape[0], *out, shape[-1]) if last else (*shape[:2], *out))]


def _average(attributes: Attributes, x: Array, *given: Array | None) -> Array:
    x_scale, x_zero, y_scale, y_zero = (*given, None)[:4]
    assert x_scale is not None
    values = dequantized(x, x_scale, x_zero)
    if attributes["channels_last"]:
        y = np.moveaxis(average_pool(attributes, np.moveaxis(values, -1, 1)), 1, -1)
    else:
        y = average_pool(attributes, values)
    return quantized(y, y_scale, y_zero, x.dtype)


operator(
    "QLinearAveragePool",
    domain=DOMAIN,
    infer=_infer_average,
    reference=_average,
    attributes={
        **windows.WINDOW,
        "kernel_shape": REQUIRED,
        "auto_pad": "NOTSET",
        "ceil_mode": 0,
        "count_include_pad": 0,
        "channels_last": 0,
    },
    arity=(2, 5),
)


def _infer_mean(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = check_quantized(types, 0, "data")
    check_scale(types, 3, "reduced", x.dtype)
    keep = shapes.flag(attributes, "keepdims")
    axes = shapes.integers(attributes, "axes")
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    gone = set(shapes.axes_of(axes, len(x.shape)))
    if any(x.shape[a] == 0 for a in gone):
        raise GraphError("the mean of no integers is undefined", got=str(x))
    kept = [1 if k in gone else d for k, d in enumerate(x.shape) if keep or k not in gone]
    return [shapes.tensor(x.dtype, kept)]


def _mean(attributes: Attributes, x: Array, *given: Array | None) -> Array:
    x_scale, x_zero, y_scale, y_zero = (*given, None)[:4]
    assert x_scale is not None
    axes = tuple(shapes.axes_of(attributes["axes"], x.ndim))
    mean = dequantized(x, x_scale, x_zero).mean(axis=axes, keepdims=bool(attributes["keepdims"]))
    return quantized(np.asarray(mean), y_scale, y_zero, x.dtype)


operator(
    "QLinearReduceMean",
    domain=DOMAIN,
    infer=_infer_mean,
    reference=_mean,
    attributes={"axes": REQUIRED, "keepdims": REQUIRED},
    arity=(2, 5),
)
