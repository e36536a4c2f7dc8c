"""Types that the passes know, which plans need not infer again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from planned import settings

import forwardpass as fp
import networks
from forwardpass import plan
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.evaluate import infer_types
from forwardpass.passes import optimized_view
from forwardpass.plan.plans import PlanMaker

F32 = np.dtype("float32")
SETTINGS = settings("scalar")


def static(graph: Graph, rows: int = 2) -> Graph:
    """The graph for so many rows."""
    graph = graph.copy()
    for name, t in graph.inputs.items():
        graph.inputs[name] = TensorType(t.dtype, tuple(d if isinstance(d, int) else rows for d in t.shape or ()))
    return graph


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_they_are_those_of_the_shape_rules(name: str) -> None:
    graph = networks.build(name).graph()
    view, free = (optimized_view(g)[0] for g in (static(graph), graph))
    assert PlanMaker(view.graph, SETTINGS, {}, view.types())._types == infer_types(view.graph)
    assert PlanMaker(free.graph, SETTINGS, {}, free.types())._types is None, "the batch is free"


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
    np.testing.assert_array_equal(fp.Model(static(network.graph()))(x), want)
    assert not asked
    np.testing.assert_array_equal(fp.Model(network)(x), want)
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
