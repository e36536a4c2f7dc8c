"""Layers in plain NumPy, channels-last, to check the builder against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from forwardpass.builder import Conv2D, Dense, Flatten, Input, MaxPooling2D, Network, Sequential
from forwardpass.ops.evaluate import evaluate

Values = np.ndarray[Any, np.dtype[np.float64]]


def sigmoid(x: Values) -> Values:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Values) -> Values:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def erf(x: Values) -> Values:
    return np.vectorize(math.erf)(x)


def pad_same(x: Values, taps: tuple[int, int], strides: tuple[int, int], fill: float) -> Values:
    """The padding that the TensorFlow guide gives for "same", by the remainder of size / stride."""
    widths = [(0, 0)]
    for size, k, s in zip(x.shape[1:3], taps, strides):
        total = max(k - (s if size % s == 0 else size % s), 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, [*widths, (0, 0)], constant_values=fill)


def windows(x: Values, taps: tuple[int, int], strides: tuple[int, int], step: tuple[int, int] = (1, 1)) -> Values:
    """[N, OH, OW, C, kh, kw]."""
    extent = [(k - 1) * d + 1 for k, d in zip(taps, step)]
    rows = range(0, x.shape[1] - extent[0] + 1, strides[0])
    columns = range(0, x.shape[2] - extent[1] + 1, strides[1])
    picked = [[x[:, r : r + extent[0] : step[0], c : c + extent[1] : step[1]] for c in columns] for r in rows]
    return np.moveaxis(np.array(picked), (0, 1, 2, 5), (1, 2, 0, 3))


def conv(x: Values, kernel: Values, bias: Values, strides: Any = (1, 1), padding: str = "valid") -> Values:
    if padding == "same":
        x = pad_same(x, kernel.shape[:2], strides, 0.0)
    return np.einsum("nhwcij,ijco->nhwo", windows(x, kernel.shape[:2], strides), kernel) + bias


def run(net: Network, *inputs: Any) -> list[Values]:
    """The outputs by the NumPy definitions of the operators, in float64."""
    graph = net.graph()
    found = evaluate(graph, dict(zip(graph.inputs, inputs)), dtype=np.float64)
    return [found[name] for name in graph.outputs]


def randomise(net: Network, rng: np.random.Generator) -> dict[str, Values]:
    """Random weights, none of them neutral; returned in float64."""
    drawn = {}
    for name, shape in net.weights.items():
        value = rng.uniform(0.5, 1.5, shape) if "variance" in name else rng.uniform(-0.5, 0.5, shape)
        drawn[name] = value.astype(np.float32)
    net.set_weights(drawn)
    return {k: v.astype(np.float64) for k, v in drawn.items()}


def relu(x: Values) -> Values:
    return np.maximum(x, 0)


def identity(x: Values) -> Values:
    return x


def cifar() -> Sequential:
    return Sequential(
        [
            Input((32, 32, 3)),
            Conv2D(32, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Flatten(),
            Dense(10, activation="softmax"),
        ]
    )
