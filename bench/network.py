"""How problems describe a network: layers with their weights, channels-last, which every contender turns into its own.

`forward` is their meaning in NumPy: in float64 it is the reference that results are verified against, in float32 the
contender `numpy`. This module needs NumPy alone, so that a contender may live in another environment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Dense:
    """`activation(x @ kernel + bias)`; kernel [inputs, units]."""

    kernel: Array
    bias: Array | None = None
    activation: str = ""


@dataclass(frozen=True)
class Conv:
    """Convolution of stride 1; kernel [height, width, inputs, filters]; padding "valid" or "same"."""

    kernel: Array
    bias: Array
    activation: str = ""
    padding: str = "valid"


@dataclass(frozen=True)
class Depthwise:
    """Convolution of every channel by itself, stride 1; kernel [height, width, channels]."""

    kernel: Array
    bias: Array
    activation: str = ""
    padding: str = "valid"


@dataclass(frozen=True)
class MaxPool:
    """The maximum of windows of `size` x `size` pixels next to each other."""

    size: int = 2


@dataclass(frozen=True)
class Flatten:
    """All dimensions but the first become one, channels running fastest."""


Layer = Dense | Conv | Depthwise | MaxPool | Flatten
ACTIVATIONS = ("", "relu", "sigmoid", "softmax")


@dataclass(frozen=True)
class Network:
    """Layers one after another. `model_file` is the same network as a forwardpass file, where there is one."""

    name: str
    layers: Sequence[Layer]
    model_file: str = ""

    @property
    def weights(self) -> list[Array]:
        found = [getattr(layer, name, None) for layer in self.layers for name in ("kernel", "bias")]
        return [w for w in found if w is not None]

    @property
    def weight_bytes(self) -> int:
        """Of the weights in float32."""
        return 4 * sum(w.size for w in self.weights)


def pads_of(layer: Conv | Depthwise) -> tuple[int, int, int, int]:
    """Top, left, bottom, right, as Keras places them."""
    if layer.padding == "valid":
        return 0, 0, 0, 0
    height, width = layer.kernel.shape[:2]
    return (height - 1) // 2, (width - 1) // 2, height // 2, width // 2


def activate(x: Array, name: str) -> Array:
    """The activation in the precision of x, which may be overwritten."""
    if name == "relu":
        return np.maximum(x, 0, out=x)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if name == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if name:
        raise ValueError(f"unknown activation {name!r}: one of {', '.join(ACTIVATIONS)}")
    return x


def _windows(x: Array, layer: Conv | Depthwise) -> Array:
    """[N, OH, OW, C, kernel height, kernel width]: a view of the padded image."""
    top, left, bottom, right = pads_of(layer)
    if any((top, left, bottom, right)):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(x, layer.kernel.shape[:2], axis=(1, 2))


def _layer(x: Array, layer: Layer) -> Array:
    if isinstance(layer, Dense):
        y = x @ layer.kernel
    elif isinstance(layer, Flatten):
        return x.reshape(len(x), -1)
    elif isinstance(layer, MaxPool):
        n, h, w, c = x.shape
        s = layer.size
        return x[:, : h // s * s, : w // s * s].reshape(n, h // s, s, w // s, s, c).max(axis=(2, 4))
    elif isinstance(layer, Conv):
        patches = _windows(x, layer).transpose(0, 1, 2, 4, 5, 3)  # taps and channels in the order of the kernel
        kernel = layer.kernel.reshape(-1, layer.kernel.shape[3])
        y = (patches.reshape(-1, len(kernel)) @ kernel).reshape(*patches.shape[:3], -1)
    else:
        y = np.einsum("nhwcij,ijc->nhwc", _windows(x, layer), layer.kernel)
    if layer.bias is not None:
        y += layer.bias
    return activate(y, layer.activation)


def forward(network: Network, x: Array) -> Array:
    """The network's output in the precision of x; its weights must have that precision too."""
    for layer in network.layers:
        x = _layer(x, layer)
    return x


def in_precision(network: Network, dtype: Any) -> Network:
    """The network with weights of another precision."""
    layers = []
    for layer in network.layers:
        fields = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in vars(layer).items()}
        layers.append(type(layer)(**fields))
    return Network(network.name, layers)


def operations(network: Network, x: Array) -> int:
    """Additions and multiplications of the matrix products and convolutions; the rest is not counted."""
    total, shape = 0, x.shape
    for layer in network.layers:
        shape = shape_after(layer, shape)
        if isinstance(layer, Dense | Conv):
            total += 2 * math.prod(shape) * (layer.kernel.size // layer.kernel.shape[-1])
        elif isinstance(layer, Depthwise):
            total += 2 * math.prod(shape) * (layer.kernel.size // layer.kernel.shape[2])
    return total


def shape_after(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the layer's output for an input of this shape."""
    if isinstance(layer, Dense):
        return (*shape[:-1], layer.kernel.shape[1])
    if isinstance(layer, Flatten):
        return shape[0], math.prod(shape[1:])
    n, h, w, c = shape
    if isinstance(layer, MaxPool):
        return n, h // layer.size, w // layer.size, c
    top, left, bottom, right = pads_of(layer)
    kh, kw = layer.kernel.shape[:2]
    filters = layer.kernel.shape[3] if isinstance(layer, Conv) else c
    return n, h + top + bottom - kh + 1, w + left + right - kw + 1, filters
