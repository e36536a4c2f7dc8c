"""How nhwc.Conv becomes steps: `depthwise_f32` where every channel is its own group, `stem_f32` for images of few
channels, `planes_f32` for few outputs, `winograd_f32` where it pays, else `brgemm_f32`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array
from ..tracked import call
from .lower import GRAIN, Convolution, binary_step, copy_step, dims, dtype_reason, given, transposed
from .lower_linear import brgemm_units, entries, epilogue, packed_weights, rows_of, sum_length, tile_rows, vector
from .lower_pixels import MOST_CHANNELS as MOST_OF_PIXELS
from .lower_pixels import pixels_on_tiles
from .lower_planes import MOST_OUTPUTS as MOST_OF_PLANES
from .lower_planes import on_planes
from .lower_split import Products, conv_on_tiles
from .lower_stem import on_stem
from .lower_winograd import on_winograd
from .registry import Lowering, Tensor

__all__ = ["lower_conv", "products"]


def lower_conv(ctx: Lowering) -> str | None:
    """nhwc.Conv. The image's border is in memory: the planner's halo, or a padded copy."""
    if reason := dtype_reason(ctx):
        return reason
    x, w, out = given(ctx), ctx.constant(1), ctx.output()
    residual, scale = ctx.input(3), ctx.input(4)
    if w is None or (ctx.constant(2) is None and ctx.input(2) is not None):
        return "the weights are not constant"
    if residual is not None and residual.shape != out.shape:
        return "the residual is broadcast"
    if len(x.shape) == 5:
        return _volumes(ctx, x, w, out, residual)
    top, left, bottom, right = ctx.attributes["pads"] or (0, 0, 0, 0)
    if ctx.attributes["channels_first"]:
        x = transposed(x, (0, 2, 3, 1))
        x.strides = (*x.strides[:3], 1 if x.shape[3] == 1 else x.strides[3])
    conv = Convolution(x, w, out, residual, (top, left, bottom, right), sum_length(w.size // w.shape[3]))
    if scale is None and _on_first_layers(ctx, conv):
        return None
    if x.strides[3] != 1:
        copy = ctx.temporary(x.shape)
        copy_step(ctx, x, copy)
        x = copy
    if scale is not None:
        if call(_scales_weights, *out.shape[1:]) and not _pixels_on_tiles(ctx, x, out):
            return _brgemm(ctx, x, w, out, residual, 1, scale)
        scaled = ctx.temporary(x.shape)
        binary_step(ctx, "mul_f32", x, scale, scaled)
        x = scaled
    conv.x = x
    if conv_on_tiles(ctx, conv):
        return None
    image = ctx.padded(x, conv.pads)
    offset = image.offset - top * image.strides[1] - left * image.strides[2]
    start = Tensor(image.buffer, image.shape, image.strides, offset)
    groups, channels, m = int(ctx.attributes["group"]), x.shape[3], w.shape[3]
    if groups == channels == m and groups > 1 and residual is None:
        return _depthwise(ctx, start, w, out)
    if on_winograd(ctx, start, w, out, residual):
        return None
    return _brgemm(ctx, start, w, out, residual, groups)


def _on_first_layers(ctx: Lowering, c: Convolution) -> bool:
    """By the kernels that read an image as the caller gave it."""
    channels, n = c.w.shape[2:]
    if int(ctx.attributes["group"]) != 1 or (channels > MOST_OF_PIXELS and n > MOST_OF_PLANES):
        return False  # none of them: most layers shall not have to ask each
    return (
        on_planes(ctx, c.x, c.w, c.out, c.residual, c.pads)
        or pixels_on_tiles(ctx, c)
        or on_stem(ctx, c.x, c.w, c.out, c.residual)
    )


def _steps(ctx: Lowering, name: str) -> tuple[int, int]:
    """`strides` or `dilations`, which the shape rule has checked."""
    height, width = ctx.attributes[name] or (1, 1)
    return height, width


def _pixels_on_tiles(ctx: Lowering, x: Tensor, out: Tensor) -> bool:
    """Whether a convolution of single pixels goes to matrix tiles, where the step that splits them takes factors."""
    read = Tensor(x.buffer, (x.shape[0], *out.shape[1:3], x.shape[3]), x.strides, x.offset)
    return Products(read, (0, 0, 0, 0), [(0, 0)], (1, 1), out, None, (), lambda: np.empty(0), 0).pays(ctx.terms)


def _scales_weights(height: int, width: int, outputs: int) -> bool:
    """Whether an image has more pixels than its channels have weights: it then costs less to multiply the weights."""
    return height * width > outputs


def _brgemm(
    ctx: Lowering,
    x: Tensor,
    w: Array,
    out: Tensor,
    residual: Tensor | None,
    groups: int,
    scale: Tensor | None = None,
) -> str | None:
    kh, kw, per_group, m = w.shape
    sh, sw = _steps(ctx, "strides")
    k = kh * kw * per_group
    products(
        ctx, x, out, residual,
        steps=(x.strides[0], x.strides[1] * sh, x.strides[2] * sw),
        segments=_segments(x, w.shape, groups, _steps(ctx, "dilations")),
        groups=groups,
        key=("b", ctx.node.inputs[1], groups),
        b=lambda: (
            w.reshape(1, kh * kw, per_group, m)
            if groups == 1
            else w.reshape(k, groups, m // groups).transpose(1, 0, 2)
        ),
        scale=scale,
    )  # fmt: skip
    return None


def _volumes(ctx: Lowering, x: Tensor, w: Array, out: Tensor, residual: Tensor | None) -> str | None:
    """Convolution with depth: products of windows in a padded copy."""
    a, groups = ctx.attributes, int(ctx.attributes["group"])
    strides, dilations = a["strides"] or (1, 1, 1), a["dilations"] or (1, 1, 1)
    pads = a["pads"] or (0,) * 6
    if any(pads):
        widths = [(0, 0), *zip(pads[:3], pads[3:]), (0, 0)]
        copy = ctx.temporary(tuple(size + before + after for size, (before, after) in zip(x.shape, widths)))
        index = [np.pad(np.arange(size), width, constant_values=-1) for size, width in zip(x.shape, widths)]
        params = {"rank": 5, "shape": dims(copy.shape), "in_stride": dims(x.strides), "out_stride": dims(copy.strides),
                  "index": np.concatenate(index).astype(np.int64), "value": 0.0}  # fmt: skip
        ctx.step("pad_f32", params, [x], copy, units=copy.size, grain=GRAIN, flops=copy.size)
        x = copy
    m = w.shape[-1]
    inner = Tensor(x.buffer, x.shape[1:], x.strides[1:], x.offset)
    slices = _segments(inner, w.shape[1:], groups, dilations[1:])
    depth = [z * dilations[0] * x.strides[1] for z in range(w.shape[0])]
    products(
        ctx, x, out, residual,
        steps=(x.strides[0], *(s * step for s, step in zip(strides, x.strides[1:]))),
        segments=[(z + offset, length) for z in depth for offset, length in slices],
        groups=groups,
        key=("b", ctx.node.inputs[1], groups),
        b=lambda: w.reshape(-1, groups, m // groups).transpose(1, 0, 2),
    )  # fmt: skip
    return None


def products(
    ctx: Lowering,
    x: Tensor,
    out: Tensor,
    residual: Tensor | None,
    *,
    steps: tuple[int, ...],
    segments: list[tuple[int, int]],
    groups: int,
    key: tuple[Any, ...],
    b: Callable[[], Array],
    scale: Tensor | None = None,
) -> None:
    """Matrix products of windows: every pixel of `out` is the sum over the segments of `x`, from the pixel's place on,
    times the weights, with the node's bias and activation.

    Parameters
    ----------
    steps
        Strides of x between neighbouring pixels of the output, per leading dimension.
    segments
        (offset into x, length) of the runs that one output of the first group reads, in the order of the weights' rows.
    key, b
        The name of the weights for `packed`, and what makes them for `pack_b`: [groups, rows, columns].
    scale
        A factor for each row of the weights, for each image or for all, of two spatial dimensions.
    """
    m, n = out.shape[-1], out.shape[-1] // groups
    k = sum(length for _, length in segments)
    merged = _merged(out, steps, residual, apart=scale is not None and scale.shape[0] != 1)
    if merged is None:  # image by image
        for i in range(out.shape[0]):
            parts = [None if t is None else _image(t, i, s) for t, s in ((out, None), (residual, None))]
            assert parts[0] is not None
            products(ctx, _image(x, i, steps[0]), parts[0], parts[1], steps=steps[1:], segments=segments,
                     groups=groups, key=key, b=b)  # fmt: skip
        return
    sizes, (xs, cs, rs) = merged
    length = sum_length(k)
    tile_m = tile_rows(ctx, sizes[2], k, n, length, xs[2])
    split_n, units = brgemm_units(ctx, sizes, tile_m, n)
    table, chunks = entries(segments, length)
    bias = ctx.constant(2)
    scaled: list[Tensor] = []
    kernel, weights, b_batch = "brgemm_f32", None, 0
    if scale is None:
        kernel, weights = packed_weights(ctx, key, math.prod(ctx.output().shape[1:-1]), k * m, b)
    else:
        scaled, b_batch = _scaled(ctx, ctx.packed(key, lambda: ctx.pack_b(b())), scale)
    params: dict[str, Any] = {
        "batch": sizes[0], "oh": sizes[1], "ow": sizes[2], "groups": groups, "n": n, "k": k,
        "a_batch": xs[0], "a_row": xs[1], "a_col": xs[2], "a_group": x.shape[-1] // groups,
        "c_batch": cs[0], "c_row": cs[1], "c_col": cs[2], "c_group": n,
        "r_batch": rs[0], "r_row": rs[1], "r_col": rs[2], "r_group": n,
        "b_batch": b_batch, "b_group": -(-n // ctx.panel) * k * ctx.panel,
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "b": weights,
        "bias": None if bias is None else vector(ctx, bias, m),
        "tile_m": tile_m, "split_n": split_n, **epilogue(ctx),
    }  # fmt: skip
    flops = 2 * out.size * k
    ctx.step(kernel, params, [x, residual, *scaled], out, units=units, flops=flops)


def _merged(
    out: Tensor, steps: tuple[int, ...], residual: Tensor | None, *, apart: bool
) -> tuple[list[int], list[list[int]]] | None:
    """`rows_of` the windows, the output and the residual; where they stay `apart`, the images are the batch."""
    r = None if residual is None else residual.strides[:-1]
    if not apart:
        return rows_of(out.shape[:-1], steps, out.strides[:-1], r)
    found = rows_of(out.shape[1:-1], steps[1:], out.strides[1:-1], None if r is None else r[1:])
    assert found is not None
    for strides, image in zip(found[1], (steps[0], out.strides[0], 0 if r is None else r[0])):
        strides[0] = image
    return [out.shape[0], *found[0][1:]], found[1]


def _scaled(ctx: Lowering, b: Array, scale: Tensor) -> tuple[list[Tensor], int]:
    """Packed weights times the factors of their rows, and the distance from those of an image to the next one's."""
    _, panels, k, width = b.shape
    images = scale.shape[0]
    scaled = ctx.temporary((images, panels, k, width))
    size = panels * k * width
    params = {"batch": images, "k": k, "n": panels * width, "in_batch": scale.strides[0], "out_batch": size}
    ctx.step("scale_panels_f32", params, [scale, ctx.tensor(b)], scaled, units=images * panels, flops=scaled.size)
    return [scaled], (size if images != 1 else 0)


