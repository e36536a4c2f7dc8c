"""Lowerings of what runs along one axis: ArgMax, ArgMin, Hardmax, TopK, CumSum, CumProd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from . import shapes
from .lower import GRAIN, TOO_MANY, dtype_reason, given, space
from .lower_typed import Lower, cast_step, kernel_type, pair_step
from .registry import Lowering, Tensor

__all__ = ["lower_arg", "lower_cumulative", "lower_hardmax", "lower_top_k"]

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


def _without(values: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return values[:axis] + values[axis + 1 :]


def _rows(x: Tensor, y: Tensor, axis: int) -> tuple[dict[str, Any] | None, int]:
    """The space of the other dimensions of two tensors of equal rank, and how many rows it has."""
    others = _without(x.shape, axis)
    fields = space(("in_stride", "out_stride"), others, _without(x.strides, axis), _without(y.strides, axis))
    return fields, math.prod(others)


def _with_axis(tensor: Tensor, axis: int, rank: int) -> Tensor:
    """The result of a reduction with the reduced axis as 1, where it was dropped."""
    if len(tensor.shape) == rank:
        return tensor
    shape, strides = list(tensor.shape), list(tensor.strides)
    shape.insert(axis, 1)
    strides.insert(axis, 0)
    return Tensor(tensor.buffer, tuple(shape), tuple(strides), tensor.offset)


def _arg_step(ctx: Lowering, kernel: str, element: str, x: Tensor, y: Tensor, axis: int, last: bool) -> str | None:
    fields, rows = _rows(x, y, axis)
    if fields is None:
        return TOO_MANY
    if x.shape[axis] >= 2**31:
        return "more elements than a 32-bit index counts"
    params = {"type": element, "length": x.shape[axis], "axis_stride": x.strides[axis], "last": int(last), **fields}
    grain = 1 if x.strides[axis] == 1 else GRAIN
    ctx.step(kernel, params, [x], y, units=rows if x.size else 0, grain=grain, flops=2 * x.size)
    return None


def lower_arg(kernel: str) -> Lower:
    """ArgMax and ArgMin of elements of any type."""

    def lower(ctx: Lowering) -> str | None:
        element, x = kernel_type(ctx, 0), given(ctx)
        if not element:
            return "no kernel orders this dtype"
        axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
        y = _with_axis(ctx.output(), axis, len(x.shape))
        return _arg_step(ctx, kernel, element, x, y, axis, bool(ctx.attributes["select_last_index"]))

    return lower


def lower_hardmax(ctx: Lowering) -> str | None:
    """1 where the index along the axis is that of the largest element, else 0."""
    reason = dtype_reason(ctx)
    if reason:
        return reason
    x, y = given(ctx), ctx.output()
    axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
    size = x.shape[axis]
    best = ctx.temporary((*x.shape[:axis], 1, *x.shape[axis + 1 :]), _INT64)
    column = (size, *(1,) * (len(x.shape) - axis - 1))
    places = ctx.tensor(call(_column, *column), column)
    found = ctx.temporary(x.shape, _BOOL)
    reason = _arg_step(ctx, "arg_max_any", "float32", x, best, axis, last=False)
    reason = reason or pair_step(ctx, "equal_any", "int64", places, best, found)
    return reason or cast_step(ctx, found, y, "bool", "float32")


def _column(size: int, *ones: int) -> Array:
    return np.arange(size, dtype=np.int64).reshape(size, *ones)


def lower_top_k(ctx: Lowering) -> str | None:
    """The indices by one step, and the values by gathering what they name."""
    element, x = kernel_type(ctx, 0), given(ctx)
    if not element:
        return "no kernel orders this dtype"
    axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
    shape = ctx.outputs[0 if ctx.has_output(0) else 1].sizes
    indices = ctx.output(1) if ctx.has_output(1) else ctx.temporary(shape, _INT64)
    fields, rows = _rows(x, indices, axis)
    if fields is None:
        return TOO_MANY
    params = {
        "type": element, "length": x.shape[axis], "axis_stride": x.strides[axis], "k": shape[axis],
        "largest": int(bool(ctx.attributes["largest"])), "out_axis": indices.strides[axis], **fields,
    }  # fmt: skip
    ctx.step("top_k_any", params, [x], indices, units=rows if indices.size else 0, flops=4 * x.size)
    return _gather_step(ctx, x, indices, axis) if ctx.has_output(0) else None


def _gather_step(ctx: Lowering, x: Tensor, indices: Tensor, axis: int) -> str | None:
    y = ctx.output()
    strides = tuple(0 if k == axis else s for k, s in enumerate(x.strides))
    fields = space(("in_stride", "out_stride"), y.shape, strides, y.strides)
    if fields is None:
        return TOO_MANY
    params = {"itemsize": y.buffer.itemsize, "index_bytes": 8, "size": x.shape[axis], "axis_stride": x.strides[axis],
              **fields}  # fmt: skip
    ctx.step("gather_elements_any", params, [x, indices], y, units=y.size, grain=GRAIN, flops=y.size)
    return None


def lower_cumulative(kernel: str) -> Lower:
    """CumSum and CumProd."""

    def lower(ctx: Lowering) -> str | None:
        element, along = kernel_type(ctx, 0), ctx.constant(1)
        if not element or element == "bool":
            return "no kernel accumulates this dtype"
        if along is None:
            return "the axis is not constant"
        x, y = given(ctx), ctx.output()
        axis = shapes.axis_of(int(along.reshape(())), len(x.shape))
        fields, rows = _rows(x, y, axis)
        if fields is None:
            return TOO_MANY
        params = {
            "type": element, "length": x.shape[axis], "in_axis": x.strides[axis], "out_axis": y.strides[axis],
            "exclusive": ctx.attributes["exclusive"], "reverse": ctx.attributes["reverse"], **fields,
        }  # fmt: skip
        grain = 1 if x.strides[axis] == 1 else GRAIN
        ctx.step(kernel, params, [x], y, units=rows if x.size else 0, grain=grain, flops=x.size)
        return None

    return lower
