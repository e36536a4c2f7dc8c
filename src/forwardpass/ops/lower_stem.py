"""How convolutions of images of few channels, a network's first, become `stem_f32` steps: they read the image as the
caller gave it, in planes or in pixels, without a border."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from .lower_linear import MAX_CHUNK, epilogue, vector
from .registry import Attributes, Lowering, Tensor

__all__ = ["MOST_CHANNELS", "is_stem", "most_half", "on_stem", "runs"]

MOST_CHANNELS = 3
_MOST_EDGE = 2048
"""Numbers of the windows of a run, as in csrc/kernels/stem.cpp."""
_TILE_CYCLES = 60.0
"""Around the inner loop of a tile."""
_MOST_PANELS = 3


def is_stem(attributes: Attributes, weights: tuple[int, ...]) -> bool:
    """Whether `stem_f32` takes a convolution with such weights [kh, kw, C, N] and attributes."""
    if len(weights) != 4 or int(attributes.get("group", 1)) != 1:
        return False
    kh, kw, channels, n = weights
    plain = all(d == 1 for d in attributes.get("dilations") or (1, 1))
    _, step = attributes.get("strides") or (1, 1)
    # As many columns as a run of seven windows has at most.
    edge = kh * channels * (6 * step + kw)
    fits = 1 < kh * kw <= MAX_CHUNK // channels if 0 < channels <= MOST_CHANNELS else False
    return plain and fits and n > 0 and edge <= _MOST_EDGE


def on_stem(ctx: Lowering, x: Tensor, w: Array, out: Tensor, residual: Tensor | None) -> bool:
    """nhwc.Conv of an image [N, H, W, C] with any strides, where `stem_f32` takes it."""
    if residual is not None or not out.size or not is_stem(ctx.attributes, w.shape):
        return False
    kh, kw, channels, n = w.shape
    sh, sw = ctx.attributes["strides"] or (1, 1)
    top, left, _, right = ctx.attributes["pads"] or (0, 0, 0, 0)
    batch, height, width, _ = out.shape
    # Where every tile reaches over an edge, copying the whole image takes less.
    if (left or right) and width <= 4 * most_half(ctx):
        return False
    dense = x.strides[3] == 1 and x.strides[2] == channels
    # A signal, whose single row threads share as rows of a product.
    if height == 1 and dense and not any(ctx.attributes["pads"] or ()):
        return False
    k = kh * kw * channels
    bias = ctx.constant(2)
    params: dict[str, Any] = {
        "batch": batch, "ih": x.shape[1], "iw": x.shape[2], "oh": height, "ow": width, "n": n, "k": k,
        "kh": kh, "kw": kw, "stride_h": sh, "stride_w": sw, "pad_top": top, "pad_left": left,
        "in_batch": x.strides[0], "in_row": x.strides[1], "in_col": x.strides[2], "in_plane": x.strides[3],
        "planes": 1 if dense else channels, "depth": channels if dense else 1,
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "offsets": call(_offsets, *w.shape[:3], *x.strides[1:]),
        "b": ctx.packed(("b", ctx.node.inputs[1], 1), lambda: ctx.pack_b(w.reshape(1, k, n))),
        "bias": None if bias is None else vector(ctx, bias, n),
        **epilogue(ctx), **runs(ctx, w.shape, sw, dense, width, pooled=0),
    }  # fmt: skip
    ctx.step("stem_f32", params, [x], out, units=batch * height, flops=2 * out.size * k)
    return True


def most_half(ctx: Lowering) -> int:
    """The longest run of windows of a tile."""
    return max(2, len(ctx.tile_panels) // 2)


def runs(ctx: Lowering, weights: tuple[int, ...], step: int, dense: bool, width: int, *, pooled: int) -> dict[str, Any]:
    """The fields of StemParams that follow from the length of a run, for so many columns of the output; where it is
    pooled, those after it."""
    kh, kw, channels, n = weights
    half = call(_half, width, most_half(ctx), ctx.tile_panels, -(-n // ctx.panel), kh * kw * channels, pooled)
    row = call(_row, half, step, kw)
    strides = (row * channels, channels, 1) if dense else (channels * row, 1, row)
    return {"half": half, "pooled": pooled, "edges": call(_offsets, kh, kw, channels, *strides)}


def _row(half: int, step: int, kw: int) -> int:
    """Columns of a run's windows."""
    return (half - 1) * step + kw


@lru_cache(maxsize=64)
def _half(width: int, most: int, tile_panels: tuple[int, ...], panels: int, k: int, pooled: int) -> int:
    """The length of a run that takes the fewest cycles for a row of the output, or two where they are pooled."""

    def cycles(half: int) -> float:
        tiles = -(-2 * width // half) if pooled else -(-width // (2 * half))
        rows = min(2 * half, len(tile_panels))
        groups = -(-panels // min(_MOST_PANELS, tile_panels[rows - 1]))
        return tiles * groups * (max(half * panels / groups, 4.0) * k + _TILE_CYCLES)

    choices = range(2, most + 1, 2) if pooled else range(1, min(most, width) + 1)
    return min(choices, key=cycles)


@lru_cache(maxsize=64)
def _offsets(kh: int, kw: int, channels: int, row: int, col: int, plane: int) -> Array:
    """Of the numbers of a window, one after another."""
    rows, cols, planes = (step * np.arange(size) for step, size in ((row, kh), (col, kw), (plane, channels)))
    found: Array = (rows[:, None, None] + cols[:, None] + planes).astype(np.int64).reshape(-1)
    found.flags.writeable = False  # many plans share it
    return found
