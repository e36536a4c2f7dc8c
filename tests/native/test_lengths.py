"""Calls of ever new lengths: what a model keeps of them is bounded."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32

from forwardpass.graph import Graph, TensorType
from forwardpass.run import Model

WIDTH, HEADS = 16, 2


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
def test_memory_is_bounded(threads: int, rng: np.random.Generator, exhaustive: bool) -> None:
    model = Model(decoder(), threads=threads)
    lengths = rng.integers(1, 200, 10_000 if exhaustive else 120)
    batches = rng.integers(1, 4, len(lengths))
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for k, (batch, length) in enumerate(zip(batches, lengths)):
            model(np.zeros((batch, length), np.int64))
            if k >= 40 and k % 8 == 0:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(model._plans) <= 16
    # 16 plans of random lengths differ from 16 others; a model that kept everything would grow several times.
    assert np.mean(sizes[-4:]) < 1.5 * np.mean(sizes[:4])


def test_what_is_packed_does_not_depend_on_the_length() -> None:
    model = Model(decoder())
    model(np.zeros((1, 3), np.int64))
    before = set(model._packed)
    for length in range(4, 30):
        model(np.zeros((2, length), np.int64))
    assert set(model._packed) == before
