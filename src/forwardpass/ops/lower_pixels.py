"""First layers on matrix tiles of one term: images of few channels, whose neighbouring pixels share a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from .lower import Convolution
from .lower_split import Products, product_step, reading
from .registry import Lowering
from .split_cost import ROWS
from .split_made import is_made

__all__ = ["MOST_CHANNELS", "pixels_on_tiles"]

MOST_CHANNELS = 4
"""Of a pixel, with filling."""
_PIXELS = 8
"""Of a block."""
_WORDS = 2
"""Of a pixel."""
_NUMBERS = np.arange(_PIXELS * MOST_CHANNELS).reshape(-1, 2).T.reshape(-1)
"""Number of a block -> pixel and channel: words have the first of two channels in their low half."""


def pixels_on_tiles(ctx: Lowering, c: Convolution) -> bool:
    """nhwc.Conv of an image of two to four channels, in planes or in pixels, where that pays: a row of a window is one
    step of products."""
    x, out = c.x, c.out
    kh, kw, channels, _ = c.w.shape
    sh, sw = ctx.attributes["strides"] or (1, 1)
    dh, dw = ctx.attributes["dilations"] or (1, 1)
    one = ctx.terms == 1 and int(ctx.attributes["group"]) == 1 and not ctx.attributes["pooled"]
    if not one or not out.size or not 1 < channels <= MOST_CHANNELS or not 1 < kw <= _PIXELS or dw != 1:
        return False
    # No block ends behind its row: zero weights times what is no number, of another image or an earlier call, are NaN.
    top, left, bottom, right = c.pads
    right = call(max, right, (out.shape[2] - 1) * sw + _PIXELS - left - x.shape[2])
    pads = (top, left, bottom, right)
    taps = [(i * dh, 0) for i in range(kh)]
    valid = sum(
        1 << k for k, at in enumerate(_NUMBERS.tolist()) if at // MOST_CHANNELS < kw and at % MOST_CHANNELS < channels
    )
    p = Products(x, pads, taps, (sh, sw), out, c.residual, (ctx.node.inputs[1], "tiles of pixels"),
                 lambda: _blocks(c.w), c.chunk, out, _WORDS, valid)  # fmt: skip
    if is_made(ctx, x) or not p.pays(1, made=True):
        return False
    height, width = p.padded
    batch = x.shape[0]
    fields: dict[str, Any] = {
        "terms": 1, "batch": batch, "h": x.shape[1], "w": x.shape[2], "c": channels,
        "in_batch": x.strides[0], "in_row": x.strides[1], "in_col": x.strides[2], "in_channel": x.strides[3],
        "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right, "border_only": 0, "pixels": 1,
    }  # fmt: skip
    # A tile reads whole blocks, also for rows behind the last pixel, which it has no results for.
    split = ctx.temporary((batch * height * width * _WORDS + (ROWS * sw + _PIXELS) * _WORDS,))
    ctx.step("split_f32", fields, [x], split, units=batch * height, flops=4 * x.size)
    product_step(ctx, p, split, *reading(p, 1, ctx.threads, (height, width), p.steps))
    return True


def _blocks(weights: Array) -> Array:
    """[rows, columns, channels, outputs] -> [rows, numbers of a block, outputs]."""
    kh, kw, channels, n = weights.shape
    whole = np.zeros((kh, _PIXELS, MOST_CHANNELS, n), np.float32)
    whole[:, :kw, :channels] = weights
    return np.ascontiguousarray(whole.reshape(kh, _PIXELS * MOST_CHANNELS, n)[:, _NUMBERS])
