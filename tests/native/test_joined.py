"""Values that a Concat joins along their last axis are written in place: nothing copies them, and nobody notices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import plan_of, run

import tolerance
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.evaluate import evaluate

FLOAT = np.dtype(np.float32)


def conv(x: str, w: str, y: str, pad: int = 0) -> Node:
    return Node("Conv", [x, w], [y], {"kernel_shape": [1 + 2 * pad] * 2, "pads": [pad] * 4}, domain="nhwc")


def join(*parts: str, y: str) -> Node:
    return Node("Concat", list(parts), [y], {"axis": 3})


def relu(x: str, y: str) -> Node:
    return Node("Relu", [x], [y])


def graph_of(nodes: list[Node], outputs: list[str], rng: np.random.Generator) -> Graph:
    shapes = {"a": (1, 1, 5, 7), "b": (3, 3, 5, 19), "c": (1, 1, 26, 4), "d": (3, 3, 26, 3)}
    constants = {k: rng.standard_normal(s, dtype=np.float32) for k, s in shapes.items()}
    return Graph({"x": TensorType(FLOAT, (2, 6, 5, 5))}, outputs, nodes, constants)


PAIR = [conv("x", "a", "p"), conv("x", "b", "q", pad=1), join("p", "q", y="j")]
GRAPHS: dict[str, tuple[list[Node], list[str], int]] = {
    "two": ([*PAIR, conv("j", "c", "y")], ["y"], 0),
    "with a border": ([*PAIR, conv("j", "d", "y", pad=1)], ["y"], 0),
    "nested": ([*PAIR, relu("j", "r"), join("j", "r", y="k"), relu("k", "y")], ["y"], 0),
    "the caller's": ([*PAIR], ["j"], 2),
    "a part is an output": ([*PAIR, conv("j", "c", "y")], ["y", "p"], 1),
    "a part twice": ([conv("x", "a", "p"), join("p", "p", y="j"), relu("j", "y")], ["y"], 2),
    "a view of a part": (
        [*PAIR, Node("Flatten", ["p"], ["s"], {"axis": 1}), relu("j", "y")], ["y", "s"], 1,
    ),
    "a reader that pads": ([*PAIR, conv("p", "e", "s", pad=1), relu("j", "y")], ["y", "s"], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_joined_values(name: str, isa: str, rng: np.random.Generator) -> None:
    nodes, outputs, copies = GRAPHS[name]
    graph = graph_of(nodes, outputs, rng)
    graph.constants["e"] = rng.standard_normal((3, 3, 7, 2), dtype=np.float32)
    arrays: dict[str, Any] = {"x": rng.standard_normal((2, 6, 5, 5), dtype=np.float32)}
    steps = plan_of(graph, {"x": (2, 6, 5, 5)}, isa).steps
    assert sum(s.kernel == "copy_f32" and s.node.op == "Concat" for s in steps) == copies
    want = evaluate(graph, arrays, dtype=np.float64)
    for key, got in run(graph, arrays, isa).items():
        np.testing.assert_allclose(got, want[key], **tolerance.NETWORK)
