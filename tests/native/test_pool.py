"""max_pool_f32 and average_pool_f32 against windows written out in float64, and against onnxruntime."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass._native import run_kernel

MAX, AVERAGE = "max_pool_f32", "average_pool_f32"
GAP = 3  # elements between pixels and between rows that are no part of an image
UNTOUCHED = np.float32(-7777.0)


@dataclass(frozen=True)
class Pool:
    """Attributes of MaxPool and AveragePool; pads are top, left, bottom, right."""

    kernel: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    ceil: bool = False
    include: bool = False

    def out(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output: the ONNX text of MaxPool (opset 22)."""
        sizes = []
        for axis, size in enumerate((height, width)):
            stride = self.strides[axis]
            extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            reach = size + self.pads[axis] + self.pads[axis + 2] - extent
            windows = (-(-reach // stride) if self.ceil else reach // stride) + 1
            if self.ceil and (windows - 1) * stride >= size + self.pads[axis]:
                windows -= 1  # a window that would start in the end pads is left out
            sizes.append(windows)
        return sizes[0], sizes[1]

    def params(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> dict[str, Any]:
        batch, ih, iw, c = x.shape
        _, oh, ow, _ = y.shape
        top, left, bottom, right = self.pads
        step = [s // 4 for s in x.strides]
        out_step = [s // 4 for s in y.strides]
        return {
            "batch": batch, "ih": ih, "iw": iw, "oh": oh, "ow": ow, "c": c,
            "kh": self.kernel[0], "kw": self.kernel[1],
            "stride_h": self.strides[0], "stride_w": self.strides[1],
            "dilation_h": self.dilations[0], "dilation_w": self.dilations[1],
            "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right,
            "count_include_pad": int(self.include),
            "in_batch": step[0], "in_row": step[1], "in_col": step[2],
            "out_batch": out_step[0], "out_row": out_step[1], "out_col": out_step[2],
        }  # fmt: skip

    def taps(self, axis: int, window: int, size: int) -> tuple[list[int], int]:
        """Positions of a window's taps inside the image, and how many are inside the image with its pads."""
        start = window * self.strides[axis] - self.pads[axis]
        places = [start + k * self.dilations[axis] for k in range(self.kernel[axis])]
        return [p for p in places if 0 <= p < size], sum(p < size + self.pads[axis + 2] for p in places)

    def reference(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
        batch, ih, iw, c = x.shape
        oh, ow = self.out(ih, iw)
        y = np.empty((batch, oh, ow, c))
        for oy in range(oh):
            rows, counted_rows = self.taps(0, oy, ih)
            for ox in range(ow):
                cols, counted_cols = self.taps(1, ox, iw)
                window = x[:, rows][:, :, cols].astype(np.float64)
                count = counted_rows * counted_cols if self.include else len(rows) * len(cols)
                if name == MAX:
                    y[:, oy, ox] = window.max(axis=(1, 2), initial=-math.inf)
                else:
                    y[:, oy, ox] = window.sum(axis=(1, 2)) / count if count else math.nan
        return y


def spaced(shape: tuple[int, ...], value: float) -> NDArray[np.float32]:
    """An array [N, H, W, C] with gaps of `value` between its pixels and between its rows."""
    n, h, w, c = shape
    whole = np.full((n, h, w * (c + GAP) + GAP), value, np.float32)
    return whole[:, :, : w * (c + GAP)].reshape(n, h, w, c + GAP)[..., :c]


def image(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Random pixels. The gaps between them are NaN, so a tap outside the image shows in the result."""
    x = spaced(shape, math.nan)
    x[...] = rng.standard_normal(shape)
    return x


def output(pool: Pool, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return spaced((x.shape[0], *pool.out(*x.shape[1:3]), x.shape[3]), UNTOUCHED)


def run(isa: str, name: str, pool: Pool, x: NDArray[np.float32], cuts: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """The kernel's output, computed in one range or in ranges that end at `cuts`."""
    y = output(pool, x)
    rows = y.shape[0] * y.shape[1]
    ends = [0, *(c for c in cuts if c < rows), rows]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, name, pool.params(x, y), [x], y, begin, end)
    assert y.base is not None
    outside = np.ones(y.base.shape, bool)
    np.lib.stride_tricks.as_strided(outside, y.shape, [s // 4 for s in y.strides])[...] = False
    assert (y.base[outside] == UNTOUCHED).all(), "wrote outside the output"
    return y


def bound(pool: Pool, x: NDArray[np.float32]) -> dict[str, float]:
    """Of a mean: the roundings of the sum of its taps and of the division."""
    return tolerance.dot(pool.kernel[0] * pool.kernel[1] + 1, float(np.abs(x).max()))


def check(isa: str, name: str, pool: Pool, x: NDArray[np.float32]) -> None:
    y = run(isa, name, pool, x)
    expected = pool.reference(name, x)
    if name == MAX:
        np.testing.assert_array_equal(y, expected.astype(np.float32))
    else:
        np.testing.assert_allclose(y, expected, **bound(pool, x))
    # The scalar ISA defines the bits, and a part of the rows has the bits that it has in the whole.
    assert y.tobytes() == run("scalar", name, pool, x).tobytes()
    assert y.tobytes() == run(isa, name, pool, x, cuts=(1, 2, 5)).tobytes()


POOLS = {
    "2x2": Pool(),
    "2x2 every pixel": Pool(strides=(1, 1)),
    "3x3": Pool((3, 3)),
    "3x3 padded": Pool((3, 3), pads=(1, 1, 1, 1)),
    "3x3 padded, ceil": Pool((3, 3), pads=(1, 1, 1, 1), ceil=True),
    "3x3 one side, ceil": Pool((3, 3), (2, 3), pads=(0, 2, 1, 0), ceil=True),
    "1x1": Pool((1, 1), (1, 1)),
    "1x1 skipping": Pool((1, 1), (3, 4)),
    "2x5": Pool((2, 5), (1, 3), pads=(1, 2, 0, 4)),
    "5x2 dilated": Pool((5, 2), (1, 2), pads=(2, 1, 2, 1), dilations=(2, 3)),
    "3x3 dilated, ceil": Pool((3, 3), (2, 2), pads=(2, 2, 2, 2), dilations=(2, 2), ceil=True),
    "7x7": Pool((7, 7), (7, 7), pads=(3, 3, 3, 3), ceil=True),
    "image is one window": Pool((11, 13), (1, 1)),
    "gaps between windows": Pool((2, 2), (5, 6), ceil=True),
}


@pytest.mark.parametrize("name", [MAX, AVERAGE])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_attributes(isa: str, name: str, pool: Pool, rng: np.random.Generator) -> None:
    check(isa, name, pool, image(rng, 2, 11, 13, 5))


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_counted_pads(isa: str, pool: Pool, rng: np.random.Generator) -> None:
    included = Pool(pool.kernel, pool.strides, pool.pads, pool.dilations, pool.ceil, include=True)
    check(isa, AVERAGE, included, image(rng, 1, 11, 13, 4))


@pytest.mark.parametrize("name", [MAX, AVERAGE])
@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65])
def test_channels(isa: str, name: str, channels: int, rng: np.random.Generator) -> None:
    check(isa, name, Pool((3, 3), pads=(1, 1, 1, 1)), image(rng, 1, 6, 14, channels))
    check(isa, name, Pool(), image(rng, 1, 4, 10, channels))


@pytest.mark.parametrize("name", [MAX, AVERAGE])
@pytest.mark.parametrize("width", range(1, 12))
def test_widths(isa: str, name: str, width: int, rng: np.random.Generator) -> None:
    check(isa, name, Pool((2, 3), (1, 1), pads=(0, 2, 1, 2)), image(rng, 1, 3, width, 17))


def test_counted_pads_of_a_ceil_window_end_at_the_pads(isa: str) -> None:
    x = np.ones((1, 1, 6, 1), np.float32)
    # Windows at 0 and 4; the second has taps 4, 5 and, beyond the image and its pads, 6.
    pool = Pool((1, 3), (1, 4), ceil=True, include=True)
    np.testing.assert_array_equal(run(isa, AVERAGE, pool, x).ravel(), [1.0, 1.0])
    # With one pad on each side the windows are -1 .. 1 and 3 .. 5, and the first pad counts.
    padded = Pool((1, 3), (1, 4), pads=(0, 1, 0, 1), ceil=True, include=True)
    np.testing.assert_array_equal(run(isa, AVERAGE, padded, x).ravel(), np.float32([2 / 3, 1.0]))


def test_window_without_a_tap_in_the_image(isa: str) -> None:
    x = np.full((1, 1, 1, 3), 5, np.float32)
    pool = Pool((1, 2), (1, 1), pads=(0, 1, 0, 1), dilations=(1, 2))
    assert (run(isa, MAX, pool, x) == -math.inf).all()
    assert np.isnan(run(isa, AVERAGE, pool, x)).all()
    included = Pool((1, 2), (1, 1), pads=(0, 1, 0, 1), dilations=(1, 2), include=True)
    assert (run(isa, AVERAGE, included, x) == 0).all()


@pytest.mark.parametrize("name", [MAX, AVERAGE])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_special_values_at_every_place(isa: str, name: str, value: float, rng: np.random.Generator) -> None:
    pool = Pool((3, 2), (2, 1), pads=(1, 0, 1, 1))
    for place in np.ndindex(1, 5, 6, 2):
        x = image(rng, 1, 5, 6, 2)
        x[place] = value
        y = run(isa, name, pool, x)
        expected = pool.reference(name, x)
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
        special = ~np.isfinite(expected)
        np.testing.assert_array_equal(y[special], expected[special])
        assert y.tobytes() == run("scalar", name, pool, x).tobytes()


def test_max_of_minus_infinity_and_of_negatives(isa: str) -> None:
    x = np.full((1, 4, 4, 3), -math.inf, np.float32)
    np.testing.assert_array_equal(run(isa, MAX, Pool(), x), np.full((1, 2, 2, 3), -math.inf))
    padded = Pool(pads=(1, 1, 1, 1))
    np.testing.assert_array_equal(run(isa, MAX, padded, x), np.full((1, 3, 3, 3), -math.inf))
    y = run(isa, MAX, padded, np.full((1, 4, 4, 3), -2, np.float32))
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 3), -2.0))


@pytest.mark.parametrize("name", [MAX, AVERAGE])
def test_image_of_a_batch_equals_itself_alone(isa: str, name: str, rng: np.random.Generator) -> None:
    pool = Pool((3, 3), pads=(1, 1, 1, 1))
    x = image(rng, 4, 7, 9, 19)
    whole = run(isa, name, pool, x)
    for i in range(4):
        assert whole[i].tobytes() == run(isa, name, pool, x[i : i + 1]).tobytes()


@pytest.mark.parametrize(("op", "include"), [("MaxPool", False), ("AveragePool", False), ("AveragePool", True)])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_onnxruntime_agrees(isa: str, op: str, pool: Pool, include: bool, rng: np.random.Generator) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    pool = Pool(pool.kernel, pool.strides, pool.pads, pool.dilations, pool.ceil, include)
    x = image(rng, 2, 11, 13, 5)
    attributes: dict[str, Any] = {
        "kernel_shape": pool.kernel, "strides": pool.strides, "pads": pool.pads, "dilations": pool.dilations,
        "ceil_mode": int(pool.ceil),
    }  # fmt: skip
    if op == "AveragePool":
        attributes["count_include_pad"] = int(include)
    node = onnx.helper.make_node(op, ["x"], ["y"], **attributes)
    names = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xy"]
    graph = onnx.helper.make_graph([node], "pool", names[:1], names[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    y = run(isa, MAX if op == "MaxPool" else AVERAGE, pool, x).transpose(0, 3, 1, 2)
    assert y.shape == expected.shape
    within = tolerance.EXACT if op == "MaxPool" else bound(pool, 2 * x)  # twice: both sides round
    np.testing.assert_allclose(y, expected, **within)
