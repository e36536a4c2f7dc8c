"""What a model makes of its graph, once for all models that are loaded from the same file at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from .graph import Array, Graph
from .passes import passed
from .plan.planner import Settings
from .plan.plans import Plans
from .sources import readable

__all__ = ["Prepared", "forget", "of_file"]


class Prepared:
    """A graph made ready for some settings: what any number of models and threads may use.

    Attributes
    ----------
    graph
        As it was given.
    optimized, log
        After the passes, and what they did.
    packed
        Weights as kernels want them; plans add theirs.
    plans
        By the shapes of the inputs.
    """

    __slots__ = ("__weakref__", "graph", "log", "optimized", "packed", "plans")

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self.graph = graph
        self.optimized, types, self.log = passed(readable(graph))
        self.packed: dict[Any, Array] = {}
        self.plans = Plans(self.optimized, settings, self.packed, types)


_alive: WeakValueDictionary[Any, Prepared] = WeakValueDictionary()
"""(Identity of a file, settings) -> what models of it use now. With the last of them it goes."""


def of_file(path: str | os.PathLike[str], settings: Settings, read: Callable[[], Graph]) -> tuple[Graph, Prepared]:
    """The graph of a file, for its owner to change, and what is shared between all models of it.

    Only `.npz` files are shared, whose weights are the memory of the file: while a model lives, the system gives the
    number of its file to no other. A file that was replaced has another number, and one that was written to another
    time; both are read anew.

    Parameters
    ----------
    read
        Reads the file. Raises what is wrong with it.
    """
    before = _identity(path)
    if before is None:
        graph = read()
        return graph, Prepared(graph, settings)
    shared = _alive.get((before, settings))
    if shared is None:
        shared = Prepared(read(), settings)
        if _identity(path) == before:  # and so it is this file that was read
            _alive[before, settings] = shared
    return shared.graph.copy(), shared


def forget() -> None:
    """Share nothing of what there is now with models that are loaded from now on."""
    _alive.clear()


def _identity(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    if os.path.splitext(os.fsdecode(path))[1].lower() != ".npz":
        return None
    try:
        s = os.stat(path)
    except (OSError, ValueError):
        return None
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) if s.st_ino else None
