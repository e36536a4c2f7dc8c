"""Values that are bfloat16 numbers between products on matrix tiles: the bits are those of steps of their own whose
inputs are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from filled import fitting
from planned import on_tiles, tiles_always

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.ops.split_made import BETWEEN
from forwardpass.plan import Plan, make_plan

SAME, WIDE = [1, 1, 1, 1], [2, 2, 2, 2]


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)


def network(rng: np.random.Generator, channels: int, *layers: dict[str, Any]) -> Graph:
    """Layers one after another, of `n` outputs, a `kernel`, attributes, and the values that they read (`x`) and add
    (`add`): y-1 is the input. `each` makes a layer depthwise, `pool` a pool of that name."""
    nodes, constants, width = [], {}, {"y-1": channels}
    for k, layer in enumerate(layers):
        a = {"kernel": 1, "n": 32, "x": f"y{k - 1}", "add": "", "each": False, "pool": "", **layer}
        kernel, n, x, add, each, pool = (a.pop(name) for name in ("kernel", "n", "x", "add", "each", "pool"))
        y, c = f"y{k}", width[x]
        width[y] = c if each or pool else n
        if pool:
            window = {} if pool.startswith("Global") else {"kernel_shape": [kernel, kernel]}
            nodes.append(Node(pool, [x], [y], {**window, **a}, "nhwc"))
            continue
        constants[f"w{k}"] = rng.standard_normal((kernel, kernel, 1 if each else c, width[y]), dtype=np.float32)
        constants[f"b{k}"] = rng.standard_normal(width[y], dtype=np.float32)
        inputs = [x, f"w{k}", f"b{k}", *([add] if add else [])]
        a |= {"kernel_shape": [kernel, kernel], "group": c if each else 1}
        nodes.append(Node("Conv", inputs, [y], a, "nhwc"))
    shape = ("N", 9, 11, channels)
    return Graph({"y-1": TensorType(np.dtype(np.float32), shape)}, [nodes[-1].outputs[0]], nodes, constants)


def planned(graph: Graph, x: np.ndarray, isa: str, threads: int = 1) -> Plan:
    return make_plan(graph, {"y-1": x.shape}, on_tiles(isa, threads, "bfloat16"), {})


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 numbers, and of two the larger in magnitude."""
    return ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)


def step_by_step(graph: Graph, x: np.ndarray, isa: str) -> np.ndarray:
    """The result of nodes that run alone, on inputs that are rounded."""
    values = {"y-1": x}
    for node in graph.nodes:
        given = {i: rounded(values[i]) for i in dict.fromkeys(node.inputs) if i in values}
        weights = {i: graph.constants[i] for i in node.inputs if i in graph.constants}
        alone = Graph({i: TensorType.of(v) for i, v in given.items()}, node.outputs, [node], weights)
        plan = make_plan(alone, {i: v.shape for i, v in given.items()}, on_tiles(isa, precision="bfloat16"), {})
        values[node.outputs[0]] = plan.run(list(given.values()))[0]
    return values[graph.outputs[0]]


