"""First layers on matrix tiles of one term, where neighbouring pixels of few channels share a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split
from forwardpass.plan import Plan, make_plan

CASES: dict[str, dict[str, Any]] = {
    "7x7 by 2": {"kernel": (7, 7), "strides": [2, 2], "pads": [3, 3, 3, 3]},
    "3x3": {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    "uneven": {"kernel": (2, 8), "strides": [1, 3], "pads": [0, 2, 1, 5]},
    "no border": {"kernel": (5, 3), "strides": [2, 1]},
    "dilated rows": {"kernel": (3, 4), "dilations": [2, 1], "pads": [2, 1, 2, 1], "activation": "Relu"},
}


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)


def layer(
    rng: np.random.Generator, channels: int, *, planes: bool, kernel: tuple[int, int], whole: bool = False, **more: Any
) -> Graph:
    """A convolution to 20 channels; with weights that are `whole` numbers, sums have no order."""
    shape = ("N", channels, 19, 39) if planes else ("N", 19, 39, channels)
    sizes = {"w": (*kernel, channels, 20), "b": (20,)}
    draw = rng.standard_normal if not whole else lambda size: rng.integers(-8, 9, size)
    constants = {name: draw(size).astype(np.float32) for name, size in sizes.items()}
    node = Node(
        "Conv", ["x", "w", "b"], ["y"], {"kernel_shape": [*kernel], "channels_first": int(planes), **more}, "nhwc"
    )
    return Graph({"x": TensorType(np.dtype(np.float32), shape)}, ["y"], [node], constants)


def image(rng: np.random.Generator, graph: Graph, batch: int = 1) -> np.ndarray:
    return rng.integers(-8, 9, (batch, *graph.inputs["x"].shape[1:])).astype(np.float32)


def planned(graph: Graph, x: np.ndarray, isa: str, threads: int = 1) -> Plan:
    plan = make_plan(graph, {"x": x.shape}, on_tiles(isa, threads, "bfloat16"), {})
    assert [s.kernel for s in plan.steps] == ["split_f32", "brgemm_split_f32"]
    assert plan.steps[0].params["pixels"]
    return plan


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_whole_numbers_are_exact(name: str, channels: int, planes: bool, isa: str, rng: np.random.Generator) -> None:
    graph = layer(rng, channels, planes=planes, whole=True, **CASES[name])
    x = image(rng, graph, 2)
    want = evaluate(graph, {"x": x})["y"]
    np.testing.assert_array_equal(planned(graph, x, isa).run([x])[0], want)


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", CASES)
def test_neither_batch_nor_threads_change_the_bits(name: str, isa: str, rng: np.random.Generator) -> None:
    graph = layer(rng, 3, planes=True, **CASES[name])
    x = rng.standard_normal(image(rng, graph, 3).shape, dtype=np.float32)
    want = planned(graph, x[2:], isa).run([x[2:]])[0]
    for threads in (1, 2, 3):
        assert planned(graph, x, isa, threads).run([x])[0][2:].tobytes() == want.tobytes()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_cannot_be_split_stays_in_its_windows(value: float, isa: str, rng: np.random.Generator) -> None:
    """Though blocks reach over pixels beside the window."""
    graph = layer(rng, 3, planes=False, whole=True, **CASES["3x3"])
    x = image(rng, graph)
    plan = planned(graph, x, isa)
    plain = plan.run([x])[0].copy()
    x[0, 7, 20, 1] = value
    found = plan.run([x])[0]
    changed = (found != plain).any(axis=-1)[0]
    assert changed[6:9, 19:22].all()
    assert changed.sum() == 9


@pytest.mark.parametrize("name", CASES)
def test_no_block_reaches_into_another_image(name: str, isa: str, rng: np.random.Generator) -> None:
    """Which may be NaN: a sum that met one is computed again, in another order."""
    graph = layer(rng, 3, planes=False, **CASES[name])
    x = rng.standard_normal(image(rng, graph, 2).shape, dtype=np.float32)
    plan = planned(graph, x, isa)
    want = plan.run([x])[0][0].copy()
    x[1] = np.nan
    assert plan.run([x])[0][0].tobytes() == want.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_what_a_call_left_changes_no_bits(name: str, isa: str, rng: np.random.Generator) -> None:
    """Behind the last image is memory that other steps write."""
    graph = layer(rng, 3, planes=False, **CASES[name])
    graph.constants["s"] = np.float32(2).reshape(1)
    graph.nodes += [Node("Mul", ["y", "s"], ["z"]), Node("Concat", ["z", "y"], ["both"], {"axis": -1})]
    graph.outputs[:] = ["both"]
    x = rng.standard_normal(image(rng, graph).shape, dtype=np.float32)
    plan = make_plan(graph, {"x": x.shape}, on_tiles(isa, precision="bfloat16"), {})
    want = plan.run([x])[0].copy()
    plan.run([np.full_like(x, np.nan)])
    assert plan.run([x])[0].tobytes() == want.tobytes()


def test_images_of_one_channel_or_many_go_another_way(isa: str, rng: np.random.Generator) -> None:
    for channels in (1, 5):
        graph = layer(rng, channels, planes=False, **CASES["3x3"])
        plan = make_plan(graph, {"x": (1, 19, 39, channels)}, on_tiles(isa, precision="bfloat16"), {})
        assert all(s.kernel != "split_f32" or not s.params["pixels"] for s in plan.steps)
