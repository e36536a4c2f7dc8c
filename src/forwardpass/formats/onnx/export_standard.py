"""Nodes that ONNX's own tools do not take as they are, in terms that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from ...dtypes import code_of
from ...graph import Graph, Node, TensorType
from ...ops.evaluate import infer_types

__all__ = ["standard"]

Types: TypeAlias = "Mapping[str, TensorType]"


def _simplified(node: Node, types: Types) -> list[Node]:
    """onnxruntime's name for what ONNX took in with opset 23, but for a second output: what it divided by, inverted."""
    made = Node("RMSNormalization", node.inputs, node.outputs[:1], node.attributes, "", node.name)
    if len(node.outputs) == 1 or not node.outputs[1]:
        return [made]
    (x, *_), inverse = node.inputs, node.outputs[1]
    # The axes from that of the attribute on, whatever the rank.
    axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    names = ("wide", "squares", "shape", "rank", "first", "start", "one", "axes", "mean", "epsilon", "sum", "root")
    wide, squares, shape, rank, first, start, one, axes, mean, small, total, root = (f"{inverse}/{n}" for n in names)
    # It is calculated in float32, but for inputs of float64.
    found = types.get(x)
    dtype = np.dtype(np.float64 if found is not None and found.dtype == np.float64 else np.float32)
    numbers = ((first, np.int64(axis)), (one, np.int64(1)), (small, dtype.type(epsilon)))
    counted = [] if axis >= 0 else [Node("Add", [rank, first], [start])]
    return [
        made,
        *(Node("Constant", [], [name], {"value": np.asarray(value)}) for name, value in numbers),
        Node("Cast", [x], [wide], {"to": code_of(dtype)}),
        Node("Mul", [wide, wide], [squares]),
        Node("Shape", [x], [shape]),
        Node("Size", [shape], [rank]),
        *counted,
        Node("Range", [first if axis >= 0 else start, rank, one], [axes]),
        Node("ReduceMean", [squares, axes], [mean]),
        Node("Add", [mean, small], [total]),
        Node("Sqrt", [total], [root]),
        Node("Reciprocal", [root], [inverse]),
    ]


def _mean_variance(node: Node, types: Types) -> list[Node]:
    """The function that ONNX defines it by has no default for its axes, though the operator does."""
    if "axes" in node.attributes:
        return [node]
    return [Node(node.op, node.inputs, node.outputs, {**node.attributes, "axes": [0, 2, 3]}, node.domain, node.name)]


_RULES: dict[tuple[str, str], Callable[[Node, Types], list[Node]]] = {
    ("", "SimplifiedLayerNormalization"): _simplified,
    ("com.microsoft", "SimplifiedLayerNormalization"): _simplified,
    ("", "MeanVarianceNormalization"): _mean_variance,
}


def standard(graph: Graph) -> Graph:
    """The graph with such nodes replaced, in its bodies too; the graph itself where there are none."""
    types = infer_types(graph) if any((n.domain, n.op) in _RULES for n in graph.nodes) else {}
    nodes = [made for n in graph.nodes for made in _nodes(n, types)]
    if len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes)):
        return graph
    return Graph(graph.inputs, graph.outputs, nodes, graph.constants, name=graph.name, metadata=graph.metadata)


def _nodes(node: Node, types: Types) -> list[Node]:
    changed = {}
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            made = standard(value)
            if made is not value:
                changed[name] = made
    if changed:
        node = Node(node.op, node.inputs, node.outputs, {**node.attributes, **changed}, node.domain, node.name)
    rule = _RULES.get((node.domain, node.op))
    return [node] if rule is None else rule(node, types)
