"""Builder networks whose weights PyTorch trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardpass.builder import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Network,
    Sequential,
    Tensor,
)
from forwardpass.graph import Array, Graph, Node, TensorType

__all__ = ["digit_cnn", "efficientnet_lite0", "silero_vad"]


def digit_cnn() -> Sequential:
    """Three convolutions and two dense layers on digits of 28 x 28."""
    net = Sequential([Input((28, 28, 1))], name="digit_cnn")
    for filters in (32, 64, 128):
        net.add(Conv2D(filters, 3, padding="same", activation="relu"))
        net.add(MaxPool2D(2))
    net.add(Flatten())
    net.add(Dense(256, activation="relu"))
    net.add(Dense(10))
    return net


# Repeats, kernel, stride, expansion and channels of the stages of EfficientNet-Lite0 (Tan, Le 2019).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _normalized(x: Tensor, active: bool = True) -> Tensor:
    x = BatchNormalization(epsilon=1e-3)(x)
    return Activation("relu6")(x) if active else x


def _block(x: Tensor, kernel: int, stride: int, expansion: int, channels: int) -> Tensor:
    before = x.sizes[-1]
    assert before is not None
    y = x
    if expansion > 1:
        y = _normalized(Conv2D(before * expansion, 1, use_bias=False)(y))
    y = _normalized(DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False)(y))
    y = _normalized(Conv2D(channels, 1, use_bias=False)(y), active=False)
    return Add()([y, x]) if stride == 1 and before == channels else y


def efficientnet_lite0() -> Network:
    """EfficientNet-Lite0 for 1,000 classes on images of 224 x 224."""
    x = Input((224, 224, 3))
    y = _normalized(Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for repeats, kernel, stride, expansion, channels in _STAGES:
        for k in range(repeats):
            y = _block(y, kernel, stride if k == 0 else 1, expansion, channels)
    y = _normalized(Conv2D(1280, 1, use_bias=False)(y))
    return Network(x, Dense(1000)(GlobalAveragePool2D()(y)), name="efficientnet_lite0")


def silero_vad(weights: Mapping[str, Array]) -> Graph:
    """The speech detector on frames of 576 samples at 16 kHz, from its weights by PyTorch's names.

    A Fourier transform as a convolution, four convolutions, an LSTM cell over the frames, and one score for each.
    """
    types = {"input": ("frames", 576), "h": (1, 1, 128), "c": (1, 1, 128)}
    graph = Graph({k: TensorType(np.dtype(np.float32), s) for k, s in types.items()}, ["speech_probs", "hn", "cn"])
    graph.name, graph.constants = "silero_vad", dict(weights)

    def node(op: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        value = to or graph.fresh(op.lower())
        graph.nodes.append(Node(op, list(inputs), [value], attributes))
        return value

    def constant(*values: int) -> str:
        name = graph.fresh("constant")
        graph.constants[name] = np.array(values, np.int64)
        return name

    def gates(name: str) -> Array:
        i, f, g, o = np.split(weights[f"lstm_cell.{name}"], 4)
        return np.concatenate([i, o, f, g])

    x = node("Unsqueeze", node("Pad", "input", constant(0, 0, 0, 64), mode="reflect"), constant(1))
    x = node("Conv", x, "stft_conv.weight", strides=[128])
    parts = [node("Slice", x, constant(a), constant(b), constant(1)) for a, b in ((0, 129), (129, 258))]
    x = node("Sqrt", node("Add", *(node("Mul", p, p) for p in parts)))
    for k, stride in enumerate((1, 2, 2, 1), 1):
        x = node("Conv", x, f"conv{k}.weight", f"conv{k}.bias", strides=[stride], pads=[1, 1])
        x = node("Relu", x)
    graph.constants["W"], graph.constants["R"] = gates("weight_ih")[None], gates("weight_hh")[None]
    graph.constants["B"] = np.concatenate([gates("bias_ih"), gates("bias_hh")])[None]
    x = node("Transpose", x, perm=[0, 2, 1])
    graph.nodes.append(Node("LSTM", [x, "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], {"hidden_size": 128}))
    x = node("Transpose", node("Relu", node("Squeeze", "y", constant(1))), perm=[1, 2, 0])
    x = node("Sigmoid", node("Conv", x, "final_conv.weight", "final_conv.bias"))
    node("Reshape", x, constant(-1), to="speech_probs")
    graph.prune()
    return graph
