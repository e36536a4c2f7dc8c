"""How convolutions with few outputs become `planes_f32` steps, whose vectors run along rows of the output: as columns
of a product they would leave most lanes idle."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from .lower_linear import epilogue, sum_length, vector
from .registry import Attributes, Lowering, Tensor

__all__ = ["MOST_OUTPUTS", "few_outputs", "on_planes"]

MOST_OUTPUTS = 8
"""Outputs."""
_LEAST = 32
"""Columns of the output."""
_LANES = 16
_TILE = 8 * _LANES
"""Most columns of a tile, which reaches over the end of a row where no smaller one holds the row."""
_L1_BYTES = 24 * 1024
"""Of L1 that the planes of a block of columns should fit into."""
_BLOCKS = (384, 1024)
"""Fewest and most columns of a block."""

# Cycles per column of the output, for estimates.
_PRODUCT = 0.5
"""Of a product with a panel of up to 16 columns."""
_EACH = {1: 0.07, 4: 0.13, 8: 0.24}
"""Of products with so many outputs along a row."""
_TURN = 0.6
"""Of putting a channel into its plane."""
_PLACE = 1.0
"""Of putting an output into its place."""
_GAIN = 0.8


def few_outputs(attributes: Attributes, weights: tuple[int, ...]) -> bool:
    """Whether `planes_f32` takes a convolution with such weights [kh, kw, C, N] and attributes, and should pay."""
    if len(weights) != 4 or int(attributes.get("group", 1)) != 1:
        return False
    kh, kw, channels, n = weights
    if any(d != 1 for d in attributes.get("dilations") or (1, 1)) or not 0 < n <= MOST_OUTPUTS:
        return False
    step = (attributes.get("strides") or (1, 1))[0]
    ours = kh * kw * channels * _EACH[_columns(n)] + min(step, kh) * channels * _TURN + n * _PLACE
    return ours < _GAIN * kh * kw * channels * _PRODUCT


def on_planes(
    ctx: Lowering, x: Tensor, w: Array, out: Tensor, residual: Tensor | None, pads: tuple[int, int, int, int]
) -> bool:
    """nhwc.Conv of an image [N, H, W, C] with any strides, where `planes_f32` takes it."""
    if residual is not None or not out.size or not few_outputs(ctx.attributes, w.shape):
        return False
    batch, height, width, n = out.shape
    if width < _LEAST or (any(pads) and x.strides[3] != 1):
        return False
    kh, kw, channels, _ = w.shape
    sh, sw = ctx.attributes["strides"] or (1, 1)
    image = ctx.padded(x, pads)
    offset = image.offset - pads[0] * image.strides[1] - pads[1] * image.strides[2]
    start = Tensor(image.buffer, image.shape, image.strides, offset)
    block = call(_block, width, kh * sw * channels)
    length = call(_length, block, kw, sw)
    slot = (kh * sw * channels + MOST_OUTPUTS) * length
    workspace = ctx.temporary((ctx.threads * slot,))
    bias = ctx.constant(2)
    k, columns = kh * kw * channels, _columns(n)
    params: dict[str, Any] = {
        "batch": batch, "oh": height, "ow": width, "c": channels, "n": n, "kh": kh, "kw": kw,
        "stride_h": sh, "stride_w": sw,
        "in_batch": start.strides[0], "in_row": start.strides[1], "in_col": start.strides[2],
        "in_channel": start.strides[3],
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "chunk": sum_length(k), "offsets": call(_offsets, kw, channels, sw, length),
        "b": ctx.packed(("planes", ctx.node.inputs[1]), lambda: _filled(w.reshape(k, n), columns)),
        "columns": columns,
        "bias": None if bias is None else vector(ctx, bias, n),
        "block": block, "length": length, "workspace": slot, **epilogue(ctx),
    }  # fmt: skip
    units = batch * height * -(-width // block)
    ctx.step("planes_f32", params, [start, workspace], out, units=units, flops=2 * out.size * k)
    return True


@lru_cache(maxsize=64)
def _block(width: int, planes: int) -> int:
    """Columns of a block: of even size, and whole vectors but for the last."""
    least, most = _BLOCKS
    columns = min(max(_L1_BYTES // (4 * planes), least), most)
    count = -(-width // columns)
    return -(-width // (count * _LANES)) * _LANES


def _length(block: int, kw: int, step: int) -> int:
    """Numbers of a row of a plane, with what tiles read behind it."""
    columns = max(block, _TILE) + (kw - 1) // step
    return -(-columns // _LANES) * _LANES + _LANES


@lru_cache(maxsize=64)
def _offsets(kw: int, channels: int, step: int, length: int) -> Array:
    """Of the numbers of a row of a window."""
    x, c = np.divmod(np.arange(kw * channels), channels)
    found = (x % step * channels + c) * length + x // step
    made: Array = found.astype(np.int64)
    made.flags.writeable = False  # many plans share it
    return made


def _columns(n: int) -> int:
    """Of the weights for so many outputs, with those that are filled up."""
    return 1 if n == 1 else -(-n // 4) * 4


def _filled(weights: Array, columns: int) -> Array:
    filled = np.zeros((len(weights), columns), np.float32)
    filled[:, : weights.shape[1]] = weights
    return filled
