"""One 3 x 3 depthwise convolution of a middle layer of a MobileNet, with Relu."""

from __future__ import annotations

from network import Network

from . import Problem, depthwise, normal, rng

NAME = "depthwise3x3_192"


def network() -> Network:
    return Network(NAME, [depthwise(rng(NAME), 3, 192, "relu", "same")])


PROBLEMS = [Problem(NAME, network, lambda batch: normal(rng(f"{NAME}.x"), batch, 28, 28, 192), (1,))]
