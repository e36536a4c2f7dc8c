"""How 3 x 3 convolutions become `winograd_f32` steps: F(r x c, 3 x 3) of Lavin and Gray, "Fast algorithms for
convolutional neural networks", 2016."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from ..graph import Array
from ..tracked import call
from .lower_linear import MAX_CHUNK, entries, epilogue, sum_length, tile_rows, vector
from .registry import Lowering, Tensor

__all__ = [
    "WINOGRAD_TILES",
    "Scheme",
    "accurate",
    "blocks",
    "on_winograd",
    "pooled_cycles",
    "scheme",
    "schemes",
]


class Scheme(NamedTuple):
    """What an output of Winograd's way is rounded by: the same for any batch, threads and ISA."""

    rows: int
    """Outputs of a tile: 2 x 2, 2 x 4 or 4 x 4."""
    cols: int
    length: int
    """Most products of a sum."""

    @property
    def taps(self) -> int:
        """Products per tile and channel."""
        return (self.rows + 2) * (self.cols + 2)


WINOGRAD_TILES = ((2, 2), (2, 4), (4, 4))
"""Rows and columns of outputs."""
_LENGTHS = (MAX_CHUNK, 128, 64, 32, 24)
_LEAST_CHANNELS = 32
"""Fewer make sums so short that the rounding of the transforms shows, and products that are all overhead."""
_DIRECT = 0.88
_PRODUCTS = 0.85
"""Parts of the FMA rate that the two ways reach."""
_CHUNK = 2.0
"""Steps along the channels that starting another sum takes."""
_TRANSFORM = {16: 60.0, 24: 85.0, 36: 130.0}
"""Products of a tile -> cycles for 16 of its channels, either way."""
_BYTES_PER_CYCLE = 10.0
"""That one core reads from L3: what weights cost that do not stay in L2."""
_L2_BYTES = 1 << 20
_NEAR = 1.05
"""So much longer the smallest tiles may take: larger ones have half as many weights more, and round more."""
_SPILLED = 8
"""Bytes of weights that are read in the time that one byte of a workspace takes that is not in L2."""
_SLICE = 64
"""Columns whose products are made, and become outputs, before others: they stay in L2."""
_ENLARGED = {2: 5 / 3, 4: 4.78}
"""Outputs along a line -> the variance of their rounding over that of their products', for random numbers: with the
matrices A, B and G of the transforms, the mean over i of sum(A[i, j]^2 |B[j]|^2 |G[j]|^2) / 3."""
_MARGIN = 1.38
"""Of the standard deviation, for images without negative numbers, whose transforms cancel more."""
_ROUNDINGS = 5.0
"""Those of transforms and weights, as the products whose sum is rounded as much."""


