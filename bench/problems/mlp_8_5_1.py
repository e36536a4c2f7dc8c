"""The smallest network that anyone runs: what is timed is the call."""

from __future__ import annotations

from network import Network

from . import Problem, dense, normal, rng

NAME = "mlp_8_5_1"


def network() -> Network:
    source = rng(NAME)
    return Network(NAME, [dense(source, 8, 5, "sigmoid"), dense(source, 5, 1, "sigmoid")])


PROBLEMS = [Problem(NAME, network, lambda batch: normal(rng(f"{NAME}.x"), batch, 8), (1,))]
