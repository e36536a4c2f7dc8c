"""Protobuf messages to the records of parsed.py: graphs, nodes, attributes and types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...errors import GraphError, UnsupportedError
from ...graph import Array, Dim, TensorType
from ...ops.shapes import tensor as checked_type
from .opsets import domain_of
from .order import free_names, ordered
from .parsed import Operation, Source
from .tensors import MAX_RANK, Tensors, dtype_of
from .text import text_of, texts_of

if TYPE_CHECKING:
    import onnx

__all__ = ["parse_graph", "parse_operations", "parse_value"]

_FIELDS = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    11: "sparse_tensor",
    12: "sparse_tensors",
    13: "tp",
    14: "type_protos",
}
"""AttributeProto.AttributeType -> the field of its value."""


def parse_graph(graph: onnx.GraphProto, tensors: Tensors, where: str, *, body: bool) -> Source:
    """A graph and all graphs inside of it.

    Parameters
    ----------
    body
        Whether it belongs to a node; then the types of inputs may be absent.

    Raises
    ------
    GraphError, FileError, UnsupportedError
        Naming what is wrong.
    """
    name = text_of(graph.name) or "graph"
    where = f"{where}: graph {name!r}" if body else where
    constants = _constants(graph, tensors, where)
    inputs: dict[str, TensorType | None] = {}
    for value in graph.input:
        if not text_of(value.name) or value.name in inputs:
            raise GraphError(f"input {value.name!r} has no name or is there twice", where=where)
        found = _type(value, where)
        if body:
            constants.pop(value.name, None)  # the node gives all inputs
        elif value.name in constants:
            continue  # old versions list every constant as an input
        elif found is None:
            raise GraphError(f"input {value.name!r} has no type", where=where)
        inputs[value.name] = found
    operations = ordered(parse_operations(graph.node, tensors, where), where)
    declared = {text_of(v.name): t for v in (*graph.value_info, *graph.output) if (t := _type(v, where)) is not None}
    source = Source(graph.name, inputs, texts_of(v.name for v in graph.output), constants, operations, declared)
    if not all(source.outputs):
        raise GraphError("an output has no name", where=where)
    _check_names(source, where)
    source.free = free_names(operations, source.outputs, source.defined())
    return source


def _check_names(source: Source, where: str) -> None:
    known = source.inputs.keys() | source.constants.keys()
    for operation in source.operations:
        for o in operation.outputs:
            if o in known:
                raise GraphError(f"value {o!r} is defined twice", where=f"{where}: {operation.label}")


def _constants(graph: onnx.GraphProto, tensors: Tensors, where: str) -> dict[str, Array]:
    constants: dict[str, Array] = {}

    def put(name: str, array: Array) -> None:
        if not text_of(name) or name in constants:
            raise GraphError(f"initializer {name!r} has no name or is there twice", where=where)
        constants[name] = array

    for tensor in graph.initializer:
        put(tensor.name, tensors.array(tensor, f"{where}: initializer {tensor.name!r}"))
    for sparse in graph.sparse_initializer:
        put(sparse.values.name, tensors.dense(sparse, f"{where}: sparse initializer {sparse.values.name!r}"))
    return constants


def parse_operations(nodes: Iterable[onnx.NodeProto], tensors: Tensors, where: str) -> list[Operation]:
    """The nodes of a graph or function, as they come."""
    found = []
    for node in nodes:
        operation = Operation(
            text_of(node.op_type),
            domain_of(node.domain),
            text_of(node.overload),
            text_of(node.name),
            texts_of(node.input),
            texts_of(node.output),
        )
        if not operation.op:
            raise GraphError("node without an operator", where=f"{where}: {operation.label}")
        for attribute in node.attribute:
            _put(operation, attribute, tensors, f"{where}: {operation.label}")
        found.append(operation)
    return found


def _put(operation: Operation, attribute: onnx.AttributeProto, tensors: Tensors, where: str) -> None:
    name = text_of(attribute.name)
    if not name or name in operation.attributes or name in operation.references:
        raise GraphError(f"attribute {name!r} has no name or is there twice", where=where)
    if attribute.ref_attr_name:
        operation.references[name] = text_of(attribute.ref_attr_name)
    else:
        operation.attributes[name] = parse_value(attribute, tensors, f"{where}, attribute {name!r}")


def parse_value(attribute: onnx.AttributeProto, tensors: Tensors, where: str) -> Any:
    """The value of an attribute: a number, text, an array, a `Source`, a `TensorType`, or a list of these."""
    kind = int(attribute.type) or _kind_of(attribute)
    if kind not in _FIELDS:
        raise UnsupportedError("unknown type of an attribute", where=where, got=str(kind))
    value = getattr(attribute, _FIELDS[kind])
    if kind in (1, 2):
        return value
    if kind == 3:
        return _text(value, where)
    if kind in (6, 7):
        return list(value)
    if kind in (4, 5, 11, 13):
        return _message(kind, value, tensors, where)
    if kind == 8:
        return [_text(v, where) for v in value]
    single = {9: 4, 10: 5, 12: 11, 14: 13}[kind]
    return [_message(single, v, tensors, where) for v in value]


def _message(kind: int, value: Any, tensors: Tensors, where: str) -> Any:
    if kind == 4:
        return tensors.array(value, where)
    if kind == 5:
        return parse_graph(value, tensors, where, body=True)
    return tensors.dense(value, where) if kind == 11 else type_of_proto(value, where)


def _kind_of(attribute: onnx.AttributeProto) -> int:
    """The type of an attribute from before IR version 2, which does not say it."""
    for kind, field in _FIELDS.items():
        if kind in (6, 7, 8, 9, 10, 12, 14):
            if len(getattr(attribute, field)):
                return kind
        elif attribute.HasField(field):
            return kind
    raise GraphError("an attribute without a value", where=attribute.name)


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise GraphError("text that is not UTF-8", where=where, got=repr(value[:40])) from None


# ---- types


def _type(value: onnx.ValueInfoProto, where: str) -> TensorType | None:
    return type_of_proto(value.type, f"{where}: value {value.name!r}")


def type_of_proto(proto: onnx.TypeProto, where: str) -> TensorType | None:
    """A TypeProto; None where it says nothing."""
    containers: list[str] = []
    while True:
        kind = proto.WhichOneof("value")
        if kind == "sequence_type":
            containers.append("sequence")
            proto = proto.sequence_type.elem_type
        elif kind == "optional_type":
            containers.append("optional")
            proto = proto.optional_type.elem_type
        elif kind == "map_type":
            containers.append("map")
            proto = proto.map_type.value_type
        else:
            break
    if kind is None:
        return None
    if kind not in ("tensor_type", "sparse_tensor_type"):
        raise UnsupportedError("this type of value is not supported", where=where, got=kind)
    tensor = proto.tensor_type if kind == "tensor_type" else proto.sparse_tensor_type
    if tensor.elem_type == 0:
        return None
    dtype = dtype_of(tensor.elem_type, where)
    shape = _dims(tensor.shape, where) if tensor.HasField("shape") else None
    try:
        checked_type(dtype, shape)
    except GraphError as error:
        raise GraphError("the shape is too large", where=where, expected=error.expected, got=error.got) from None
    return TensorType(dtype, shape, tuple(containers))


def _dims(shape: onnx.TensorShapeProto, where: str) -> tuple[Dim, ...]:
    if len(shape.dim) > MAX_RANK:
        got = str(len(shape.dim))
        raise UnsupportedError("too many dimensions", where=where, expected=f"at most {MAX_RANK}", got=got)
    found: list[Dim] = []
    for dim in shape.dim:
        if dim.WhichOneof("value") == "dim_value":
            if dim.dim_value < 0:
                hint = "a size that a call decides has a name (dim_param), not a number"
                raise GraphError("a dimension is negative", where=where, got=str(dim.dim_value), hint=hint)
            found.append(dim.dim_value)
        else:
            found.append(text_of(dim.dim_param) or None)
    return tuple(found)
