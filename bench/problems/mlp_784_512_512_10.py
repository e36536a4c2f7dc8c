"""A multilayer perceptron for 28 x 28 pixels: at batch 1 it reads 2.7 MB of weights once per call."""

from __future__ import annotations

from network import Network

from . import Problem, dense, normal, rng

NAME = "mlp_784_512_512_10"


def network() -> Network:
    source = rng(NAME)
    return Network(NAME, [dense(source, 784, 512, "relu"), dense(source, 512, 512, "relu"), dense(source, 512, 10)])


PROBLEMS = [Problem(NAME, network, lambda batch: normal(rng(f"{NAME}.x"), batch, 784), (1, 64))]
