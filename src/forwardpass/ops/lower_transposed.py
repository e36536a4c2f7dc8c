"""How nhwc.ConvTranspose becomes steps: one convolution of stride 1 for every phase of the strides."""

from __future__ import annotations

import itertools

import numpy as np

from ..graph import Array
from .lower import dtype_reason, given
from .lower_conv import products
from .registry import Lowering, Tensor

__all__ = ["lower_conv_transpose"]


def _phases(out: int, kernel: int, stride: int, dilation: int, before: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Per phase of an axis, its first output and its taps (offset into the image, place in the kernel), by offset.

    Output `first + t * stride` is the sum over the taps of pixel `t + offset` times weight `place`.
    """
    found = []
    for first in range(min(stride, out)):
        taps = [((first + before - k * dilation) // stride, k) for k in range(kernel)
                if (first + before - k * dilation) % stride == 0]  # fmt: skip
        found.append((first, sorted(taps)))
    return found


def _border(phases: list[tuple[int, list[tuple[int, int]]]], size: int, out: int, stride: int) -> tuple[int, int]:
    """How many pixels before and behind the image the taps of an axis read."""
    before = after = 0
    for first, taps in phases:
        last = (out - first - 1) // stride
        for offset, _ in taps:
            before = max(before, -offset)
            after = max(after, last + offset - (size - 1))
    return before, after


def lower_conv_transpose(ctx: Lowering) -> str | None:
    """nhwc.ConvTranspose by matrix products; the outputs of a phase are `stride` pixels apart."""
    if reason := dtype_reason(ctx):
        return reason
    x, w, out = given(ctx, 0), given(ctx, 1), ctx.output()
    if ctx.constant(1) is None or (ctx.input(2) is not None and ctx.constant(2) is None):
        return "the weights are not constant"
    if out.size == 0:
        return None
    attributes = ctx.attributes
    strides, dilations = attributes["strides"] or (1, 1), attributes["dilations"] or (1, 1)
    pads = attributes["pads"] or (0, 0, 0, 0)
    axes = [_phases(out.shape[1 + k], w.shape[k], strides[k], dilations[k], pads[k]) for k in (0, 1)]
    borders = [_border(axes[k], x.shape[1 + k], out.shape[1 + k], strides[k]) for k in (0, 1)]
    image = ctx.padded(x, (borders[0][0], borders[1][0], borders[0][1], borders[1][1]))
    for rows, columns in itertools.product(*axes):
        _phase(ctx, image, w, out, rows, columns)
    return None


def _phase(
    ctx: Lowering,
    image: Tensor,
    w: Tensor,
    out: Tensor,
    rows: tuple[int, list[tuple[int, int]]],
    columns: tuple[int, list[tuple[int, int]]],
) -> None:
    """The outputs of one phase of both axes."""
    (sh, sw), groups = ctx.attributes["strides"] or (1, 1), int(ctx.attributes["group"])
    (top, row_taps), (left, column_taps) = rows, columns
    n, h, width, m = out.shape
    s0, s1, s2, s3 = out.strides
    shape = (n, -(-(h - top) // sh), -(-(width - left) // sw), m)
    target = Tensor(out.buffer, shape, (s0, s1 * sh, s2 * sw, s3), out.offset + top * s1 + left * s2)
    per_group = w.shape[2]
    segments: list[tuple[int, int]] = []
    for (y, _), (x, _) in itertools.product(row_taps, column_taps):
        offset = y * image.strides[1] + x * image.strides[2]
        if segments and groups == 1 and sum(segments[-1]) == offset:
            segments[-1] = (segments[-1][0], segments[-1][1] + per_group)
        else:
            segments.append((offset, per_group))
    value = ctx.constant(1)
    assert value is not None
    weights: Array = value

    def chosen() -> Array:
        taps = weights[np.ix_([k for _, k in row_taps], [k for _, k in column_taps])]
        return np.asarray(taps.reshape(-1, groups, m // groups).transpose(1, 0, 2))

    products(
        ctx, image, target, None, steps=image.strides[:3], segments=segments, groups=groups,
        key=("phase", ctx.node.inputs[1], groups, tuple(row_taps), tuple(column_taps)), b=chosen,
    )  # fmt: skip
