"""A graph while it is rewritten: who defines and who reads every value, and its type, kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Protocol

from ..errors import GraphError
from ..graph import Array, Graph, Node, TensorType
from ..memory import is_repeated
from ..ops import find, infer_node, infer_types

__all__ = ["View", "named_sizes"]

_MANY = 64
"""Readers of a value up to which all of them are looked at again when one goes."""


class _Change(Protocol):
    """What `View.apply` needs of a patch."""

    @property
    def remove(self) -> Sequence[Node]: ...
    @property
    def add(self) -> Sequence[Node]: ...
    @property
    def constants(self) -> Mapping[str, Array]: ...
    @property
    def rename(self) -> Mapping[str, str]: ...
    @property
    def types(self) -> Mapping[str, TensorType]: ...


def named_sizes(graph: Graph, given: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Types of the inputs, in which every dimension of unknown size has a name of its own: equal names in the
    types of two values then prove that they are equal."""
    types = {**graph.inputs, **given}
    return {
        name: t
        if t.shape is None
        else TensorType(t.dtype, tuple(f"{name}.{k}" if d is None else d for k, d in enumerate(t.shape)), t.container)
        for name, t in types.items()
    }


def _merge(old: TensorType, new: TensorType) -> TensorType | None:
    """What two statements about one value say together, None where they contradict each other."""
    if old.dtype != new.dtype or old.container != new.container:
        return None
    if old.shape is None or new.shape is None:
        return new if old.shape is None else old
    if len(old.shape) != len(new.shape):
        return None
    if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(old.shape, new.shape)):
        return None
    # A size beats a name, and a name beats nothing.
    shape = tuple(a if isinstance(a, int) or b is None else b for a, b in zip(old.shape, new.shape))
    return TensorType(old.dtype, shape, old.container)


