"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten
from .windows import batched, each, unbatched


def _window(kernel: Any, stride: Any, padding: Any, rank: int) -> dict[str, Any]:
    taps = each(kernel, rank)
    strides = taps if stride is None or stride == [] else each(stride, rank)
    return {"kernel_shape": taps, "strides": strides, "pads": each(padding, rank) * 2}


def _spatial(e: Emitter) -> int:
    """The number of spatial axes, which the operator's name ends with before the `d`."""
    return int(e.op.removesuffix("_with_indices")[-2])


@aten("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    e: Emitter,
    self: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Ref:
    rank = _spatial(e)
    x, alone = batched(e, self, rank)
    window = _window(kernel_size, stride, padding, rank)
    y = e.node("MaxPool", x, **window, dilations=each(dilation, rank), ceil_mode=int(ceil_mode))
    return unbatched(e, y, alone)


@aten("max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool_with_indices(e: Emitter, self: Any, *arguments: Any, **more: Any) -> tuple[Any, ...]:
    return max_pool(e, self, *arguments, **more), None


@aten("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    e: Emitter,
    self: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Ref:
    rank = _spatial(e)
    x, alone = batched(e, self, rank)
    window = _window(kernel_size, stride, padding, rank)
    if divisor_override is not None:
        if ceil_mode:
            raise e.refuse("avg_pool with a divisor and ceil_mode")
        count_include_pad = True
    y = e.node("AveragePool", x, **window, ceil_mode=int(ceil_mode), count_include_pad=int(count_include_pad))
    if divisor_override is not None:
        y = e.node("Mul", y, e.cast(math.prod(window["kernel_shape"]) / divisor_override, e.dtype_of(self)))
    return unbatched(e, y, alone)


def _means(size: int, target: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Row k averages the elements that output k is made of."""
    made = np.zeros((target, size), dtype)
    for k in range(target):
        begin, end = k * size // target, -(-(k + 1) * size // target)
        made[k, begin:end] = 1 / (end - begin)
    return made


@aten(
    *(f"adaptive_avg_pool{k}d" for k in (1, 2, 3)),
    *(f"_adaptive_avg_pool{k}d" for k in (2, 3)),
)
def adaptive_avg_pool(e: Emitter, self: Any, output_size: Any) -> Ref:
    rank = _spatial(e)
    target = each(output_size, rank)
    x, alone = batched(e, self, rank)
    if all(t == 1 for t in target):
        return unbatched(e, e.node("GlobalAveragePool", x), alone)
    sizes = [e.size_of(x, 2 + k) for k in range(rank)]
    target = [s if t is None else t for s, t in zip(sizes, target)]
    if all(s % t == 0 for s, t in zip(sizes, target)):
        taps = [s // t for s, t in zip(sizes, target)]
        y = e.node("AveragePool", x, kernel_shape=taps, strides=taps, pads=[0] * (2 * rank))
        return unbatched(e, y, alone)
    dtype = e.dtype_of(x)
    for k, (size, wanted) in enumerate(zip(sizes, target)):
        axis, last = 2 + k, 1 + rank
        swap = [*range(last + 1)]
        swap[axis], swap[last] = swap[last], swap[axis]
        moved = x if axis == last else e.node("Transpose", x, perm=swap)
        e.fill([size, wanted])
        moved = e.node("MatMul", moved, _means(size, wanted, dtype).T)
        x = moved if axis == last else e.node("Transpose", moved, perm=swap)
    return unbatched(e, x, alone)


@aten("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(e: Emitter, self: Any, output_size: Any) -> tuple[Any, ...]:
    rank = _spatial(e)
    target = each(output_size, rank)
    x, alone = batched(e, self, rank)
    sizes = [e.size_of(x, 2 + k) for k in range(rank)]
    if any(s % t for s, t in zip(sizes, target)):
        raise e.refuse("adaptive_max_pool whose windows differ", f"{sizes} to {target}")
    taps = [s // t for s, t in zip(sizes, target)]
    return unbatched(e, e.node("MaxPool", x, kernel_shape=taps, strides=taps), alone), None
