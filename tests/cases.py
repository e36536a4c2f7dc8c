"""The cases of every operator, as pytest parameters and as graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import Case, Operator, load_all, registry


def parameters(keep: Callable[[Operator], bool] = lambda operator: True) -> list[Any]:
    """(operator, case) for every case of the operators that `keep` accepts."""
    return [
        pytest.param(operator, case, id=f"{operator.domain}.{operator.name}-{case.name or index}".lstrip("."))
        for operator, index, case in _all(keep)
    ]


def _all(keep: Callable[[Operator], bool]) -> Iterator[tuple[Operator, int, Case]]:
    load_all()
    for operator in registry.values():
        if keep(operator):
            for index, case in enumerate(operator.cases):
                yield operator, index, case


def outputs_of(operator: Operator, case: Case) -> int:
    """How many outputs the operator has for the case."""
    arrays = case.draw()
    bound = {**operator.attributes, **case.attributes}
    return len(operator.infer(bound, [None if a is None else TensorType.of(a) for a in arrays], arrays))


def graph_of(operator: Operator, case: Case) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one node with the case's constants, and the inputs of a call."""
    arrays = {f"in{k}": a for k, a in enumerate(case.draw()) if a is not None}
    names = [f"in{k}" if f"in{k}" in arrays else "" for k in range(len(case.inputs))]
    outputs = [f"out{k}" for k in range(outputs_of(operator, case))]
    node = Node(operator.name, names, outputs, dict(case.attributes), operator.domain, "tested")
    constants = {f"in{k}": arrays[f"in{k}"] for k in case.constants if f"in{k}" in arrays}
    inputs = {k: v for k, v in arrays.items() if k not in constants}
    graph = Graph({k: TensorType.of(v) for k, v in inputs.items()}, outputs, [node], constants)
    graph.verify()
    return graph, inputs


def mlp(sizes: list[int], activation: str, last: str = "", *, seed: int = 0) -> Graph:
    """A multilayer perceptron x[N, sizes[0]] -> y with random weights; `last` is the output's activation."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    constants: dict[str, Any] = {}
    value = "x"
    layers = len(sizes) - 1
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        constants[f"w{k}"] = (rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
        constants[f"b{k}"] = rng.standard_normal(outputs, dtype=np.float32)
        nodes.append(Node("MatMul", [value, f"w{k}"], [f"product{k}"]))
        nodes.append(Node("Add", [f"product{k}", f"b{k}"], [f"sum{k}"]))
        value = f"sum{k}"
        chosen = activation if k + 1 < layers else last
        if chosen:
            nodes.append(Node(chosen, [value], [f"{chosen.lower()}{k}"]))
            value = f"{chosen.lower()}{k}"
    return Graph({"x": TensorType(np.dtype(np.float32), ("N", sizes[0]))}, [value], nodes, constants, name="mlp")