def accurate(rows: int, cols: int, length: int, channels: int) -> bool:
    """Whether sums of at most `length` products are no less accurate than a sequential sum of the 9 x `channels`
    products of the direct way, by an estimate of the variances: a sum of n random products has that of (n + 1) / 2 of
    its last sums' roundings. `tests/native/test_winograd.py` measures it."""
    chunks = -(-channels // length)
    ours = (min(length, channels) + chunks) / 2 + _ROUNDINGS
    return _MARGIN**2 * _ENLARGED[rows] * _ENLARGED[cols] * ours <= 9 * channels / 2


def schemes(channels: int, n: int, approximate: bool) -> list[Scheme]:
    """Those that are accurate enough, each with the longest sums that are."""
    found: list[Scheme] = []
    if min(channels, n) < _LEAST_CHANNELS:
        return found
    for rows, cols in WINOGRAD_TILES:
        for length in _LENGTHS:
            if approximate or accurate(rows, cols, length, channels):
                found.append(Scheme(rows, cols, sum_length(channels, length)))
                break
    return found


def scheme(height: int, width: int, channels: int, n: int, approximate: bool = False) -> Scheme | None:
    """The way that should take the fewest cycles for an output of one image, or None where that is the direct one.

    A function of the layer alone, and the same on every ISA: the ways round differently, and neither the batch nor the
    ISA may change the bits. `approximate`: also those that round more than a sequential sum does.
    """

    def cycles(s: Scheme) -> float:
        tiles = -(-height // s.rows) * -(-width // s.cols)
        sums = 1 + _CHUNK / s.length - _CHUNK / MAX_CHUNK
        products = tiles * s.taps * channels * n / 32 / _PRODUCTS * sums
        transforms = tiles * _TRANSFORM[s.taps] * (channels + n) / 16
        more_weights = (s.taps - 9) * channels * n * 4 / _BYTES_PER_CYCLE
        return products + transforms + more_weights

    found = [(cycles(s), s) for s in schemes(channels, n, approximate)]
    if not found:
        return None
    least = min(c for c, _ in found)
    direct = height * width * 9 * channels * n / 32 / _DIRECT
    return next((s for c, s in found if c <= _NEAR * least), None) if least < direct else None


def pooled_cycles(height: int, width: int, channels: int, n: int) -> float:
    """Cycles for an output of one image that is pooled by 2 x 2; infinite where Winograd's way does not pay."""
    way = scheme(height, width, channels, n)
    if way is None:
        return math.inf
    tiles = -(-(height // 2 * 2) // way.rows) * -(-(width // 2 * 2) // way.cols)
    weights = way.taps * channels * n
    wait = 4 * weights / _BYTES_PER_CYCLE if 4 * weights > _L2_BYTES else 0.0
    return tiles * (weights / 32 / _PRODUCTS + _TRANSFORM[way.taps] * (channels + n) / 16) + wait


def on_winograd(ctx: Lowering, start: Tensor, w: Array, out: Tensor, residual: Tensor | None) -> bool:
    """nhwc.Conv of an image whose border is in memory from `start` on, where Winograd's way applies and pays."""
    a = ctx.attributes
    plain = tuple(a["strides"] or (1, 1)) == (1, 1) == tuple(a["dilations"] or (1, 1)) and int(a["group"]) == 1
    _, height, width, _ = out.shape
    _, _, channels, n = w.shape
    if w.shape[:2] != (3, 3) or not plain or not out.size:
        return False
    found = scheme(height, width, channels, n, ctx.approximate)
    if found is None:
        return False
    rows, cols, length = found
    bias = ctx.constant(2)
    tiles = out.shape[0] * -(-height // rows) * -(-width // cols)
    table, chunks = entries([(0, channels)], length)
    slice_ = min(_SLICE, -(-n // ctx.panel) * ctx.panel)
    fields, size, units = blocks(ctx, tiles, found, channels, n, slice_)
    workspace = ctx.temporary((size,))
    strides = residual.strides if residual is not None else (0, 0, 0, 0)
    key = ("winograd", rows, cols, ctx.node.inputs[1])
    params: dict[str, Any] = {
        "batch": out.shape[0], "oh": height, "ow": width, "c": channels, "n": n, "rows": rows, "cols": cols,
        "in_batch": start.strides[0], "in_row": start.strides[1], "in_col": start.strides[2],
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "r_batch": strides[0], "r_row": strides[1], "r_col": strides[2],
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "b": ctx.packed(key, lambda: ctx.pack_winograd(w, rows, cols, slice_)),
        "bias": None if bias is None else vector(ctx, bias, n),
        "slice": slice_, "pooled": 0, **fields, **epilogue(ctx),
    }  # fmt: skip
    flops = 2 * tiles * found.taps * channels * n
    ctx.step("winograd_f32", params, [start, residual, workspace], out, units=units, flops=flops)
    return True


def blocks(
    ctx: Lowering, tiles: int, way: Scheme, channels: int, n: int, columns: int
) -> tuple[dict[str, Any], int, int]:
    """Fields of WinogradParams, numbers of the workspace and units that follow from the number of tiles, for slices of
    so many columns."""
    slices = -(-n // columns)
    block = call(_block, ctx.threads, len(ctx.tile_panels), tiles, way.taps, channels, columns, slices)
    slot = way.taps * (block * (channels + columns) + 32)
    rows = tile_rows(ctx, block, channels, columns, way.length, channels)
    fields = {"tile_m": rows, "block": block, "workspace": slot}
    return fields, ctx.threads * slot, -(-tiles // block) * slices


@lru_cache(maxsize=256)
def _block(threads: int, rows: int, tiles: int, taps: int, channels: int, columns: int, slices: int) -> int:
    """Tiles per block: those with which the thread that has most to do should take the fewest cycles. Weights that do
    not fit into L2 are read once per block and slice, ahead of their use. What does not fit of a workspace goes to L3
    and back, and that takes longer."""
    weights = taps * channels * columns * 4
    per_tile = taps * (channels + columns) * 4

    def cycles(block: int) -> float:
        blocks = math.ceil(tiles / block)
        turns = math.ceil(blocks * slices / threads)
        mine = math.ceil(turns / slices)
        workspace = block * per_tile
        resident = weights * min(turns, slices) + workspace <= _L2_BYTES
        moved = weights * (min(turns, slices) if resident else turns)
        moved += _SPILLED * mine * max(0, workspace - _L2_BYTES)
        products = turns * block * taps * channels * columns / 32 / _PRODUCTS
        transforms = _TRANSFORM[taps] * block * (mine * channels + turns * columns) / 16
        return products + transforms + moved / _BYTES_PER_CYCLE

    share = math.ceil(tiles / threads)
    choices = sorted({tiles, share, *(min(share, rows * k) for k in (1, 2, 3, 4, 6, 8, 12, 16))}, reverse=True)
    block = min(choices, key=cycles)
    return math.ceil(tiles / math.ceil(tiles / block))
