"""Layers on channels-last images. ONNX is channels-first: their operators stand between two transposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from ..graph import Array
from .core import activate, check_activation
from .layer import Layer, Scope, Sizes, Weights, integer, pair

__all__ = [
    "AveragePool2D",
    "BatchNormalization",
    "Conv2D",
    "DepthwiseConv2D",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "MaxPool2D",
    "ZeroPadding2D",
]

IntPair = int | Sequence[int]
_OVER_CHANNELS = ("softmax", "log_softmax")


def _transposed(scope: Scope, x: str, order: list[int]) -> str:
    """Transpose of a value; where that would undo a Transpose, what was transposed.

    The Transpose that is not read then stays, as the value that has the name of its layer.
    """
    made = scope.producer(x)
    if made is not None and made.op == "Transpose" and [order[k] for k in made.attributes["perm"]] == sorted(order):
        return made.inputs[0]
    return scope.node("Transpose", [x], perm=order)


def _channels_first(scope: Scope, x: str) -> str:
    return _transposed(scope, x, [0, 3, 1, 2])


def _channels_last(scope: Scope, x: str) -> str:
    return scope.node("Transpose", [x], perm=[0, 2, 3, 1])


def _image(layer: Layer, sizes: Sizes) -> tuple[int | None, int | None, int]:
    """Height, width, channels."""
    if len(sizes) != 3 or sizes[2] is None:
        raise layer.mismatch("not images", "(N, height, width, channels) with known channels", sizes)
    return sizes[0], sizes[1], sizes[2]


def _check_padding(layer: Layer, padding: Any) -> str:
    if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
        raise layer.error("padding", "'valid' or 'same'", padding)
    return padding.lower()


class _Window(Layer):
    """A window of `taps` that slides over images by `strides`."""

    taps: tuple[int, int]
    strides: Any
    padding: str
    dilation_rate: Any = (1, 1)

    def slide(self, sizes: Sizes) -> tuple[int | None, int | None]:
        """Height and width of the output, by the Keras rules.

        valid: floor((size - extent) / stride) + 1; same: ceil(size / stride).
        """
        result: list[int | None] = []
        for size, taps, stride, step in zip(sizes[:2], self.taps, self.strides, self.dilation_rate):
            extent = (taps - 1) * step + 1
            if size is None:
                result.append(None)
            elif self.padding == "same":
                result.append(-(-size // stride))
            elif size < extent:
                raise self.mismatch("the window is larger than the image", f"at least {extent} pixels", sizes)
            else:
                result.append((size - extent) // stride + 1)
        return result[0], result[1]

    def window(self, sizes: Sizes) -> dict[str, Any]:
        """The ONNX attributes of the window over images of these sizes.

        With "same" the pads are (ceil(size / stride) - 1) * stride + extent - size in all, the odd one at the
        end, which is SAME_UPPER; that name stands in where the size is not known.
        """
        found: dict[str, Any] = {
            "kernel_shape": list(self.taps),
            "strides": list(self.strides),
            "dilations": list(self.dilation_rate),
        }
        if self.padding == "valid":
            return {**found, "pads": [0, 0, 0, 0]}
        if None in sizes[:2]:
            return {**found, "auto_pad": "SAME_UPPER"}
        begin, end = [], []
        for size, taps, stride, step in zip(sizes, self.taps, self.strides, self.dilation_rate):
            assert size is not None
            total = max((-(-size // stride) - 1) * stride + (taps - 1) * step + 1 - size, 0)
            begin.append(total // 2)
            end.append(total - total // 2)
        return {**found, "pads": begin + end}


class _Convolution(_Window):
    """A convolution: window, bias, activation."""

    activation: str | None
    use_bias: bool

    def normalise(self, kernel_size: IntPair) -> None:
        """Check what all convolutions share."""
        self.taps = pair(self, "kernel_size", kernel_size)
        self.strides = pair(self, "strides", self.strides)
        self.dilation_rate = pair(self, "dilation_rate", self.dilation_rate)
        self.padding = _check_padding(self, self.padding)
        check_activation(self, self.activation)

    def convolve(self, scope: Scope, x: str, kernel: Array, group: int) -> str:
        """Emit the operator for a kernel in ONNX layout, [out, in / group, height, width]."""
        inputs = [_channels_first(scope, x), scope.constant("kernel", kernel)]
        if self.use_bias:
            inputs.append(scope.constant("bias", scope.weights["bias"]))
        y = scope.node("Conv", inputs, **self.window(scope.sizes[0]), group=group)
        if self.activation in _OVER_CHANNELS:
            return activate(scope, _channels_last(scope, y), self.activation)
        return _channels_last(scope, activate(scope, y, self.activation))


@dataclass(eq=False, repr=False)
class Conv2D(_Convolution):
    """2-D convolution. Weights: kernel [height, width, in / groups, filters], bias [filters]."""

    kind = "conv2d"
    filters: int
    kernel_size: IntPair
    strides: IntPair = (1, 1)
    padding: str = "valid"
    _: KW_ONLY
    dilation_rate: IntPair = (1, 1)
    groups: int = 1
    activation: str | None = None
    use_bias: bool = True

    def check(self) -> None:
        self.filters = integer(self, "filters", self.filters)
        self.groups = integer(self, "groups", self.groups)
        if self.filters % self.groups:
            raise self.error("groups", f"a divisor of filters = {self.filters}", self.groups)
        self.normalise(self.kernel_size)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        channels = _image(self, inputs[0])[2]
        if channels % self.groups:
            raise self.mismatch("the channels do not divide into groups", f"a multiple of {self.groups}", *inputs)
        weights: Weights = {"kernel": (*self.taps, channels // self.groups, self.filters)}
        if self.use_bias:
            weights["bias"] = (self.filters,)
        return (*self.slide(inputs[0]), self.filters), weights

    def emit(self, scope: Scope, *inputs: str) -> str:
        return self.convolve(scope, inputs[0], scope.weights["kernel"].transpose(3, 2, 0, 1), self.groups)


@dataclass(eq=False, repr=False)
class DepthwiseConv2D(_Convolution):
    """A convolution of every channel by itself.

    Weights: depthwise_kernel [height, width, channels, depth_multiplier], bias [channels * depth_multiplier].
    """

    kind = "depthwise_conv2d"
    kernel_size: IntPair
    strides: IntPair = (1, 1)
    padding: str = "valid"
    depth_multiplier: int = 1
    _: KW_ONLY
    dilation_rate: IntPair = (1, 1)
    activation: str | None = None
    use_bias: bool = True

    def check(self) -> None:
        self.depth_multiplier = integer(self, "depth_multiplier", self.depth_multiplier)
        self.normalise(self.kernel_size)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        channels = _image(self, inputs[0])[2]
        weights: Weights = {"depthwise_kernel": (*self.taps, channels, self.depth_multiplier)}
        if self.use_bias:
            weights["bias"] = (channels * self.depth_multiplier,)
        return (*self.slide(inputs[0]), channels * self.depth_multiplier), weights

    def emit(self, scope: Scope, *inputs: str) -> str:
        kernel = scope.weights["depthwise_kernel"]
        height, width, channels, multiplier = kernel.shape
        # Output c * multiplier + m is filter m of channel c, in Keras and in ONNX.
        onnx = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
        return self.convolve(scope, inputs[0], onnx, channels)


@dataclass(eq=False, repr=False)
class _Pool(_Window):
    op = ""
    pool_size: IntPair = (2, 2)
    strides: IntPair | None = None
    padding: str = "valid"

    def check(self) -> None:
        self.taps = pair(self, "pool_size", self.pool_size)
        self.strides = self.taps if self.strides is None else pair(self, "strides", self.strides)
        self.padding = _check_padding(self, self.padding)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        channels = _image(self, inputs[0])[2]
        return (*self.slide(inputs[0]), channels), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        window = {k: v for k, v in self.window(scope.sizes[0]).items() if k != "dilations"}
        return _channels_last(scope, scope.node(self.op, [_channels_first(scope, inputs[0])], **window))


class MaxPool2D(_Pool):
    """The largest value in each window."""

    kind, op = "max_pooling2d", "MaxPool"


class AveragePool2D(_Pool):
    """The mean of each window; padding does not count."""

    kind, op = "average_pooling2d", "AveragePool"


@dataclass(eq=False, repr=False)
class _GlobalPool(Layer):
    op = ""
    keepdims: bool = False

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        channels = _image(self, inputs[0])[2]
        return ((1, 1, channels) if self.keepdims else (channels,)), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        y = scope.node(self.op, [_channels_first(scope, inputs[0])])
        return _channels_last(scope, y) if self.keepdims else scope.node("Flatten", [y], axis=1)


class GlobalAveragePool2D(_GlobalPool):
    """The mean over height and width."""

    kind, op = "global_average_pooling2d", "GlobalAveragePool"


class GlobalMaxPool2D(_GlobalPool):
    """The maximum over height and width."""

    kind, op = "global_max_pooling2d", "GlobalMaxPool"


@dataclass(eq=False, repr=False)
class ZeroPadding2D(Layer):
    """Zeros around images: an integer, (height, width), or ((top, bottom), (left, right))."""

    kind = "zero_padding2d"
    padding: int | Sequence[int] | Sequence[Sequence[int]] = (1, 1)

    def check(self) -> None:
        outer = self.padding if isinstance(self.padding, Sequence) else (self.padding, self.padding)
        if len(outer) != 2:
            raise self.error("padding", "an integer, two, or two pairs", self.padding)
        self.padding = tuple(pair(self, "padding", p, 0) for p in outer)

    @property
    def _pads(self) -> list[tuple[int, int]]:
        return list(self.padding)  # type: ignore[arg-type]

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        height, width, channels = _image(self, inputs[0])
        grown = [None if d is None else d + sum(p) for d, p in zip((height, width), self._pads)]
        return (grown[0], grown[1], channels), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        (top, bottom), (left, right) = self._pads
        pads = scope.constant("pads", np.array([0, top, left, 0, 0, bottom, right, 0], np.int64))
        return scope.node("Pad", [inputs[0], pads], mode="constant")


@dataclass(eq=False, repr=False)
class BatchNormalization(Layer):
    """`gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta` along one axis.

    The axis counts with the batch dimension. `momentum` acts in training only.
    """

    kind = "batch_normalization"
    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 0.001
    center: bool = True
    scale: bool = True

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        (sizes,) = inputs
        rank = len(sizes) + 1
        if not isinstance(self.axis, int) or not -rank < self.axis < rank or self.axis % rank == 0:
            raise self.error("axis", f"1 to {rank - 1}, or -{rank - 1} to -1", self.axis)
        size = sizes[self.axis % rank - 1]
        if size is None:
            raise self.mismatch("the size of the axis must be known", f"a size on axis {self.axis}", sizes)
        names = ["gamma"] * self.scale + ["beta"] * self.center + ["moving_mean", "moving_variance"]
        return sizes, dict.fromkeys(names, (size,))

    def emit(self, scope: Scope, *inputs: str) -> str:
        (sizes,) = scope.sizes
        axis = self.axis % (len(sizes) + 1)
        size = scope.weights["moving_mean"].size
        parameters = [
            scope.constant(name, scope.weights.get(name, np.full(size, default, np.float32)))
            for name, default in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1))
        ]
        # ONNX normalises axis 1.
        order = [0, axis, *(k for k in range(1, len(sizes) + 1) if k != axis)]
        x = inputs[0] if axis == 1 else _transposed(scope, inputs[0], order)
        y = scope.node("BatchNormalization", [x, *parameters], epsilon=float(self.epsilon))
        back = [order.index(k) for k in range(len(order))]
        return y if axis == 1 else scope.node("Transpose", [y], perm=back)
