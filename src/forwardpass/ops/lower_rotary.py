"""How rotary embedding becomes a step: one kernel that reads heads, and rows of cosines and sines by position."""

from __future__ import annotations

import math

from ..records import record
from .lower import dtype_reason, given
from .lower_attention import heads_of
from .lower_typed import dense_operand, index_operand
from .registry import FLOAT, Lowering, Tensor

__all__ = ["Positions", "lower_rotary", "rotary_step"]


@record(frozen=True, slots=True)
class Positions:
    """Rows of the tables: place + batch * b + step * i + tensor[b * tensor_batch + i * tensor_step]."""

    place: int = 0
    batch: int = 0
    step: int = 0
    tensor: Tensor | None = None
    nbytes: int = 0
    tensor_batch: int = 0
    tensor_step: int = 0


def rotary_step(
    ctx: Lowering, x: Tensor, y: Tensor, tables: tuple[Tensor, Tensor], positions: Positions, *, interleaved: bool
) -> str | None:
    """y = x turned by the angles of its positions.

    Parameters
    ----------
    x, y
        [batch, heads, length, size], which lie anywhere in memory.
    tables
        Cosines and sines [..., width]. The first 2 * width elements of a head are turned.
    interleaved
        Pairs are neighbours, else `width` apart.
    """
    batch, heads, length, size = y.shape
    if any(t.strides[3] != 1 and size > 1 for t in (x, y)):
        return "the elements of a head do not follow each other"
    dense, failed = zip(*(dense_operand(ctx, t, FLOAT) for t in tables))
    reason = next(filter(None, failed), None)
    width = tables[0].shape[-1]
    params = {
        "heads": max(heads, 1), "length": max(length, 1), "size": size, "width": width,
        "interleaved": int(interleaved), "rows": math.prod(tables[0].shape[:-1]),
        "in_batch": x.strides[0], "in_head": x.strides[1], "in_step": x.strides[2],
        "out_batch": y.strides[0], "out_head": y.strides[1], "out_step": y.strides[2],
        "position_bytes": positions.nbytes, "position_batch": positions.tensor_batch,
        "position_step": positions.tensor_step, "place": positions.place, "place_batch": positions.batch,
        "place_step": positions.step,
    }  # fmt: skip
    units = batch * heads * length if size else 0
    ctx.step("rotary_f32", params, [x, *dense, positions.tensor], y, units=units, flops=3 * y.size)
    return reason


def lower_rotary(ctx: Lowering, size: int, tables: int, index: int | None) -> str | None:
    """RotaryEmbedding on its heads of `size` elements; the cosines are input `tables`, the positions input `index`."""
    reason = dtype_reason(ctx, 0, tables, tables + 1)
    if reason or not size:
        return reason or "the heads are empty"
    x, y = given(ctx), ctx.output()
    heads = 1 if len(x.shape) == 4 else x.shape[2] // size
    x, y = heads_of(x, heads), heads_of(y, heads)
    length = x.shape[2]
    if index is None:  # a row of the tables for every step of every sequence
        positions = Positions(batch=length, step=1)
    else:
        found = index_operand(ctx, index=index)
        if isinstance(found, str):
            return found
        tensor, nbytes = found
        if len(tensor.shape) < 2:
            positions = Positions(step=1, tensor=tensor, nbytes=nbytes)
        else:
            batch_step = 0 if tensor.shape[0] == 1 else tensor.shape[1]
            positions = Positions(tensor=tensor, nbytes=nbytes, tensor_batch=batch_step, tensor_step=1)
    both = (given(ctx, tables), given(ctx, tables + 1))
    return rotary_step(ctx, x, y, both, positions, interleaved=bool(ctx.attributes["interleaved"]))
