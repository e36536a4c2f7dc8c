"""How nhwc.Conv becomes steps: `depthwise_f32` where every channel is its own group, else `brgemm_f32`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import windows
from .lower import dtype_reason, given
from .lower_linear import MAX_CHUNK, brgemm_units, entries, epilogue, rows_of, tile_rows, vector
from .registry import Lowering, Tensor

__all__ = ["lower_conv"]


def lower_conv(ctx: Lowering) -> str | None:
    """nhwc.Conv. The image's border is in memory: the planner's halo, or a padded copy."""
    if reason := dtype_reason(ctx):
        return reason
    x, w, out = given(ctx, 0), given(ctx, 1), ctx.output()
    residual = ctx.input(3) if len(ctx.node.inputs) > 3 else None
    if ctx.constant(1) is None or (ctx.input(2) is not None and ctx.constant(2) is None):
        return "the weights are not constant"
    if residual is not None and residual.shape != out.shape:
        return "the residual is broadcast"
    window = windows.window(ctx.attributes, x.shape[1:3], w.shape[:2])
    (top, left), (bottom, right) = window.before, window.after
    image = ctx.padded(x, (top, left, bottom, right))
    offset = image.offset - top * image.strides[1] - left * image.strides[2]
    start = Tensor(image.buffer, image.shape, image.strides, offset)
    groups, channels, m = int(ctx.attributes["group"]), x.shape[3], w.shape[3]
    if groups == channels == m and groups > 1 and residual is None:
        return _depthwise(ctx, start, w, out, window)
    return _brgemm(ctx, start, w, out, residual, groups, window)


def _brgemm(
    ctx: Lowering,
    x: Tensor,
    w: Tensor,
    out: Tensor,
    residual: Tensor | None,
    groups: int,
    window: windows.Window,
) -> str | None:
    kh, kw, per_group, m = w.shape
    sh, sw = window.strides
    batch, oh, ow, _ = out.shape
    xs = (x.strides[0], x.strides[1] * sh, x.strides[2] * sw)
    merged = rows_of((batch, oh, ow), xs, out.strides[:3], None if residual is None else residual.strides[:3])
    assert merged is not None
    sizes, (xs_, cs, rs) = merged
    k, n = kh * kw * per_group, m // groups
    length = _chunk(k)
    tile_m = tile_rows(ctx, sizes[2], k, n, length)
    split_n, units = brgemm_units(ctx, sizes, tile_m, n)
    table, chunks = entries(_segments(x, w, groups, window), length)
    weights, bias = ctx.constant(1), ctx.constant(2)
    assert weights is not None
    params: dict[str, Any] = {
        "batch": sizes[0], "oh": sizes[1], "ow": sizes[2], "groups": groups, "n": n, "k": k,
        "a_batch": xs_[0], "a_row": xs_[1], "a_col": xs_[2], "a_group": per_group,
        "c_batch": cs[0], "c_row": cs[1], "c_col": cs[2], "c_group": n,
        "r_batch": rs[0], "r_row": rs[1], "r_col": rs[2], "r_group": n,
        "b_group": -(-n // ctx.panel) * k * ctx.panel,
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "b": ctx.packed(
            ("b", ctx.node.inputs[1], groups),
            lambda: ctx.pack_b(np.moveaxis(weights.reshape(k, groups, n), 1, 0)),
        ),
        "bias": None if bias is None else vector(ctx, bias, m),
        "tile_m": tile_m, "split_n": split_n, **epilogue(ctx),
    }  # fmt: skip
    flops = 2 * batch * oh * ow * k * m
    ctx.step("brgemm_f32", params, [x, residual], out, units=units, flops=flops)
    return None


def _chunk(k: int) -> int:
    """A convolution has many rows, so its sums are as long as the caches like them, and of even length."""
    chunks = max(1, -(-k // MAX_CHUNK))
    length = -(-k // chunks)
    return max(1, min(MAX_CHUNK, -(-length // 8) * 8))


def _segments(x: Tensor, w: Tensor, groups: int, window: windows.Window) -> list[tuple[int, int]]:
    """The runs of the image that one output reads: a row of the window where its pixels are neighbours in memory,
    else one pixel."""
    kh, kw, per_group, _ = w.shape
    dh, dw = window.dilations
    if groups == 1 and dw == 1 and x.strides[2] == per_group:
        return [(y * dh * x.strides[1], kw * per_group) for y in range(kh)]
    return [(y * dh * x.strides[1] + i * dw * x.strides[2], per_group) for y in range(kh) for i in range(kw)]


def _depthwise(ctx: Lowering, x: Tensor, w: Tensor, out: Tensor, window: windows.Window) -> str | None:
    kh, kw, _, c = w.shape
    batch, oh, ow, _ = out.shape
    weights, bias = ctx.constant(1), ctx.constant(2)
    assert weights is not None
    params: dict[str, Any] = {
        "batch": batch, "oh": oh, "ow": ow, "c": c, "kh": kh, "kw": kw,
        "in_batch": x.strides[0], "in_row": x.strides[1], "in_col": x.strides[2],
        "stride_h": window.strides[0], "stride_w": window.strides[1],
        "dilation_h": window.dilations[0], "dilation_w": window.dilations[1],
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "weights": ctx.packed(
            ("depthwise", ctx.node.inputs[1]), lambda: np.ascontiguousarray(weights.reshape(kh, kw, c))
        ),
        "bias": None if bias is None else vector(ctx, bias, c),
        **epilogue(ctx),
    }  # fmt: skip
    ctx.step("depthwise_f32", params, [x], out, units=batch * oh, flops=2 * batch * oh * ow * kh * kw * c)
    return None
