"""Which opsets a graph needs at least: the older the file, the more tools read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...dtypes import code_of
from ...errors import Error
from ...graph import Graph, Node, TensorType
from ...ops.evaluate import infer_types
from .opsets import NEWEST
from .proto import package
from .upgrade import UPGRADES

__all__ = ["Types", "attribute_kinds", "versions_of"]

_OLDEST = {"": 17}
"""Older opsets gain no reader that is still in use."""

_CLARIFIED = dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), ("ceil_mode", 22))
"""Operator -> an attribute and the opset before which tools differ on what it means: whether a window may begin past
the end."""

Found = Mapping[str, TensorType]


def _schemas(domain: str, op: str) -> list[Any]:
    """The schemas of an operator, newest first; none of an operator that ONNX does not define."""
    defs = package("writing ONNX models").defs
    found: list[Any] = []
    version = NEWEST.get(domain, 1)
    while version > 0:
        try:
            schema = defs.get_schema(op, version, domain)
        except defs.SchemaError:
            break
        found.append(schema)
        version = schema.since_version - 1
    return found


def attribute_kinds(domain: str, op: str) -> dict[str, int]:
    """Attribute -> its AttributeType, as the newest schema says; nothing for an operator that ONNX does not define."""
    return {k: int(a.type.value) for s in _schemas(domain, op)[:1] for k, a in s.attributes.items()}


class Types:
    """The types of the values of a graph and of the bodies in it.

    Attributes
    ----------
    graphs
        Every graph, the one itself first, with the types of its values as far as they are known.
    """

    def __init__(self, graph: Graph) -> None:
        self.graphs: list[tuple[Graph, Found]] = []
        self._given: dict[int, Found] = {}
        self._found: dict[int, Found] = {}
        self._add(graph, {})

    def given(self, body: Graph) -> Found:
        """The element types of a body's inputs as its node gives them, which the body itself may not say."""
        return self._given[id(body)]

    def of(self, graph: Graph) -> Found:
        """The types of the values of a graph, as far as they are known."""
        return self._found[id(graph)]

    def _add(self, graph: Graph, given: Found) -> None:
        try:
            types: Found = infer_types(graph, given)
        except Error:  # reported where the graph is used; a body may not fit the shapes that are known here
            types = {**{k: TensorType.of(v) for k, v in graph.constants.items()}, **given}
        self.graphs.append((graph, types))
        self._given[id(graph)], self._found[id(graph)] = given, types
        for node in graph.nodes:
            for body in _bodies(node):
                self._add(body, _given(node, body, types))


def versions_of(types: Types) -> dict[str, int]:
    """Domain -> opset of a model.

    A node may stand in any opset whose schema takes it as it is, and from which on nothing changed what it means: that
    is what `upgrade` has rules for.
    """
    needed = dict(_OLDEST)
    schemas: dict[tuple[str, str], list[Any]] = {}
    for graph, found in types.graphs:
        for node in graph.nodes:
            key = (node.domain, node.op)
            if key not in schemas:
                schemas[key] = _schemas(*key)
            needed[node.domain] = max(needed.get(node.domain, 1), _oldest(node, schemas[key], found))
    return needed


def _oldest(node: Node, schemas: Sequence[Any], types: Found) -> int:
    """The oldest opset that has the node, by the schemas of its operator, newest first."""
    if not schemas:
        return 1
    rules = UPGRADES.get(node.domain, {}).get(node.op, ())
    changed = max((v for v, _ in rules if v <= NEWEST[node.domain]), default=1)
    unclear, version = _CLARIFIED.get(node.op, ("", 1))
    if node.attributes.get(unclear):
        changed = max(changed, version)
    for schema, newer in zip(reversed(schemas), [*reversed(schemas[:-1]), None]):
        if (newer is None or newer.since_version > changed) and _takes(schema, node, types):
            return max(int(schema.since_version), changed)
    return int(schemas[0].since_version)


def _bodies(node: Node) -> Iterator[Graph]:
    for value in node.attributes.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, Graph):
                yield item


def _given(node: Node, body: Graph, types: Found) -> dict[str, TensorType]:
    """Element types of a body's inputs as the node gives them, which the body itself may not say."""
    captures = node.attributes.get("captures", 0)
    count = {"Loop": len(body.inputs) - 2, "Scan": len(body.inputs), "SequenceMap": len(body.inputs)}
    taken = count.get(node.op, captures)  # the last ones; a loop counts its rounds in the first two
    found: dict[str, TensorType] = {}
    for k, (name, value) in enumerate(zip(reversed(body.inputs), reversed(node.inputs))):
        kind = types.get(value)
        if k < taken and kind is not None:
            inner = node.op == "SequenceMap" and k >= captures
            found[name] = TensorType(kind.dtype, None, kind.container[1:] if inner else kind.container)
    return found


def _takes(schema: Any, node: Node, types: Found) -> bool:
    """Whether a schema has room for all that a node has."""
    if schema.deprecated or not {k for k in node.attributes if k != "captures"} <= schema.attributes.keys():
        return False
    captures = node.attributes.get("captures", 0)
    inputs = node.inputs[: len(node.inputs) - captures]
    if not schema.min_input <= len(inputs) <= schema.max_input or len(node.outputs) > schema.max_output:
        return False
    return _fits(schema.inputs, inputs, types) and _fits(schema.outputs, node.outputs, types)


def _fits(formal: Sequence[Any], names: Sequence[str], types: Found) -> bool:
    """Whether a schema allows the types of values, as far as they are known."""
    for k, name in enumerate(names):
        text = _text(types[name]) if name in types else None
        if text is not None and text not in formal[min(k, len(formal) - 1)].types:
            return False
    return True


def _text(kind: TensorType) -> str | None:
    """A type as schemas write it, such as "seq(tensor(float))"; None for what they write in other ways."""
    if "map" in kind.container:
        return None
    text = f"tensor({package('ONNX').TensorProto.DataType.Name(code_of(kind.dtype)).lower()})"
    for container in reversed(kind.container):
        text = f"{'seq' if container == 'sequence' else 'optional'}({text})"
    return text
