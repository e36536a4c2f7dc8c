"""winograd_f32 against the convolution in float64: tails, borders, residuals, parts, ISAs; and which layers take it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray
from planned import plan_of, run, same_everywhere, settings

import tolerance
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.lower_winograd import Scheme, accurate, scheme, schemes
from forwardpass.plan import make_plan

FLOAT = np.dtype(np.float32)
POINTS = (0, 0.625, -0.625, 1.5, -1.5)
LINES = {
    2: (
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    ),
    4: (
        np.array([[*(p**i for p in POINTS), i == 3] for i in range(4)], np.float64),
        np.array([*([*np.poly([q for q in POINTS if q != p])[::-1], 0] for p in POINTS), np.poly(POINTS)[::-1]]),
    ),
}
"""Outputs along a line -> the transforms of products and of inputs, as in csrc/kernels/winograd_lines.hpp."""
TILES = ((2, 2), (2, 4), (4, 4))


@dataclass(frozen=True)
class Layer:
    height: int
    width: int
    channels: int
    n: int
    batch: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    activation: str = ""
    residual: bool = False

    def graph(self, rng: np.random.Generator) -> Graph:
        """The layer, with random constants."""
        w = (rng.standard_normal((3, 3, self.channels, self.n)) / np.sqrt(9 * self.channels)).astype(np.float32)
        bias = rng.standard_normal(self.n, dtype=np.float32)
        attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": list(self.pads)}
        if self.activation:
            attributes |= {"activation": self.activation, "alpha": 0.25, "beta": 0.75}
        inputs = {"x": TensorType(FLOAT, (self.batch, self.height, self.width, self.channels))}
        if self.residual:
            inputs["r"] = TensorType(FLOAT, self.out)
        names = ["x", "w", "b", *(["r"] if self.residual else [])]
        return Graph(inputs, ["y"], [Node("Conv", names, ["y"], attributes, domain="nhwc")], {"w": w, "b": bias})

    @property
    def out(self) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.pads
        return self.batch, self.height + top + bottom - 2, self.width + left + right - 2, self.n

    def arrays(self, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        made = {"x": rng.standard_normal((self.batch, self.height, self.width, self.channels), dtype=np.float32)}
        return made | ({"r": rng.standard_normal(self.out, dtype=np.float32)} if self.residual else {})


FILTERS = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array([*([p**i / np.prod([p - q for q in POINTS if q != p]) for i in range(3)] for p in POINTS), [0, 0, 1]]),
}
"""Outputs along a line -> the transform of weights, as in csrc/core/winograd_weights.cpp."""

LAYERS = [
    Layer(14, 14, 64, 64),
    Layer(7, 7, 64, 48, activation="Relu", residual=True),  # odd: half a tile at the right and below
    Layer(9, 12, 40, 37, batch=3, activation="Clip"),  # tails of channels, tiles across images
    Layer(13, 6, 300, 33, pads=(0, 1, 2, 0), residual=True),  # two sums
    Layer(8, 8, 33, 35, batch=2, activation="HardSwish"),
]


@pytest.fixture(params=TILES, ids=lambda t: f"{t[0]}x{t[1]}")
def tile(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Plans have tiles of so many outputs, whatever pays."""
    rows, cols = request.param
    with patch("forwardpass.ops.lower_winograd.scheme", lambda *_: Scheme(rows, cols, 64)):
        yield rows, cols


def windows(x: NDArray[Any], pads: tuple[int, int, int, int]) -> NDArray[Any]:
    """[N, OH, OW, 3, 3, C]"""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)), 3, 5)


