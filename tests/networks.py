"""The networks that several tests run: those of the tutorials, and one with every kind of step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forwardpass.builder import (
    Activation,
    Add,
    AveragePool2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Network,
    Sequential,
)

__all__ = ["NETWORKS", "build", "sample"]


def _dense(*units: int, inputs: int, activation: str, last: str | None) -> Network:
    layers = [Dense(u, activation=activation) for u in units[:-1]]
    return Sequential([Input((inputs,)), *layers, Dense(units[-1], activation=last)])


def _cifar() -> Network:
    return Sequential(
        [
            Input((32, 32, 3)),
            Conv2D(32, 3, activation="relu"),
            MaxPool2D(2),
            Conv2D(64, 3, activation="relu"),
            MaxPool2D(2),
            Flatten(),
            Dense(10, activation="softmax"),
        ]
    )


def _branches() -> Network:
    """Depthwise, residual, grouped, strided and dilated convolutions, batch normalisation, concatenation, pools."""
    x = Input((17, 15, 3))
    y = Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    y = Activation("relu6")(BatchNormalization()(y))
    z = DepthwiseConv2D(3, padding="same", activation="hard_swish")(y)
    z = Conv2D(16, 1)(z)
    y = Activation("relu")(Add()([y, z]))
    left = Conv2D(8, 3, padding="same", groups=2, activation="gelu")(y)
    right = Conv2D(12, 3, padding="same", dilation_rate=2, activation="silu")(y)
    y = Concatenate()([left, right, AveragePool2D(3, strides=1, padding="same")(y)])
    y = BatchNormalization()(y)
    y = GlobalAveragePool2D()(y)
    return Network(x, Dense(7, activation="softmax")(y))


NETWORKS: dict[str, Callable[[], Network]] = {
    "linear regression": lambda: _dense(1, inputs=1, activation="relu", last=None),
    "mlp 8-5-1": lambda: _dense(5, 1, inputs=8, activation="sigmoid", last="sigmoid"),
    "mlp 100-10-20-1": lambda: _dense(10, 20, 1, inputs=100, activation="sigmoid", last="sigmoid"),
    "mlp 9-64-32-1": lambda: _dense(64, 32, 1, inputs=9, activation="relu", last=None),
    "mlp 784-512-512-10": lambda: _dense(512, 512, 10, inputs=784, activation="relu", last="softmax"),
    "cifar cnn": _cifar,
    "branches": _branches,
}


def build(name: str) -> Network:
    """A network with random weights, batch statistics included."""
    network = NETWORKS[name]()
    network.init(seed=1)
    return network


def sample(network: Any, rows: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """A batch for the network's one input."""
    ((_, kind),) = network.graph().inputs.items()
    return np.random.default_rng(seed).standard_normal((rows, *kind.shape[1:]), dtype=np.float32)
