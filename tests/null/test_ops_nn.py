"""Convolutions, pools and regions beyond the cases that ONNX and onnxruntime judge; errors of these operators and of
those of test_ops_resample.py and test_ops_signal.py."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass import dtypes
from forwardpass.errors import GraphError
from tolerance import NETWORK_FLOAT64, ONNX_FLOAT32, ONNX_FLOAT64


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# What both directions of a convolution have in common: each is the other's adjoint.
GEOMETRIES = [
    ((7,), (3,), {"strides": [2], "pads": [1, 1]}),
    ((6, 7), (3, 2), {"strides": [1, 2], "pads": [1, 0, 0, 1]}),
    ((9, 8), (3, 3), {"dilations": [2, 1], "group": 2}),
    ((4, 5, 6), (2, 3, 2), {"strides": [2, 1, 2]}),
    ((3, 4, 3, 3), (2, 2, 2, 2), {"pads": [1, 0, 0, 0, 0, 0, 1, 0]}),
]


@pytest.mark.parametrize(("spatial", "kernel", "attributes"), GEOMETRIES)
def test_conv_transpose_is_the_adjoint_of_conv(spatial: Any, kernel: Any, attributes: Any) -> None:
    x, w = image(2, 4, *spatial), image(6, 4 // attributes.get("group", 1), *kernel, seed=1)
    y = run_node("Conv", x, w, **attributes)
    z = image(*y.shape, seed=2)
    back = run_node("ConvTranspose", z, w, output_shape=None, **attributes)
    grown = tuple(slice(0, d) for d in back.shape)
    np.testing.assert_allclose((y * z).sum(), (x[grown] * back).sum(), **NETWORK_FLOAT64)


def test_conv_of_four_dimensions() -> None:
    x, w = image(1, 2, 3, 4, 3, 3), image(2, 2, 2, 2, 2, 2, seed=1)
    y = run_node("Conv", x, w)
    expected = np.zeros(y.shape)
    for place in np.ndindex(*y.shape[2:]):
        part = x[(slice(None), slice(None), *(slice(p, p + 2) for p in place))]
        expected[(..., *place)] = np.einsum("ncabde,mcabde->nm", part, w)
    np.testing.assert_allclose(y, expected, **ONNX_FLOAT64)


def test_conv_transpose_of_groups_is_one_of_each() -> None:
    x, w, bias = image(2, 6, 4, 5), image(6, 2, 3, 3, seed=1), image(6, seed=2)
    whole = run_node("ConvTranspose", x, w, bias, group=3, strides=[2, 2])
    parts = [
        run_node(
            "ConvTranspose", x[:, 2 * g : 2 * g + 2], w[2 * g : 2 * g + 2], bias[2 * g : 2 * g + 2], strides=[2, 2]
        )
        for g in range(3)
    ]
    np.testing.assert_allclose(whole, np.concatenate(parts, 1), **ONNX_FLOAT64)


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", [0, 1]), ("SAME_LOWER", [1, 0]), ("NOTSET", [1, 0])])
def test_an_output_shape_gives_pads(auto: str, pads: list[int]) -> None:
    x, w = image(1, 2, 4), image(2, 2, 3, seed=1)
    found = run_node("ConvTranspose", x, w, strides=[2], output_shape=[8], auto_pad=auto)
    np.testing.assert_array_equal(found, run_node("ConvTranspose", x, w, strides=[2], pads=pads))


def test_an_output_shape_beyond_the_windows_ends_in_the_bias() -> None:
    x, w, bias = image(1, 1, 3), image(1, 1, 2, seed=1), np.array([0.5])
    found = run_node("ConvTranspose", x, w, bias, output_shape=[6])
    np.testing.assert_array_equal(found[..., :4], run_node("ConvTranspose", x, w, bias))
    np.testing.assert_array_equal(found[..., 4:], 0.5)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalLpPool"])
def test_half_precision_is_rounded_once(op: str) -> None:
    x, w = image(1, 8, 9, 9).astype(np.float16), image(8, 8, 3, 3, seed=1).astype(np.float16)
    inputs = (x, w) if "Conv" in op else (x,)
    attributes = {"kernel_shape": [3, 3]} if op in ("AveragePool", "LpPool") else {}
    y = run_node(op, *inputs, **attributes)
    exact = run_node(op, *(i.astype(np.float32) for i in inputs), **attributes)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, exact.astype(np.float16))


def test_bfloat16_images() -> None:
    x = dtypes.encode(image(1, 2, 4, 4), dtypes.BFLOAT16)
    for op, attributes in (("Resize", {}), ("MaxPool", {"kernel_shape": [2, 2]})):
        inputs = (x, None, np.array([1, 1, 2, 2], np.float32)) if op == "Resize" else (x,)
        assert run_node(op, *inputs, **attributes).dtype == dtypes.BFLOAT16


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16])
@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_says_where(dtype: Any, order: int) -> None:
    window = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]}
    x = np.random.default_rng(0).permutation(2 * 2 * 5 * 4).reshape(2, 2, 5, 4).astype(dtype)
    y, places = run_node("MaxPool", x, outputs=2, storage_order=order, **window)
    flat = x.ravel() if order == 0 else x.transpose(0, 1, 3, 2).ravel()
    assert places.dtype == np.int64
    np.testing.assert_array_equal(flat[places], y)


def test_max_unpool_undoes_max_pool() -> None:
    x = image(2, 3, 6, 8)
    y, places = run_node("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    back = run_node("MaxUnpool", y, places, kernel_shape=[2, 2], strides=[2, 2])
    again, where = run_node(
        "MaxPool", np.where(back == 0, -np.inf, back), outputs=2, kernel_shape=[2, 2], strides=[2, 2]
    )
    assert back.shape == x.shape
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(where, places)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.complex64, np.bool_])
def test_columns_to_image(dtype: Any) -> None:
    size, block, strides, pads = (5, 6), (2, 3), (2, 1), (1, 0, 0, 1)
    counts = (3, 5)
    x = (image(2, 2 * 6, 15) * 8).astype(dtype)
    found = run_node("Col2Im", x, np.array(size), np.array(block), strides=list(strides), pads=list(pads))
    columns = x.reshape(2, 2, *block, *counts)
    expected = np.zeros((2, 2, *size), dtype)
    for a, b, i, j in itertools.product(*(range(d) for d in (*block, *counts))):
        row, column = i * strides[0] + a - pads[0], j * strides[1] + b - pads[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            expected[:, :, row, column] += columns[:, :, a, b, i, j]
    np.testing.assert_allclose(found, expected, **ONNX_FLOAT32)


@pytest.mark.parametrize(("spatial", "kernel"), [((7,), (3,)), ((6, 5), (3, 2)), ((4, 5, 4), (2, 3, 2))])
def test_deform_conv_without_offsets_is_conv(spatial: Any, kernel: Any) -> None:
    rank = len(spatial)
    attributes = {"pads": [1] * (2 * rank), "strides": [2] * rank, "group": 2}
    x, w, bias = image(2, 4, *spatial), image(6, 2, *kernel, seed=1), image(6, seed=2)
    y = run_node("Conv", x, w, bias, **attributes)
    offset = np.zeros((2, 2 * np.prod(kernel) * rank, *y.shape[2:]))
    mask = np.full((2, 2 * np.prod(kernel), *y.shape[2:]), 0.5)
    found = run_node("DeformConv", x, w, offset, bias, offset_group=2, **attributes)
    np.testing.assert_allclose(found, y, **ONNX_FLOAT64)
    halved = run_node("DeformConv", x, w, offset, None, mask, offset_group=2, **attributes)
    np.testing.assert_allclose(halved, run_node("Conv", x, w, **attributes) / 2, **ONNX_FLOAT64)


def test_deform_conv_samples_between_pixels() -> None:
    x = image(1, 1, 4, 5)
    offset = np.broadcast_to(np.array([0.25, -1.5]).reshape(1, 2, 1, 1), (1, 2, 4, 5))
    padded = np.pad(x[0, 0], ((0, 1), (2, 0)))
    rows = 0.75 * padded[:-1] + 0.25 * padded[1:]
    expected = (rows[:, :-1] + rows[:, 1:])[:, :-1] / 2
    y = run_node("DeformConv", x, np.ones((1, 1, 1, 1)), offset)
    np.testing.assert_allclose(y[0, 0], expected[:, :5], **ONNX_FLOAT64)


def test_causal_conv_in_parts_is_that_of_the_whole() -> None:
    x, w, bias = image(2, 3, 11), image(3, 1, 4, seed=1), image(3, seed=2)
    whole, end = run_node("CausalConvWithState", x, w, bias, outputs=2, activation="silu")
    padded = np.pad(x, ((0, 0), (0, 0), (3, 0)))
    sums = run_node("Conv", padded, w, bias, group=3)
    np.testing.assert_allclose(whole, sums / (1 + np.exp(-sums)), **ONNX_FLOAT64)
    state, parts = None, []
    for part in np.split(x, [1, 3, 8], axis=2):
        y, state = run_node("CausalConvWithState", part, w, bias, state, outputs=2, activation="swish")
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 2), whole, **ONNX_FLOAT64)
    np.testing.assert_array_equal(state, end)


RAMP = np.arange(6.0)[:, None] * 10 + np.arange(8.0)


@pytest.mark.parametrize("ratio", [0, 3])
def test_roi_align_of_a_ramp_is_the_middle_of_every_bin(ratio: int) -> None:
    rois = np.array([[1.0, 1.5, 5.0, 4.5]])
    y = run_node(
        "RoiAlign", RAMP[None, None], rois, np.array([0]), output_height=3, output_width=4, sampling_ratio=ratio
    )
    # Bins of one pixel: its middle is half a pixel on, and the shift takes half a pixel off.
    rows, columns = 1.5 + np.arange(3), 1.0 + np.arange(4)
    np.testing.assert_allclose(y[0, 0], rows[:, None] * 10 + columns, **ONNX_FLOAT64)


def test_roi_align_outside_of_the_image_is_zero() -> None:
    x, rois = np.ones((1, 1, 4, 4)), np.array([[-20.0, -20, -10, -10], [30, 30, 40, 40]])
    for mode in ("avg", "max"):
        np.testing.assert_array_equal(run_node("RoiAlign", x, rois, np.array([0, 0]), mode=mode), 0)


def test_max_roi_pool_by_loops() -> None:
    x = image(1, 2, 6, 7)
    y = run_node("MaxRoiPool", x, np.array([[0.0, 1, 0, 5, 4], [0, 6, 5, 20, 20]]), pooled_shape=[2, 2])
    expected = [
        [
            [x[0, c, rows, columns].max() for columns in (slice(1, 4), slice(3, 6))]
            for rows in (slice(0, 3), slice(2, 5))
        ]
        for c in range(2)
    ]
    np.testing.assert_array_equal(y[0], expected)
    # The second region begins at the last pixel: the bins behind it have none.
    np.testing.assert_array_equal(y[1, :, 0, 0], x[0, :, 5, 6])
    np.testing.assert_array_equal(y[1, :, 1, 1], 0)


F = np.zeros((1, 2, 5, 5), np.float32)
W = np.zeros((2, 2, 3, 3), np.float32)
ONE = np.array([0])
BAD: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("ConvTranspose", (F, W[:1]), {}, "channels of X"),
    ("ConvTranspose", (F, W), {"group": 3}, "no multiple of group"),
    ("ConvTranspose", (F, W), {"pads": [9, 9, 9, 9]}, "negative dimension"),
    ("ConvTranspose", (F, W), {"output_padding": [-1, 0]}, "at least 0"),
    ("ConvTranspose", (F, W, F[0, 0, 0]), {}, "length of input bias"),
    ("ConvTranspose", (F, W), {"output_shape": [1, 2, 9, 9]}, "expected 2 integers"),
    ("ConvTranspose", (F, W[..., :0]), {}, "kernel is empty"),
    ("Col2Im", (F[0], np.array([5, 5]), np.array([2, 2])), {}, "number of windows"),
    ("Col2Im", (F[0], np.array([5, 0]), np.array([2, 2])), {}, "shapes of image and block"),
    ("MaxUnpool", (F, np.full(F.shape, 99)), {"kernel_shape": [1, 1]}, "points outside"),
    ("MaxUnpool", (F, np.zeros((1, 2, 5), int)), {"kernel_shape": [1, 1]}, "differ in rank"),
    (
        "MaxUnpool",
        (F, np.zeros(F.shape, int), np.array([1, 2, 3, 3])),
        {"kernel_shape": [1, 1]},
        "output_shape is wrong",
    ),
    ("LpPool", (F,), {"kernel_shape": [2, 2], "p": 0}, "'p' is wrong"),
    ("GlobalLpPool", (F,), {"p": -1}, "'p' is wrong"),
    ("DeformConv", (F, W, F), {}, "dimension 1 of input offset"),
    ("DeformConv", (F, W, F), {"offset_group": 3}, "'offset_group'"),
    ("CausalConvWithState", (F[0, :, :2], W[0]), {}, "second dimension of weight"),
    ("CausalConvWithState", (F[0], W[0, :, :1]), {"activation": "relu"}, "one of none, silu, swish"),
    ("MaxRoiPool", (F, np.zeros((1, 4), np.float32)), {"pooled_shape": [1, 1]}, "second dimension of rois"),
    ("MaxRoiPool", (F, np.ones((1, 5), np.float32)), {"pooled_shape": [1, 1]}, "names no image"),
    ("RoiAlign", (F, np.ones((1, 4), np.float32), np.array([1])), {}, "names no image"),
    ("RoiAlign", (F, np.full((1, 4), np.nan, np.float32), ONE), {}, "not finite"),
    ("RoiAlign", (F, np.ones((1, 4), np.float32), np.array([0, 0])), {}, "rois and batch_indices"),
    ("RoiAlign", (F, np.ones((1, 4), np.float32), ONE), {"sampling_ratio": -1}, "sampling_ratio"),
    ("Resize", (F,), {}, "one of scales and sizes"),
    ("Resize", (F, None, np.ones(4, np.float32), np.ones(4, int)), {}, "one of scales and sizes"),
    ("Resize", (F, None, np.array([1, 1, 0, 1], np.float32)), {}, "positive numbers"),
    ("Resize", (F, None, np.array([1, 1, np.inf, 1], np.float32)), {}, "positive numbers"),
    ("Resize", (F, None, np.ones(3, np.float32)), {}, "number of resized axes"),
    ("Resize", (F, None, np.ones(1, np.float32)), {"axes": [4]}, "axes is out of range"),
    ("Resize", (F, None, np.ones(4, np.float32)), {"antialias": 1}, "'antialias'"),
    ("Resize", (F, None, np.ones(4, np.float32)), {"mode": "bicubic"}, "one of nearest, linear, cubic"),
    (
        "Resize",
        (F, None, np.ones(4, np.float32)),
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "input roi is absent",
    ),
    ("Resize", (F[..., :0], None, None, np.array([1, 2, 5, 5])), {}, "cannot grow"),
    ("Resize", (F, None, np.array([1, 1, 1e18, 1e18], np.float32)), {}, "too large"),
    ("GridSample", (F, np.zeros((1, 3, 3, 3), np.float32)), {}, "spatial rank"),
    ("GridSample", (F, np.zeros((2, 3, 3, 2), np.float32)), {}, "batches"),
    ("GridSample", (F[..., :0], np.zeros((1, 3, 3, 2), np.float32)), {}, "no pixels"),
    ("AffineGrid", (W[0], np.array([2, 1, 3, 3])), {}, "columns of theta"),
    ("AffineGrid", (np.zeros((1, 2, 3)), np.array([2, 1, 3, 3])), {}, "batches of theta"),
    ("DFT", (F,), {}, "expected 1 or 2"),
    ("DFT", (F[..., :2], None, np.array(-1)), {}, "not the last one"),
    ("DFT", (F[..., :2], np.array(0)), {}, "dft_length"),
    ("DFT", (F[..., :2],), {"onesided": 1}, "does not fit onesided"),
    ("STFT", (F[0, ..., :1], np.array(0)), {}, "frame_step"),
    ("STFT", (F[0, ..., :1], np.array(1), None, np.array(9)), {}, "longer than the signal"),
    ("STFT", (F[0, ..., :2], np.array(1)), {}, "no onesided transform"),
    ("STFT", (F[0, ..., :1], np.array(1), np.zeros(3, np.float32), np.array(4)), {}, "window's length"),
    ("HannWindow", (np.array(4),), {"output_datatype": 8}, "'output_datatype'"),
    ("HannWindow", (np.array(-4),), {}, "negative dimension"),
    ("HannWindow", (np.array([1, 2]),), {}, "no scalar"),
    ("ImageDecoder", (np.zeros((2, 2), np.uint8),), {}, "wrong rank"),
    ("ImageDecoder", (np.zeros(2, np.uint8),), {"pixel_format": "CMYK"}, "one of RGB"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), BAD)
def test_what_is_wrong_is_said(op: str, inputs: Any, attributes: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        run_node(op, *inputs, **attributes)
