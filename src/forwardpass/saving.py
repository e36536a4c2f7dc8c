"""`save`: a model's graph as a file, as it was given or as it is after the passes."""

from __future__ import annotations

import os
from typing import Any

from . import __version__
from .formats import npz
from .graph import Graph
from .passes import optimize
from .sources import as_graph, readable

__all__ = ["marked", "save"]


def save(model: Any, path: str | os.PathLike[str], *, optimized: bool = False) -> None:
    """Save a model, a graph or a builder network as an `.npz` file that `load` and `numpy.load` open.

    Parameters
    ----------
    model, path
        What to save, and where.
    optimized
        Save the graph after the passes, so that a load need not apply them: the same bits, sooner. Values between
        layers that became one are gone from it, `to_onnx` cannot write it, and a later version may have to refuse it:
        keep the original too.

    Raises
    ------
    InputError
        `model` is none of these.
    GraphError, UnsupportedError
        The graph is not valid, or has what the file cannot hold or, to be optimised, an operator that does not exist.
    FileError
        The file cannot be written.
    """
    graph = as_graph(model)
    npz.write(marked(optimize(readable(graph))[0]) if optimized else graph, path)


def marked(graph: Graph) -> Graph:
    """A copy of a graph as the passes of this version left it, whose file will say so."""
    copy = graph.copy()
    copy.optimized_by = __version__
    return copy
