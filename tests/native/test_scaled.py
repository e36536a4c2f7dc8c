"""Factors of channels in the weights or in the split operand of a convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, settings, tiles_always
from test_accuracy import _error, _sequential

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split
from forwardpass.plan import Plan, Settings, make_plan
from tolerance import NOT_WORSE, native

Data = dict[str, np.ndarray[Any, Any]]


def scaled(
    rng: np.random.Generator, size: tuple[int, ...], n: int, *, shared: bool = False, **attributes: Any
) -> tuple[Graph, Data]:
    """A convolution of 1 x 1 pixels whose channels have factors, with a bias and a residual."""
    batch, _, _, c = size
    stride = attributes.get("strides", [1, 1])
    out = (batch, -(-size[1] // stride[0]), -(-size[2] // stride[1]), n)
    data = {
        "x": rng.standard_normal(size, dtype=np.float32),
        "s": rng.uniform(0, 1, (1 if shared else batch, 1, 1, c)).astype(np.float32),
        "r": rng.standard_normal(out, dtype=np.float32),
    }
    constants = {
        "w": rng.standard_normal((1, 1, c, n), dtype=np.float32),
        "b": rng.standard_normal(n, dtype=np.float32),
    }
    node = Node("Conv", ["x", "w", "b", "r", "s"], ["y"], {"kernel_shape": [1, 1], **attributes}, "nhwc")
    return Graph({k: TensorType.of(v) for k, v in data.items()}, ["y"], [node], constants), data


def planned(graph: Graph, data: Data, chosen: Settings) -> Plan:
    return make_plan(graph, {k: v.shape for k, v in data.items()}, chosen, {})


def run(graph: Graph, data: Data, chosen: Settings) -> np.ndarray[Any, Any]:
    return planned(graph, data, chosen).run([data[k] for k in graph.inputs])[0]


def kernels(graph: Graph, data: Data, chosen: Settings) -> list[str]:
    return [s.kernel for s in planned(graph, data, chosen).steps]


def one(data: Data, image: int) -> Data:
    return {k: v if len(v) == 1 else v[image : image + 1].copy() for k, v in data.items()}


WEIGHTS = ["scale_panels_f32", "brgemm_f32"]
LAYERS: list[tuple[tuple[int, ...], int, dict[str, Any], list[str]]] = [
    ((2, 9, 7, 20), 33, {"activation": "Relu"}, WEIGHTS),
    ((3, 5, 5, 300), 7, {}, WEIGHTS),  # two sums
    ((2, 8, 9, 17), 16, {"strides": [2, 2]}, WEIGHTS),
    ((2, 6, 6, 40), 24, {"activation": "HardSwish", "shared": True}, WEIGHTS),
    ((2, 3, 4, 24), 70, {"activation": "Silu"}, ["mul_f32", "brgemm_f32"]),  # fewer pixels than outputs
]


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize(("size", "n", "how", "steps"), LAYERS, ids=str)
def test_weights_take_the_factors(
    size: tuple[int, ...], n: int, how: dict[str, Any], steps: list[str], isa: str, rng: np.random.Generator
) -> None:
    graph, data = scaled(rng, size, n, **how)
    assert kernels(graph, data, settings(isa)) == steps
    want = evaluate(graph, data, dtype=np.float64)["y"]
    got = run(graph, data, settings(isa))
    np.testing.assert_allclose(got, want, **native(want))
    np.testing.assert_array_equal(got, run(graph, data, settings("scalar")))
    for threads in (2, 3):
        shared = planned(graph, data, settings(isa, threads))
        assert shared.threads == threads
        np.testing.assert_array_equal(got, shared.run([data[k] for k in graph.inputs])[0])
    shapes = {k: TensorType(t.dtype, (1, *t.sizes[1:])) for k, t in graph.inputs.items()}
    alone = Graph(shapes, graph.outputs, graph.nodes, graph.constants)
    for image in range(size[0]):
        np.testing.assert_array_equal(run(alone, one(data, image), settings(isa))[0], got[image])


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("precision", ["float32", "fast", "bfloat16"])
@pytest.mark.parametrize(("size", "n", "how", "steps"), LAYERS, ids=str)
def test_split_operands_take_the_factors(
    size: tuple[int, ...],
    n: int,
    how: dict[str, Any],
    steps: list[str],
    precision: str,
    isa: str,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    graph, data = scaled(rng, size, n, **how)
    chosen = on_tiles(isa, precision=precision)
    pass_over_all = ["mul_f32"] if "strides" in how else []  # which the split only reads in part
    assert kernels(graph, data, chosen) == [*pass_over_all, "split_f32", "brgemm_split_f32"]
    got = run(graph, data, chosen)
    plain = Graph(graph.inputs, graph.outputs, [*graph.nodes], graph.constants)
    # The products of the image and its factors round alike whoever makes them.
    product = Node("Mul", ["x", "s"], ["p"])
    plain.nodes[:] = [product, Node("Conv", ["p", "w", "b", "r"], ["y"], graph.nodes[0].attributes, "nhwc")]
    np.testing.assert_array_equal(got, run(plain, data, chosen))
    np.testing.assert_array_equal(got, run(graph, data, on_tiles(isa, 3, precision)))
    if precision == "float32":
        want = evaluate(graph, data, dtype=np.float64)["y"]
        np.testing.assert_allclose(got, want, **native(want))


def test_parts_of_a_batch_have_their_own_factors(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    monkeypatch.setattr(lower_split, "PART_BYTES", 1 << 14)
    graph, data = scaled(rng, (5, 6, 6, 40), 24)
    isa = _native.available_isas()[-1]
    assert kernels(graph, data, on_tiles(isa)).count("split_f32") > 1
    want = evaluate(graph, data, dtype=np.float64)["y"]
    np.testing.assert_allclose(run(graph, data, on_tiles(isa)), want, **native(want))


@pytest.mark.parametrize("channels", [64, 300])
def test_no_less_accurate_than_sequential_sums(channels: int, isa: str, rng: np.random.Generator) -> None:
    graph, data = scaled(rng, (1, 16, 16, channels), 40)
    data["r"][:] = 0
    graph.constants["b"][:] = 0
    want = evaluate(graph, data, dtype=np.float64)["y"].reshape(-1, 40)
    products = (data["x"] * data["s"]).reshape(-1, channels)
    error = _error(_sequential(products, graph.constants["w"].reshape(channels, 40)), want)
    assert _error(run(graph, data, settings(isa)).reshape(-1, 40), want) <= NOT_WORSE * error
