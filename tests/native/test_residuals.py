"""Products whose result takes the place of their residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import plan_of, run

import forwardpass.plan as plans
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType

FLOAT = np.dtype(np.float32)
CHANNELS = 96


def blocks(rng: np.random.Generator, size: int = 1, *, outputs: tuple[str, ...] = ("y",), wide: int = 0) -> Graph:
    """Two blocks of a residual network behind a first layer: 1 x 1 or 3 x 3, then 1 x 1 that adds what came in."""
    inner = wide or 40
    constants: dict[str, Any] = {"w": rng.standard_normal((1, 1, 8, CHANNELS), dtype=np.float32)}
    nodes = [Node("Conv", ["x", "w"], ["r0"], {"kernel_shape": [1, 1]}, "nhwc")]
    for k in range(2):
        down, up = f"d{k}", f"u{k}"
        constants[down] = rng.standard_normal((size, size, CHANNELS, inner), dtype=np.float32) / 30
        constants[up] = rng.standard_normal((1, 1, inner, CHANNELS), dtype=np.float32) / 10
        pads = [size // 2] * 4
        last = "y" if k else "r1"
        nodes += [
            Node("Conv", [f"r{k}", down], [f"t{k}"], {"kernel_shape": [size] * 2, "pads": pads}, "nhwc"),
            Node("Conv", [f"t{k}", up, "", f"r{k}"], [last], {"kernel_shape": [1, 1], "activation": "Relu"}, "nhwc"),
        ]
    nodes.append(Node("Identity", ["y"], ["z"]))
    inputs = {"x": TensorType(FLOAT, (2, 14, 13, 8))}
    return Graph(inputs, ["z", *(o for o in outputs if o != "y")], nodes, constants)


def reused(graph: Graph, isa: str, threads: int = 1) -> list[bool]:
    """Of the steps that add: whether in place."""
    plan = plan_of(graph, {k: t.sizes for k, t in graph.inputs.items()}, isa, threads=threads)
    adding = [s for s in plan.steps if s.kernel in ("brgemm_f32", "winograd_f32") and s.inputs[1] is not None]
    return [s.inputs[1] is not None and s.inputs[1].buffer is s.output.buffer for s in adding]


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("size", [1, 3])
def test_in_place_gives_the_same_bits(
    size: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = blocks(rng, size)
    x = {"x": rng.standard_normal((2, 14, 13, 8), dtype=np.float32)}
    assert reused(graph, isa)[0]
    got = [run(graph, x, isa, threads)["z"] for threads in (1, 2, 3)]
    assert plan_of(graph, {"x": x["x"].shape}, isa, 3).threads == 3
    monkeypatch.setattr(plans, "reuse_residuals", lambda *_: None)
    assert not any(reused(graph, isa))
    want = run(graph, x, isa)["z"]
    for y in got:
        np.testing.assert_array_equal(y, want)


def test_what_others_read_stays(isa: str, rng: np.random.Generator) -> None:
    assert not reused(blocks(rng, outputs=("y", "r0")), isa)[0]


def test_sums_in_parts_stay(isa: str, rng: np.random.Generator) -> None:
    """Their parts lie where the result will be, so nothing may be left to add there."""
    assert not any(reused(blocks(rng, wide=300), isa))


def test_it_saves_memory(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = blocks(rng)
    shapes = {k: t.sizes for k, t in graph.inputs.items()}
    isa = _native.available_isas()[0]
    small = plan_of(graph, shapes, isa).arena_bytes
    monkeypatch.setattr(plans, "reuse_residuals", lambda *_: None)
    assert plan_of(graph, shapes, isa).arena_bytes > small
