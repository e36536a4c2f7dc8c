"""How Resize becomes steps: one for all axes where elements are chosen, else one per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array
from .lower import MAX_RANK, TOO_MANY, copy_step, dims, given
from .registry import Lowering, Tensor

__all__ = ["choose_step", "lower_axes", "resample_step"]


def choose_step(ctx: Lowering, x: Tensor, y: Tensor, tables: Sequence[Array | None]) -> str | None:
    """The elements of x at the places that the tables name, one per axis; None for an axis that stays."""
    merged: list[tuple[int, int, int, Array | None]] = []
    for size, sx, sy, table in zip(x.shape, x.strides, y.strides, tables):
        if table is None and size == 1:
            continue
        last = merged[-1] if merged else None
        if table is None and last is not None and last[3] is None and last[1:3] == (sx * size, sy * size):
            merged[-1] = (last[0] * size, sx, sy, None)
        else:
            merged.append((size if table is None else len(table), sx, sy, table))
    if not merged:
        return copy_step(ctx, x, y)
    if len(merged) > MAX_RANK:
        return TOO_MANY
    shape = [m[0] for m in merged]
    params: dict[str, Any] = {
        "itemsize": y.buffer.itemsize, "rank": len(merged), "shape": dims(shape),
        "in_stride": dims(m[1] for m in merged), "out_stride": dims(m[2] for m in merged),
        "index": np.concatenate([np.arange(m[0]) if m[3] is None else m[3] for m in merged]).astype(np.int64),
        "dense": int(merged[-1][3] is None),
    }  # fmt: skip
    ctx.step("choose_any", params, [x], y, units=math.prod(shape[:-1]) if y.size else 0, flops=y.size)
    return None


def resample_step(
    ctx: Lowering, x: Tensor, y: Tensor, axis: int, places: Array, weights: Array, outside: Array | None, value: float
) -> None:
    """One axis of a dense tensor interpolated: output i is the sum of the elements at places[i] times weights[i]."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    count, taps = places.shape
    params: dict[str, Any] = {
        "size": x.shape[axis], "count": count, "inner": inner, "taps": taps,
        "index": np.ascontiguousarray(places.T, np.int64),
        "weights": np.ascontiguousarray(weights.T, np.float32),
        "outside": outside, "value": value,
    }  # fmt: skip
    units = (outer if inner == 1 else outer * count) if y.size else 0
    ctx.step("resample_f32", params, [x], y, units=units, flops=2 * taps * y.size)


def lower_axes(ctx: Lowering, axes: Sequence[tuple[int, Any]], nearest: bool, value: float) -> str | None:
    """The axes one after the other, by their taps (places, weights, outside)."""
    x, y = given(ctx), ctx.output()
    if not axes:
        return copy_step(ctx, x, y)
    if nearest and all(taps.outside is None for _, taps in axes):
        tables: list[Array | None] = [None] * len(x.shape)
        for axis, taps in axes:
            tables[axis] = taps.places[:, 0]
        return choose_step(ctx, x, y, tables)
    if ctx.outputs[0].dtype != np.float32:
        return f"dtype {ctx.outputs[0].dtype.name} has no native kernel"
    shape = list(x.shape)
    for k, (axis, taps) in enumerate(axes):
        shape[axis] = len(taps.places)
        out = y if k + 1 == len(axes) else ctx.temporary(tuple(shape))
        weights = np.ones(taps.places.shape) if taps.weights is None else taps.weights
        resample_step(ctx, x, out, axis, taps.places, weights, taps.outside, value)
        x = out
    return None
