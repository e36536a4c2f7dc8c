"""Graphs, nodes and attributes to their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...dtypes import STRING
from ...errors import UnsupportedError
from ...graph import PRIVATE_DOMAINS, Graph, Node, TensorType
from ...ops.registry import registry, supported
from ...records import record
from .export_tensors import External, put_tensor, put_type
from .export_versions import Types, attribute_kinds
from .ranks import shapes_of

if TYPE_CHECKING:
    import onnx

__all__ = ["Writer"]

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _TYPE = 1, 2, 3, 4, 5, 13
_LISTS = {_FLOAT: 6, _INT: 7, _STRING: 8, _TENSOR: 9, _GRAPH: 10, _TYPE: 14}
"""AttributeProto.AttributeType of a value -> that of a list of such values."""
_UNTYPED = TensorType(np.dtype(np.float32), None)
"""What the importer says of a body's input where the file says nothing."""
_INT64 = 1 << 63


@record(slots=True, eq=False)
class _Scope:
    """The names of a graph and of those around it.

    Attributes
    ----------
    names
        Value of the graph -> its name in the file.
    taken
        All names in the file that it sees or has.
    shared
        Id of a constant's array -> its name in the file.
    where
        What messages call the graph.
    """

    names: dict[str, str]
    taken: set[str]
    shared: dict[int, str]
    where: str = ""

    def define(self, value: str) -> str:
        """A name for a value of the graph: its own where that is free."""
        name, k = value, 0
        while name in self.taken:
            k += 1
            name = f"{value}_{k}"
        self.taken.add(name)
        self.names[value] = name
        return name

    def read(self, value: str) -> str:
        return self.names[value] if value else ""


class Writer:
    """Writes the graphs of one model.

    Parameters
    ----------
    types
        Of their values.
    external
        Where large tensors go; None for the message itself.
    """

    def __init__(self, types: Types, external: External | None) -> None:
        self._types, self._external = types, external
        self._kinds: dict[tuple[str, str], dict[str, int]] = {}

    def graph(self, proto: onnx.GraphProto, graph: Graph) -> None:
        """The graph of a model."""
        types = self._types.of(graph)
        values = [*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs if o)]
        scope = _Scope({v: v for v in values}, set(values), {})
        proto.name = graph.name or "graph"
        for name, kind in graph.inputs.items():
            put_type(proto.input.add(name=name).type, kind, f"input {name!r}", _keys_read(graph, name))
        self._constants(proto, graph, scope)
        for node in graph.nodes:
            self._node(proto, node, scope)
        shapes = shapes_of(graph.metadata)
        for name in graph.outputs:
            kind = types[name]
            if kind.shape is None and not kind.container:
                kind = TensorType(kind.dtype, shapes.get(name))
            put_type(proto.output.add(name=name).type, kind, f"output {name!r}", _keys_made(graph, name))

    def _constants(self, proto: onnx.GraphProto, graph: Graph, scope: _Scope) -> None:
        for value, array in graph.constants.items():
            name = scope.names[value]
            scope.shared.setdefault(id(array), name)
            where = f"{scope.where}constant {value!r}"
            put_tensor(proto.initializer.add(), array, name=name, where=where, external=self._external)

    # ---- bodies

    def _body(self, proto: onnx.GraphProto, body: Graph, captured: list[str], outer: _Scope, where: str) -> None:
        """A body of a node: its last inputs become the captured values, whose names in the file are given."""
        scope = _Scope({}, set(outer.taken), dict(outer.shared), f"{where}: ")
        inputs = list(body.inputs)
        own = len(inputs) - len(captured)
        scope.names.update(zip(inputs[own:], captured))
        proto.name = body.name or "body"
        given = self._types.given(body)
        for value in inputs[:own]:
            info = proto.input.add(name=scope.define(value))
            kind = body.inputs[value] if body.inputs[value] != _UNTYPED else given.get(value)
            if kind is not None:
                put_type(info.type, kind, f"{scope.where}input {value!r}")
        kept = {}
        for value, array in body.constants.items():
            if id(array) in outer.shared:
                scope.names[value] = outer.shared[id(array)]
            else:
                kept[value] = array
                scope.define(value)
        for node in body.nodes:
            for o in node.outputs:
                if o:
                    scope.define(o)
        self._constants(proto, Graph({}, [], (), kept), scope)
        for node in body.nodes:
            self._node(proto, node, scope)
        made, types = {o for node in body.nodes for o in node.outputs}, self._types.of(body)
        for value in body.outputs:
            name = scope.names[value]
            if value not in made:  # a body in a file gives what its nodes make, and nothing else
                source, name = name, scope.define(value)
                proto.node.add(op_type="Identity", input=[source], output=[name])
            info, kind = proto.output.add(name=name), types.get(value)
            if kind is not None:
                put_type(info.type, TensorType(kind.dtype, None, kind.container), f"{scope.where}output {value!r}")

    # ---- nodes

    def _node(self, proto: onnx.GraphProto, node: Node, scope: _Scope) -> None:
        where = f"{scope.where}{node.label}"
        if node.domain in PRIVATE_DOMAINS:
            hint = "export the graph that the passes were given"
            raise UnsupportedError("ONNX has no such operator", where=where, hint=hint)
        given = [scope.read(i) for i in node.inputs]
        own = len(given) - node.attributes.get("captures", 0)
        outputs = [scope.read(o) for o in node.outputs]
        made = proto.node.add(op_type=node.op, domain=node.domain, name=node.name, input=given[:own], output=outputs)
        for name, value in sorted(node.attributes.items()):
            if name != "captures" and value is not None:
                attribute, place = made.attribute.add(name=name), f"{where}, attribute {name!r}"
                attribute.type = self._kind(node, name, value, place)
                if attribute.type in _LISTS.values():
                    single = next(k for k, v in _LISTS.items() if v == attribute.type)
                    for item in value:
                        self._put(attribute, single, True, item, given[own:], scope, place)
                else:
                    self._put(attribute, int(attribute.type), False, value, given[own:], scope, place)

    def _kind(self, node: Node, name: str, value: Any, where: str) -> int:
        """The AttributeType: as ONNX says, else as the operator's default and the value look."""
        key = (node.domain, node.op)
        if key not in self._kinds:
            self._kinds[key] = attribute_kinds(*key)
        found = self._kinds[key].get(name)
        if found is not None and (found in _LISTS or found in _LISTS.values()):
            return found
        default = registry[key].attributes.get(name) if supported(*key) else None
        kind = _kind_of(value)
        if kind == _INT and isinstance(default, float):
            return _FLOAT
        if kind is None:
            expected = "a number, text, an array, a graph, a type, or a list of such"
            raise UnsupportedError("ONNX cannot hold this", where=where, expected=expected, got=type(value).__name__)
        return kind

    def _put(
        self,
        attribute: onnx.AttributeProto,
        kind: int,
        many: bool,
        value: Any,
        captured: list[str],
        scope: _Scope,
        where: str,
    ) -> None:
        """Set the value of an attribute, or with `many` add one to its values."""
        single, several = _FIELDS[kind]
        if kind in (_FLOAT, _INT, _STRING):
            plain = _plain(kind, value, where)
            if many:
                getattr(attribute, several).append(plain)
            else:
                setattr(attribute, single, plain)
            return
        target = getattr(attribute, several).add() if many else getattr(attribute, single)
        if kind == _TENSOR and isinstance(value, np.ndarray):
            put_tensor(target, value, where=where)
        elif kind == _GRAPH and isinstance(value, Graph):
            self._body(target, value, captured, scope, where)
        elif kind == _TYPE and isinstance(value, TensorType):
            put_type(target, value, where)
        else:
            raise _misfit(kind, value, where)


