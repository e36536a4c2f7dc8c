"""The graph: values that are known by name, and nodes with the names and meaning of the newest ONNX operators.

Two private domains hold what the passes make: `nhwc` (image operators on channels-last values, which else mean what
their ONNX namesakes mean) and `fused` (operators with an epilogue).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from .dtypes import name_of
from .errors import GraphError
from .records import field, record
from .tracked import Tracked

__all__ = ["PRIVATE_DOMAINS", "PRIVATE_REVISION", "Array", "Dim", "Graph", "Node", "TensorType", "Value"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Dim: TypeAlias = "int | str | None"
"""A dimension: its size, the name of a size that a call decides, or None where nothing is known."""
Value: TypeAlias = "Array | list[Any] | dict[Any, Any] | None"
"""What a value can be: an array, a sequence, a map, or an optional that is empty."""

PRIVATE_DOMAINS = frozenset({"nhwc", "fused"})
PRIVATE_REVISION = 1
"""Of the operators in those domains, which files of optimised graphs name: one more whenever any of them means
something else than before."""

_SIZE = frozenset({int, Tracked})


@record(frozen=True, slots=True)
class TensorType:
    """What is known of a value before it exists: dtype, and shape where the rank is known.

    `container` says what the tensors are wrapped in, from outside to inside: "sequence", "optional", "map".
    """

    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    container: tuple[str, ...] = ()

    @classmethod
    def of(cls, array: Array) -> TensorType:
        """The type of an array's values, whatever their byte order."""
        return cls(array.dtype if array.dtype.isnative else array.dtype.newbyteorder("="), array.shape)

    @property
    def is_known(self) -> bool:
        """Whether the whole shape is known."""
        return self.shape is not None and not self.container and _SIZE.issuperset(map(type, self.shape))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, for types of which all of it is known."""
        assert self.is_known, self
        return self.shape  # type: ignore[return-value]

    @property
    def nbytes(self) -> int:
        """Bytes of such a value."""
        return self.dtype.itemsize * math.prod(self.sizes)

    def __str__(self) -> str:
        dims = "..." if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return "".join(f"{c} of " for c in self.container) + f"{name_of(self.dtype)}[{dims}]"


@record(slots=True, eq=False)
class Node:
    """One operator: reads the values `inputs` ("" is an absent optional one), defines the values `outputs`."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    name: str = ""

    @property
    def qualified(self) -> str:
        """The operator's name with its domain: `Conv`, `nhwc.Conv`."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    @property
    def title(self) -> str:
        """How tables name the node."""
        return self.name or self.outputs[0]

    @property
    def label(self) -> str:
        """How messages name the node."""
        return (
            f"node {self.name!r} ({self.qualified})" if self.name else f"node {self.qualified} -> {self.outputs[0]!r}"
        )

    def __str__(self) -> str:
        attributes = ", ".join(f"{k}={_short(v)}" for k, v in sorted(self.attributes.items()))
        call = f"{self.qualified}({', '.join(i or '-' for i in self.inputs)})"
        return f"{', '.join(self.outputs)} = {call}" + (f" {{{attributes}}}" if attributes else "")


def _check_inputs(inputs: Mapping[str, TensorType], where: str) -> None:
    expected = "a TensorType whose shape is None or a tuple of sizes, names and None"
    for name, t in inputs.items():
        shape = t.shape if isinstance(t, TensorType) else ""
        if shape is None or (isinstance(shape, tuple) and all(map(_is_dim, shape))):
            continue
        got = f"shape {shape!r}" if isinstance(t, TensorType) else repr(t)
        raise GraphError(f"input {name!r} has no type", where=where, expected=expected, got=got)


def _is_dim(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return True
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(TensorType.of(value))
    if isinstance(value, Graph):
        return f"({', '.join(value.inputs)}) -> ({', '.join(value.outputs)})"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


class Graph:
    """Inputs, constants, nodes in an order in which they can run, and outputs.

    Attributes
    ----------
    inputs
        Name -> type of what a call supplies, in order.
    outputs
        Names of the results, in order.
    nodes
        In topological order.
    constants
        Name -> array, or a scalar of NumPy: weights and other fixed values. Arrays may be read-only memory maps.
    metadata
        Free text that travels with the model (author, labels, source).
    optimized_by
        The version of this package of which a file says that its passes made the graph. A copy has none: it may change.
    """

    def __init__(
        self,
        inputs: Mapping[str, TensorType],
        outputs: Iterable[str],
        nodes: Iterable[Node] = (),
        constants: Mapping[str, Array] | None = None,
        *,
        name: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.inputs = dict(inputs)
        self.outputs = list(outputs)
        self.nodes = list(nodes)
        self.constants: dict[str, Array] = dict(constants or {})
        self.name = name
        self.metadata = dict(metadata or {})
        self.optimized_by = ""

    def copy(self) -> Graph:
        """A graph whose nodes can be changed without changing this one; arrays are shared."""
        nodes = [Node(n.op, list(n.inputs), list(n.outputs), dict(n.attributes), n.domain, n.name) for n in self.nodes]
        return Graph(self.inputs, self.outputs, nodes, self.constants, name=self.name, metadata=self.metadata)

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that defines it."""
        return {o: n for n in self.nodes for o in n.outputs if o}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, a node once per reading input. Graph outputs count nowhere."""
        uses: dict[str, list[Node]] = {}
        for n in self.nodes:
            for i in n.inputs:
                if i:
                    uses.setdefault(i, []).append(n)
        return uses

    def fresh(self, stem: str) -> str:
        """A value name that the graph does not use yet."""
        taken = self.inputs.keys() | self.constants.keys() | self.producers().keys()
        if stem not in taken:
            return stem
        k = 1
        while f"{stem}_{k}" in taken:
            k += 1
        return f"{stem}_{k}"

    def prune(self) -> None:
        """Drop nodes and constants that no output needs."""
        needed = set(self.outputs)
        kept = []
        for n in reversed(self.nodes):
            if needed.intersection(n.outputs):
                kept.append(n)
                needed.update(n.inputs)
        self.nodes = kept[::-1]
        self.constants = {k: v for k, v in self.constants.items() if k in needed}

    def sort(self) -> None:
        """Put the nodes in topological order, keeping the present order where it is free.

        Raises
        ------
        GraphError
            A cycle, naming the nodes on it that are left.
        """
        if self._is_sorted():
            return
        import heapq

        producers = self.producers()
        order: list[Node] = []
        waiting = {id(n): len({id(producers[i]) for i in n.inputs if i in producers}) for n in self.nodes}
        users: dict[int, list[Node]] = {}
        for n in self.nodes:
            for p in {id(producers[i]): producers[i] for i in n.inputs if i in producers}.values():
                users.setdefault(id(p), []).append(n)
        position = {id(n): k for k, n in enumerate(self.nodes)}
        ready = [position[id(n)] for n in self.nodes if waiting[id(n)] == 0]
        heapq.heapify(ready)
        while ready:
            n = self.nodes[heapq.heappop(ready)]
            order.append(n)
            for u in users.get(id(n), ()):
                waiting[id(u)] -= 1
                if waiting[id(u)] == 0:
                    heapq.heappush(ready, position[id(u)])
        if len(order) != len(self.nodes):
            stuck = [n.label for n in self.nodes if waiting[id(n)] > 0]
            raise GraphError(f"the graph has a cycle through {', '.join(stuck[:5])}", where=self.name or "graph")
        self.nodes = order

    def _is_sorted(self) -> bool:
        later = set(self.producers())
        for n in self.nodes:
            if not later.isdisjoint(n.inputs):
                return False
            later.difference_update(n.outputs)
        return True

    def verify(self) -> None:
        """Check the structure: names defined once and before use, outputs defined, attributes sane.

        Raises
        ------
        GraphError
            Naming the first node or value that is wrong.
        """
        if not isinstance(self.name, str):
            raise GraphError("the graph's name is no text", where="graph", got=repr(self.name))
        where = self.name or "graph"
        _check_inputs(self.inputs, where)
        defined = set(self.inputs)
        for name, value in self.constants.items():
            if name in defined:
                raise GraphError(f"value {name!r} is both an input and a constant", where=where)
            if not isinstance(value, (np.ndarray, np.generic)):
                got = type(value).__name__
                raise GraphError(f"constant {name!r} is no array", where=where, expected="a NumPy array", got=got)
        defined |= self.constants.keys()
        for n in self.nodes:
            if not n.op or not any(n.outputs):
                raise GraphError("node without an operator or outputs", where=n.label if n.outputs else where)
            for i in n.inputs:
                if i and i not in defined:
                    later = "used before it is defined (a cycle, or nodes out of order)"
                    what = later if i in self.producers() else "undefined"
                    raise GraphError(f"input {i!r} is {what}", where=n.label)
            for body in n.attributes.values():
                if isinstance(body, Graph):
                    body.verify()
            for o in n.outputs:
                if o and o in defined:
                    raise GraphError(f"value {o!r} is defined twice", where=n.label)
                if o:
                    defined.add(o)
        for o in self.outputs:
            if o not in defined:
                raise GraphError(f"output {o!r} is undefined", where=where)
        if not self.outputs:
            raise GraphError("a graph needs at least one output", where=where)
        if len(set(self.outputs)) != len(self.outputs):
            raise GraphError("an output is listed twice", where=where, got=str(self.outputs))

    def __str__(self) -> str:
        head = f"graph {self.name or 'unnamed'}({', '.join(f'{k}: {t}' for k, t in self.inputs.items())})"
        constants = [f"  const {k}: {TensorType.of(v)}" for k, v in self.constants.items()]
        nodes = [f"  {n}" for n in self.nodes]
        return "\n".join([head, *constants, *nodes, f"  return {', '.join(self.outputs)}"])

    def __repr__(self) -> str:
        return (
            f"<Graph {self.name or 'unnamed'}: {len(self.nodes)} nodes, {len(self.constants)} constants, "
            f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}>"
        )
