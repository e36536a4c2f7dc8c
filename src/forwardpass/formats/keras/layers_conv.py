"""Convolutions and pooling in one, two and three dimensions, in both data formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph import Array, Dim
from .activations import activate, over_axis
from .call import Call
from .kinds import Flow, layer, only

_PADDINGS = ("valid", "same")


class _Image:
    """The layer's input with channels first, and the way back."""

    def __init__(self, c: Call, count: int) -> None:
        self.c, self.count = c, count
        if c.rank(c.x) != count + 2:
            raise c.layer.error("input", f"{count + 2} dimensions", c.rank(c.x))
        self.first = c.layer.channels_first
        self.x = c.x if self.first else c.transpose(c.x, [0, count + 1, *range(1, count + 1)])
        self.channels = c.size(self.x, 1)
        self.sizes = c.shape(self.x)[2:]

    def back(self, y: str) -> str:
        return y if self.first else self.c.transpose(y, [0, *range(2, self.count + 2), 1])


def _window(
    sizes: Sequence[Dim], taps: list[int], strides: list[int], steps: list[int], padding: str
) -> dict[str, Any]:
    """Attributes of a window. With "same" the output has ceil(size / stride) values and the odd pad is at the end;
    "causal" looks at the past alone."""
    found: dict[str, Any] = {"kernel_shape": taps, "strides": strides, "dilations": steps}
    if padding == "valid":
        return {**found, "pads": [0] * (2 * len(taps))}
    if padding == "causal":
        return {**found, "pads": [(taps[0] - 1) * steps[0], 0]}
    if not all(isinstance(s, int) for s in sizes):
        return {**found, "auto_pad": "SAME_UPPER"}
    begin, end = [], []
    for size, tap, stride, step in zip(sizes, taps, strides, steps):
        assert isinstance(size, int)
        total = max((-(-size // stride) - 1) * stride + (tap - 1) * step + 1 - size, 0)
        begin.append(total // 2)
        end.append(total - total // 2)
    return {**found, "pads": begin + end}


def _digits(kind: str) -> int:
    """The number of spatial dimensions in the name of a class."""
    return next(int(k) for k in kind if k.isdigit())


def _finish(c: Call, image: _Image, y: str) -> str:
    """The activation before the way back, where it can be fused; those that work along the channels come after."""
    if over_axis(c.layer):
        return activate(c, image.back(y))
    return image.back(activate(c, y))


def _bias(c: Call, size: int) -> list[str]:
    return [c.constant("bias", c.weight("bias", [size]))] if c.layer.flag("use_bias", True) else []


def _arguments(c: Call, count: int) -> tuple[list[int], list[int], list[int]]:
    taps = c.layer.integers("kernel_size", count)
    return taps, c.layer.integers("strides", count, 1), c.layer.integers("dilation_rate", count, 1)


def _spread(kernel: Array) -> Array:
    """Keras' [sizes, in, out] as ONNX' [out, in, sizes]."""
    found: Array = kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    return found


@layer("Conv1D", "Conv2D", "Conv3D", weights=only("kernel", bias="use_bias"))
def convolution(c: Call) -> str:
    count = _digits(c.layer.kind)
    image = _Image(c, count)
    taps, strides, steps = _arguments(c, count)
    filters, groups = c.layer.integer("filters"), c.layer.integer("groups", 1)
    padding = c.layer.choice("padding", (*_PADDINGS, "causal") if count == 1 else _PADDINGS, "valid")
    if image.channels % groups or filters % groups:
        raise c.layer.error("groups", f"a divisor of {image.channels} and {filters}", groups)
    kernel = c.weight("kernel", [*taps, image.channels // groups, filters])
    inputs = [image.x, c.constant("kernel", _spread(kernel)), *_bias(c, filters)]
    window = _window(image.sizes, taps, strides, steps, padding)
    return _finish(c, image, c.node("Conv", inputs, **window, group=groups))


def _depthwise(c: Call, image: _Image, name: str) -> tuple[str, dict[str, Any]]:
    """The kernel, [channels * multiplier, 1, sizes], and the attributes. Output c * multiplier + m is filter m of
    channel c, in Keras and in ONNX."""
    count = image.count
    taps, strides, steps = _arguments(c, count)
    multiplier = c.layer.integer("depth_multiplier", 1)
    padding = c.layer.choice("padding", (*_PADDINGS, "causal") if count == 1 else _PADDINGS, "valid")
    kernel = c.weight(name, [*taps, image.channels, multiplier])
    spread = kernel.transpose(count, count + 1, *range(count)).reshape(image.channels * multiplier, 1, *taps)
    return c.constant(name, spread), {**_window(image.sizes, taps, strides, steps, padding), "group": image.channels}


@layer("DepthwiseConv1D", "DepthwiseConv2D", weights=only("depthwise_kernel", bias="use_bias"))
def depthwise(c: Call) -> str:
    image = _Image(c, _digits(c.layer.kind))
    kernel, window = _depthwise(c, image, "depthwise_kernel")
    bias = _bias(c, image.channels * c.layer.integer("depth_multiplier", 1))
    return _finish(c, image, c.node("Conv", [image.x, kernel, *bias], **window))


@layer("SeparableConv1D", "SeparableConv2D", weights=only("depthwise_kernel", "pointwise_kernel", bias="use_bias"))
def separable(c: Call) -> str:
    image = _Image(c, _digits(c.layer.kind))
    kernel, window = _depthwise(c, image, "depthwise_kernel")
    filters = c.layer.integer("filters")
    middle = image.channels * c.layer.integer("depth_multiplier", 1)
    ones = [1] * image.count
    pointwise = c.constant("pointwise_kernel", _spread(c.weight("pointwise_kernel", [*ones, middle, filters])))
    y = c.node("Conv", [image.x, kernel], **window)
    return _finish(c, image, c.node("Conv", [y, pointwise, *_bias(c, filters)], kernel_shape=ones))


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", weights=only("kernel", bias="use_bias"))
def transposed(c: Call) -> str:
    """The gradient of a convolution. Where a window of `extent` grows to `size` per stride, what ONNX would make
    too much is cut off as pads, and what is missing is added as output padding."""
    count = _digits(c.layer.kind)
    image = _Image(c, count)
    taps, strides, steps = _arguments(c, count)
    filters = c.layer.integer("filters")
    padding = c.layer.choice("padding", _PADDINGS, "valid")
    given = c.layer.config.get("output_padding")
    extra = None if given is None else c.layer.integers("output_padding", count, least=0)
    begin, end, more = [], [], []
    for k, (tap, stride, step) in enumerate(zip(taps, strides, steps)):
        extent = (tap - 1) * step + 1
        # What the output has beyond (size - 1) * stride.
        if extra is not None:
            rest = extent + extra[k] - (2 * (extent // 2) if padding == "same" else 0)
        else:
            rest = stride if padding == "same" else max(extent, stride)
        before = max(extent - rest, 0) // 2 if padding == "same" else 0
        begin.append(before)
        end.append(max(extent - rest - before, 0))
        more.append(max(rest + before - extent, 0))
    kernel = c.weight("kernel", [*taps, filters, image.channels])
    inputs = [image.x, c.constant("kernel", _spread(kernel)), *_bias(c, filters)]
    y = c.node(
        "ConvTranspose",
        inputs,
        kernel_shape=taps,
        strides=strides,
        dilations=steps,
        pads=begin + end,
        output_padding=more,
    )
    return _finish(c, image, y)


@layer(*(f"{how}Pooling{n}D" for how in ("Max", "Average") for n in (1, 2, 3)))
def pool(c: Call) -> str:
    count = _digits(c.layer.kind)
    image = _Image(c, count)
    taps = c.layer.integers("pool_size", count, 2)
    strides = c.layer.integers("strides", count, taps if count > 1 else taps[0])
    window = _window(image.sizes, taps, strides, [1] * count, c.layer.choice("padding", _PADDINGS, "valid"))
    op = "MaxPool" if c.layer.kind.startswith("Max") else "AveragePool"
    return image.back(c.node(op, [image.x], **window))


@layer(*(f"Global{how}Pooling{n}D" for how in ("Max", "Average") for n in (1, 2, 3)))
def global_pool(c: Call) -> Flow:
    average = "Average" in c.layer.kind
    image = _Image(c, _digits(c.layer.kind))
    keep = c.layer.flag("keepdims", False)
    mask = c.only().mask
    if mask is not None and average and image.count == 1:
        return Flow(_masked_mean(c, image, mask, keep))
    y = c.node("GlobalAveragePool" if average else "GlobalMaxPool", [image.x])
    return Flow(image.back(y) if keep else c.node("Flatten", [y], axis=1))


def _masked_mean(c: Call, image: _Image, mask: str, keep: bool) -> str:
    known = c.node("Unsqueeze", [c.cast(mask, np.float32), c.ints([1], "axes")])
    axes = c.ints([2], "axes")
    total = c.node("ReduceSum", [c.node("Mul", [image.x, known]), axes], keepdims=1)
    mean = c.node("Div", [total, c.node("ReduceSum", [known, axes], keepdims=1)])
    return image.back(mean) if keep else c.node("Flatten", [mean], axis=1)
