"""Damaged Keras files: `python keras_mutants.py SUFFIX FIRST LAST` reads so many in bounded memory and time.

HDF5 is read by a library in C, so this runs in a process of its own.
"""

from __future__ import annotations

import io
import resource
import signal
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from keras_files import entry, given, h5_file, keras_bytes, sequential

from forwardpass.errors import Error
from forwardpass.formats import load_graph

MEMORY, SECONDS = 1 << 30, 5


def draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([3, *shape]).standard_normal(shape).astype(np.float32)


MODEL = sequential(
    given("x", 3),
    entry("Dense", "dense", units=2, activation="relu"),
    entry("BatchNormalization", "norm", axis=-1, epsilon=0.001),
    name="model",
)
STORED = {"dense": [draw(3, 2), draw(2)], "batch_normalization": [draw(2), draw(2), draw(2), np.abs(draw(2))]}
_NORM = ["norm/gamma:0", "norm/beta:0", "norm/moving_mean:0", "norm/moving_variance:0"]


def whole(path: Path) -> Path:
    """A sound file, `.keras` or `.h5`."""
    if path.suffix == ".keras":
        path.write_bytes(keras_bytes(MODEL, STORED))
        return path
    dense = dict(zip(["dense/kernel:0", "dense/bias:0"], STORED["dense"]))
    return h5_file(path, MODEL, {"x": {}, "dense": dense, "norm": dict(zip(_NORM, STORED["batch_normalization"]))})


def mutant(data: bytes, seed: int) -> bytes:
    """The file with some bytes changed, cut out or put in."""
    random = np.random.default_rng(seed)
    made = bytearray(data)
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(len(made)))
        kind = random.integers(5)
        if kind == 0:
            made[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            made[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == 2:
            made[at : at + 8] = (0, 1, 1 << 31, 1 << 63, (1 << 64) - 1)[random.integers(5)].to_bytes(8, "little")
        elif kind == 3:
            del made[at : at + int(random.integers(1, 40))]
        else:
            made[at:at] = bytes(random.integers(0, 256, int(random.integers(1, 40)), dtype=np.uint8))
    return bytes(made)


def damaged(data: bytes, suffix: str, seed: int) -> bytes:
    """A damaged file; of an archive mostly one that is sound around a damaged entry, whose checksum is right."""
    if suffix != ".keras" or seed % 4 == 0:
        return mutant(data, seed)
    made = io.BytesIO()
    chosen = "config.json" if seed % 4 == 1 else "model.weights.h5"
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, mutant(old.read(name), seed) if name == chosen else old.read(name))
    return made.getvalue()


def main(suffix: str, first: int, last: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        data = whole(path).read_bytes()
        load_graph(path)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for seed in range(first, last):
            print(seed, flush=True)
            path.write_bytes(damaged(data, suffix, seed))
            signal.alarm(SECONDS)
            try:
                load_graph(path)
            except Error as error:
                if not str(error).startswith(str(path)):
                    raise
            signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
