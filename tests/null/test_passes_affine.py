"""Scales and shifts that follow each other are merged where nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Maker, checked, draw, ops, reasons

from forwardpass.ops import evaluate
from forwardpass.passes import optimize


@pytest.mark.parametrize(
    ("chain", "made"),
    [
        (("Mul", "Add"), "fused.ScaleShift"),
        (("Add", "Mul"), "fused.ScaleShift"),
        (("Add", "Sub"), "Add"),
        (("Mul", "Div"), "Mul"),
        (("Mul", "Add", "Mul", "Add"), "fused.ScaleShift"),
    ],
)
def test_scales_and_shifts_in_a_row_become_one(chain: tuple[str, ...], made: str) -> None:
    m = Maker()
    y = m.input("x", "N", 3, 4)
    for op in chain:
        y = m(op, y, m.const((4,)))
    graph, _ = checked(m.graph(m("Softmax", y)))
    assert ops(graph) == [made, "Softmax"]


def test_scales_and_shifts_that_other_nodes_read_or_that_may_cancel_stay() -> None:
    m = Maker()
    x = m.input("x", "N", 4)
    y = m("Mul", x, m.const((4,)), out="y")
    far = m("Mul", m("Sub", x, m.const(1e4)), m.const((4,)))
    made, log = checked(m.graph(m("Add", y, m.const((4,))), m("Exp", y), far))
    assert sorted(ops(made)) == ["Add", "Exp", "Mul", "Mul", "Sub"]
    assert "value 'y' is used by 2 nodes" in reasons(log, "fold_affine")
    assert "shifts by more than 8" in reasons(log, "fold_affine")


def _single(seed: int = 0) -> Maker:
    return Maker(seed, np.float32)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("scale", [("N", 4, 1, 1), ("N", 4, 5, 6), (1,), (4, 1, 1)])
def test_a_product_and_an_addition_become_one_with_the_activation(scale: tuple[Any, ...], swapped: bool) -> None:
    m = _single()
    x, s, r = m.input("x", "N", 4, 5, 6), m.input("s", *scale), m.input("r", "N", 4, 5, 6)
    product = m("Mul", *((s, x) if swapped else (x, s)))
    made, _ = optimize(m.graph(m("Relu", m("Add", *((r, product) if swapped else (product, r))))), check=True)
    assert ops(made) == ["fused.ScaleShift"]
    assert made.nodes[0].attributes["activation"] == "Relu"
    values = draw(made, 2)
    want = np.maximum(values["x"] * values["s"] + values["r"], 0)
    np.testing.assert_array_equal(evaluate(made, values)[made.outputs[0]], want)


@pytest.mark.parametrize(
    ("x", "scale", "shift"),
    [
        (("N", 4, 1), ("N", 1, 5), ("N", 4, 5)),  # neither has the shape of their product
        (("N", 4, 5), ("N", 4, 1), ("M", "N", 4, 5)),  # the sum is larger than the product
        ((None, 5), ("N", 1), ("N", 5)),
    ],
)
def test_other_sums_of_products_stay(x: tuple[Any, ...], scale: tuple[Any, ...], shift: tuple[Any, ...]) -> None:
    m = _single()
    y = m("Add", m("Mul", m.input("x", *x), m.input("s", *scale)), m.input("r", *shift))
    made, _ = optimize(m.graph(y), check=True)
    assert ops(made) == ["Mul", "Add"]


def test_a_product_that_others_read_stays() -> None:
    m = _single()
    product = m("Mul", m.input("x", "N", 4), m.input("s", "N", 1))
    _, log = optimize(m.graph(m("Add", product, m.input("r", "N", 4)), m("Softmax", product)), check=True)
    assert "is used by 2 nodes" in reasons(log, "fuse_multiply_add")
