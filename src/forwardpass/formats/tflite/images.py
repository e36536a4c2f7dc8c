"""Convolutions, pools, dense layers and resizing. Images are [N, H, W, C]."""

from __future__ import annotations

from typing import Any

from ...errors import UnsupportedError
from .call import Call, operator

__all__: list[str] = []


def _padding(c: Call) -> str:
    number = c.option(0, form="b")
    if number not in (0, 1):
        raise c.error("the padding is not known", expected="0 or 1", got=str(number))
    return ("SAME_UPPER", "VALID")[number]


def _pair(c: Call, height: int, width: int, default: int = 0) -> list[int]:
    found = [c.option(height, default), c.option(width, default)]
    if min(found) < 1:
        raise c.error("a step or a window is wrong", expected="at least 1", got=str(found))
    return found


def _bias(c: Call) -> list[str]:
    return [c.x(2)] if c.has(2) else []


@operator("CONV_2D")
def convolution(c: Call) -> str:
    x, sizes = c.first(c.x(0)), c.tensor(1).shape or ()
    channels, inside = c.shape(x)[1], sizes[3] if len(sizes) == 4 else None
    if not isinstance(channels, int) or not inside or channels % int(inside):
        raise c.error("the channels do not fit", expected=f"a multiple of {inside}", got=str(channels))
    window: dict[str, Any] = {"strides": _pair(c, 2, 1), "dilations": _pair(c, 5, 4, 1), "auto_pad": _padding(c)}
    weights = c.weights(1, [0, 3, 1, 2])
    y = c.node("Conv", x, weights, *_bias(c), group=channels // int(inside), **window)
    return c.last(c.activated(y, 3))


@operator("DEPTHWISE_CONV_2D")
def depthwise(c: Call) -> str:
    x = c.first(c.x(0))
    channels = c.shape(x)[1]
    if not isinstance(channels, int):
        raise UnsupportedError("the number of channels must be known", where=c.where)
    window: dict[str, Any] = {"strides": _pair(c, 2, 1), "dilations": _pair(c, 6, 5, 1), "auto_pad": _padding(c)}
    # Output c * multiplier + m is filter m of channel c, here and in ONNX.
    y = c.node("Conv", x, c.weights(1, [3, 0, 1, 2]), *_bias(c), group=channels, **window)
    return c.last(c.activated(y, 4))


@operator("TRANSPOSE_CONV")
def transposed(c: Call) -> str:
    """The gradient of a convolution whose image has the size that the first input says."""
    x, sizes = c.first(c.x(2)), c.tensor(1).shape or ()
    if len(sizes) != 4:
        raise c.error("the rank of the weights is wrong", expected="4", got=str(len(sizes)))
    strides, same = _pair(c, 2, 1), _padding(c) == "SAME_UPPER"
    asked = c.integers(0) if c.tensor(0).data is not None else [0] * 4
    begin, end, more = [], [], []
    for axis, stride in enumerate(strides):
        tap, size, out = int(sizes[1 + axis] or 1), c.shape(x)[2 + axis], asked[1 + axis]
        # What ONNX would make beyond what is asked for; where that is not known, beyond what Keras asks for.
        rest = tap - stride if same else min(tap - stride, 0)
        if out and isinstance(size, int):
            rest = (size - 1) * stride + tap - out
        begin.append(max(rest, 0) // 2)
        end.append(max(rest, 0) - max(rest, 0) // 2)
        more.append(max(-rest, 0))
    bias = [c.x(3)] if c.has(3) else []
    y = c.node(
        "ConvTranspose", x, c.weights(1, [3, 0, 1, 2]), *bias, strides=strides, pads=begin + end, output_padding=more
    )
    return c.last(c.activated(y, 3))


@operator("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(c: Call) -> str:
    op = "MaxPool" if c.kind.startswith("MAX") else "AveragePool"
    y = c.node(op, c.first(c.x()), kernel_shape=_pair(c, 4, 3), strides=_pair(c, 2, 1), auto_pad=_padding(c))
    return c.last(c.activated(y, 5))


@operator("FULLY_CONNECTED")
def dense(c: Call) -> str:
    """`activation(x @ weights^T + bias)`, weights [units, inputs]."""
    if c.option(1, form="b"):
        raise UnsupportedError("shuffled weights are not read", where=c.where)
    x, sizes = c.x(0), c.tensor(1).shape or ()
    weights = c.weights(1, [1, 0])
    if not c.flag(2) and c.rank(x) != 2 and len(sizes) == 2:
        x = c.node("Reshape", x, c.ints([-1, sizes[1]]))
    if c.rank(x) == 2 and c.has(2):
        y = c.node("Gemm", x, weights, c.x(2))
    else:
        y = c.node("MatMul", x, weights)
        y = c.node("Add", y, c.x(2)) if c.has(2) else y
    return c.activated(y, 0)


@operator("BATCH_MATMUL")
def matmul(c: Call) -> str:
    operands = []
    for k in (0, 1):
        x = c.x(k)
        rank = c.rank(x)
        if c.flag(k):
            x = c.node("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(x)
    return c.node("MatMul", *operands)


@operator("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(c: Call) -> str:
    linear = c.kind == "RESIZE_BILINEAR"
    align, half = (c.flag(k) for k in ((2, 3) if linear else (0, 1)))
    attributes: dict[str, Any] = {"mode": "linear" if linear else "nearest", "axes": [2, 3]}
    attributes["coordinate_transformation_mode"] = "align_corners" if align else "half_pixel" if half else "asymmetric"
    if not linear:
        attributes["nearest_mode"] = "round_prefer_ceil" if align or half else "floor"
    return c.last(c.node("Resize", c.first(c.x(0)), "", "", c.int64(1), **attributes))


@operator("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", moves=True)
def blocks(c: Call) -> str:
    op = "DepthToSpace" if c.kind == "DEPTH_TO_SPACE" else "SpaceToDepth"
    return c.last(c.node(op, c.first(c.x()), blocksize=c.option(0)))
