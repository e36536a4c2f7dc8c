"""Calls of ever new lengths: what a model keeps of them is bounded."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32

from forwardpass.graph import Graph, TensorType
from forwardpass.ops import lower_linear, lower_split
from forwardpass.run import Model

WIDTH, HEADS = 16, 2
MEMOS = (
    lower_linear._entries, lower_linear._tile_rows, lower_split._tile_rows,
    lower_split._positions, lower_split._pays, lower_split._steps, lower_split._width,
)  # fmt: skip
"""What the process keeps of sizes that it has met: a bounded number, which the tests do not reach."""
RESIDENT = Path("/proc/self/statm")


def decoder() -> Graph:
    """Two layers of causal attention with a mask for every length, and an ArgMax of places."""
    m = Maker(dtype=F32)
    m.inputs["tokens"] = TensorType(np.dtype(np.int64), ("batch", "length"))
    x = m("Gather", m.const((50, WIDTH)), "tokens")
    square = m("Concat", *[m("Shape", "tokens", start=1, end=2)] * 2, axis=0)
    ones = m("Expand", m.const(np.ones((1, 1), np.float32)), square)
    mask = m("Mul", m("Trilu", ones, m.const(np.array(1, np.int64)), upper=1), m.const(np.array(-1e9, np.float32)))
    for _ in range(2):
        q, k, v = (
            m("Transpose", m("Reshape", m("MatMul", x, m.const((WIDTH, WIDTH))), m.ints(0, 0, HEADS, -1)),
              perm=[0, 2, 1, 3])
            for _ in range(3)
        )  # fmt: skip
        scores = m("Add", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), mask)
        y = m("Transpose", m("MatMul", m("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = m("Add", x, m("Reshape", y, m.ints(0, 0, WIDTH)))
    return m.graph(m("Hardmax", m("MatMul", x, m.const((WIDTH, 5))), axis=1, out="y"))


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
    assert model._plans.planned < 40


def test_what_is_packed_does_not_depend_on_the_length() -> None:
    model = Model(decoder())
    model(np.zeros((1, 3), np.int64))
    before = set(model._packed)
    for length in range(4, 30):
        model(np.zeros((2, length), np.int64))
    assert set(model._packed) == before
