"""Times and memory of small networks, made by the builder, so that any commit can run them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, ClassVar

import numpy as np

THREADS = 1


def _perceptron(*sizes: int) -> Any:
    from forwardpass.builder import Dense, Input, Sequential

    last = len(sizes) - 2
    layers = [Dense(units, "relu" if k < last else None) for k, units in enumerate(sizes[1:])]
    return Sequential([Input(sizes[:1]), *layers]).init(0)


def _cifar() -> Any:
    from forwardpass.builder import Conv2D, Dense, Flatten, Input, MaxPool2D, Sequential

    images = [Conv2D(32, 3, activation="relu"), MaxPool2D(2), Conv2D(64, 3, activation="relu"), MaxPool2D(2)]
    return Sequential([Input((32, 32, 3)), *images, Flatten(), Dense(10, "softmax")]).init(0)


def _recurrent(kind: str) -> Any:
    from forwardpass import builder

    return builder.Sequential([builder.Input((32, 64)), getattr(builder, kind)(128), builder.Dense(10)]).init(0)


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp 8-5-1": (lambda: _perceptron(8, 5, 1), (1, 8)),
    "mlp 784-512-512-10": (lambda: _perceptron(784, 512, 512, 10), (1, 784)),
    "mlp 784-512-512-10, batch 64": (lambda: _perceptron(784, 512, 512, 10), (64, 784)),
    "cifar cnn": (_cifar, (1, 32, 32, 3)),
    "cifar cnn, batch 32": (_cifar, (32, 32, 32, 3)),
    "lstm": (lambda: _recurrent("LSTM"), (1, 32, 64)),
    "gru": (lambda: _recurrent("GRU"), (1, 32, 64)),
}


class Networks:
    """A call, the making of a model and of a plan, and the memory of the plan."""

    params: ClassVar[list[str]] = list(NETWORKS)
    param_names: ClassVar[list[str]] = ["network"]

    def setup(self, name: str) -> None:
        make, shape = NETWORKS[name]
        self.graph = make().graph()
        self.x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self.model = self._model()
        self.y = self.model(self.x)
        (self.name,) = self.model.inputs

    def _model(self) -> Any:
        from forwardpass import Model

        return Model(self.graph, threads=THREADS)

    def time_call(self, name: str) -> None:
        self.model(self.x)

    def time_run_into(self, name: str) -> None:
        self.model.run_into(self.x, self.y)

    def time_first_call(self, name: str) -> None:
        self._model()(self.x)

    def track_arena(self, name: str) -> int:
        return int(self.model.memory_plan({self.name: self.x.shape}).arena)

    track_arena.unit = "bytes"  # type: ignore[attr-defined]


class Start:
    """What a program pays before its first call."""

    def timeraw_import(self) -> str:
        return "import forwardpass.run"

    def track_import_over_numpy(self) -> float:
        """Milliseconds, the least of ten processes."""
        script = "import time, numpy; a = time.perf_counter(); import forwardpass.run; print(time.perf_counter() - a)"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-c", script]
        runs = [subprocess.run(command, capture_output=True, check=True, env=environment) for _ in range(10)]
        return 1e3 * min(float(r.stdout) for r in runs)

    track_import_over_numpy.unit = "ms"  # type: ignore[attr-defined]
