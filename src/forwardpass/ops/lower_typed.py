"""Lowerings to kernels whose element type is a parameter: casts, comparisons, logic, integers, selection, gathers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from . import shapes
from .lower import (
    GRAIN,
    MAX_RANK,
    TOO_MANY,
    broadcast_strides,
    copy_step,
    dims,
    given,
    scalar,
    space,
    where_step,
    window_of,
)
from .registry import Lowering, Tensor

__all__ = [
    "Lower",
    "cast_step",
    "dense_operand",
    "index_operand",
    "kernel_type",
    "lower_cast",
    "lower_compare",
    "lower_gather",
    "lower_gather_elements",
    "lower_gather_nd",
    "lower_integer",
    "lower_is_inf",
    "lower_is_nan",
    "lower_logic",
    "lower_not",
    "lower_where",
    "move_reason",
    "pair_step",
]

_TYPES = frozenset(
    {"float32", "float64", "float16", "int64", "int32", "int16", "int8"}
    | {"uint64", "uint32", "uint16", "uint8", "bool"}
)
"""The rows of csrc/kernels/types.def."""
_NAMES = {np.dtype(name): name for name in _TYPES}
"""NumPy makes a dtype's name anew each time that it is asked for it."""
_BOOL = np.dtype(np.bool_)

Lower: TypeAlias = "Callable[[Lowering], str | None]"


def kernel_type(ctx: Lowering, index: int) -> str:
    """The name in types.def of an input's element type, "" where it has none."""
    found = shapes.at(ctx.types, index)
    return "" if found is None else _NAMES.get(found.dtype, "")


def pair_step(ctx: Lowering, kernel: str, element: str, a: Tensor, b: Tensor, dst: Tensor) -> str | None:
    """One kernel with two operands of a type, broadcast to the output."""
    strides = (broadcast_strides(a, dst.shape), broadcast_strides(b, dst.shape), dst.strides)
    fields = space(("a_stride", "b_stride", "out_stride"), dst.shape, *strides)
    if fields is None:
        return TOO_MANY
    ctx.step(kernel, {"type": element, **fields}, [a, b], dst, units=dst.size, grain=GRAIN, flops=dst.size)
    return None


def cast_step(ctx: Lowering, src: Tensor, dst: Tensor, source: str, target: str) -> str | None:
    """dst = src, converted from one element type to another."""
    if source == target:
        return copy_step(ctx, src, dst)
    fields = space(("in_stride", "out_stride"), dst.shape, broadcast_strides(src, dst.shape), dst.strides)
    if fields is None:
        return TOO_MANY
    ctx.step("cast_any", {"from": source, "to": target, **fields}, [src], dst, units=dst.size, grain=GRAIN,
             flops=dst.size)  # fmt: skip
    return None


def move_reason(ctx: Lowering, index: int = 0) -> str | None:
    """Why the elements of an input cannot be moved natively, None if they can."""
    return None if kernel_type(ctx, index) else "no kernel moves elements of this dtype"


def lower_cast(ctx: Lowering) -> str | None:
    """Cast and CastLike between the types that kernels know."""
    source, target = kernel_type(ctx, 0), ctx.outputs[0].dtype.name
    if not source or target not in _TYPES:
        return "no kernel converts between these dtypes"
    return cast_step(ctx, given(ctx), ctx.output(), source, target)


def lower_compare(kernel: str, *, swapped: bool = False) -> Lower:
    """A comparison of two operands of one type; `swapped` compares the second with the first."""

    def lower(ctx: Lowering) -> str | None:
        element = kernel_type(ctx, 0)
        if not element:
            return "no kernel compares this dtype"
        a, b = given(ctx, 0), given(ctx, 1)
        return pair_step(ctx, kernel, element, *((b, a) if swapped else (a, b)), ctx.output())

    return lower


def lower_logic(kernel: str) -> Lower:
    """And, Or, Xor."""
    return lambda ctx: pair_step(ctx, kernel, "bool", given(ctx, 0), given(ctx, 1), ctx.output())


def lower_not(ctx: Lowering) -> str | None:
    """Not x is x Xor true."""
    return pair_step(ctx, "xor_bool", "bool", given(ctx), scalar(ctx, True, _BOOL), ctx.output())


def lower_is_nan(ctx: Lowering) -> str | None:
    """x is NaN where it is not equal to itself."""
    element = kernel_type(ctx, 0)
    if not element:
        return "no kernel compares this dtype"
    x, y = given(ctx), ctx.output()
    same = ctx.temporary(y.shape, ctx.outputs[0].dtype)
    reason = pair_step(ctx, "equal_any", element, x, x, same)
    return reason or pair_step(ctx, "xor_bool", "bool", same, scalar(ctx, True, _BOOL), y)


def lower_is_inf(ctx: Lowering) -> str | None:
    """x is equal to one of the infinities that are looked for."""
    element = kernel_type(ctx, 0)
    if not element:
        return "no kernel compares this dtype"
    x, y = given(ctx), ctx.output()
    dtype = np.dtype(element)
    sought = [v for v, name in ((math.inf, "positive"), (-math.inf, "negative")) if ctx.attributes[f"detect_{name}"]]
    if not sought:
        return copy_step(ctx, scalar(ctx, False, _BOOL), y)
    found: list[Tensor] = []
    for value in sought:
        end = scalar(ctx, value, dtype)
        found.append(y if len(sought) == 1 else ctx.temporary(y.shape, ctx.outputs[0].dtype))
        reason = pair_step(ctx, "equal_any", element, x, end, found[-1])
        if reason:
            return reason
    return pair_step(ctx, "or_bool", "bool", found[0], found[1], y) if len(found) == 2 else None


