"""The convolutional network of many tutorials, for 32 x 32 pixels of 3 colours."""

from __future__ import annotations

from network import Flatten, MaxPool, Network

from . import Problem, conv, dense, normal, rng

NAME = "cifar_cnn"


def network() -> Network:
    source = rng(NAME)
    layers = [
        conv(source, 3, 3, 32, "relu"),
        MaxPool(2),
        conv(source, 3, 32, 64, "relu"),
        MaxPool(2),
        Flatten(),
        dense(source, 6 * 6 * 64, 10, "softmax"),
    ]
    return Network(NAME, layers)


PROBLEMS = [Problem(NAME, network, lambda batch: normal(rng(f"{NAME}.x"), batch, 32, 32, 3), (1, 32))]
