"""What a model is made of: the graph of whatever has one, with constants that kernels can read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .graph import Array, Graph, Node

__all__ = ["as_graph", "readable"]


def as_graph(source: Any) -> Graph:
    """The graph of a model, a builder network, or itself.

    Raises
    ------
    InputError
        It is none of these.
    """
    graph = source if isinstance(source, Graph) else getattr(source, "graph", None)
    graph = graph() if callable(graph) else graph
    if not isinstance(graph, Graph):
        expected = "a Graph, a Model or a builder network"
        raise InputError("not a graph", where="graph", expected=expected, got=type(source).__name__)
    return graph


def readable(graph: Graph) -> Graph:
    """The graph with constants, and arrays of attributes, that kernels can read: aligned and of native byte order."""
    # A scalar of NumPy has no memory that a kernel could look into; what is neither, `Graph.verify` refuses.
    odd = [k for k, v in graph.constants.items() if isinstance(v, np.generic) or _is_odd(v)]
    nodes = [n for n in graph.nodes if any(map(_is_odd, n.attributes.values()))]
    if odd or nodes:
        graph = graph.copy()
        for k in odd:
            graph.constants[k] = _read(graph.constants[k])
        for place, node in enumerate(graph.nodes):
            arrays = {k: _read(v) for k, v in node.attributes.items() if _is_odd(v)}
            if arrays:
                attributes = {**node.attributes, **arrays}
                graph.nodes[place] = Node(node.op, node.inputs, node.outputs, attributes, node.domain, node.name)
    return graph


def _is_odd(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not (value.flags.aligned and value.dtype.isnative)


def _read(array: Array) -> Array:
    return np.require(array, array.dtype.newbyteorder("="), ["A"])
