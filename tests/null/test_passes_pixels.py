"""Averages of pixels move before convolutions of single pixels."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import Maker, checked, ops, reasons


@pytest.mark.parametrize(
    "pool",
    [
        {"strides": [2, 2]},
        {"strides": [2, 1], "pads": [1, 0, 1, 1]},
        {"strides": [2, 2], "ceil_mode": 1},
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_averages_move_before_convolutions_of_a_pixel(pool: dict[str, Any], bias: bool) -> None:
    m = Maker()
    y = m.conv(m("Exp", m.input("x", "N", 4, 7, 5)), 4, 8, 1, bias=bias)
    made, _ = checked(m.graph(m("AveragePool", y, kernel_shape=[2, 3], **pool)))
    found = ops(made)
    assert found.index("nhwc.AveragePool") < found.index("nhwc.Conv")


@pytest.mark.parametrize("size", [("N", 4, 6, 5), ("N", 4, "H", "W")])
def test_global_averages_too(size: tuple[Any, ...]) -> None:
    m = Maker()
    y = m.conv(m("Exp", m.input("x", *size)), 4, 8, 1, bias=True, group=2)
    made, _ = checked(m.graph(m("Flatten", m("GlobalAveragePool", y))), batches=(2, 1))
    found = ops(made)
    assert found.index("nhwc.GlobalAveragePool") < found.index("nhwc.Conv")


_PADDED = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}


@pytest.mark.parametrize(
    ("conv", "activation", "pool"),
    [({"k": 3}, "", {}), ({"strides": [2, 2]}, "", {}), ({}, "Relu", {}), ({"bias": True}, "", _PADDED)],
)
def test_averages_that_stay(conv: dict[str, Any], activation: str, pool: dict[str, Any]) -> None:
    m = Maker()
    y = m.conv(m("Exp", m.input("x", "N", 4, 7, 6)), 4, 8, **{"k": 1, **conv})
    y = m(activation, y) if activation else y
    made, log = checked(m.graph(m("AveragePool", y, **{"kernel_shape": [2, 2], "strides": [2, 2], **pool})))
    found = ops(made)
    assert found.index("nhwc.Conv") < found.index("nhwc.AveragePool")
    assert ("it counts zeros" in reasons(log, "pool_first")) == bool(pool)


def test_an_average_of_what_others_read_or_add_to_stays() -> None:
    m = Maker()
    y = m.conv(m.input("x", "N", 4, 6, 6), 4, 4, 1, out="y")
    _, log = checked(m.graph(m("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]), m("Exp", y)))
    assert "is used by 2 nodes" in reasons(log, "pool_first")
    m = Maker()
    y = m.conv(m("Exp", m.input("x", "N", 4, 6, 6)), 4, 4, 1)
    y = m("Add", y, m.conv(m("Exp", "x"), 4, 4, 1))
    made, _ = checked(m.graph(m("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])))
    assert ops(made)[-2:] == ["nhwc.AveragePool", "Transpose"]


def test_an_average_of_as_many_pixels_stays_without_a_word() -> None:
    m = Maker()
    y = m.conv(m("Exp", m.input("x", "N", 4, 6, 6)), 4, 4, 1)
    made, log = checked(m.graph(m("AveragePool", y, kernel_shape=[3, 3])))
    assert ops(made).index("nhwc.Conv") < ops(made).index("nhwc.AveragePool")
    assert not reasons(log, "pool_first")


@pytest.mark.parametrize(("side", "pays"), [(8, True), (2, False)])
def test_a_global_average_of_what_others_read_too(side: int, pays: bool) -> None:
    m = Maker()
    y = m.conv(m("Exp", m.input("x", "N", 4, side, side)), 4, 16, 1, bias=True, out="y")
    made, log = checked(m.graph(m("Mul", y, m("Sigmoid", m("GlobalAveragePool", y)))))
    pool = next(n for n in made.nodes if n.op == "GlobalAveragePool")
    readers = [n for n in made.nodes if pool.outputs[0] in n.inputs]
    assert [n.op for n in readers] == (["Conv"] if pays else ["Sigmoid"])
    assert ("is used by 2 nodes" in reasons(log, "pool_first")) != pays
