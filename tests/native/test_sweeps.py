"""Products that read their weights from the end in every second run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from planned import settings

from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.plan import Plan, make_plan

L2 = 128 << 10


def layers(rng: np.random.Generator, *sizes: int) -> Graph:
    constants: dict[str, Array] = {}
    nodes = []
    for k, shape in enumerate(pairwise(sizes)):
        constants[f"w{k}"] = rng.standard_normal(shape, np.float32)
        nodes.append(Node("Linear", [f"v{k}", f"w{k}"], [f"v{k + 1}"], domain="fused"))
    float32 = np.dtype(np.float32)
    return Graph({"v0": TensorType(float32, ("N", sizes[0]))}, [f"v{len(nodes)}"], nodes, constants)


def plan_for(graph: Graph, rows: int = 1, threads: int = 1, isa: str = "scalar", l2: int = L2) -> Plan:
    (x,) = graph.inputs.values()
    assert x.shape is not None
    return make_plan(graph, {"v0": (rows, int(x.shape[1] or 0))}, settings(isa, threads, l2=l2), {})


def backwards(plan: Plan) -> list[int]:
    return [s.backwards for s in plan.steps]


@pytest.mark.usefixtures("every_step_split")
def test_both_directions_give_the_same_bits(isa: str, rng: np.random.Generator) -> None:
    graph = layers(rng, 64, 296, 128, 7)  # panels that are no multiple of those at a time
    for rows in (1, 3):
        x = rng.standard_normal((rows, 64), np.float32)
        (expected,) = plan_for(graph, rows, isa=isa, l2=0).run([x])
        for threads in (1, 2):
            plan = plan_for(graph, rows, threads, isa, 256 * 1024 // threads)
            assert any(backwards(plan))
            for _ in range(4):
                np.testing.assert_array_equal(plan.run([x])[0], expected)


def test_only_weights_of_about_the_cache(rng: np.random.Generator) -> None:
    """Here layers of 64 and 128 KiB: what is smaller stays, and of what is larger nothing is left at the next run."""
    graph = layers(rng, 64, 256, 128)
    assert backwards(plan_for(graph)) == [8, 8]
    assert backwards(plan_for(graph, l2=4 * L2)) == [0, 0]
    assert backwards(plan_for(graph, l2=L2 // 4)) == [0, 0]
    assert backwards(plan_for(graph, l2=0)) == [0, 0]


def test_only_large_layers_of_few_rows(rng: np.random.Generator) -> None:
    assert backwards(plan_for(layers(rng, 16, 64, 512, 4))) == [0, 8, 0]
    assert backwards(plan_for(layers(rng, 64, 256, 128), rows=64)) == [0, 0]


def test_a_step_that_is_not_there(rng: np.random.Generator) -> None:
    program = plan_for(layers(rng, 64, 512)).program
    for step, units in ((1, 8), (0, 0), (0, -8)):
        with pytest.raises(ValueError, match="no such step, or no units"):
            program.alternate(step, units)
