"""Calls of ever new lengths: what a model keeps of them is bounded."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from small_graphs import decoder

from forwardpass.ops import lower_linear, lower_split, split_cost, split_steps
from forwardpass.run import Model

MEMOS = (
    lower_linear._entries, lower_linear._tile_rows, lower_linear._tile_cycles, split_cost._tile_rows,
    split_cost.positions_of, split_cost.pays, lower_split._width, split_steps.steps_of,
)  # fmt: skip
"""What the process keeps of sizes that it has met: a bounded number, which the tests do not reach."""
RESIDENT = Path("/proc/self/statm")


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_of_python_is_bounded(threads: int, rng: np.random.Generator, exhaustive: bool) -> None:
    model = Model(decoder(), threads=threads)
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for _ in range(100 if exhaustive else 4):
            for batch, length in zip(rng.integers(1, 4, 100 if exhaustive else 40), rng.integers(1, 200, 100)):
                model(np.zeros((batch, length), np.int64))
            for memo in MEMOS:
                assert memo.cache_info().maxsize
                memo.cache_clear()
            for length in range(1, 17):  # the same plans are kept at each look
                model(np.zeros((1, length), np.int64))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(model._plans) <= 16
    # A few more templates, of which 16 are kept; plans that were kept would double the first size at each look.
    assert max(sizes[1:]) < 1.4 * sizes[1], sizes


@pytest.mark.skipif(not RESIDENT.exists(), reason="no /proc/self/statm to read the resident memory from")
@pytest.mark.parametrize("threads", [1, 2])
def test_resident_memory_is_flat(threads: int, rng: np.random.Generator, exhaustive: bool) -> None:
    model = Model(decoder(), threads=threads)
    gc.collect()
    levels: list[int] = []
    for k, (batch, length) in enumerate(rng.integers(1, (4, 200), (10_000 if exhaustive else 1500 // threads, 2))):
        model(np.zeros((batch, length), np.int64))
        if k >= 400 and k % 50 == 0:
            levels.append(int(RESIDENT.read_text().split()[1]))
    assert max(levels) < 1.02 * levels[0]
    assert model._plans.maker.planned < 40


def test_what_is_packed_does_not_depend_on_the_length() -> None:
    model = Model(decoder())
    model(np.zeros((1, 3), np.int64))
    before = set(model._packed)
    for length in range(4, 30):
        model(np.zeros((2, length), np.int64))
    assert set(model._packed) == before
