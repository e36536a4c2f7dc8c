"""winograd_f32 against the convolution in float64: tails, borders, residuals, parts, ISAs; and which layers take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from planned import plan_of, run

import tolerance
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.lower_winograd import pays, transformed

FLOAT = np.dtype(np.float32)


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


LAYERS = [
    Layer(14, 14, 64, 64),
    Layer(7, 7, 64, 48, activation="Relu", residual=True),  # odd: half a tile at the right and below
    Layer(9, 12, 40, 37, batch=3, activation="Clip"),  # tails of channels, tiles across images
    Layer(13, 6, 300, 33, pads=(0, 1, 2, 0), residual=True),  # two sums
    Layer(8, 8, 33, 35, batch=2, activation="HardSwish"),
]


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


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_convolution_in_float64(layer: Layer, isa: str, rng: np.random.Generator) -> None:
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    assert "winograd_f32" in [s.kernel for s in plan_of(graph, {k: v.shape for k, v in arrays.items()}, isa).steps]
    got = run(graph, arrays, isa)["y"]
    np.testing.assert_allclose(got, exact(layer, graph, arrays), **tolerance.WINOGRAD)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_isas_threads_and_batches_give_the_same_bits(layer: Layer, rng: np.random.Generator) -> None:
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    want = run(graph, arrays, "scalar")["y"]
    for isa in _native.available_isas():
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(run(graph, arrays, isa, threads)["y"], want)
    single = {k: TensorType(t.dtype, (1, *t.sizes[1:])) for k, t in graph.inputs.items()}
    alone = Graph(single, graph.outputs, graph.nodes, graph.constants)
    for i in range(layer.batch):
        one = run(alone, {k: v[i : i + 1] for k, v in arrays.items()}, "scalar")["y"]
        np.testing.assert_array_equal(one[0], want[i])


@pytest.mark.parametrize("channels", [32, 64, 256, 512])
def test_no_less_accurate_than_a_sequential_sum(channels: int, rng: np.random.Generator) -> None:
    """The promise of precision float32: against fused multiply-adds one after another."""
    layer = Layer(14, 14, channels, 32)
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    want = exact(layer, graph, arrays)
    x = windows(arrays["x"], layer.pads).reshape(*layer.out[:3], -1)
    w = graph.constants["w"].reshape(-1, layer.n)
    total = np.zeros(layer.out, np.float32)
    for k in range(len(w)):  # a product of float32 is exact in float64, so each step rounds once, as an FMA does
        total = (total + x[..., k, None].astype(np.float64) * w[k]).astype(np.float32)
    sequential = np.sqrt(np.mean((total + graph.constants["b"] - want) ** 2))
    ours = np.sqrt(np.mean((run(graph, arrays, _native.available_isas()[-1])["y"] - want) ** 2))
    assert ours <= sequential * tolerance.NOT_WORSE


def test_transformed_weights_sum_to_the_convolution(rng: np.random.Generator) -> None:
    """A tile of one channel by the textbook: the transforms in float64 with the weights as packed."""
    w, d = rng.standard_normal((3, 3, 1, 1)), rng.standard_normal((4, 4))
    forward = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    backward = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    y = backward @ (transformed(w).reshape(4, 4) * (forward @ d @ forward.T)) @ backward.T
    want = [[np.sum(d[i : i + 3, j : j + 3] * w[:, :, 0, 0]) for j in range(2)] for i in range(2)]
    np.testing.assert_allclose(y, want, **tolerance.FLOAT32_OF_FLOAT64)


def test_layers_that_do_not_pay_go_the_direct_way() -> None:
    assert pays(56, 56, 64, 64)
    assert not pays(32, 32, 3, 32), "a stem"
    assert not pays(1, 1, 64, 64), "a tile computes four outputs"


def test_an_infinity_reaches_the_outputs_that_read_it_alone(isa: str, rng: np.random.Generator) -> None:
    layer = Layer(8, 8, 32, 32)
    graph, arrays = layer.graph(rng), layer.arrays(rng)
    before = run(graph, arrays, isa)["y"]
    arrays["x"][0, 4, 5, 7] = np.inf
    after = run(graph, arrays, isa)["y"]
    reads = np.zeros((8, 8), bool)
    reads[3:6, 4:7] = True
    assert not np.isfinite(after[0][reads]).any()
    np.testing.assert_array_equal(after[0][~reads], before[0][~reads])
