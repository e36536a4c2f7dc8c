"""Graphs of a few nodes that several tests call."""

from __future__ import annotations

from typing import Any

import numpy as np
from graphs import Maker

import forwardpass as fp
from forwardpass.graph import Graph

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