def exact(layer: Layer, graph: Graph, arrays: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    w, b = (graph.constants[k].astype(np.float64) for k in "wb")
    y = np.einsum("nyxabc,abcm->nyxm", windows(arrays["x"].astype(np.float64), layer.pads), w, optimize=True) + b
    if layer.residual:
        y += arrays["r"]
    if layer.activation == "Relu":
        y = np.maximum(y, 0)
    elif layer.activation == "Clip":
        y = np.clip(y, 0.25, 0.75)
    elif layer.activation == "HardSwish":
        y = y * np.clip(y + 3, 0, 6) / 6
    return np.asarray(y)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_convolution_in_float64(layer: Layer, isa: str, rng: np.random.Generator) -> None:
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    assert "winograd_f32" in [s.kernel for s in plan_of(graph, {k: v.shape for k, v in arrays.items()}, isa).steps]
    got = run(graph, arrays, isa)["y"]
    np.testing.assert_allclose(got, exact(layer, graph, arrays), **tolerance.WINOGRAD)


@pytest.mark.usefixtures("tile", "every_step_split")
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_isas_threads_and_batches_give_the_same_bits(layer: Layer, rng: np.random.Generator) -> None:
    same_everywhere(layer.graph(rng), layer.arrays(rng))


def accuracies(layer: Layer, kind: str, rng: np.random.Generator, ways: list[Scheme]) -> tuple[float, list[float]]:
    """The root mean square error of a sequential sum of fused multiply-adds, and of these ways."""
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    if kind == "relu":
        arrays["x"] = np.maximum(arrays["x"], 0)
    elif kind == "uniform":
        arrays["x"] = rng.random(arrays["x"].shape, np.float32)
    want = exact(layer, graph, arrays)
    x = windows(arrays["x"], layer.pads).reshape(*layer.out[:3], -1)
    w = graph.constants["w"].reshape(-1, layer.n)
    total = np.zeros(layer.out, np.float32)
    for k in range(len(w)):  # a product of float32 is exact in float64, so each step rounds once, as an FMA does
        total = (total + x[..., k, None].astype(np.float64) * w[k]).astype(np.float32)

    def error(y: NDArray[np.float32]) -> float:
        return float(np.sqrt(np.mean((y - want) ** 2)))

    found = []
    for way in ways:
        with patch("forwardpass.ops.lower_winograd.scheme", lambda *_, way=way: way):
            found.append(error(run(graph, arrays, _native.available_isas()[-1])["y"]))
    return error(total + graph.constants["b"]), found


@pytest.mark.parametrize("kind", ["normal", "uniform", "relu"])
@pytest.mark.parametrize("channels", [32, 64, 96, 128, 192, 256, 512])
def test_no_less_accurate_than_a_sequential_sum(channels: int, kind: str, rng: np.random.Generator) -> None:
    """The promise of precision float32, of every way that the planner may take for so many channels: against fused
    multiply-adds one after another."""
    ways = schemes(channels, 32, approximate=False)
    sequential, ours = accuracies(Layer(14, 14, channels, 32), kind, rng, ways)
    for way, error in zip(ways, ours):
        assert error <= sequential * tolerance.WINOGRAD_LUCK, way


def test_precision_fast_allows_what_rounds_more(rng: np.random.Generator) -> None:
    """Few channels by tiles of 4 x 4: more than a sequential sum rounds, and far less than the promise of `fast`."""
    layer, way = Layer(16, 16, 32, 32), Scheme(4, 4, 32)
    assert way in schemes(32, 32, approximate=True)
    assert not accurate(*way, channels=32)
    sequential, (ours,) = accuracies(layer, "relu", rng, [way])
    assert sequential < ours < sequential * tolerance.WINOGRAD_FAST


@pytest.mark.parametrize(("precision", "rows"), [("float32", 2), ("portable", 2), ("fast", 4)])
def test_the_precision_chooses(precision: str, rows: int, rng: np.random.Generator) -> None:
    layer = Layer(56, 56, 64, 64)
    shapes = {k: v.shape for k, v in layer.arrays(rng).items()}
    *_, step = make_plan(layer.graph(rng), shapes, settings("scalar", 1, precision), {}).steps
    assert (step.kernel, step.params["rows"]) == ("winograd_f32", rows)


def weights(isa: str, w: NDArray[np.float32], rows: int, cols: int, slices: int = 1) -> NDArray[np.float32]:
    """As packed, [taps, C, all columns of slices]."""
    panel = next(i["panel"] for i in _native.isas() if i["name"] == isa)
    panels = -(-w.shape[3] // (panel * slices))
    packed = np.full((slices, (rows + 2) * (cols + 2), panels, w.shape[2], panel), np.nan, np.float32)
    _native.winograd_weights(rows, cols, w, packed)
    return np.asarray(packed.transpose(1, 3, 0, 2, 4).reshape(packed.shape[1], w.shape[2], -1))


@pytest.mark.parametrize(("rows", "cols"), TILES)
def test_transformed_weights_sum_to_the_convolution(rows: int, cols: int, isa: str, rng: np.random.Generator) -> None:
    """A tile of one channel by the textbook: the transforms of any points are exact inverses, here in float64 with the
    weights as packed."""
    w = rng.standard_normal((3, 3, 1, 1)).astype(np.float32)
    d = rng.standard_normal((rows + 2, cols + 2))
    (back_y, into_y), (back_x, into_x) = LINES[rows], LINES[cols]
    made = weights(isa, w, rows, cols)[:, 0, 0].reshape(rows + 2, cols + 2)
    y = back_y @ (made * (into_y @ d @ into_x.T)) @ back_x.T
    want = [[np.sum(d[i : i + 3, j : j + 3] * w[:, :, 0, 0]) for j in range(cols)] for i in range(rows)]
    np.testing.assert_allclose(y, want, **tolerance.FLOAT32_OF_FLOAT64)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 0, 1), (1, 3, 0, 2)], ids=str)
