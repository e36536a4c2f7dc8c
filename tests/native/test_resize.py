"""Resize in every mode, as steps along its axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import judge

MODES = ("nearest", "linear", "cubic")
TRANSFORMATIONS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
SHAPES = [(2, 3, 5, 6), (1, 7, 6, 19), (1, 4, 1, 33)]


def _sizes(*sizes: int) -> tuple[None, None, Any]:
    return None, None, np.array(sizes)


def _scales(*scales: float) -> tuple[None, Any]:
    return None, np.array(scales, np.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_sizes(mode: str, transformation: str, shape: tuple[int, ...]) -> None:
    for out in ((11, 8), (3, 40), (1, 1)):
        judge("Resize", (shape, *_sizes(*out)), (3,), mode=mode, axes=[2, 3],
              coordinate_transformation_mode=transformation)  # fmt: skip


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("exclude_outside", [0, 1])
def test_antialias(mode: str, exclude_outside: int) -> None:
    judge("Resize", ((1, 2, 17, 20), *_scales(1, 1, 0.3, 0.45)), (2,), mode=mode, antialias=1,
          exclude_outside=exclude_outside)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_crops(mode: str) -> None:
    roi = np.array([0.1, -0.3, 0.8, 1.2], np.float32)
    judge("Resize", ((2, 3, 5, 6), roi, None, np.array([4, 23])), (1, 3), mode=mode, axes=[2, 3],
          coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-1.5)  # fmt: skip


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest_modes(nearest: str) -> None:
    judge("Resize", ((2, 3, 5, 6), *_scales(1, 1, 1.6, 0.4)), (2,), nearest_mode=nearest)


@pytest.mark.parametrize("axes", [[0], [1], [0, 1, 2], [2, 0], [1, 2, 3]])
@pytest.mark.parametrize("mode", MODES)
def test_any_axes(axes: list[int], mode: str) -> None:
    judge("Resize", ((3, 4, 5, 6), *_sizes(7, 2, 9)[:2], np.array([7, 2, 9][: len(axes)])), (3,), mode=mode, axes=axes)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int64, np.bool_])
def test_nearest_of_other_dtypes(dtype: Any) -> None:
    x = (np.arange(2 * 3 * 4 * 5) % 7).astype(dtype).reshape(2, 3, 4, 5)
    judge("Resize", (x, *_scales(1, 1, 2, 3)), (2,))


def test_infinities_and_nans_stay_where_they_are() -> None:
    x = np.zeros((1, 1, 4, 40), np.float32)
    x[0, 0, 1, 3], x[0, 0, 2, 30] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        judge("Resize", (x, *_scales(1, 1, 2, 2)), (2,), mode="linear")


@given(
    st.integers(1, 4), st.integers(1, 40), st.integers(1, 50), st.sampled_from(MODES), st.sampled_from(TRANSFORMATIONS)
)  # fmt: skip
@settings(max_examples=30)
def test_signals(channels: int, size: int, out: int, mode: str, transformation: str) -> None:
    judge("Resize", ((2, channels, size), *_sizes(2, channels, out)), (3,), mode=mode,
          coordinate_transformation_mode=transformation)  # fmt: skip
