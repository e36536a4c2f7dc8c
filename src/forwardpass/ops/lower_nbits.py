"""How products with weights of a few bits become one kernel: codes repacked in panels, decoded when they are used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Array
from .lower import dtype_reason, given
from .registry import Lowering
from .shapes import at

__all__ = ["lower_nbits", "unpacked"]

_PANEL = 16
"""Columns of a panel."""
_GROUP = 4
"""Panels of a unit of the kernel's range."""


def unpacked(codes: Array, bits: int) -> Array:
    """Bytes as numbers of some bits, the lowest bits of a byte first: the last dimension grows 8 / bits times."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (codes[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(parts.reshape(*codes.shape[:-1], codes.shape[-1] * len(shifts)))


def _panels(rows: Array) -> Array:
    """[N, columns] as [panels, columns, 16], filled up with zeros."""
    n, columns = rows.shape
    panels = -(-n // _PANEL)
    padded = np.zeros((panels * _PANEL, columns), rows.dtype)
    padded[:n] = rows
    return np.ascontiguousarray(padded.reshape(panels, _PANEL, columns).swapaxes(1, 2))


def _words(b: Array, n: int, k: int, bits: int) -> Array:
    """The codes of a row as little-endian words of 32 bits: they lie in this order already."""
    length = -(-k * bits // 32)
    rows = b.reshape(n, -1)[:, : 4 * length]
    if rows.shape[1] < 4 * length:
        rows = np.pad(rows, [(0, 0), (0, 4 * length - rows.shape[1])])
    return _panels(np.ascontiguousarray(rows).view("<u4").astype(np.int32, copy=False))


def _points(points: Array, n: int, blocks: int, bits: int) -> Array:
    numbers = unpacked(points.reshape(n, -1), bits)[:, :blocks] if points.dtype == np.uint8 else points.reshape(n, -1)
    return _panels(numbers.astype(np.float32))


def lower_nbits(ctx: Lowering) -> str | None:
    """MatMulNBits with constant weights."""
    if reason := dtype_reason(ctx, 0, 2):
        return reason
    if at(ctx.types, 4) is not None:
        return "g_idx has no native kernel"
    names = {1: "B", 2: "scales", 3: "zero_points", 5: "bias"}
    for index, name in names.items():
        if at(ctx.types, index) is not None and ctx.constant(index) is None:
            return f"input {name} is not a constant"
    x, out, a = given(ctx), ctx.output(), ctx.attributes
    n, k, bits, block = (int(a[key]) for key in ("N", "K", "bits", "block_size"))
    blocks, rows = -(-k // block), math.prod(x.shape[:-1])
    b, scales, points, bias = (ctx.constant(i) for i in names)
    assert b is not None
    assert scales is not None

    def packed(what: str, index: int, make: Any) -> Array:
        return ctx.packed((f"nbits {what}", ctx.node.inputs[index], n, k, bits, block), make)

    made_points = made_bias = None
    if points is not None:
        if points.dtype != np.uint8 and points.dtype != np.float32:
            return "zero_points of this dtype have no native kernel"
        given_points = points
        made_points = packed("points", 3, lambda: _points(given_points, n, blocks, bits))
    if bias is not None:
        if bias.dtype != np.float32:
            return "a bias of this dtype has no native kernel"
        given_bias = bias
        made_bias = packed("bias", 5, lambda: np.ascontiguousarray(given_bias.reshape(n)))
    params = {
        "rows": rows, "n": n, "k": k, "block": block, "bits": bits, "a_row": k, "c_row": n,
        "b": packed("codes", 1, lambda: _words(b, n, k, bits)),
        "scales": packed("scales", 2, lambda: _panels(scales.reshape(n, blocks))),
        "points": made_points, "bias": made_bias,
    }  # fmt: skip
    units = -(-n // (_PANEL * _GROUP))
    ctx.step("nbits_f32", params, [x], out, units=units if rows else 0, flops=2 * rows * n * k)
    return None
