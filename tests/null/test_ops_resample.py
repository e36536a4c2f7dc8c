"""Resize, GridSample and AffineGrid beyond the cases that ONNX and onnxruntime judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import infer_node
from tolerance import NETWORK_FLOAT64, ONNX_FLOAT64


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


RAMP = np.arange(9.0)[:, None] * 10 + np.arange(16.0)
SCALES = np.array([1, 1, 2.5, 1.5], np.float32)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"])
def test_resize_keeps_a_ramp(mode: str, transformation: str) -> None:
    # Cubic convolution keeps straight lines by this coefficient alone.
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation, "cubic_coeff_a": -0.5}
    y = run_node("Resize", RAMP[None, None], None, SCALES, **attributes)[0, 0]
    # Away from the borders, where pixels are repeated, a straight line stays one.
    np.testing.assert_allclose(np.diff(y[5:-5, 5:-5], 2, axis=1), 0, **NETWORK_FLOAT64)
    np.testing.assert_allclose(np.diff(y[5:-5, 5:-5], 2, axis=0), 0, **NETWORK_FLOAT64)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("round_prefer_floor", [0, 0, 1, 1, 2, 2]),
        ("round_prefer_ceil", [0, 1, 1, 2, 2, 2]),
        ("floor", [0, 0, 1, 1, 2, 2]),
        ("ceil", [0, 1, 1, 2, 2, 2]),
    ],
)
def test_nearest_modes(mode: str, expected: list[int]) -> None:
    y = run_node(
        "Resize",
        np.arange(3),
        None,
        np.array([2], np.float32),
        nearest_mode=mode,
        coordinate_transformation_mode="asymmetric",
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("exclude", [0, 1])
def test_resize_of_one_colour_is_that_colour(mode: str, antialias: int, exclude: int) -> None:
    x = np.full((1, 1, 17, 13), 3.25)
    y = run_node(
        "Resize", x, None, None, np.array([1, 1, 5, 29]), mode=mode, antialias=antialias, exclude_outside=exclude
    )
    np.testing.assert_allclose(y, 3.25, **ONNX_FLOAT64)


def test_resize_aligns_the_corners_of_an_output_of_fractional_length() -> None:
    x = np.arange(1.0, 9).reshape(2, 4)
    y = run_node(
        "Resize",
        x,
        None,
        np.array([0.6, 0.6], np.float32),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    np.testing.assert_array_equal(y, [[1, 4]])


def test_resize_antialias_is_a_mean_of_pixels() -> None:
    x = np.arange(8.0)
    y = run_node("Resize", x, None, np.array([0.5], np.float32), mode="linear", antialias=1, exclude_outside=1)
    # A triangle over four pixels; at the ends one is missing.
    expected = [np.dot([3, 3, 1], x[:3]) / 7, *(np.dot([1, 3, 3, 1], x[k : k + 4]) / 8 for k in (1, 3))]
    np.testing.assert_allclose(y[:3], expected, **ONNX_FLOAT64)


@pytest.mark.parametrize(
    ("policy", "sizes", "expected"),
    [("not_larger", [7, 8], (6, 8)), ("not_smaller", [7, 8], (7, 9)), ("stretch", [7, 8], (7, 8))],
)
def test_resize_keeps_the_aspect_ratio(policy: str, sizes: list[int], expected: tuple[int, int]) -> None:
    y = run_node("Resize", image(1, 3, 4), None, None, np.array(sizes), axes=[1, 2], keep_aspect_ratio_policy=policy)
    assert y.shape == (1, *expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.uint8, [0, 64, 191, 255]), (np.int8, [0, 32, 95, 127]), (np.float16, None), (np.complex64, None)],
)
def test_resize_of_other_dtypes(dtype: Any, expected: Any) -> None:
    x = np.array([0, 255 if dtype == np.uint8 else 127]).astype(dtype)
    y = run_node("Resize", x, None, np.array([2], np.float32), mode="linear")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [0, 31.75, 95.25, 127] if expected is None else expected)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32])
def test_resize_saturates_integers(dtype: Any) -> None:
    ends = np.iinfo(dtype)
    x = np.array([ends.min, ends.min, ends.max, ends.max], dtype)
    y = run_node("Resize", x, None, np.array([2], np.float32), mode="cubic")
    assert y[0] == ends.min
    assert y[-1] == ends.max
    assert y.max() == ends.max
    assert (np.diff(y[2:6].astype(object)) >= 0).all()


def test_resize_of_text() -> None:
    x = np.array(["a", "b"], object)
    y = run_node("Resize", x, None, None, np.array([4]))
    np.testing.assert_array_equal(y, np.array(["a", "a", "b", "b"], object))
    with pytest.raises(GraphError, match="wrong dtype"):
        run_node("Resize", x, None, None, np.array([4]), mode="linear")


def test_resize_of_a_region() -> None:
    x, roi = np.arange(5.0), np.array([0.25, 1.25])
    y = run_node(
        "Resize",
        x,
        roi,
        None,
        np.array([5]),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=-1.0,
    )
    np.testing.assert_array_equal(y, [1, 2, 3, 4, -1])


def test_resize_of_unknown_sizes() -> None:
    node = Node("Resize", ["x", "", "scales"], ["y"])
    types = [TensorType(np.dtype(np.float32), ("N", 3, None, 10)), None, TensorType(np.dtype(np.float32), (4,))]
    scales = np.array([1, 1, 2, 0.7], np.float32)
    assert infer_node(node, types, [None, None, scales])[0].shape == ("N", 3, None, 7)
    assert infer_node(node, types)[0].shape == (None,) * 4


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("spatial", [(4, 5), (3, 4, 5)])
def test_the_grid_of_no_change_gives_the_image(align: int, mode: str, spatial: tuple[int, ...]) -> None:
    x, rank = image(2, 3, *spatial), len(spatial)
    theta = np.broadcast_to(np.eye(rank, rank + 1), (2, rank, rank + 1))
    grid = run_node("AffineGrid", theta, np.array([2, 3, *spatial]), align_corners=align)
    assert grid.shape == (2, *spatial, rank)
    np.testing.assert_allclose(run_node("GridSample", x, grid, mode=mode, align_corners=align), x, **NETWORK_FLOAT64)


def test_affine_grid_turns() -> None:
    quarter = np.array([[[0.0, -1, 0], [1, 0, 0]]])
    grid = run_node("AffineGrid", quarter, np.array([1, 1, 3, 3]), align_corners=1)
    x = image(1, 1, 3, 3)
    np.testing.assert_allclose(
        run_node("GridSample", x, grid, align_corners=1)[0, 0], np.rot90(x[0, 0]), **NETWORK_FLOAT64
    )
    one = run_node("AffineGrid", quarter, np.array([1, 1, 1, 1]), align_corners=1)
    np.testing.assert_array_equal(one, np.zeros((1, 1, 1, 2)))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_far_outside(padding: str, mode: str) -> None:
    x = np.arange(1.0, 5).reshape(1, 1, 4)
    # In units of the image: far left, far right, and nowhere.
    grid = np.array([-1e30, 1e30, np.nan, np.inf]).reshape(1, 4, 1)
    y = run_node("GridSample", x, grid, mode=mode, padding_mode=padding)[0, 0]
    if padding == "zeros":
        np.testing.assert_array_equal(y, 0)
    elif padding == "border":
        np.testing.assert_allclose(y[[0, 1, 3]], [1, 4, 4], **ONNX_FLOAT64)
    assert np.isfinite(y).all()


def test_grid_sample_reflects_at_both_borders() -> None:
    x = np.arange(4.0).reshape(1, 1, 4)
    pixels = np.array([-1.0, -2, -4, -5, 4, 5, 7, 8, 12])
    grid = ((pixels * 2 + 1) / 4 - 1).reshape(1, -1, 1)
    for mode in ("nearest", "linear"):
        y = run_node("GridSample", x, grid, mode=mode, padding_mode="reflection")
        np.testing.assert_allclose(y[0, 0], [0, 1, 3, 3, 3, 2, 0, 0, 3], **ONNX_FLOAT64)


def test_grid_sample_of_integers_and_text() -> None:
    grid = np.array([-0.2, 0.2, 3.0], np.float32).reshape(1, 3, 1)
    whole = run_node("GridSample", np.array([[[-4, 5]]], np.int32), grid)
    # Cast at the end, toward zero, from -1.3 and 2.3.
    np.testing.assert_array_equal(whole, [[[-1, 2, 0]]])
    text = run_node("GridSample", np.array([[["a", "b"]]], object), grid, mode="nearest")
    np.testing.assert_array_equal(text, np.array([[["a", "b", ""]]], object))
