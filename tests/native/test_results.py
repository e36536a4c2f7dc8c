"""Large results take the memory of those that callers have let go of, and never that of any that is still there."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from forwardpass import _native
from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.run import Model

LARGE, SMALL = 1 << 18, 1 << 10
"""Elements of float32."""


def doubling(outputs: int = 1) -> Model:
    """x[N] -> 2 x, so many times."""
    names = [f"y{k}" for k in range(outputs)]
    nodes = [Node("Add", ["x", "x"], [name]) for name in names]
    return Model(Graph({"x": TensorType(np.dtype(np.float32), ("N",))}, names, nodes), threads=1)


def address(array: Array) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def numbers(n: int, start: int = 0) -> Array:
    return np.arange(start, start + n, dtype=np.float32)


@pytest.mark.parametrize("n", [LARGE, LARGE + 1, 5 * LARGE + 3], ids=str)
def test_a_result_that_is_gone_makes_room_for_the_next(n: int) -> None:
    model, x = doubling(), numbers(n)
    y = model(x)
    place = address(y)
    assert place % 64 == 0
    assert y.flags.owndata
    assert y.flags.writeable
    for _ in range(3):
        del y
        y = model(x)
        assert address(y) == place
        np.testing.assert_array_equal(y, 2 * x)


def test_results_that_are_there_stay_as_they_are() -> None:
    model = doubling(2)
    kept = [model(numbers(LARGE, start)) for start in range(4)]
    views = [y[0][LARGE // 2 :] for y in kept[:2]]
    del kept[:2]
    for start in range(10, 14):
        model(numbers(LARGE, start))
    places = {address(y) for pair in kept for y in pair} | {address(v) - 2 * LARGE for v in views}
    assert len(places) == 6
    for start, view in enumerate(views):
        np.testing.assert_array_equal(view, 2 * numbers(LARGE, start)[LARGE // 2 :])
    for start, pair in enumerate(kept, 2):
        for y in pair:
            np.testing.assert_array_equal(y, 2 * numbers(LARGE, start))


def test_a_cache_that_grows_by_rows_finds_the_last_ones_memory() -> None:
    model = doubling()
    places = set()
    for n in range(LARGE + 64, LARGE + 6400, 64):
        y = model(numbers(n))
        places.add(address(y))
        del y
    assert len(places) == 1


def test_a_result_can_be_resized() -> None:
    model, x = doubling(), numbers(LARGE)
    y = model(x)
    y.resize(3 * LARGE, refcheck=False)
    np.testing.assert_array_equal(y[:LARGE], 2 * x)
    assert not y[LARGE:].any()
    del y
    y, z = model(x), model(x)
    y.resize(SMALL, refcheck=False)
    np.testing.assert_array_equal(y, 2 * x[:SMALL])
    np.testing.assert_array_equal(z, 2 * x)


def test_other_arrays_are_numpys() -> None:
    from numpy._core.multiarray import get_handler_name

    model = doubling()
    large, small = model(numbers(LARGE)), model(numbers(SMALL))
    assert get_handler_name(large) == "forwardpass_results"
    assert get_handler_name(small) == get_handler_name(np.empty(LARGE)) == "default_allocator"


def test_threads_get_results_of_their_own() -> None:
    model = doubling(2)

    def work(start: int) -> bool:
        x = numbers(LARGE + 1000 * (start % 3), start)
        return all(np.array_equal(y, 2 * x) for _ in range(20) for y in model(x))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(16)))


KEPT = """
import gc
import sys
sys.path[:0] = {path!r}
from forwardpass._call import kept_bytes
from test_results import LARGE, doubling, numbers

model, pair = doubling(), doubling(2)
pair(numbers(LARGE))
print(kept_bytes())
y = pair(numbers(LARGE))
print(kept_bytes())
del y
for _ in range(40):
    model(numbers(LARGE // 4))
print(kept_bytes())
del pair
gc.collect()
y = model(numbers(LARGE))
del model
gc.collect()
print(kept_bytes())
del y
print(kept_bytes())
"""


def test_no_more_is_kept_than_a_call_makes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KEPT.format(path=sys.path)], capture_output=True, text=True, check=True
    )
    after_two, held, after_small, unused, released = map(int, done.stdout.split())
    assert after_two == 8 * LARGE
    assert held == 0
    assert after_small == LARGE
    assert unused == released == 0


FAULTS = """
import resource
import sys
sys.path[:0] = {path!r}
from test_results import LARGE, doubling, numbers

model, x = doubling(8), numbers(LARGE)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    y = model(x)
before = faults()
for _ in range(10):
    y = model(x)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the pages that Linux makes")
@pytest.mark.skipif(_native.sanitize != "", reason="a sanitizer makes pages of its own")
def test_calls_fault_no_pages() -> None:
    command = [sys.executable, "-c", FAULTS.format(path=sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 256  # of 20,480 pages
