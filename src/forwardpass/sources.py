"""What a model is made of: the graph of whatever has one, with constants that kernels can read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .graph import Graph

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
    """The graph with constants that kernels can read: aligned and of native byte order."""
    # A scalar of NumPy has no memory that a kernel could look into; what is neither, `Graph.verify` refuses.
    odd = [
        k
        for k, v in graph.constants.items()
        if isinstance(v, np.generic) or (isinstance(v, np.ndarray) and not (v.flags.aligned and v.dtype.isnative))
    ]
    if odd:
        graph = graph.copy()
        for k in odd:
            array = graph.constants[k]
            graph.constants[k] = np.require(array, array.dtype.newbyteorder("="), ["A"])
    return graph
