"""The problems: every file of this folder defines `PROBLEMS`, a list of `Problem`.

A problem makes its network and one input per batch size from a fixed seed, so that all contenders get the same.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from network import Array, Conv, Dense, Depthwise, Network, forward, in_precision, operations


@dataclass(frozen=True)
class Problem:
    """A network and how to feed it.

    Attributes
    ----------
    name
        As `--only` and the table name it.
    network
        Makes the network.
    inputs
        Makes the input for a batch size, float32, the batch first, images channels-last.
    batches
        The sizes that are timed by default.
    """

    name: str
    network: Callable[[], Network]
    inputs: Callable[[int], Array]
    batches: Sequence[int] = (1,)

    def case(self, batch: int) -> Case:
        return Case(self.name, batch, self.network(), self.inputs(batch))


@dataclass(frozen=True)
class Case:
    """What contenders compete on: a problem at one batch size."""

    problem: str
    batch: int
    network: Network
    x: Array

    @cached_property
    def reference(self) -> Array:
        """The output in float64."""
        return forward(in_precision(self.network, np.float64), self.x.astype(np.float64))

    @cached_property
    def flops(self) -> int:
        return operations(self.network, self.x)


def rng(name: str) -> np.random.Generator:
    """A generator that depends on the name alone."""
    return np.random.default_rng(list(name.encode()))


def normal(source: np.random.Generator, *shape: int) -> Array:
    return source.standard_normal(shape, dtype=np.float32)


def dense(source: np.random.Generator, inputs: int, units: int, activation: str = "") -> Dense:
    """Random weights that keep the size of the values."""
    return Dense(normal(source, inputs, units) / np.float32(inputs**0.5), normal(source, units), activation)


def conv(
    source: np.random.Generator, size: int, inputs: int, filters: int, activation: str = "", padding: str = "valid"
) -> Conv:
    kernel = normal(source, size, size, inputs, filters) / np.float32((size * size * inputs) ** 0.5)
    return Conv(kernel, normal(source, filters), activation, padding)


def depthwise(
    source: np.random.Generator, size: int, channels: int, activation: str = "", padding: str = "valid"
) -> Depthwise:
    return Depthwise(normal(source, size, size, channels) / size, normal(source, channels), activation, padding)


def load_problems() -> dict[str, Problem]:
    """Name -> problem, of all files here, in their order."""
    found: dict[str, Problem] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        for problem in importlib.import_module(f"{__name__}.{module}").PROBLEMS:
            assert problem.name not in found, f"two problems are called {problem.name}"
            found[problem.name] = problem
    return found
