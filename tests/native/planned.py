"""Runs a graph natively without the passes, so that a test sees the operators that it wrote down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardpass import _native
from forwardpass.graph import Graph, TensorType
from forwardpass.plan import Plan, Settings, make_plan


def settings(isa: str, threads: int = 1, precision: str = "portable", *, tiles: bool = False, l2: int = 0) -> Settings:
    info = next(i for i in _native.isas() if i["name"] == isa)
    return Settings(isa, info["panel"], info["tile_panels"], threads, precision, tiles, l2)


def on_tiles(isa: str, threads: int = 1, precision: str = "float32") -> Settings:
    """Settings for matrix tiles, which every ISA has or emulates."""
    return settings(isa, threads, precision, tiles=True)


def tiles_always(terms: int, *sizes: int) -> bool:
    """In place of `lower_split.pays`, whose answers are kept."""
    outputs = sizes[8]
    return terms > 0 and outputs > 0


def plan_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]], isa: str, threads: int = 1, l2: int = 0) -> Plan:
    return make_plan(graph, shapes, settings(isa, threads, l2=l2), {})


def run(graph: Graph, inputs: Mapping[str, np.ndarray[Any, Any]], isa: str, threads: int = 1) -> dict[str, Any]:
    """The outputs of a graph whose nodes all have native kernels."""
    plan = plan_of(graph, {k: v.shape for k, v in inputs.items()}, isa, threads)
    # Not ascontiguousarray, which makes vectors of scalars.
    arrays = [np.require(inputs[k], requirements=["C", "A"]) for k in graph.inputs]
    outputs = [np.full(t.sizes, np.nan if t.dtype.kind == "f" else 77, t.dtype) for t in plan.outputs.values()]
    _, fault, _ = plan.program.run_profiled(arrays, outputs)
    if fault:
        raise plan.fault(fault - 1)
    return dict(zip(plan.outputs, outputs))


def same_everywhere(graph: Graph, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check that every ISA and number of threads gives the bits of the scalar kernels on one, and a batch those of its
    rows. Of small graphs, whose steps are only shared among threads with the fixture `every_step_split`."""
    want = run(graph, inputs, "scalar")
    shapes = {k: v.shape for k, v in inputs.items()}
    for isa in _native.available_isas():
        for threads in (1, 2, 3):
            assert plan_of(graph, shapes, isa, threads).threads == threads
            for name, got in run(graph, inputs, isa, threads).items():
                np.testing.assert_array_equal(got, want[name])
    single = {k: TensorType(t.dtype, (1, *t.sizes[1:])) for k, t in graph.inputs.items()}
    alone = Graph(single, graph.outputs, graph.nodes, graph.constants)
    for i in range(min(map(len, inputs.values()))):
        for name, row in run(alone, {k: v[i : i + 1] for k, v in inputs.items()}, "scalar").items():
            np.testing.assert_array_equal(row[0], want[name][i])
