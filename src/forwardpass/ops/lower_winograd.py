"""How 3 x 3 convolutions become `winograd_f32` steps: F(2x2, 3x3) of Lavin and Gray, "Fast algorithms for convolutional
neural networks", 2016."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from .lower_linear import entries, epilogue, tile_rows, vector
from .registry import Lowering, Tensor

__all__ = ["on_winograd", "pays", "transformed"]

_TAPS = 16
_LEAST_CHANNELS = 32
"""Fewer make sums so short that the rounding of the transforms shows, and products that are all overhead."""
_DIRECT = 0.88
_PRODUCTS = 0.85
"""Parts of the FMA rate that the two ways reach."""
_TRANSFORM = 45.0
"""Cycles for 16 channels of a tile, either way."""
_BYTES_PER_CYCLE = 8.0
"""That one core reads from L3: what weights cost that do not stay in L2."""
_L2_BYTES = 1 << 20
_FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def pays(height: int, width: int, channels: int, n: int) -> bool:
    """Whether F(2x2, 3x3) takes fewer cycles than the direct way, for an output of one image.

    A function of the layer alone, and the same on every ISA: the two ways round differently, and neither the batch nor
    the ISA may change the bits.
    """
    if channels < _LEAST_CHANNELS or n < _LEAST_CHANNELS:
        return False
    tiles = -(-height // 2) * -(-width // 2)
    direct = height * width * 9 * channels * n / 32 / _DIRECT
    products = tiles * _TAPS * channels * n / 32 / _PRODUCTS
    transforms = tiles * _TRANSFORM * (channels + n) / 16
    more_weights = (_TAPS - 9) * channels * n * 4 / _BYTES_PER_CYCLE
    return products + transforms + more_weights < direct


def transformed(weights: Array) -> Array:
    """Weights [3, 3, C, N] as those of the 16 products, [16, C, N]: G w G^T, rounded once."""
    made: Array = np.einsum("ay,bx,yxcn->abcn", _FILTER, _FILTER, weights.astype(np.float64), optimize=True)
    return made.reshape(_TAPS, *weights.shape[2:]).astype(np.float32)


def on_winograd(ctx: Lowering, start: Tensor, w: Tensor, out: Tensor, residual: Tensor | None, chunk: int) -> bool:
    """nhwc.Conv of an image whose border is in memory from `start` on, where F(2x2, 3x3) applies and pays. A sum has at
    most `chunk` products."""
    a = ctx.attributes
    plain = tuple(a["strides"] or (1, 1)) == (1, 1) == tuple(a["dilations"] or (1, 1)) and int(a["group"]) == 1
    _, height, width, _ = out.shape
    _, _, channels, n = w.shape
    if w.shape[:2] != (3, 3) or not plain or not out.size or not pays(height, width, channels, n):
        return False
    weights, bias = ctx.constant(1), ctx.constant(2)
    assert weights is not None
    tiles = out.shape[0] * -(-height // 2) * -(-width // 2)
    block = call(_block, ctx.threads, len(ctx.tile_panels), tiles, channels, n)
    table, chunks = entries([(0, channels)], chunk)
    slot = _TAPS * (block * (channels + n) + 32)
    workspace = ctx.temporary((ctx.threads, slot))
    strides = residual.strides if residual is not None else (0, 0, 0, 0)
    params: dict[str, Any] = {
        "batch": out.shape[0], "oh": height, "ow": width, "c": channels, "n": n,
        "in_batch": start.strides[0], "in_row": start.strides[1], "in_col": start.strides[2],
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "r_batch": strides[0], "r_row": strides[1], "r_col": strides[2],
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "b": ctx.packed(("winograd", ctx.node.inputs[1]), lambda: ctx.pack_b(transformed(weights))),
        "bias": None if bias is None else vector(ctx, bias, n),
        "tile_m": tile_rows(ctx, block, channels, n, chunk), "block": block, "workspace": slot,
        **epilogue(ctx),
    }  # fmt: skip
    flops = 2 * tiles * _TAPS * channels * n
    ctx.step("winograd_f32", params, [start, residual, workspace], out, units=-(-tiles // block), flops=flops)
    return True


@lru_cache(maxsize=256)
def _block(threads: int, rows: int, tiles: int, channels: int, n: int) -> int:
    """Tiles per block: weights that do not fit into L2 are read once per block, and a workspace that does not fit goes
    to L3 and back."""
    weights = _TAPS * channels * n * 4
    per_tile = _TAPS * (channels + n) * 4

    def moved(block: int) -> int:
        blocks = math.ceil(tiles / block)
        workspace = block * per_tile
        again = blocks * weights if weights + workspace > _L2_BYTES else weights
        return again + (2 * blocks * workspace if workspace > _L2_BYTES // 2 else 0)

    share = math.ceil(tiles / threads)
    choices = sorted({share, *(min(share, rows * k) for k in (1, 2, 3, 4, 6, 8, 12, 16))}, reverse=True)
    block = min(choices, key=moved)
    return math.ceil(tiles / math.ceil(tiles / block))
