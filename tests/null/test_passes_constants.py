"""Constants are folded, those of one number in a large shape without their memory, and what must not be is not."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, checked, ops, reasons

from forwardpass.graph import Node, TensorType
from forwardpass.passes import View, fold_constants, optimize


def test_constants_are_folded_and_unused_ones_dropped() -> None:
    m = Maker()
    x = m.input("x", "N", 3)
    two = m("Constant", value=np.array(2.0))
    made, _ = checked(m.graph(m("Mul", x, m("Add", two, m("Sqrt", m.const(9.0)), out="five"), out="y")))
    assert ops(made) == ["Mul"]
    assert float(made.constants["five"]) == 5
    assert len(made.constants) == 1


def test_a_shape_that_is_known_is_folded() -> None:
    m = Maker()
    x = m.input("x", 2, 3, 4)
    rows = m("Gather", m("Shape", x), m.ints(0), axis=0)
    made, _ = checked(m.graph(m("Reshape", x, m("Concat", rows, m.ints(-1), axis=0), out="y")))
    assert ops(made) == ["Reshape"]


def test_a_shape_of_unknown_size_stays() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 4)
    rows = m("Gather", m("Shape", x), m.ints(0), axis=0)
    graph = m.graph(m("Reshape", x, m("Concat", rows, m.ints(-1), axis=0), out="y"))
    made, _ = checked(graph)
    assert "Shape" in ops(made)
    made, _ = checked(graph, types_of_inputs={"x": TensorType(np.dtype(float), (2, 3, 4))}, batches=(2,))
    assert ops(made) == ["Reshape"]


def test_large_results_are_not_folded() -> None:
    m = Maker()
    x = m.input("x", "N", 1)
    wide = m("Expand", m.const(1.5), m.ints(1, 200_000))
    made, log = checked(m.graph(m("Add", x, wide)))
    assert ops(made) == ["Expand", "Add"]
    assert "the result would have 1600000 bytes" in reasons(log, "fold_constants")


def test_one_number_in_a_large_shape_is_folded_and_takes_no_memory() -> None:
    """Nor does another shape of it, but what is calculated from it would."""
    m = Maker()
    x = m.input("x", "N", 1)
    tall = m("ConstantOfShape", m.ints(200_000, 1, 1), value=np.array([1.5]))
    wide = m("Transpose", m("Reshape", tall, m.ints(-1, 1)), perm=[1, 0], out="wide")
    made, log = checked(m.graph(m("Add", x, m("Add", wide, m("Neg", wide)))))
    assert ops(made) == ["Neg", "Add", "Add"]
    assert made.constants["wide"].strides == (0, 0)
    assert "the result would have 1600000 bytes" in reasons(log, "fold_constants")


def test_numbers_in_large_shapes_are_folded_up_to_a_sum() -> None:
    m = Maker()
    x = m.input("x", "N", 1)
    wide = [m("ConstantOfShape", m.ints(1, 100_000_000), value=np.array([v], float)) for v in (1, 2)]
    made, log = optimize(m.graph(m("Add", m("Add", x, wide[0]), wide[1])))
    assert ops(made).count("ConstantOfShape") == 1
    assert "results like this one would have 1600000000 bytes" in reasons(log, "fold_constants")


def test_many_numbers_in_large_shapes_are_looked_at_once_or_twice_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each of the others."""
    m = Maker()
    x = m.input("x", "N", 1)
    for k in range(100):
        x = m("Add", x, m("ConstantOfShape", m.ints(1, 4_000_000), value=np.array([k], float)))
    looked = 0
    size = fold_constants._size

    def counted(view: View, node: Node) -> int | None:
        nonlocal looked
        looked += node.op == "ConstantOfShape"
        return size(view, node)

    monkeypatch.setattr(fold_constants, "_size", counted)
    made, _ = optimize(m.graph(x))
    assert ops(made).count("ConstantOfShape") == 67
    assert looked < 400


def test_a_constant_output_is_not_folded() -> None:
    m = Maker()
    m.input("x", "N", 1)
    made, log = checked(m.graph(m("Neg", m.const(1.5), out="y"), "x"))
    assert ops(made) == ["Neg"]
    assert "value 'y' is a graph output" in reasons(log, "fold_constants")
