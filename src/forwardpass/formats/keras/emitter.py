"""The graph while it grows: fresh names, and the type of every value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import FileError, GraphError
from ...graph import Array, Graph, Node, TensorType
from ...ops.evaluate import infer_node

__all__ = ["Emitter"]

MAX_NODES = 200_000
"""A model that is shared by models that are shared can name more layers than a file has bytes."""


class Emitter:
    """A graph that grows node by node.

    Attributes
    ----------
    graph
        What has come so far.
    """

    def __init__(self, name: str) -> None:
        self.graph = Graph({}, [], name=name)
        self._types: dict[str, TensorType] = {}
        self._makers: dict[str, Node] = {}
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """A name that is not in use; the stem itself where that is free."""
        name = stem
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name

    def input(self, stem: str, found: TensorType) -> str:
        name = self.fresh(stem)
        self.graph.inputs[name] = self._types[name] = found
        return name

    def constant(self, stem: str, array: Array) -> str:
        name = self.fresh(stem)
        self.graph.constants[name] = array
        self._types[name] = TensorType.of(array)
        return name

    def nodes(self, stem: str, op: str, inputs: Sequence[str], count: int, attributes: dict[str, Any]) -> list[str]:
        """Append a node.

        Raises
        ------
        GraphError
            Its inputs do not fit the operator.
        FileError
            There are too many nodes.
        """
        if len(self.graph.nodes) >= MAX_NODES:
            raise FileError("the model has too many nodes", expected=f"at most {MAX_NODES}")
        outputs = [self.fresh(stem) for _ in range(count)]
        node = Node(op, list(inputs), outputs, attributes, name=outputs[0])
        types = [self._types[i] if i else None for i in inputs]
        known = [self.graph.constants.get(i) for i in inputs]
        for name, found in zip(outputs, infer_node(node, types, known)):
            self._types[name] = found
            self._makers[name] = node
        self.graph.nodes.append(node)
        return outputs

    def rename(self, value: str, stem: str) -> str:
        """Give the value of the last node another name; any other value is copied to that name."""
        last = self.graph.nodes[-1] if self.graph.nodes else None
        if last is None or value not in last.outputs or stem in self._taken:
            return self.nodes(stem, "Identity", [value], 1, {})[0]
        name = self.fresh(stem)
        last.outputs[last.outputs.index(value)] = name
        last.name = name if last.name == value else last.name
        self._types[name], self._makers[name] = self._types.pop(value), self._makers.pop(value)
        return name

    def producer(self, value: str) -> Node | None:
        return self._makers.get(value)

    def type(self, value: str) -> TensorType:
        return self._types[value]

    def rank(self, value: str) -> int:
        """The number of dimensions, which every value of a Keras model has."""
        shape = self._types[value].shape
        if shape is None:
            raise GraphError("the rank is not known", where=f"value {value!r}")
        return len(shape)

    def value_of(self, value: str) -> Array | None:
        return self.graph.constants.get(value)
