"""Scales and shifts that follow each other are merged where nothing is lost."""

from __future__ import annotations

import pytest
from graphs import Maker, checked, ops, reasons


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
    graph, _ = checked(m.graph(m("Relu", y)))
    assert ops(graph) == [made, "Relu"]


def test_scales_and_shifts_that_other_nodes_read_or_that_may_cancel_stay() -> None:
    m = Maker()
    x = m.input("x", "N", 4)
    y = m("Mul", x, m.const((4,)), out="y")
    far = m("Mul", m("Sub", x, m.const(1e4)), m.const((4,)))
    made, log = checked(m.graph(m("Add", y, m.const((4,))), m("Exp", y), far))
    assert sorted(ops(made)) == ["Add", "Exp", "Mul", "Mul", "Sub"]
    assert "value 'y' is used by 2 nodes" in reasons(log, "fold_affine")
    assert "shifts by more than 8" in reasons(log, "fold_affine")
