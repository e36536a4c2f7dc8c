"""The memory of a process that runs a model: what the plan says, not the weights' file beside their packed copies."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.builder import Conv2D, Dense, GlobalAveragePool2D, Input, Sequential
from forwardpass.formats.files import forget, mapped

OBJECTS = 6 << 20
"""Bytes of a small model's Python objects, and of pages that are not whole."""

SCRIPT = """
import sys
import numpy as np
import forwardpass as fp
from forwardpass.data import path

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

small = fp.load(path("digits_cnn.npz"), threads=1)
x = np.zeros((1, 14, 14, 64), np.float32)
small(np.zeros((1, 8, 8, 1), np.float32))
before = resident()
model = fp.load(sys.argv[1], threads=1)
model(x)
print(resident() - before, model.memory_plan().total)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_takes_what_the_plan_says(tmp_path: Path) -> None:
    layers = [Conv2D(512, 3, padding="same", activation="relu") for _ in range(3)]
    layers += [Conv2D(2048, 1, activation="relu"), Conv2D(512, 1)]
    network = Sequential([Input((14, 14, 64)), *layers, GlobalAveragePool2D(), Dense(1000)])
    file = tmp_path / "deep.npz"
    fp.save(network.init(0), file)
    run = [sys.executable, "-c", SCRIPT, str(file)]
    taken, planned = map(int, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    weights = file.stat().st_size
    assert planned > weights > 4 * OBJECTS
    assert planned * 0.99 - OBJECTS < taken < planned * 1.01 + OBJECTS


def test_a_forgotten_array_reads_the_same(tmp_path: Path) -> None:
    want = np.arange(1 << 17, dtype=np.float32)
    want.tofile(tmp_path / "numbers")
    data = mapped(tmp_path / "numbers")
    found = np.frombuffer(memoryview(data), np.float32)
    for view in (found, found[::-1], found[7:-5].reshape(-1, 2).T, found[:0]):
        forget(view)
        np.testing.assert_array_equal(found, want)


def test_others_maps_are_left_alone() -> None:
    """They may hold what is on no disk."""
    data = mmap.mmap(-1, 1 << 20)
    array = np.frombuffer(data, np.float32)
    array[:] = 3.0
    forget(array)
    forget("a name")
    assert (array == 3.0).all()
