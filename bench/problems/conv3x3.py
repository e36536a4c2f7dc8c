"""One 3 x 3 convolution of a middle layer of a ResNet, with Relu."""

from __future__ import annotations

from network import Network

from . import Problem, conv, normal, rng

NAME = "conv3x3_128"


def network() -> Network:
    return Network(NAME, [conv(rng(NAME), 3, 128, 128, "relu", "same")])


PROBLEMS = [Problem(NAME, network, lambda batch: normal(rng(f"{NAME}.x"), batch, 28, 28, 128), (1,))]
