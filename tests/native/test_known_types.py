"""Types that the passes know, which plans need not infer again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from test_random_images import Grower

import forwardpass as fp
import networks
from forwardpass import plan
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.evaluate import infer_types
from forwardpass.passes import optimized_view
from forwardpass.plan.known_types import KnownTypes

F32 = np.dtype("float32")
OPEN = ("branches",)
"""Networks with operators whose rules compare the batch with other sizes."""


def static(graph: Graph, rows: int = 2) -> Graph:
    """The graph for so many rows."""
    graph = graph.copy()
    for name, t in graph.inputs.items():
        graph.inputs[name] = TensorType(t.dtype, tuple(d if isinstance(d, int) else rows for d in t.shape or ()))
    return graph


def sizes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {name: t.sizes for name, t in graph.inputs.items()}


def check(graph: Graph, rows: int) -> bool:
    """Whether the types are known, which then have to be those of the shape rules."""
    view, _ = optimized_view(graph)
    given = static(view.graph, rows)
    found = KnownTypes(view.graph, view.types())(sizes(given))
    assert found is None or found == infer_types(given)
    return found is not None


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_they_are_those_of_the_shape_rules(name: str, rows: int) -> None:
    graph = networks.build(name).graph()
    assert check(static(graph, rows), rows)
    assert check(graph, rows) != (name in OPEN), "a free batch is as good"


@pytest.mark.parametrize("seed", range(40))
def test_of_random_networks_too(seed: int) -> None:
    grower = Grower(np.random.default_rng(seed))
    for _ in range(6):
        grower.grow()
    check(grower.graph(), 1 + seed % 3)


ROWS = TensorType(F32, ("N", 3))


@pytest.mark.parametrize(
    ("node", "inputs", "constants"),
    [
        (Node("Add", ["x", "c"], ["y"]), {"x": ROWS}, {"c": (1, 3)}),
        (Node("Add", ["x", "z"], ["y"]), {"x": ROWS, "z": TensorType(F32, (None, 3))}, {}),
        (Node("Add", ["x", "z"], ["y"]), {"x": ROWS, "z": TensorType(F32, ("N",))}, {}),
        (Node("Transpose", ["x"], ["y"], {"perm": [1, 0]}), {"x": ROWS}, {}),
        (Node("Flatten", ["x"], ["y"], {"axis": 0}), {"x": ROWS}, {}),
        (Node("Concat", ["x", "x"], ["y"], {"axis": 0}), {"x": ROWS}, {}),
        (Node("Concat", ["x", "c"], ["y"], {"axis": 1}), {"x": ROWS}, {"c": (4, 3)}),
        (Node("Relu", ["x"], ["y"]), {"x": TensorType(F32, (2, "N"))}, {}),
        (Node("Linear", ["x", "c", "", "r"], ["y"], domain="fused"), {"x": ROWS}, {"c": (3, 4), "r": (4, 4)}),
    ],
    ids=lambda v: v.label if isinstance(v, Node) else "",
)
def test_others_have_to_be_inferred(node: Node, inputs: dict[str, Any], constants: dict[str, Any]) -> None:
    arrays = {k: np.ones(shape, np.float32) for k, shape in constants.items()}
    graph = Graph(inputs, ["y"], [node], arrays)
    assert KnownTypes(graph, infer_types(graph))(sizes(static(graph, 3))) is None


def test_numbers_of_rows_that_differ_are_not_known() -> None:
    graph = Graph({"x": ROWS, "z": ROWS}, ["y"], [Node("Add", ["x", "z"], ["y"])])
    known = KnownTypes(graph, infer_types(graph))
    assert known({"x": (2, 3), "z": (2, 3)}) is not None
    assert known({"x": (2, 3), "z": (1, 3)}) is None
    assert known({"x": (2, 4), "z": (2, 4)}) is None


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_plans_take_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.build(name)
    x = networks.sample(network, 2)
    want = fp.Model(network)(x)
    asked: list[Graph] = []

    def infer(graph: Graph, *args: Any, **more: Any) -> Mapping[str, TensorType]:
        asked.append(graph)
        return infer_types(graph, *args, **more)

    monkeypatch.setattr(plan, "infer_types", infer)
    for graph in (static(network.graph()), network):
        np.testing.assert_array_equal(fp.Model(graph)(x), want)
        assert bool(asked) == (graph is network and name in OPEN)
    fp.Model(Graph({"x": ROWS}, ["y"], [Node("Transpose", ["x"], ["y"])]))(np.ones((2, 3), np.float32))
    assert asked


def test_what_follows_from_shapes_is_still_computed() -> None:
    nodes = [
        Node("Relu", ["x"], ["a"]),
        Node("Shape", ["a"], ["s"]),
        Node("Mul", ["s", "two"], ["t"]),
        Node("Expand", ["a", "s"], ["y"]),
    ]
    graph = Graph({"x": TensorType(F32, (2, 3))}, ["y", "t"], nodes, {"two": np.array([2, 2])})
    y, t = fp.Model(graph)(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(t, [4, 6])
    np.testing.assert_array_equal(y, np.ones((2, 3)))


def test_other_shapes_are_refused_as_before() -> None:
    model = fp.Model(static(networks.build("mlp 8-5-1").graph()))
    with pytest.raises(fp.InputError):
        model(np.ones((3, 8), np.float32))
    with pytest.raises(fp.InputError):
        model.plan({"x": (3, 8)})
