"""Twice the graph is at most twice the work until its summary: counted in calls of functions, not in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from calls import calls_of
from forwardpass import Model
from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)
WIDE = 64


def chain(layer: Callable[[int, str], list[Node]], count: int, **constants: Any) -> Graph:
    nodes: list[Node] = []
    for k in range(count):
        nodes += layer(k, nodes[-1].outputs[0] if nodes else "x")
    return Graph({"x": TensorType(F32, (1, WIDE))}, [nodes[-1].outputs[0]], nodes, constants)


def one_value_with_many_readers(count: int) -> Graph:
    def layer(k: int, v: str) -> list[Node]:
        shape = [Node("Shape", [v], [f"s{k}"]), Node("Reshape", ["x", f"s{k}"], [f"r{k}"])]
        return [*shape, Node("Add", [v, f"r{k}"], [f"y{k}"])]

    return chain(layer, count)


def numbers_in_large_shapes(count: int) -> Graph:
    def layer(k: int, v: str) -> list[Node]:
        return [Node("ConstantOfShape", ["large"], [f"c{k}"]), Node("Add", [v, f"c{k}"], [f"y{k}"])]

    return chain(layer, count, large=np.array([5000, WIDE]))


def shapes_that_depend_on_data(count: int) -> Graph:
    def layer(k: int, v: str) -> list[Node]:
        found = [Node("NonZero", [v], [f"i{k}"]), Node("Cast", [f"i{k}"], [f"f{k}"], {"to": 1})]
        most = [Node("ReduceMax", [f"f{k}"], [f"m{k}"], {"keepdims": 0}), Node("Sqrt", [f"m{k}"], [f"q{k}"])]
        return [*found, *most, Node("Add", [v, f"q{k}"], [f"y{k}"])]

    return chain(layer, count)


def layers(count: int) -> Graph:
    def layer(k: int, v: str) -> list[Node]:
        return [Node("MatMul", [v, "w"], [f"p{k}"]), Node("Relu", [f"p{k}"], [f"y{k}"])]

    return chain(layer, count, w=np.eye(WIDE, dtype=np.float32))


def attention_of_any_length(count: int) -> Graph:
    def layer(k: int, v: str) -> list[Node]:
        nodes = []
        for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes.append(Node("Reshape", [v, "heads"], [f"{name}{k}"]))
            nodes.append(Node("Transpose", [f"{name}{k}"], [f"{name}t{k}"], {"perm": order}))
        nodes.append(Node("MatMul", [f"qt{k}", f"kt{k}"], [f"s{k}"]))
        nodes.append(Node("Softmax", [f"s{k}"], [f"p{k}"], {"axis": -1}))
        nodes.append(Node("MatMul", [f"p{k}", f"vt{k}"], [f"o{k}"]))
        nodes.append(Node("Transpose", [f"o{k}"], [f"ot{k}"], {"perm": [0, 2, 1, 3]}))
        return [*nodes, Node("Reshape", [f"ot{k}", "flat"], [f"y{k}"])]

    graph = chain(layer, count, heads=np.array([1, -1, 4, WIDE // 4]), flat=np.array([-1, WIDE]))
    graph.inputs["x"] = TensorType(F32, ("length", WIDE))
    return graph


def all_before_joined(count: int) -> Graph:
    """As in a DenseNet. Its edges are as many as the square of its nodes."""
    nodes: list[Node] = []
    for k in range(round((2 * count) ** 0.5)):
        nodes.append(Node("Concat", ["x", *(f"y{i}" for i in range(k))], [f"c{k}"], {"axis": 1}))
        nodes.append(Node("ReduceMean", [f"c{k}", "last"], [f"y{k}"], {"keepdims": 1}))
    return Graph({"x": TensorType(F32, (1, WIDE))}, [nodes[-1].outputs[0]], nodes, {"last": np.array([1])})


def used(graph: Graph) -> None:
    """From the graph to its first result and its summary."""
    model = Model(graph, threads=1)
    model(np.ones((1, WIDE), np.float32))
    str(model.summary())


@pytest.mark.parametrize(
    "make",
    [
        one_value_with_many_readers, numbers_in_large_shapes, shapes_that_depend_on_data, layers,
        attention_of_any_length, all_before_joined,
    ],
)  # fmt: skip
def test_twice_the_graph_is_twice_the_work(make: Callable[[int], Graph]) -> None:
    used(make(8))  # what is made once
    small, large = make(200), make(400)
    assert calls_of(lambda: used(large)) <= 2.05 * calls_of(lambda: used(small))
