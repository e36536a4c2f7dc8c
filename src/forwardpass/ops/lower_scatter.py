"""Lowerings of operators that put elements at places: scatters, one-hot codes, triangles, reversals, blocks."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Array
from ..tracked import call
from . import shapes
from .lower import GRAIN, MAX_RANK, TOO_MANY, copy_step, dims, given, scalar, space, where_step
from .lower_typed import dense_operand, index_operand, kernel_type, move_reason
from .registry import Lowering, Tensor

__all__ = [
    "lower_depth_to_space",
    "lower_one_hot",
    "lower_reverse_sequence",
    "lower_scatter_elements",
    "lower_scatter_nd",
    "lower_space_to_depth",
    "lower_tensor_scatter",
    "lower_trilu",
]

_REDUCTIONS = ("none", "add", "mul", "min", "max")
"""The numbers of reductions in csrc/kernels/params.def."""


def _start(ctx: Lowering, updates: int) -> tuple[Tensor, Tensor] | str:
    """Copy input 0 to the output, and give the updates and the output, both dense."""
    if reason := move_reason(ctx):
        return reason
    y = ctx.output()
    if y.size and not y.contiguous:
        return "the output has gaps"
    source, reason = dense_operand(ctx, given(ctx, updates), ctx.outputs[0].dtype)
    reason = reason or copy_step(ctx, given(ctx), y)
    return reason or (source, y)


def lower_scatter_elements(ctx: Lowering) -> str | None:
    """A copy, and one element of the axis for each place of the indices."""
    found = index_operand(ctx)
    if isinstance(found, str):
        return found
    indices, index_bytes = found
    made = _start(ctx, 2)
    if isinstance(made, str):
        return made
    updates, y = made
    axis = shapes.axis_of(ctx.attributes["axis"], len(y.shape))
    out = tuple(0 if k == axis else s for k, s in enumerate(y.strides))
    fields = space(("in_stride", "out_stride"), updates.shape, updates.strides, out)
    if fields is None:
        return TOO_MANY
    params = {
        "type": kernel_type(ctx, 0), "reduction": _REDUCTIONS.index(ctx.attributes["reduction"]),
        "index_bytes": index_bytes, "size": y.shape[axis], "axis_stride": y.strides[axis], **fields,
    }  # fmt: skip
    units = 1 if updates.size else 0
    ctx.step("scatter_elements_any", params, [indices, updates], y, units=units, flops=updates.size)
    return None


def lower_scatter_nd(ctx: Lowering) -> str | None:
    """A copy, and blocks at the places that rows of indices name."""
    found = index_operand(ctx, wide=True)
    if isinstance(found, str):
        return found
    indices, _ = found
    depth = indices.shape[-1]
    if depth > MAX_RANK:
        return f"indices of more than {MAX_RANK} dimensions"
    made = _start(ctx, 2)
    if isinstance(made, str):
        return made
    updates, y = made
    params = {
        "type": kernel_type(ctx, 0), "reduction": _REDUCTIONS.index(ctx.attributes["reduction"]),
        "count": math.prod(indices.shape[:-1]), "depth": depth, "block": math.prod(y.shape[depth:]),
        "shape": dims(y.shape[:depth]), "stride": dims(y.strides[:depth]),
    }  # fmt: skip
    units = 1 if updates.size else 0
    ctx.step("scatter_nd_any", params, [indices, updates], y, units=units, flops=updates.size)
    return None


def lower_tensor_scatter(ctx: Lowering) -> str | None:
    """A copy of the cache, and the update behind the start of every batch."""
    starts = None
    if ctx.input(2) is not None:
        found = index_operand(ctx, index=2, wide=True)
        if isinstance(found, str):
            return found
        starts = found[0]
    made = _start(ctx, 1)
    if isinstance(made, str):
        return made
    updates, y = made
    axis = shapes.axis_of(ctx.attributes["axis"], len(y.shape))
    outer = math.prod(y.shape[1:axis])
    block = math.prod(y.shape[axis + 1 :]) * y.buffer.itemsize
    params = {
        "outer": max(outer, 1), "size": y.shape[axis], "length": updates.shape[axis], "block": block,
        "circular": int(ctx.attributes["mode"] == "circular"),
    }  # fmt: skip
    units = y.shape[0] * outer if block else 0
    ctx.step("tensor_scatter_any", params, [updates, starts], y, units=units, flops=updates.size)
    return None


def lower_reverse_sequence(ctx: Lowering) -> str | None:
    """Blocks of steps in another order."""
    if reason := move_reason(ctx):
        return reason
    found = index_operand(ctx, wide=True)
    if isinstance(found, str):
        return found
    y = ctx.output()
    x, reason = dense_operand(ctx, given(ctx), ctx.outputs[0].dtype)
    if reason or (y.size and not y.contiguous):
        return reason or "the output has gaps"
    batch_first = ctx.attributes["batch_axis"] == 0
    block = math.prod(y.shape[2:]) * y.buffer.itemsize
    params = {
        "steps": y.shape[int(batch_first)], "batch": y.shape[1 - int(batch_first)],
        "batch_first": int(batch_first), "block": block,
    }  # fmt: skip
    units = y.shape[0] * y.shape[1] if block else 0
    grain = max(1, GRAIN * 4 // max(block, 1))
    ctx.step("reverse_sequence_any", params, [x, found[0]], y, units=units, grain=grain, flops=y.size)
    return None


def lower_one_hot(ctx: Lowering) -> str | None:
    """Rows of one value, and another at the index."""
    element = kernel_type(ctx, 0)
    if not element or move_reason(ctx, 2):
        return "no kernel for these dtypes"
    y = ctx.output()
    if y.size and not y.contiguous:
        return "the output has gaps"
    indices, reason = dense_operand(ctx, given(ctx), _dtype(ctx, 0))
    if reason:
        return reason
    values, reason = dense_operand(ctx, given(ctx, 2), ctx.outputs[0].dtype)
    if reason:
        return reason
    axis = shapes.axis_of(ctx.attributes["axis"], len(y.shape))
    params = {
        "type": element, "itemsize": y.buffer.itemsize, "depth": y.shape[axis], "inner": math.prod(y.shape[axis + 1 :]),
    }  # fmt: skip
    units = math.prod(y.shape[:axis]) if y.size else 0
    ctx.step("one_hot_any", params, [indices, values], y, units=units, flops=y.size)
    return None


def _dtype(ctx: Lowering, index: int) -> np.dtype[np.generic]:
    found = ctx.types[index]
    assert found is not None
    return found.dtype


def _triangle(rows: int, columns: int, diagonal: int, upper: bool) -> Array:
    """Which elements of a matrix stay."""
    away = np.arange(columns) - np.arange(rows)[:, None]
    return np.asarray(away >= diagonal if upper else away <= diagonal)


def lower_trilu(ctx: Lowering) -> str | None:
    """A choice between the matrices and zero by a constant mask."""
    if reason := move_reason(ctx):
        return reason
    k = ctx.constant(1)
    if k is None and ctx.input(1) is not None:
        return "the diagonal is not constant"
    x, y = given(ctx), ctx.output()
    rows, columns = x.shape[-2:]
    diagonal = 0 if k is None else min(max(int(k.reshape(())), -rows - 1), columns + 1)
    upper = bool(ctx.attributes["upper"])
    # The plan's own: `packed` would keep the mask of every size that is ever met.
    kept = ctx.tensor(call(_triangle, rows, columns, diagonal, upper), (rows, columns))
    return where_step(ctx, kept, x, scalar(ctx, 0, ctx.outputs[0].dtype), y)


def _split(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    """The memory of a tensor under a finer shape, its dimensions in another order."""
    return Tensor(tensor.buffer, tuple(shape[k] for k in order), tuple(strides[k] for k in order), tensor.offset)


def _blocks(image: Tensor, block: int) -> Tensor:
    """[n, c, h * b, w * b] as [n, c, h, b, b, w]: the long dimension comes last, for the copy's rows."""
    (n, c, h, w), (sn, sc, sh, sw) = image.shape, image.strides
    shape, strides = (n, c, h // block, block, w // block, block), (sn, sc, sh * block, sh, sw * block, sw)
    return _split(image, shape, strides, (0, 1, 2, 3, 5, 4))


def _channels(image: Tensor, block: int, first: bool) -> Tensor:
    """[n, c * b * b, h, w] as [n, c, h, b, b, w], the blocks before (`first`) or behind the channels in memory."""
    (n, full, h, w), (sn, sc, sh, sw) = image.shape, image.strides
    c = full // (block * block)
    if first:
        shape, strides = (n, block, block, c, h, w), (sn, sc * c * block, sc * c, sc, sh, sw)
        return _split(image, shape, strides, (0, 3, 4, 1, 2, 5))
    shape, strides = (n, c, block, block, h, w), (sn, sc * block * block, sc * block, sc, sh, sw)
    return _split(image, shape, strides, (0, 1, 4, 2, 3, 5))


def lower_depth_to_space(ctx: Lowering) -> str | None:
    """One strided copy."""
    block, first = ctx.attributes["blocksize"], ctx.attributes["mode"] == "DCR"
    return move_reason(ctx) or copy_step(ctx, _channels(given(ctx), block, first), _blocks(ctx.output(), block))


def lower_space_to_depth(ctx: Lowering) -> str | None:
    """One strided copy."""
    block, first = ctx.attributes["blocksize"], ctx.attributes["mode"] == "DCR"
    return move_reason(ctx) or copy_step(ctx, _blocks(given(ctx), block), _channels(ctx.output(), block, first))