def _image(tensor: Tensor, index: int, stride: int | None) -> Tensor:
    """One image of a batch."""
    step = tensor.strides[0] if stride is None else stride
    return Tensor(tensor.buffer, tensor.shape[1:], tensor.strides[1:], tensor.offset + index * step)


def _segments(x: Tensor, weights: tuple[int, ...], groups: int, dilations: tuple[int, int]) -> list[tuple[int, int]]:
    """The runs of the image that one output reads: a row of the window where its pixels are neighbours in memory,
    else one pixel."""
    kh, kw, per_group, _ = weights
    dh, dw = dilations
    if groups == 1 and dw == 1 and x.strides[2] == per_group:
        return [(y * dh * x.strides[1], kw * per_group) for y in range(kh)]
    return [(y * dh * x.strides[1] + i * dw * x.strides[2], per_group) for y in range(kh) for i in range(kw)]


def _depthwise(ctx: Lowering, x: Tensor, w: Array, out: Tensor) -> str | None:
    kh, kw, _, c = w.shape
    (sh, sw), (dh, dw) = _steps(ctx, "strides"), _steps(ctx, "dilations")
    batch, oh, ow, _ = out.shape
    bias = ctx.constant(2)
    params: dict[str, Any] = {
        "batch": batch, "oh": oh, "ow": ow, "c": c, "kh": kh, "kw": kw,
        "in_batch": x.strides[0], "in_row": x.strides[1], "in_col": x.strides[2],
        "stride_h": sh, "stride_w": sw, "dilation_h": dh, "dilation_w": dw,
        "out_batch": out.strides[0], "out_row": out.strides[1], "out_col": out.strides[2],
        "weights": ctx.packed(
            ("depthwise", ctx.node.inputs[1]), lambda: np.ascontiguousarray(w.reshape(kh, kw, c))
        ),
        "bias": None if bias is None else vector(ctx, bias, c),
        **epilogue(ctx),
    }  # fmt: skip
    ctx.step("depthwise_f32", params, [x], out, units=batch * oh, flops=2 * batch * oh * ow * kh * kw * c)
    return None
