"""Convolutions and pools of signals and volumes, by the kernels of images."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import judge

_SIGNALS: list[dict[str, Any]] = [
    {},
    {"pads": [2, 1]},
    {"strides": [2], "pads": [0, 3]},
    {"dilations": [2], "pads": [4, 0]},
    {"auto_pad": "SAME_UPPER", "strides": [3]},
    {"auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("window", _SIGNALS)
@pytest.mark.parametrize(("channels", "filters", "group"), [(1, 5, 1), (6, 9, 3), (17, 17, 17), (8, 33, 1)])
def test_convolutions_of_signals(window: dict[str, Any], channels: int, filters: int, group: int) -> None:
    shapes = ((2, channels, 21), (filters, channels // group, 3), (filters,))
    judge("Conv", shapes, (1, 2), group=group, **window)


@given(
    st.integers(0, 3), st.integers(1, 20), st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)  # fmt: skip
@settings(max_examples=25)
def test_any_convolution_of_signals(
    batch: int, channels: int, filters: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    length = (kernel - 1) * dilation + 7
    judge("Conv", ((batch, channels, length), (filters, channels, kernel)), (1,), strides=[stride],
          dilations=[dilation], pads=list(pads))  # fmt: skip


_POOLS: list[dict[str, Any]] = [
    {},
    {"strides": [2], "pads": [1, 2]},
    {"dilations": [2]},
    {"strides": [3], "ceil_mode": 1},
    {"auto_pad": "SAME_UPPER", "strides": [2]},
]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("window", _POOLS)
def test_pools_of_signals(op: str, window: dict[str, Any]) -> None:
    for more in ({}, {"count_include_pad": 1}) if op == "AveragePool" else ({},):
        judge(op, ((2, 19, 23),), kernel_shape=[3], **window, **more)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 5, 17), (1, 1, 1), (2, 3, 4, 5, 6), (1, 33, 3, 1, 2)])
def test_global_pools(op: str, shape: tuple[int, ...]) -> None:
    judge(op, (shape,))


_VOLUMES: list[dict[str, Any]] = [
    {},
    {"pads": [1, 0, 2, 0, 1, 1]},
    {"strides": [2, 1, 2], "pads": [1] * 6},
    {"dilations": [1, 2, 1]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2, 1]},
]


@pytest.mark.parametrize("window", _VOLUMES)
@pytest.mark.parametrize(("channels", "filters", "group"), [(3, 5, 1), (6, 4, 2), (5, 5, 5)])
def test_convolutions_of_volumes(window: dict[str, Any], channels: int, filters: int, group: int) -> None:
    shapes = ((2, channels, 5, 6, 7), (filters, channels // group, 2, 3, 2), (filters,))
    judge("Conv", shapes, (1, 2), group=group, **window)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("window", [*_VOLUMES[:3], {"ceil_mode": 1, "strides": [2, 3, 2]}])
def test_pools_of_volumes(op: str, window: dict[str, Any]) -> None:
    for more in ({}, {"count_include_pad": 1}) if op == "AveragePool" else ({},):
        judge(op, ((2, 5, 5, 6, 7),), kernel_shape=[2, 3, 3], **window, **more)