def lower_integer(kernel: str) -> Lower:
    """An operator on two operands of one integer type."""

    def lower(ctx: Lowering) -> str | None:
        element = kernel_type(ctx, 0)
        if "int" not in element:
            return "no kernel for this dtype"
        return pair_step(ctx, kernel, element, given(ctx, 0), given(ctx, 1), ctx.output())

    return lower


def lower_where(ctx: Lowering) -> str | None:
    """Where, for elements of any meaning."""
    return where_step(ctx, given(ctx, 0), given(ctx, 1), given(ctx, 2), ctx.output())


def dense_operand(ctx: Lowering, tensor: Tensor, dtype: np.dtype[Any]) -> tuple[Tensor, str | None]:
    """The tensor, or a dense copy of it."""
    if tensor.contiguous:
        return tensor, None
    copy = ctx.temporary(tensor.shape, dtype)
    return copy, copy_step(ctx, tensor, copy)


def index_operand(ctx: Lowering, wide: bool = False, index: int = 1) -> tuple[Tensor, int] | str:
    """An input as dense indices, and the bytes of each; with `wide` always as int64."""
    element = kernel_type(ctx, index)
    if element not in ("int32", "int64"):
        return "indices are neither int32 nor int64"
    tensor = given(ctx, index)
    dtype = np.dtype(np.int64 if wide else element)
    if wide and element == "int32":
        copy = ctx.temporary(tensor.shape, dtype)
        reason = cast_step(ctx, tensor, copy, element, "int64")
    else:
        copy, reason = dense_operand(ctx, tensor, dtype)
    return reason or (copy, dtype.itemsize)


def lower_gather(ctx: Lowering, axis: int | None = None) -> str | None:
    """Rows along an axis, by default that of the attributes; a constant index that is a scalar is a window."""
    reason = move_reason(ctx)
    if reason:
        return reason
    x, y = given(ctx), ctx.output()
    axis = shapes.axis_of(ctx.attributes["axis"] if axis is None else axis, len(x.shape))
    fixed = ctx.constant(1)
    if fixed is not None and fixed.size == 1 and y.size:
        starts, shape = [0] * len(x.shape), list(x.shape)
        starts[axis] = int(fixed.reshape(())) % x.shape[axis]
        shape[axis] = 1
        window = window_of(x, starts, shape)
        kept = [(d, s) for k, (d, s) in enumerate(zip(window.shape, window.strides)) if k != axis]
        lead = y.shape[axis : axis + fixed.ndim]
        kept[axis:axis] = [(1, 0)] * len(lead)
        source = Tensor(window.buffer, tuple(d for d, _ in kept), tuple(s for _, s in kept), window.offset)
        return copy_step(ctx, source, y)
    found = index_operand(ctx)
    if isinstance(found, str):
        return found
    indices, index_bytes = found
    x, reason = dense_operand(ctx, x, ctx.outputs[0].dtype)
    if reason or not y.contiguous:
        return reason or "the output has gaps"
    block = math.prod(x.shape[axis + 1 :]) * y.buffer.itemsize
    rows = math.prod(x.shape[:axis]) * indices.size
    params = {"size": x.shape[axis], "count": max(indices.size, 1), "block": block, "index_bytes": index_bytes}
    grain = max(1, GRAIN * 4 // max(block, 1))
    ctx.step("gather_any", params, [x, indices], y, units=rows if block else 0, grain=grain, flops=y.size)
    return None


def lower_gather_elements(ctx: Lowering) -> str | None:
    """One element of the axis for each place of the indices."""
    x, y = given(ctx), ctx.output()
    axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
    found = index_operand(ctx)
    if isinstance(found, str):
        return found
    indices, index_bytes = found
    if not y.contiguous:
        return "the output has gaps"
    fields = space(("in_stride", "out_stride"), y.shape, _without(x.strides, axis), y.strides)
    if fields is None:
        return TOO_MANY
    params = {"itemsize": y.buffer.itemsize, "index_bytes": index_bytes, "size": x.shape[axis],
              "axis_stride": x.strides[axis], **fields}  # fmt: skip
    ctx.step("gather_elements_any", params, [x, indices], y, units=y.size, grain=GRAIN, flops=y.size)
    return None


def _without(strides: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(0 if k == axis else s for k, s in enumerate(strides))


def lower_gather_nd(ctx: Lowering) -> str | None:
    """Blocks at the places that rows of indices name."""
    x, y = given(ctx), ctx.output()
    found = index_operand(ctx, wide=True)
    if isinstance(found, str):
        return found
    indices, _ = found
    x, reason = dense_operand(ctx, x, ctx.outputs[0].dtype)
    if reason or not y.contiguous:
        return reason or "the output has gaps"
    batch_dims, depth = ctx.attributes["batch_dims"], indices.shape[-1]
    if depth > MAX_RANK:
        return f"indices of more than {MAX_RANK} dimensions"
    rows = math.prod(indices.shape[:-1])
    batches = math.prod(x.shape[:batch_dims])
    places = slice(batch_dims, batch_dims + depth)
    itemsize = y.buffer.itemsize
    params = {
        "count": max(rows // max(batches, 1), 1),
        "batch": math.prod(x.shape[batch_dims:]) * itemsize,
        "depth": depth,
        "block": math.prod(x.shape[batch_dims + depth :]) * itemsize,
        "shape": dims(x.shape[places]),
        "stride": dims(s * itemsize for s in x.strides[places]),
    }
    ctx.step("gather_nd_any", params, [x, indices], y, units=rows if params["block"] else 0, flops=y.size)
    return None
