"""Square matrix products x @ w, w constant: contenders may pack it before they are timed. The batch is the rows."""

from __future__ import annotations

import numpy as np

from network import Dense, Network

from . import Problem, normal, rng


def gemm(size: int) -> Problem:
    name = f"gemm_{size}"

    def network() -> Network:
        return Network(name, [Dense(normal(rng(name), size, size) / np.float32(size**0.5))])

    return Problem(name, network, lambda batch: normal(rng(f"{name}.x"), batch, size), (size,))


PROBLEMS = [gemm(512), gemm(1024)]