@pytest.mark.parametrize(("channels", "n", "slices"), [(5, 7, 1), (3, 64, 1), (1, 33, 3), (4, 100, 2)])
@pytest.mark.parametrize(("rows", "cols"), TILES)
def test_weights_in_any_order(
    rows: int, cols: int, channels: int, n: int, slices: int, order: tuple[int, ...], isa: str, rng: np.random.Generator
) -> None:
    w = rng.standard_normal((3, 3, channels, n)).astype(np.float32)
    other = np.ascontiguousarray(w.transpose(order)).transpose(np.argsort(order))  # `w`, in another order of memory
    found = weights(isa, other, rows, cols, slices)
    want = np.einsum("ay,bx,yxcn->abcn", FILTERS[rows], FILTERS[cols], w.astype(np.float64)).reshape(-1, channels, n)
    np.testing.assert_allclose(found[:, :, :n], want, **tolerance.FLOAT32_OF_FLOAT64)
    assert not found[:, :, n:].any()


@pytest.mark.parametrize(
    ("rows", "cols", "w", "packed"),
    [
        (3, 3, (3, 3, 2, 4), (1, 25, 1, 2, 4)),
        (4, 2, (3, 3, 2, 4), (1, 24, 1, 2, 4)),
        (2, 2, (2, 3, 2, 4), (1, 16, 1, 2, 4)),
        (2, 2, (3, 3, 2, 4), (1, 24, 1, 2, 4)),
        (2, 2, (3, 3, 2, 5), (1, 16, 1, 2, 4)),
        (2, 2, (3, 3, 3, 4), (1, 16, 1, 2, 4)),
    ],
)
def test_weights_that_have_no_place(rows: int, cols: int, w: tuple[int, ...], packed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no such weights"):
        _native.winograd_weights(rows, cols, np.zeros(w, np.float32), np.zeros(packed, np.float32))


def test_layers_that_do_not_pay_go_the_direct_way() -> None:
    assert scheme(56, 56, 64, 64)
    assert not scheme(32, 32, 3, 32), "a stem"
    assert not scheme(1, 1, 64, 64), "a tile computes four outputs"


def test_larger_tiles_where_sums_are_long_enough() -> None:
    found = {c: scheme(56, 56, c, c) for c in (32, 64, 128, 256, 512)}
    assert {c: s and (s.rows, s.cols) for c, s in found.items()} == {
        32: (2, 2),
        64: (2, 4),
        128: (2, 4),
        256: (4, 4),
        512: (4, 4),
    }


def test_smaller_tiles_where_larger_ones_save_next_to_nothing() -> None:
    """Their weights take less memory: a quarter of ResNet-50's bound is in the layers of 14 x 14 x 256."""
    found = scheme(14, 14, 256, 256)
    assert found
    assert (found.rows, found.cols) == (2, 2)


def test_an_infinity_reaches_the_outputs_that_read_it_alone(isa: str, rng: np.random.Generator) -> None:
    """Tiles of 2 x 2: a sum of two inputs that one output does not read both is in no other one's result."""
    after, before = with_an_infinity(isa, rng)
    reads = np.zeros((8, 8), bool)
    reads[3:6, 4:7] = True
    assert not np.isfinite(after[reads]).any()
    np.testing.assert_array_equal(after[~reads], before[~reads])


def test_an_infinity_reaches_the_tiles_that_read_it(isa: str, rng: np.random.Generator) -> None:
    """Tiles of 4 x 4: those above, and their neighbours in a tile."""
    with patch("forwardpass.ops.lower_winograd.scheme", lambda *_: Scheme(4, 4, 32)):
        after, before = with_an_infinity(isa, rng)
    tiles = np.zeros((8, 8), bool)
    tiles[:, 4:] = True  # row 4 is read by both rows of tiles, column 5 by the right ones
    assert not np.isfinite(after[3:6, 4:7]).any()
    np.testing.assert_array_equal(after[~tiles], before[~tiles])


def with_an_infinity(isa: str, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The image of a layer's outputs with and without an infinity in row 4, column 5."""
    layer = Layer(8, 8, 32, 32)
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    before = run(graph, arrays, isa)["y"]
    arrays["x"][0, 4, 5, 7] = np.inf
    return run(graph, arrays, isa)["y"][0], before[0]
