"""Nodes that ONNX's own tools do not take as they are, in terms that they take."""

from __future__ import annotations

from collections.abc import Callable

from ...graph import Graph, Node

__all__ = ["standard"]


def _simplified(node: Node) -> Node:
    """onnxruntime's name for what ONNX took in with opset 23, but for a second output."""
    if len(node.outputs) > 1:
        return node
    return Node("RMSNormalization", node.inputs, node.outputs, node.attributes, "", node.name)


def _mean_variance(node: Node) -> Node:
    """The function that ONNX defines it by has no default for its axes, though the operator does."""
    if "axes" in node.attributes:
        return node
    return Node(node.op, node.inputs, node.outputs, {**node.attributes, "axes": [0, 2, 3]}, node.domain, node.name)


_RULES: dict[tuple[str, str], Callable[[Node], Node]] = {
    ("", "SimplifiedLayerNormalization"): _simplified,
    ("com.microsoft", "SimplifiedLayerNormalization"): _simplified,
    ("", "MeanVarianceNormalization"): _mean_variance,
}


def standard(graph: Graph) -> Graph:
    """The graph with such nodes replaced, in its bodies too; the graph itself where there are none."""
    nodes = [_node(n) for n in graph.nodes]
    if all(a is b for a, b in zip(nodes, graph.nodes)):
        return graph
    return Graph(graph.inputs, graph.outputs, nodes, graph.constants, name=graph.name, metadata=graph.metadata)


def _node(node: Node) -> Node:
    changed = {}
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            made = standard(value)
            if made is not value:
                changed[name] = made
    if changed:
        node = Node(node.op, node.inputs, node.outputs, {**node.attributes, **changed}, node.domain, node.name)
    rule = _RULES.get((node.domain, node.op))
    return node if rule is None else rule(node)
