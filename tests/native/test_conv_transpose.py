"""ConvTranspose by one convolution per phase of its strides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import judge

_WINDOWS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 2]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
    {"strides": [4, 5]},
    {"strides": [2, 1], "dilations": [1, 3]},
    {"strides": [3, 2], "dilations": [2, 2], "pads": [2, 1, 0, 3]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 3], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "output_shape": [11, 9]},
    {"strides": [2, 2], "output_shape": [20, 21]},
]


@pytest.mark.parametrize("window", _WINDOWS)
@pytest.mark.parametrize(("channels", "filters", "group"), [(3, 5, 1), (6, 4, 2), (5, 5, 5), (1, 1, 1), (16, 40, 1)])
def test_images(window: dict[str, Any], channels: int, filters: int, group: int) -> None:
    shapes = ((2, channels, 5, 6), (channels, filters // group, 3, 4), (filters,))
    judge("ConvTranspose", shapes, (1, 2), group=group, **window)


@given(
    st.integers(0, 3), st.integers(1, 9), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3),
    st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 4),
)  # fmt: skip
@settings(max_examples=25)
def test_signals(
    batch: int, channels: int, filters: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], extra: int
) -> None:
    shapes = ((batch, channels, 6), (channels, filters, kernel))
    judge("ConvTranspose", shapes, (1,), strides=[stride], dilations=[dilation], pads=list(pads),
          output_padding=[extra])  # fmt: skip
