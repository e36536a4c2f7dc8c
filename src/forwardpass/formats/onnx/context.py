"""A graph while it is built: what is known of its values, and fresh names. Upgrades of operators ask it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...errors import Error, GraphError
from ...graph import Array, Graph, Node, TensorType
from ...ops.evaluate import infer_node

__all__ = ["Context"]

_MAX_DEPTH = 48
"""How deeply bodies may be nested: rules and definitions are recursive."""

_UNTYPED = TensorType(np.dtype(np.float32), None)
"""The type of a body's input that nobody says: the node that runs the body knows it."""


class Context:
    """A graph that grows node by node.

    Parameters
    ----------
    taken
        Names that are spoken for.
    parent
        The graph around this one, for a body.
    declared
        Types of values as the file says them.

    Raises
    ------
    GraphError
        Too many graphs around this one.
    """

    def __init__(
        self, taken: Iterable[str], parent: Context | None = None, declared: Mapping[str, TensorType] | None = None
    ) -> None:
        self.parent = parent
        self._depth: int = 0 if parent is None else parent._depth + 1
        if self._depth > _MAX_DEPTH:
            raise GraphError("bodies are nested too deeply", expected=f"at most {_MAX_DEPTH} levels")
        self.inputs: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.captures: dict[str, str] = {}
        """Value of the graph around this one -> the input that stands for it."""
        self._taken = set(taken)
        self._counts: dict[str, int] = {}
        self._declared = dict(declared or {})
        self._types: dict[str, TensorType | None] = {}
        self._inferred = 0

    # ---- what upgrades use

    def constant(self, name: str) -> Array | None:
        """The value of an initializer or a Constant node, here or in a graph around; None of any other value."""
        return self.constants.get(name)

    def add_constant(self, stem: str, array: Any) -> str:
        """Add a constant. Returns its name."""
        name = self.fresh(stem)
        self.constants[name] = np.asarray(array)
        return name

    def fresh(self, stem: str) -> str:
        """A value name that is not in use; the stem itself where that is free."""
        name = stem = stem or "value"
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name

    def rank(self, name: str) -> int | None:
        """The rank of a value, None where it is not known."""
        found = self.type(name)
        return None if found is None or found.shape is None or found.container else len(found.shape)

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """The element type of a value, None where it is not known."""
        found = self.type(name)
        return None if found is None else found.dtype

    def type(self, name: str) -> TensorType | None:
        """All that is known of the type of a value."""
        if name in self.constants:
            return TensorType.of(self.constants[name])
        self._infer()
        return self._types.get(name) or self._declared.get(name)

    def inferred(self, name: str) -> TensorType | None:
        """The type of a value as the nodes say it, whatever the file does."""
        self._infer()
        return self._types.get(name)

    # ---- what the importer uses

    def add_input(self, name: str, found: TensorType | None) -> None:
        """Add an input; None for the type where the file does not say it."""
        self.inputs[name] = found or _UNTYPED
        self._types[name] = found

    def capture(self, value: str, stem: str) -> str:
        """The name here of a value of the graph around: a constant is shared, any other becomes an input."""
        assert self.parent is not None
        array = self.parent.constants.get(value)
        if value not in self.captures:
            local = self.captures[value] = self.fresh(stem)
            if array is not None:
                self.constants[local] = array
            else:
                self.add_input(local, self.parent.type(value))
        return self.captures[value]

    def bring(self, home: Context, value: str, stem: str) -> str:
        """The name here of a value of any graph around."""
        if home is self:
            return value
        assert self.parent is not None
        return self.capture(self.parent.bring(home, value, stem), stem)

    def captured(self) -> list[str]:
        """The values of the graph around that are inputs here, in order."""
        return [value for value, local in self.captures.items() if local in self.inputs]

    def graph(self, outputs: Iterable[str], name: str, metadata: Mapping[str, str] | None = None) -> Graph:
        """The graph, with the constants that are in use."""
        outputs = list(outputs)
        needed = set(outputs).union(*(n.inputs for n in self.nodes))
        constants = {k: v for k, v in self.constants.items() if k in needed}
        return Graph(self.inputs, outputs, self.nodes, constants, name=name, metadata=metadata)

    def _infer(self) -> None:
        """Learn the types of the nodes that came since the last time."""
        for node in self.nodes[self._inferred :]:
            self._inferred += 1
            types = [self.type_now(i) if i else None for i in node.inputs]
            if any(i and t is None for i, t in zip(node.inputs, types)):
                continue
            try:
                found = infer_node(node, types, [self.constants.get(i) for i in node.inputs])
            except Error:  # reported where the graph is used
                continue
            self._types.update((o, t) for o, t in zip(node.outputs, found) if o)

    def type_now(self, name: str) -> TensorType | None:
        """What is known of a type without another look at the nodes."""
        if name in self.constants:
            return TensorType.of(self.constants[name])
        return self._types.get(name) or self._declared.get(name)