# Convolutions of 3 x 3 read 32 or 60 channels, of which rows of windows make no fewer blocks: the sums of others that
# run alone have another order.
RELU = {"activation": "Relu"}
CLIP = {"activation": "Clip"}
RELU6 = {**CLIP, "alpha": 0.0, "beta": 6.0}
EACH = {"each": True, "kernel": 3, "pads": SAME}
EACH5 = {"each": True, "kernel": 5, "pads": WIDE}
LARGEST = {"pool": "MaxPool"}
MEAN = {"pool": "AveragePool"}
NETWORKS: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "a residual": (32, [RELU, {"kernel": 3, "pads": SAME}, {"add": "y0", **RELU}, {"n": 8}]),
    "residuals in a row, and odd channels": (
        20, [{"n": 60, **RELU}, {"kernel": 3, "pads": SAME}, {"n": 60, "add": "y0", **RELU}, {},
             {"n": 60, "add": "y2", "activation": "Sigmoid"}, {"n": 8}],
    ),
    "only added": (
        32, [RELU, {"x": "y0", "strides": [2, 2], "n": 64}, {"x": "y0", "kernel": 3, "strides": [2, 2], "pads": SAME},
             {"n": 64, "add": "y1", **RELU}, {"n": 8}],
    ),
    "one pixel of four": (32, [RELU, {"kernel": 3, "pads": SAME}, {"strides": [2, 2], "n": 40}, {"n": 8}]),
    "borders of several widths": (
        32, [RELU, {"x": "y0", "kernel": 3, "pads": SAME}, {"x": "y0", "kernel": 5, "pads": WIDE, "add": "y1"},
             {"x": "y0", "add": "y2"}, {"x": "y0", "kernel": 3, "pads": [0, 2, 1, 0], "strides": [2, 2]}, {"n": 8}],
    ),
    "depthwise": (
        16, [{"n": 48, **RELU6}, {**EACH, **RELU}, {"n": 24}, {"n": 70, **RELU}, {**EACH5, "strides": [2, 2], **RELU6},
             {"n": 24}, {"n": 8}],
    ),
    "depthwise twice, strides and a residual": (
        16, [{"n": 40}, {**EACH, "strides": [2, 2]}, EACH5, {"n": 40, "add": "y1"}, {"n": 8}],
    ),
    "pools": (
        8, [{"n": 40}, {**LARGEST, "kernel": 3, "pads": SAME, "strides": [2, 2]}, {"n": 16}, {"add": "y1", "n": 40},
            {**LARGEST, "kernel": 2}, {"n": 8}],
    ),
    "averages": (
        8, [{"n": 40}, {**MEAN, "kernel": 3, "pads": SAME}, {"n": 16}, {"add": "y1", "n": 40},
            {**MEAN, "kernel": 3, "pads": [1, 0, 1, 1], "strides": [2, 2], "count_include_pad": 1, "ceil_mode": 1},
            {**MEAN, "kernel": 2}, {"n": 8}],
    ),
    "a mean": (16, [{"n": 72, **RELU}, {"pool": "GlobalAveragePool"}]),
    "the mean of few pixels": (
        16, [{"n": 40}, {**LARGEST, "kernel": 4, "strides": [2, 2]}, {"pool": "GlobalAveragePool"}],
    ),
    "other bounds": (
        16, [{"n": 40, **CLIP, "alpha": 0.25, "beta": 3.0}, {"n": 48, **CLIP, "alpha": -1.0, "beta": 2.0}, EACH,
             {"n": 40, **CLIP, "alpha": -2.0, "beta": -1.0}, {"n": 64, **CLIP, "alpha": 0.5, "beta": 1.0},
             {**EACH, **CLIP, "alpha": -0.5, "beta": 0.5}, {**EACH, **CLIP, "alpha": 0.25, "beta": 0.5}, {"n": 8}],
    ),
}  # fmt: skip


def kernels(plan: Plan) -> set[str]:
    return {s.kernel for s in plan.steps}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_are_those_of_rounded_values(name: str, batch: int, isa: str, rng: np.random.Generator) -> None:
    channels, layers = NETWORKS[name]
    graph = network(rng, channels, *layers)
    x = rng.standard_normal((batch, 9, 11, channels), dtype=np.float32)
    want = step_by_step(graph, x, isa)
    plan = planned(graph, x, isa)
    splits = [s for s in plan.steps if s.kernel == "split_f32" and not s.params["border_only"]]
    assert len(splits) == 1  # of the image
    assert kernels(plan) <= {"split_f32", "brgemm_split_f32", "mean_bf16", *BETWEEN.values()}
    assert plan.run([x])[0].tobytes() == want.tobytes()


@pytest.mark.parametrize(("widths", "joined"), [((64, 32), True), ((32, 40), True), ((40, 32), False)])
def test_parts_of_a_concatenation(widths: tuple[int, int], joined: bool, isa: str, rng: np.random.Generator) -> None:
    """Those of whole blocks are written where they are read."""
    graph = network(rng, 32, {}, {"kernel": 3, "pads": SAME, "n": widths[0]}, {"x": "y0", "n": widths[1]})
    graph.nodes.append(Node("Concat", ["y1", "y2"], ["both"], {"axis": -1}))
    graph.constants["w"] = rng.standard_normal((1, 1, sum(widths), 16), dtype=np.float32)
    pool = Node("MaxPool", ["both"], ["pooled"], {"kernel_shape": [3, 3], "strides": [2, 2]}, "nhwc")
    graph.nodes += [pool, Node("Conv", ["pooled", "w"], ["y"], {"kernel_shape": [1, 1]}, "nhwc")]
    graph.outputs[:] = ["y"]
    x = rng.standard_normal((2, 9, 11, 32), dtype=np.float32)
    plan = planned(graph, x, isa)
    assert ("max_pool_bf16" in kernels(plan)) == joined
    assert plan.run([x])[0].tobytes() == step_by_step(graph, x, isa).tobytes()


