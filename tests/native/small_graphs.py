"""Graphs of a few nodes that several tests call."""

from __future__ import annotations

from typing import Any

import numpy as np
from graphs import Maker

import forwardpass as fp
from forwardpass.graph import Graph, TensorType

F32 = np.dtype(np.float32)


@fp.op("tests", "Doubled", infer=lambda x: x, replace=True)
def doubled(x: Any) -> Any:
    """An operator that has no kernel for sure."""
    return x + x


def two_outputs() -> Graph:
    """a[N, 4], b[N, 4] -> sum, "the/difference"."""
    m = Maker(dtype=F32)
    a, b = m.input("a", "N", 4), m.input("b", "N", 4)
    return m.graph(m("Add", a, b, out="sum"), m("Sub", a, b, out="the/difference"))


def mlp() -> Graph:
    m = Maker(dtype=F32)
    h = m("Relu", m("Add", m("MatMul", m.input("x", "N", 8), m.const((8, 5))), m.const((5,)), out="s"), out="h")
    return m.graph(m("Softmax", m("MatMul", h, m.const((5, 3)), out="t"), out="y"))


def decoder() -> Graph:
    """tokens[batch, length] -> y: two layers of causal attention, a mask for every length, and an ArgMax of places."""
    m, width, heads = Maker(dtype=F32), 16, 2
    m.inputs["tokens"] = TensorType(np.dtype(np.int64), ("batch", "length"))
    x = m("Gather", m.const((50, width)), "tokens")
    square = m("Concat", *[m("Shape", "tokens", start=1, end=2)] * 2, axis=0)
    ones = m("Expand", m.const(np.ones((1, 1), np.float32)), square)
    mask = m("Mul", m("Trilu", ones, m.const(np.array(1, np.int64)), upper=1), m.const(np.array(-1e9, np.float32)))
    for _ in range(2):
        q, k, v = (
            m("Transpose", m("Reshape", m("MatMul", x, m.const((width, width))), m.ints(0, 0, heads, -1)),
              perm=[0, 2, 1, 3])
            for _ in range(3)
        )  # fmt: skip
        scores = m("Add", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), mask)
        y = m("Transpose", m("MatMul", m("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = m("Add", x, m("Reshape", y, m.ints(0, 0, width)))
    return m.graph(m("Hardmax", m("MatMul", x, m.const((width, 5))), axis=1, out="y"))