_FIELDS = {
    _FLOAT: ("f", "floats"),
    _INT: ("i", "ints"),
    _STRING: ("s", "strings"),
    _TENSOR: ("t", "tensors"),
    _GRAPH: ("g", "graphs"),
    _TYPE: ("tp", "type_protos"),
}
"""AttributeType -> the field of one value, and of several."""


def _misfit(kind: int, value: Any, where: str) -> UnsupportedError:
    expected = {_FLOAT: "a number", _INT: "an int64", _STRING: "text", _TENSOR: "an array", _GRAPH: "a graph"}
    got = f"{type(value).__name__} {value!r}"[:80]
    return UnsupportedError("ONNX cannot hold this", where=where, expected=expected.get(kind, "a type"), got=got)


def _plain(kind: int, value: Any, where: str) -> Any:
    """A number or text as its field takes it."""
    if isinstance(value, np.generic):
        value = value.item()
    if kind == _STRING and isinstance(value, str):
        return value.encode()
    if kind == _INT and isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    if kind == _FLOAT and isinstance(value, (int, float)):
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    raise _misfit(kind, value, where)


def _kind_of(value: Any) -> int | None:
    """The AttributeType that a value looks like; an empty list looks like one of integers."""
    if isinstance(value, (list, tuple)):
        kinds = {_kind_of(v) for v in value} or {_INT}
        kind = _FLOAT if kinds == {_INT, _FLOAT} else kinds.pop() if len(kinds) == 1 else None
        return _LISTS.get(kind or 0)
    for kinds_of, kind in (
        ((bool, int, np.integer, np.bool_), _INT),
        ((float, np.floating), _FLOAT),
        ((str,), _STRING),
        ((np.ndarray,), _TENSOR),
        ((Graph,), _GRAPH),
        ((TensorType,), _TYPE),
    ):
        if isinstance(value, kinds_of):
            return kind
    return None


# ---- maps, whose keys no type of ours names


def _keys_read(graph: Graph, name: str) -> np.dtype[Any] | None:
    """The dtype of the keys of an input that is a map, as those that read it say."""
    for node in graph.nodes:
        if name in node.inputs and node.op == "DictVectorizer" and node.attributes.get("string_vocabulary"):
            return STRING
    return None


def _keys_made(graph: Graph, name: str) -> np.dtype[Any] | None:
    """The dtype of the keys of an output that is a map, or a sequence of maps."""
    node = graph.producers().get(name)
    while node is not None and node.op != "ZipMap" and node.inputs:
        name = node.inputs[0]
        node = graph.producers().get(name)
    if node is None:
        return _keys_read(graph, name)
    return STRING if node.attributes.get("classlabels_strings") else None