def test_a_mean_beside_a_border(isa: str, rng: np.random.Generator) -> None:
    """Of an image that a convolution reads with zeros around it."""
    graph = network(rng, 32, {"n": 60}, {"pool": "GlobalAveragePool"}, {"x": "y0", "kernel": 3, "pads": SAME})
    x = rng.standard_normal((2, 9, 11, 32), dtype=np.float32)
    want = step_by_step(graph, x, isa)
    graph.outputs.append("y1")
    plan = planned(graph, x, isa)
    assert "mean_bf16" in kernels(plan)
    found = plan.run([x])
    np.testing.assert_array_equal(found[0], want)
    graph.outputs = ["y1"]
    np.testing.assert_array_equal(found[1], step_by_step(graph, x, isa))


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("together", [1 << 20, 1 << 13])
@pytest.mark.parametrize("name", NETWORKS)
def test_neither_batch_nor_threads_nor_parts_change_the_bits(
    name: str, together: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels, layers = NETWORKS[name]
    graph = network(rng, channels, *layers)
    x = rng.standard_normal((3, 9, 11, channels), dtype=np.float32)
    want = planned(graph, x[2:], isa).run([x[2:]])[0]
    monkeypatch.setattr(lower_split, "PART_BYTES_ONCE", together)
    for threads in (1, 2, 3):
        assert planned(graph, x, isa, threads).run([x])[0][2:].tobytes() == want.tobytes()
        assert planned(graph, x[2:], isa, threads).run([x[2:]])[0].tobytes() == want.tobytes()


def test_what_others_read_stays_float32(isa: str, rng: np.random.Generator) -> None:
    """A residual that the caller wants too is added as it is."""
    graph = network(rng, 32, {}, {"kernel": 3, "pads": SAME}, {"add": "y0"}, {"n": 8})
    graph.outputs.append("y0")
    x = rng.standard_normal((1, 9, 11, 32), dtype=np.float32)
    plan = planned(graph, x, isa)
    adding = [s for s in plan.steps if s.kernel == "brgemm_split_f32" and s.inputs[1] is not None]
    assert [s.params["r_block"] for s in adding] == [0]
    assert np.isfinite(plan.run([x])[0]).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_and_nan_stay_in_their_windows(value: float, isa: str, rng: np.random.Generator) -> None:
    pool = {**LARGEST, "kernel": 3, "pads": SAME}
    graph = network(rng, 32, {}, pool, EACH, {})
    x = rng.standard_normal((1, 9, 11, 32), dtype=np.float32)
    plan = planned(graph, x, isa)
    plain = plan.run([x])[0].copy()
    x[0, 4, 4, 7] = value
    found = plan.run([x])[0]
    changed = (found != plain).any(axis=-1)[0]
    assert changed[2:7, 2:7].any()
    changed[2:7, 2:7] = False
    assert not changed.any()


@pytest.mark.parametrize("layers", [[{"n": 64}, RELU], [{"n": 64}, RELU6, {"add": "y0", "n": 64}], [{"n": 40}, EACH]])
@pytest.mark.parametrize("outputs", [["y0"], []])
def test_a_nan_of_all_bits_is_no_zero(
    layers: list[dict[str, Any]], outputs: list[str], isa: str, rng: np.random.Generator
) -> None:
    """Whose rounding overflows: in a bias, and in a residual that stays float32."""
    graph = network(rng, 32, *layers, {"n": 8})
    graph.constants["b0"].view(np.uint32)[3] = 0xFFFFFFFF
    graph.outputs += outputs
    x = rng.standard_normal((1, 9, 11, 32), dtype=np.float32)
    assert np.isnan(planned(graph, x, isa).run([x])[0]).all()


@pytest.mark.parametrize("bounds", [{}, RELU, RELU6, {**CLIP, "alpha": 0.25, "beta": 3.0}])
@pytest.mark.parametrize("n", [64, 40, 16])
def test_pixels_beside_a_nan_keep_their_bits(
    n: int, bounds: dict[str, Any], isa: str, rng: np.random.Generator
) -> None:
    graph = network(rng, 32, {"n": n, **bounds}, {**EACH, **bounds}, {"n": 64, "add": "y0", **bounds}, {"n": 8})
    graph.nodes[2].inputs = graph.nodes[2].inputs[:3] if n != 64 else graph.nodes[2].inputs
    x = rng.standard_normal((1, 9, 11, 32), dtype=np.float32)
    plan = planned(graph, x, isa)
    plain = plan.run([x])[0].copy()
    x[0, 4, 4, 7] = np.nan
    found = plan.run([x])[0]
    far = np.ones((9, 11), bool)
    far[3:6, 3:6] = False
    assert np.isnan(found[0, 4, 4]).all()
    assert found[0][far].tobytes() == plain[0][far].tobytes()


def test_no_float32_image_has_memory(isa: str, rng: np.random.Generator) -> None:
    channels, layers = NETWORKS["a residual"]
    graph = network(rng, channels, *layers)
    x = rng.standard_normal((1, 9, 11, channels), dtype=np.float32)
    used = [b for b in planned(graph, x, isa).buffers if b.kind == "arena"]
    assert {b.name.rpartition(".")[2] for b in used} == {"half", "temporary"}


@pytest.mark.parametrize("name", NETWORKS)
def test_templates_fit_other_batches(name: str, isa: str, rng: np.random.Generator) -> None:
    channels, layers = NETWORKS[name]
    graph = network(rng, channels, *layers)
    first, *others = ({"y-1": (n, 9, 11, channels)} for n in (2, 1, 5))
    assert fitting(graph, first, others, on_tiles(isa, precision="bfloat16")) >= 2
