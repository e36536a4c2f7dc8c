"""Convolutions, products of matrices, embeddings, and what does nothing outside of training."""

# ruff: noqa: A002 - arguments have the names of ATen's schema

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten
from .windows import batched, each, unbatched


@aten("conv1d", "conv2d", "conv3d", "_convolution_mode")
def conv(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Ref:
    kernel = [e.size_of(weight, k) for k in range(2, e.rank_of(weight))]
    rank = len(kernel)
    x, alone = batched(e, input, rank)
    steps = each(dilation, rank)
    if padding == "same":
        total = [(k - 1) * d for k, d in zip(kernel, steps)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = each(0 if padding == "valid" else padding, rank) * 2
    window = {"kernel_shape": kernel, "strides": each(stride, rank), "pads": pads, "dilations": steps}
    return unbatched(e, e.node("Conv", x, weight, bias, **window, group=groups), alone)


@aten("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Ref:
    kernel = [e.size_of(weight, k) for k in range(2, e.rank_of(weight))]
    rank = len(kernel)
    return e.node(
        "ConvTranspose",
        *(input, weight, bias),
        kernel_shape=kernel,
        strides=each(stride, rank),
        pads=each(padding, rank) * 2,
        output_padding=each(output_padding, rank),
        dilations=each(dilation, rank),
        group=groups,
    )


@aten("convolution", "_convolution")
def convolution(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    **backend: bool,
) -> Ref:
    if transposed:
        return conv_transpose(e, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(e, input, weight, bias, stride, padding, dilation, groups)


# ---- products


@aten("linear")
def linear(e: Emitter, input: Any, weight: Any, bias: Any = None) -> Ref:
    known = e.constant(weight)
    if known is not None:
        kernel: Any = Ref(e.add_constant(f"{weight}.T", np.ascontiguousarray(known.T)))
    else:
        kernel = e.node("Transpose", weight, perm=[1, 0]) if e.rank_of(weight) == 2 else weight
    y = e.node("MatMul", input, kernel)
    return y if bias is None else e.node("Add", y, bias)


@aten("addmm", "baddbmm", "addmv")
def addmm(
    e: Emitter,
    self: Any,
    mat1: Any = None,
    mat2: Any = None,
    beta: Any = 1,
    alpha: Any = 1,
    batch1: Any = None,
    batch2: Any = None,
    mat: Any = None,
    vec: Any = None,
) -> Ref:
    left = next(m for m in (mat1, batch1, mat) if m is not None)
    right = next(m for m in (mat2, batch2, vec) if m is not None)
    y = e.node("MatMul", left, right)
    dtype = e.dtype_of(self)
    if alpha != 1:
        y = e.node("Mul", y, e.cast(alpha, dtype))
    if beta == 0:
        return y
    return e.node("Add", y, self if beta == 1 else e.node("Mul", self, e.cast(beta, dtype)))


@aten("mm", "bmm", "matmul", "mv", "dot")
def matmul(e: Emitter, self: Any, mat2: Any = None, other: Any = None, vec: Any = None, tensor: Any = None) -> Ref:
    return e.node("MatMul", self, next(m for m in (mat2, other, vec, tensor) if m is not None))


@aten("einsum")
def einsum(e: Emitter, equation: str, tensors: list[Any], path: Any = None) -> Ref:
    return e.node("Einsum", *tensors, equation=equation)


# ---- the rest


@aten("embedding")
def embedding(
    e: Emitter,
    weight: Any,
    indices: Any,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Ref:
    return e.node("Gather", weight, indices, axis=0)


@aten("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(e: Emitter, input: Any, p: float, train: bool) -> Ref:
    if train and p:
        raise e.refuse("dropout in training")
    return e.node("Identity", input)


@aten("native_dropout")
def native_dropout(e: Emitter, input: Any, p: float, train: Any) -> tuple[Any, ...]:
    return dropout(e, input, p, bool(train)), None


@aten("pixel_shuffle")
def pixel_shuffle(e: Emitter, self: Any, upscale_factor: int) -> Ref:
    return e.node("DepthToSpace", self, blocksize=upscale_factor, mode="CRD")


@aten("pixel_unshuffle")
def pixel_unshuffle(e: Emitter, self: Any, downscale_factor: int) -> Ref:
    n, c, h, w = (e.size(self, k) for k in range(4))
    if not isinstance(c, int) or not isinstance(h, int) or not isinstance(w, int):
        raise e.refuse("pixel_unshuffle of images of unknown size")
    f = downscale_factor
    x = e.reshape(self, [n, c, h // f, f, w // f, f])
    x = e.node("Transpose", x, perm=[0, 1, 3, 5, 2, 4])
    return e.node("Reshape", x, np.array([0, c * f * f, h // f, w // f], np.int64))


@aten("channel_shuffle")
def channel_shuffle(e: Emitter, self: Any, groups: int) -> Ref:
    channels = e.size_of(self, 1)
    shape = [e.size(self, k) for k in range(e.rank_of(self))]
    x = e.reshape(self, [shape[0], groups, channels // groups, *shape[2:]])
    x = e.node("Transpose", x, perm=[0, 2, 1, *range(3, len(shape) + 1)])
    return e.reshape(x, shape)


_FILLED = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(e: Emitter, x: Any, pad: list[int], mode: str, value: Any = None) -> Ref:
    """PyTorch lists pairs from the last axis to the first."""
    rank = e.rank_of(x)
    pairs = [(0, 0)] * (rank - len(pad) // 2) + [(pad[k], pad[k + 1]) for k in range(len(pad) - 2, -1, -2)]
    pads = np.array([p[0] for p in pairs] + [p[1] for p in pairs], np.int64)
    filler = None if not value else e.cast(value, e.dtype_of(x))
    return e.node("Pad", x, pads, filler, mode=_FILLED[mode])


@aten("pad")
def pad(e: Emitter, self: Any, pad: list[int], mode: str = "constant", value: Any = None) -> Ref:
    return _pad(e, self, pad, mode, value)


@aten("constant_pad_nd")
def constant_pad(e: Emitter, self: Any, pad: list[int], value: Any = 0) -> Ref:
    return _pad(e, self, pad, "constant", value)


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(e: Emitter, self: Any, padding: list[int]) -> Ref:
    return _pad(e, self, padding, "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(e: Emitter, self: Any, padding: list[int]) -> Ref:
    return _pad(e, self, padding, "replicate")


def _resized(e: Emitter, x: Any, sizes: Any, scales: Any, mode: str, align: bool) -> Ref:
    kept = [e.size(x, 0), e.size(x, 1)]
    coordinates = "align_corners" if align else "asymmetric" if mode == "nearest" else "half_pixel"
    if align and mode != "nearest":
        # PyTorch puts the only pixel of an output of size one at the start, as `align_corners` does.
        coordinates = "align_corners"
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    if mode == "cubic":
        attributes["cubic_coeff_a"] = -0.75
    if sizes is not None:
        return e.node("Resize", x, None, None, e.sizes_of([*kept, *sizes]), **attributes)
    if scales is None:
        raise e.refuse("a resize without sizes")
    return e.node("Resize", x, None, np.array([1, 1, *scales], np.float32), **attributes)


def _extent(sizes: Any, factors: Any, scales: dict[str, Any]) -> tuple[Any, Any]:
    """Sizes or scales: where both are given, the scales say where the pixels lie."""
    given = factors if factors is not None else list(scales.values())
    return (None, given) if given and None not in given else (sizes, None)


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def upsample_nearest(
    e: Emitter,
    self: Any = None,
    output_size: Any = None,
    scale_factors: Any = None,
    input: Any = None,
    **scales: Any,
) -> Ref:
    x = self if self is not None else input
    return _resized(e, x, *_extent(output_size, scale_factors, scales), "nearest", False)


@aten("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d")
def upsample_linear(
    e: Emitter,
    self: Any = None,
    output_size: Any = None,
    align_corners: bool = False,
    scale_factors: Any = None,
    input: Any = None,
    **scales: Any,
) -> Ref:
    x = self if self is not None else input
    mode = "cubic" if "bicubic" in e.op else "linear"
    return _resized(e, x, *_extent(output_size, scale_factors, scales), mode, align_corners)