class View:
    """A graph and its maps.

    Parameters
    ----------
    graph
        Is changed.
    input_types
        Types of inputs in place of those that the graph says.

    Attributes
    ----------
    known
        Integers that follow from the shapes alone, by value name.
    repeated
        Bytes of the constants that are one number in memory, as if every element of them were there; of those that
        nothing reads any more too.
    """

    def __init__(self, graph: Graph, input_types: Mapping[str, TensorType] | None = None) -> None:
        self.graph = graph
        self.known: dict[str, Array] = {}
        self.repeated = sum(a.nbytes for a in graph.constants.values() if is_repeated(a))
        self._input_types = named_sizes(graph, input_types or {})
        self._types = infer_types(graph, self._input_types, values=self.known)
        self._outputs = frozenset(graph.outputs)
        self._place: dict[Node, tuple[int, int]] = {}
        self._by_op: dict[str, dict[Node, None]] = {}
        self._producers: dict[str, Node] = {}
        self._uses: dict[str, list[Node]] = {}
        self._names = {*graph.inputs, *graph.constants}
        self._added = 0
        for index, node in enumerate(graph.nodes):
            self._link(node, (index, 0))

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, node: Node) -> bool:
        return node in self._place

    def ordered(self, ops: Set[str] | None = None) -> list[Node]:
        """The nodes, or those of some operators; one that was added is at the place of those that it replaced."""
        nodes: Iterable[Node] = self._place
        if ops is not None:
            nodes = [n for op in self._by_op.keys() & ops for n in self._by_op[op]]
        return sorted(nodes, key=self._place.__getitem__)

    def place(self, node: Node) -> tuple[int, int]:
        """Where the node stands among the others."""
        return self._place[node]

    def producer(self, value: str) -> Node | None:
        """The node that defines a value; None for inputs and constants."""
        return self._producers.get(value)

    def uses(self, value: str) -> list[Node]:
        """The nodes that read a value, a node once per reading input."""
        return self._uses.get(value, [])

    def is_output(self, value: str) -> bool:
        """Whether the graph returns the value."""
        return value in self._outputs

    def shared(self, value: str) -> str | None:
        """Why the one reader of a value cannot have it for itself; None if it can."""
        if value in self._outputs:
            return f"value {value!r} is a graph output"
        count = len(self.uses(value))
        return None if count == 1 else f"value {value!r} is used by {count} nodes"

    def types(self) -> dict[str, TensorType]:
        """What is known of all values."""
        return dict(self._types)

    def constant(self, value: str) -> Array | None:
        """A constant's value; None for other values."""
        return self.graph.constants.get(value)

    def type(self, value: str) -> TensorType:
        """What is known of a value."""
        return self._types[value]

    def attributes(self, node: Node) -> dict[str, Any]:
        """A node's attributes with defaults."""
        return find(node).bind(node)

    def fresh(self, stem: str) -> str:
        """A value name that is not used yet; it counts as used from now on."""
        name, k = stem, 1
        while name in self._names:
            name = f"{stem}_{k}"
            k += 1
        self._names.add(name)
        return name

    def _link(self, node: Node, place: tuple[int, int]) -> None:
        self._place[node] = place
        self._by_op.setdefault(node.qualified, {})[node] = None
        for o in node.outputs:
            if o:
                self._producers[o] = node
                self._names.add(o)
        for i in node.inputs:
            if i:
                self._uses.setdefault(i, []).append(node)

    def _unlink(self, node: Node) -> None:
        del self._place[node], self._by_op[node.qualified][node]
        for o in node.outputs:
            if o:
                del self._producers[o]
        for i in node.inputs:
            if i:
                self._uses[i].remove(node)

    def _rename(self, old: str, new: str) -> None:
        for reader in self._uses.pop(old, []):
            reader.inputs = [new if i == old else i for i in reader.inputs]
            self._uses.setdefault(new, []).append(reader)
        producer = self._producers.pop(old, None)
        if producer is not None:
            producer.outputs = [new if o == old else o for o in producer.outputs]
            self._producers[new] = producer
        merged = _merge(self._types.get(new, self._types[old]), self._types[old])
        if merged is None:
            raise GraphError(
                f"values {old!r} and {new!r} cannot be one", got=f"{self._types[old]} and {self._types[new]}"
            )
        self._types[new] = merged

    def _infer(self, node: Node) -> None:
        old = [self._types.get(o) for o in node.outputs if o]
        if all(t is not None and t.shape is not None and None not in t.shape for t in old):
            return
        found = infer_node(
            node,
            [self._types[i] if i else None for i in node.inputs],
            [self.constant(i) if i else None for i in node.inputs],
        )
        for o, t in zip(node.outputs, found):
            if o:
                merged = _merge(self._types.get(o, t), t)
                if merged is None:
                    raise GraphError(
                        f"value {o!r} has changed", where=node.label, expected=str(self._types[o]), got=str(t)
                    )
                self._types[o] = merged

    def _sweep(self, values: list[str]) -> list[str]:
        """Take out nodes that nothing needs any more, beginning with those of these values."""
        seen = []
        while values:
            value = values.pop()
            seen.append(value)
            node = self._producers.get(value)
            if node is None or any(self.uses(o) or o in self._outputs for o in node.outputs if o):
                continue
            self._unlink(node)
            values.extend(i for i in node.inputs if i)
        return seen

    def apply(self, patch: _Change) -> list[Node]:
        """Change the graph.

        Returns
        -------
        list of Node
            Those that may match now and did not before: the new ones and their neighbours.
        """
        removed, added, constants = patch.remove, patch.add, self.graph.constants
        anchor = max((self.place(n)[0] for n in removed), default=0)
        released = [i for n in removed for i in n.inputs if i]
        for n in removed:
            self._unlink(n)
        for name, array in patch.constants.items():
            constants[name] = array
            self.repeated += array.nbytes if is_repeated(array) else 0
            self._types[name] = TensorType.of(array)
            self._names.add(name)
        self._types.update(patch.types)
        for n in added:
            self._added += 1
            self._link(n, (anchor, self._added))
            self._infer(n)
        for old, new in patch.rename.items():
            self._rename(old, new)
        touched = [*self._sweep(released), *patch.rename.values(), *patch.constants]
        for n in added:
            touched += (*n.inputs, *n.outputs)
        near: dict[Node, None] = {}
        for value in dict.fromkeys(touched):
            # A constant that was there before says nothing new to its readers, of which there may be many.
            if value in constants and value not in patch.constants:
                continue
            if value in self._producers:
                near[self._producers[value]] = None
            # The next sweep sees the readers of a value that has many, in place of one visit per reader that goes.
            readers = self.uses(value)
            if len(readers) <= _MANY or value in patch.constants:
                near.update(dict.fromkeys(readers))
        return list(near)

    def write(self) -> Graph:
        """Write the nodes into the graph, in order, and drop what nobody needs."""
        self.graph.nodes = self.ordered()
        self.graph.sort()
        self.graph.prune()
        return self.graph

    def verify(self, name: str) -> None:
        """Write the graph and check it.

        Raises
        ------
        GraphError
            The pass `name` has damaged the graph, or a type is not what the shape rules give.
        """
        graph = self.write()
        graph.verify()
        for value, found in infer_types(graph, self._input_types).items():
            if _merge(self._types[value], found) is None:
                raise GraphError(
                    f"pass {name} has changed value {value!r}", expected=str(self._types[value]), got=str(found)
                )
