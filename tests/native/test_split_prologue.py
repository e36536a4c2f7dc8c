"""Steps that scale, shift and activate what they split: the bits of the steps that they replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always

import forwardpass.plan as plans
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.plan import Plan, make_plan

FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)


def network(
    rng: np.random.Generator, size: tuple[int, ...], kernel: int = 1, *, outputs: int = 24, **activation: Any
) -> Graph:
    """A normalisation that stayed, with its activation, and the convolution behind it."""
    c = size[3]
    constants = {
        "scale": rng.standard_normal(c, dtype=np.float32),
        "shift": rng.standard_normal((1, 1, 1, c), dtype=np.float32),
        "w": rng.standard_normal((kernel, kernel, c, outputs), dtype=np.float32),
    }
    nodes = [
        Node("ScaleShift", ["x", "scale", "shift"], ["n"], activation, "fused"),
        Node("Conv", ["n", "w"], ["y"], {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}, "nhwc"),
    ]
    return Graph({"x": TensorType(FLOAT, size)}, ["y"], nodes, constants)


def plan_of(graph: Graph, isa: str, threads: int = 1, precision: str = "float32") -> Plan:
    return make_plan(graph, {k: t.sizes for k, t in graph.inputs.items()}, on_tiles(isa, threads, precision), {})


def kernels(plan: Plan) -> list[str]:
    return [s.kernel for s in plan.steps]


def check(graph: Graph, isa: str, precision: str, monkeypatch: pytest.MonkeyPatch, *, fused: bool = True) -> Plan:
    """Compare a plan with one of separate steps."""
    size = graph.inputs["x"].sizes
    x = np.random.default_rng(1).standard_normal(size, dtype=np.float32)
    x.ravel()[:: max(x.size // 5, 1)][:5] = [np.nan, -0.0, np.inf, 1e-40, -np.inf]
    plan = plan_of(graph, isa, precision=precision)
    assert ("scale_shift_f32" not in kernels(plan)) == fused
    got = plan.run([x])
    threaded = plan_of(graph, isa, 3, precision).run([x])
    with monkeypatch.context() as apart:
        apart.setattr(plans, "scale_in_prologues", list)
        separate = plan_of(graph, isa, precision=precision)
        assert "scale_shift_f32" in kernels(separate)
        for a, b, want in zip(got, threaded, separate.run([x])):
            np.testing.assert_array_equal(a, want)
            np.testing.assert_array_equal(b, want)
    return plan


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("precision", ["float32", "fast", "bfloat16"])
@pytest.mark.parametrize(
    "activation",
    [{}, {"activation": "Relu"}, {"activation": "Clip", "alpha": 0.5, "beta": 1.5}],
    ids=["none", "relu", "clip"],
)
@pytest.mark.parametrize(
    ("size", "kernel"),
    [((2, 5, 7, 40), 1), ((1, 6, 9, 64), 3), ((2, 4, 4, 90), 3), ((3, 1, 1, 64), 1), ((1, 6, 6, 33), 3)],
)
def test_the_bits_of_separate_steps(
    size: tuple[int, ...],
    kernel: int,
    activation: dict[str, Any],
    precision: str,
    isa: str,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows_of_rows = size[3] == 33 and kernel == 3  # which overlap: the image is read by them as it is
    graph = network(rng, size, kernel, **activation)
    check(graph, isa, precision, monkeypatch, fused=not windows_of_rows)


def test_in_parts_of_an_image(isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "PART_BYTES", 1 << 14)
    for size in ((1, 30, 20, 64), (5, 6, 6, 64)):
        plan = check(network(rng, size, 3, activation="Relu"), isa, "float32", monkeypatch)
        assert kernels(plan).count("split_f32") > 1


def test_in_place_of_a_value_of_its_own(isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step overwrote what it reads: its reader now finds that there."""
    graph = network(rng, (2, 5, 7, 40), activation="Relu")
    graph.nodes.insert(0, Node("Exp", ["x"], ["e"]))
    graph.nodes[1].inputs[0] = "e"
    plan = check(graph, isa, "float32", monkeypatch)
    assert kernels(plan) == ["exp_f32", "split_f32", "brgemm_split_f32"]


def _returned(graph: Graph) -> None:
    graph.outputs.append("n")


def _read_by_another(graph: Graph) -> None:
    graph.nodes.append(Node("Exp", ["n"], ["z"]))
    graph.outputs.append("z")


def _by_pixel(graph: Graph) -> None:
    graph.constants["shift"] = np.ones((5, 7, 40), np.float32)


def _activated(graph: Graph) -> None:
    graph.nodes[0].attributes["activation"] = "HardSwish"


@pytest.mark.parametrize("change", [_returned, _read_by_another, _by_pixel, _activated])
def test_what_stays_a_step(change: Any, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(rng, (2, 5, 7, 40))
    change(graph)
    check(graph, isa, "float32", monkeypatch, fused=False)
