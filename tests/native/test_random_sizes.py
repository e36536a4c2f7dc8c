"""Random graphs of numbers that follow from sizes, for one size after another: planned, and then filled in."""

from __future__ import annotations

from typing import Any

import numpy as np
from graphs import Maker
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.errors import Error
from forwardpass.graph import Array, Graph
from forwardpass.ops import evaluate
from forwardpass.run import Model
from tolerance import network_of

WIDTH = 6
"""Of the last axis of x, the only size that the graph knows."""
FIRST = [(2, 3), (3, 4), (2, 5), (3, 6), (1, 7), (1, 8), (1, 9), (2, 10), (1, 1), (1, 2), (4, 1)]
"""Sizes of the first two axes; from the third on, those of several rows have templates, and the others soon."""


class Sizes:
    """A graph that grows use by use of numbers that Hypothesis draws; a number is an array of one integer."""

    def __init__(self, choose: Any) -> None:
        self.m = Maker(dtype=np.float32)
        self.choose = choose
        self.m.input("x", "n", "m", WIDTH)

    def one_of(self, *items: Any) -> Any:
        return self.choose(st.sampled_from(items))

    def size(self, axis: int) -> str:
        if self.one_of(True, False):
            return self.m("Shape", "x", start=axis, end=axis + 1)
        return self.m("Gather", self.m("Shape", "x"), self.m.ints(axis))

    def number(self, depth: int = 0) -> str:
        m, kind = self.m, self.one_of("size", "size", "literal", "two", "two", "divided", "float", "where")
        if kind == "size" or depth > 2:
            return self.size(self.one_of(0, 1, 1, 2))
        if kind == "literal":
            return m.ints(self.one_of(0, 1, 2, 5))
        a = self.number(depth + 1)
        if kind == "two":
            return m(self.one_of("Add", "Sub", "Mul", "Min", "Max"), a, self.number(depth + 1))
        if kind == "divided":
            return m(self.one_of("Div", "Mod"), m("Abs", a), m.ints(self.one_of(2, 3)))
        if kind == "float":
            scaled = m("Mul", m("Cast", a, to=1), m.const(np.array([self.one_of(0.5, 1.5)])))
            return m("Cast", m(self.one_of("Floor", "Ceil"), scaled), to=7)
        return m("Where", m(self.one_of("Less", "Equal"), a, m.ints(4)), self.number(depth + 1), a)

    def count(self, most: int) -> str:
        """A number from 1 to `most`."""
        return self.m("Add", self.m("Mod", self.m("Abs", self.number()), self.m.ints(most)), self.m.ints(1))

    def use(self) -> str:
        steps = [getattr(self, k) for k in dir(self) if k.startswith("use_")]
        return str(self.one_of(*steps)())

    def use_scale(self) -> str:
        root = self.m("Sqrt", self.m("Cast", self.count(9), to=1))
        return self.m(self.one_of("Div", "Mul", "Add"), "x", root)

    def use_root_of_a_size(self) -> str:
        return self.m("Div", "x", self.m("Sqrt", self.m("Cast", self.size(self.one_of(1, 2)), to=1)))

    def use_slice(self) -> str:
        return self.m("Slice", "x", self.number(), self.number(), self.m.ints(self.one_of(1, 2)))

    def use_slice_backwards(self) -> str:
        ends = self.m.ints(-1), self.m.ints(-99), self.m.ints(1), self.m.ints(self.one_of(-1, -2))
        return self.m("Slice", self.m("Relu", "x"), *ends)

    def use_pad(self) -> str:
        pads = self.m("Concat", self.m.ints(0), self.count(4), *[self.m.ints(0)] * 4, axis=0)
        return self.m("Pad", "x", pads, mode=self.one_of("constant", "edge"))

    def use_tile(self) -> str:
        return self.m("Tile", "x", self.m("Concat", self.m.ints(1), self.count(3), self.m.ints(1), axis=0))

    def use_range(self) -> str:
        zero, one = self.m.const(np.array(0)), self.m.const(np.array(1))
        counted = self.m("Range", zero, self.m("Squeeze", self.count(20), self.m.ints(0)), one)
        return self.m("Tanh", self.m("Cast", counted, to=1))

    def use_expand(self) -> str:
        return self.m("Mul", self.m("Expand", self.m.const((1, 1, WIDTH)), self.m("Shape", "x")), "x")

    def use_fill(self) -> str:
        shape = self.m("Concat", self.count(30), self.m.ints(2), axis=0)
        return self.m("Exp", self.m("ConstantOfShape", shape, value=np.array([0.5], np.float32)))

    def use_reshape(self) -> str:
        shape = self.m("Concat", self.m.ints(-1), self.size(1), self.m.ints(WIDTH // 2), axis=0)
        return self.m("Sigmoid", self.m("Reshape", "x", shape))

    def use_mask(self) -> str:
        zero, one = self.m.const(np.array(0)), self.m.const(np.array(1))
        places = self.m("Range", zero, self.m("Squeeze", self.size(1), self.m.ints(0)), one)
        later = self.m("Less", self.m("Unsqueeze", places, self.m.ints(1)), self.m("Unsqueeze", places, self.m.ints(0)))
        scores = self.m("MatMul", "x", self.m("Transpose", "x", perm=[0, 2, 1]))
        masked = self.m("Where", later, self.m.const(np.array(-1e9)), scores)
        return self.m("MatMul", self.m("Softmax", masked, axis=-1), "x")


def definition(graph: Graph, x: Array) -> dict[str, Array] | None:
    """None where the numbers make no sense, such as a Slice of a size below zero that another node refuses."""
    try:
        return evaluate(graph, {"x": x})
    except Error:
        return None


@settings(max_examples=100)
@given(st.data(), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 20)), max_size=4))
def test_every_size_has_its_numbers(data: st.DataObject, sizes: list[tuple[int, int]]) -> None:
    grown = Sizes(data.draw)
    outputs = [grown.use() for _ in range(data.draw(st.integers(1, 6)))]
    graph = grown.m.graph(*outputs)
    model = Model(graph, threads=1)
    for n, m in [*FIRST, *sizes]:
        x = grown.m.rng.standard_normal((n, m, WIDTH), np.float32)
        want = definition(graph, x)
        if want is None:
            continue
        got = model.run({"x": x})
        for name, array in want.items():
            assert got[name].shape == array.shape
            np.testing.assert_allclose(got[name], array, **network_of([array]), err_msg=f"{name} of {n}, {m}\n{graph}")
