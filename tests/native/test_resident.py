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

OBJECTS = 4 << 20
"""Bytes of a small model's Python objects, of code that is run for the first time, and of pages that are not whole."""

LAYER = 9 * 512 * 512 * 4
"""Bytes of the largest layer's weights, which are in memory twice while they are packed."""

SCRIPT = """
import sys
import numpy as np
import forwardpass as fp
from forwardpass.data import path

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

threads = int(sys.argv[2])
small = fp.load(path("digits_cnn.npz"), threads=threads)
x = np.zeros((1, 14, 14, 64), np.float32)
small(np.zeros((1, 8, 8, 1), np.float32))
before = memory("VmRSS")
model = fp.load(sys.argv[1], threads=threads)
model(x)
resident, peak = memory("VmRSS"), memory("VmHWM")
print(resident - before, peak - before, model.memory_plan().total)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers of large weights, for each way to pack them: Winograd's, with steps, 1 x 1, and a linear one."""
    layers = [Conv2D(512, 3, padding="same", activation="relu") for _ in range(3)]
    layers += [Conv2D(2048, 1, activation="relu"), Conv2D(512, 1), Conv2D(512, 3, strides=2)]
    network = Sequential([Input((14, 14, 64)), *layers, GlobalAveragePool2D(), Dense(4000)])
    fp.save(network.init(0), path := tmp_path_factory.mktemp("resident") / "deep.npz")
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_process_takes_what_the_plan_says(threads: int, file: Path) -> None:
    """After a call; and before it at most a layer's weights more. With two threads it also depends on how soon one
    hears of what the other has packed, which no test can know."""
    run = [sys.executable, "-c", SCRIPT, str(file), str(threads)]
    resident, peak, planned = map(int, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    weights = file.stat().st_size
    assert planned > weights > 8 * OBJECTS
    assert planned * 0.99 - OBJECTS < resident < planned * 1.01 + OBJECTS
    assert threads > 1 or resident <= peak < planned * 1.01 + OBJECTS + LAYER


def test_a_forgotten_array_reads_the_same(tmp_path: Path) -> None:
    want = np.arange(1 << 17, dtype=np.float32)
    want.tofile(tmp_path / "numbers")
    data = mapped(tmp_path / "numbers")
    found = np.frombuffer(memoryview(data), np.float32)
    for view in (found, found[::-1], found[7:-5].reshape(-1, 2).T, found[:0]):
        assert forget(view) == (view.size > 0)
        np.testing.assert_array_equal(found, want)
    assert forget(found[20000:120000], whole_file=True)
    np.testing.assert_array_equal(found, want)


def test_others_maps_are_left_alone() -> None:
    """They may hold what is on no disk."""
    data = mmap.mmap(-1, 1 << 20)
    array = np.frombuffer(data, np.float32)
    array[:] = 3.0
    assert not forget(array)
    assert not forget("a name")
    assert (array == 3.0).all()
