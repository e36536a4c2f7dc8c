"""Factors of channels become an input of the convolution that reads the products."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import Maker, checked, ops, reasons


def _squeezed(m: Maker, x: str, channels: int) -> str:
    """A factor for each channel of each image."""
    return m("Sigmoid", m.conv(m("GlobalAveragePool", x), channels, channels, 1))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", [("N", 4, 6, 5), ("N", 4, "H", "W"), (2, 4, 1, 1)])
def test_factors_of_channels_become_an_input_of_the_convolution(size: tuple[Any, ...], swapped: bool) -> None:
    m = Maker()
    x = m("Relu", m.input("x", *size))
    pair = [x, _squeezed(m, x, 4)]
    y = m("Relu", m.conv(m("Mul", *(pair[::-1] if swapped else pair)), 4, 8, 1, bias=True))
    made, _ = checked(m.graph(y), batches=(2, 1))
    assert "Mul" not in ops(made)
    conv = next(n for n in made.nodes if len(n.inputs) == 5)
    squeezed = next(n for n in made.nodes if n.attributes.get("activation") == "Sigmoid")
    if size[2] != 1:  # else both could be the factors
        assert conv.inputs[4] == squeezed.outputs[0]


def test_factors_may_be_the_same_for_all_images() -> None:
    m = Maker()
    y = m.conv(m("Mul", m.input("x", "N", 4, 3, 3), m.input("s", 1, 4, 1, 1)), 4, 8, 1)
    made, _ = checked(m.graph(y))
    assert "Mul" not in ops(made)


def _larger(m: Maker, product: str) -> list[str]:
    return [m.conv(product, 4, 8, 3)]


def _grouped(m: Maker, product: str) -> list[str]:
    return [m.conv(product, 4, 8, 1, group=2)]


def _read_twice(m: Maker, product: str) -> list[str]:
    return [m.conv(product, 4, 8, 1), m.conv(product, 4, 8, 1)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_larger, "its windows are larger than a pixel"),
        (_grouped, "it has groups"),
        (_read_twice, "is used by 2 nodes"),
    ],
)
def test_factors_that_stay(make: Any, reason: str) -> None:
    m = Maker()
    product = m("Mul", m.input("x", "N", 4, 6, 5), m.input("s", "N", 4, 1, 1))
    made, log = checked(m.graph(*make(m, product)))
    assert "Mul" in ops(made)
    assert reason in reasons(log, "fuse_scale")


@pytest.mark.parametrize("shape", [("N", 1, 6, 5), ("N", 4, 6, 1), ("M", 4, 1, 1), (4, 1, 1)])
def test_other_products_are_no_factors_of_channels(shape: tuple[Any, ...]) -> None:
    m = Maker()
    y = m.conv(m("Mul", m.input("x", "N", 4, 6, 5), m.input("s", *shape)), 4, 8, 1)
    made, log = checked(m.graph(y), batches=(1,))
    assert "Mul" in ops(made)
    assert not reasons(log, "fuse_scale")


def test_a_convolution_with_factors_takes_no_pads() -> None:
    """Which a branch that became known may bring to a graph that has been through the passes."""
    m = Maker()
    x, s = m.input("x", "N", 6, 5, 4), m.input("s", "N", 1, 1, 4)
    padded = m("Pad", x, m.ints(0, 1, 1, 0, 0, 1, 1, 0))
    window = {"kernel_shape": [1, 1], "pads": [0, 0, 0, 0]}
    made, log = checked(m.graph(m("nhwc.Conv", padded, m.const((1, 1, 4, 8)), "", "", s, **window)))
    assert ops(made) == ["Pad", "nhwc.Conv"]
    assert "has factors of channels" in reasons(log, "fold_pad")
