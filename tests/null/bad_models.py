"""A good model, what makes another one equal to it, and changes of its file that make it bad."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from bad_files import GOOD, npy

from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)


def small_graph() -> Graph:
    """A graph with every kind of attribute and dtype that a file can hold."""
    rng = np.random.default_rng(7)
    attributes = {
        "int": -(1 << 63),
        "float": 0.1,
        "whole": 2.0,
        "special": [float("nan"), float("inf"), float("-inf"), -0.0],
        "text": 'é"\\\n',
        "flag": True,
        "nested": [[1, 2], ["a"], []],
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    }
    constants = {
        "dense/kernel": rng.standard_normal((8, 5)).astype(np.float32),
        "dense/bias": rng.standard_normal(5).astype(np.float32),
        "flags": np.array([True, False, True]),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4), np.int8),
    }
    nodes = [
        Node("MatMul", ["x", "dense/kernel"], ["h"], attributes, name="first"),
        Node("Add", ["h", "dense/bias"], ["y"]),
        Node("Linear", ["y", "dense/kernel", "", ""], ["z", ""], {}, "fused"),
    ]
    inputs = {"x": TensorType(F32, ("N", 8)), "any": TensorType(np.dtype(np.int64), None)}
    return Graph(inputs, ["y", "z"], nodes, constants, name="small", metadata={"author": "ж", "a": ""})


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.dtype.kind == "O":  # the bytes are addresses
        return b.dtype.kind == "O" and a.shape == b.shape and all(map(same_value, a.flat, b.flat))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_value(a: Any, b: Any) -> bool:
    """Equal, of the same type, NaN equal to itself, 0 unequal to -0; lists stand for tuples."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and same_bits(a, b)
    if isinstance(a, Graph):
        return isinstance(b, Graph) and same_graph(a, b)
    if isinstance(a, (list, tuple)):
        return isinstance(b, list) and len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, float) and type(b) is float:
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return type(a) is type(b) and bool(a == b)


def same_graph(a: Graph, b: Graph) -> bool:
    def node(n: Node) -> tuple[Any, ...]:
        return n.op, n.inputs, n.outputs, n.domain, n.name

    return (
        (a.name, a.inputs, a.outputs, a.metadata) == (b.name, b.inputs, b.outputs, b.metadata)
        and list(map(node, a.nodes)) == list(map(node, b.nodes))
        and a.constants.keys() == b.constants.keys()
        and all(same_bits(v, b.constants[k]) for k, v in a.constants.items())
        and all(x.attributes.keys() == y.attributes.keys() for x, y in zip(a.nodes, b.nodes))
        and all(same_value(v, y.attributes[k]) for x, y in zip(a.nodes, b.nodes) for k, v in x.attributes.items())
    )


def edited(data: bytes, edit: Callable[[dict[str, Any], dict[str, bytes]], Any], *, deflated: bool = False) -> bytes:
    """A model file after a change of its `graph.json`, or with what `edit` returns for it."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        entries = {name: z.read(name) for name in z.namelist()}
    document = json.loads(entries.pop("graph.json"))
    text = edit(document, entries)
    if not isinstance(text, bytes):
        text = (text if isinstance(text, str) else json.dumps(document)).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as z:
        for name, content in {"graph.json": text, **entries}.items():
            z.writestr(name, content)
    return file.getvalue()


def _raw(text: str | bytes) -> Callable[[Any, Any], Any]:
    return lambda document, entries: text


def put(*path: Any) -> Callable[[Any, Any], Any]:
    """Set the value that is the last of `path` at the place that the others lead to."""
    *way, last, value = path

    def edit(document: Any, entries: Any) -> None:
        for step in way:
            document = document[step]
        document[last] = value

    return edit


def drop(*path: Any) -> Callable[[Any, Any], Any]:
    *way, last = path

    def edit(document: Any, entries: Any) -> None:
        for step in way:
            document = document[step]
        del document[last]

    return edit


def _remove_entry(document: Any, entries: dict[str, bytes]) -> None:
    del entries["dense/kernel.npy"]


def _undeclare(document: Any, entries: dict[str, bytes]) -> None:
    del entries["dense/kernel.npy"], document["constants"]["dense/kernel"]


def _extra_entry(document: Any, entries: dict[str, bytes]) -> None:
    entries["surprise.npy"] = GOOD


def _other_shape(document: Any, entries: dict[str, bytes]) -> None:
    entries["dense/kernel.npy"] = npy(np.zeros((5, 8), np.float32))


def _other_dtype(document: Any, entries: dict[str, bytes]) -> None:
    entries["dense/kernel.npy"] = npy(np.zeros((8, 5), np.float64))


def _cycle(document: Any, entries: Any) -> None:
    document["nodes"].reverse()


_shape = ("inputs", 0, "shape")

BAD_MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "NaN in a shape": put(*_shape, 1, float("nan")),
    "infinity in a shape": put(*_shape, 1, float("inf")),
    "not a number as text": _raw('{"schema": nan}'),
    "negative size": put(*_shape, 1, -1),
    "size 1.5": put(*_shape, 1, 1.5),
    "size true": put(*_shape, 1, True),
    "size 2^70": put(*_shape, 1, 1 << 70),
    "size of 5000 digits": _raw('{"schema": ' + "9" * 5000 + "}"),
    "shape is text": put(*_shape, "N, 8"),
    "unknown dtype": put("inputs", 0, "dtype", "object"),
    "dtype is a number": put("inputs", 0, "dtype", 4),
    "input twice": lambda d, e: d["inputs"].append(d["inputs"][0]),
    "inputs missing": drop("inputs"),
    "inputs is an object": put("inputs", {}),
    "outputs missing": drop("outputs"),
    "no outputs": put("outputs", []),
    "unknown output": put("outputs", ["nothing"]),
    "output twice": put("outputs", ["y", "y"]),
    "outputs are numbers": put("outputs", [1]),
    "newer schema": put("schema", 2),
    "schema 0": put("schema", 0),
    "schema is text": put("schema", "1"),
    "schema is true": put("schema", True),
    "schema 1.0": put("schema", 1.0),
    "schema missing": drop("schema"),
    "private operators of another revision": put("private", 2),
    "revision is text": put("private", "1"),
    "revision missing": drop("private"),
    "other format": put("format", "other"),
    "format missing": drop("format"),
    "unknown field": put("opset", 3),
    "unknown field of a node": put("nodes", 0, "subgraph", {}),
    "node is a list": put("nodes", 0, []),
    "node without op": drop("nodes", 0, "op"),
    "node with empty op": put("nodes", 0, "op", ""),
    "node without outputs": put("nodes", 0, "outputs", []),
    "node input null": put("nodes", 0, "inputs", ["x", None]),
    "nodes out of order": _cycle,
    "undefined input": put("nodes", 0, "inputs", ["x", "dense/kernle"]),
    "value defined twice": put("nodes", 1, "outputs", ["h"]),
    "attribute of another kind": put("nodes", 0, "attributes", "int", {"tensor": 1}),
    "attribute float": put("nodes", 0, "attributes", "int", {"float": "1.0"}),
    "attribute 2^63": put("nodes", 0, "attributes", "int", 1 << 63),
    "attribute array missing": put("nodes", 0, "attributes", "array", {"array": "nowhere"}),
    "attribute array in a constant's place": put("constants", "flags", "entry", "dense/kernel"),
    "attributes are a list": put("nodes", 0, "attributes", []),
    "metadata of numbers": put("metadata", {"a": 1}),
    "name is null": put("name", None),
    "missing array": _remove_entry,
    "missing array, not declared either": _undeclare,
    "extra array": _extra_entry,
    "array of another shape": _other_shape,
    "array of another dtype": _other_dtype,
    "constant is an input": put("inputs", 0, "name", "dense/kernel"),
    "constant without a shape": drop("constants", "flags", "shape"),
    "constant of unknown rank": put("constants", "flags", "shape", None),
    "constants is a list": put("constants", []),
    "JSON cut": _raw('{"format": "forwardpass", '),
    "JSON empty": _raw(""),
    "JSON is null": _raw("null"),
    "JSON is a list": _raw("[]"),
    "JSON is UTF-16": _raw("{}".encode("utf-16")),
    "JSON is not UTF-8": _raw(b'{"format": "\xff"}'),
    "JSON with half a surrogate": put("metadata", {"a": "\ud800"}),
    "JSON deep": _raw("[" * 100_000),
    "JSON deep in an attribute": put("nodes", 0, "attributes", "int", json.loads("[" * 300 + "]" * 300)),
    "JSON deep objects": _raw('{"a":' * 100_000),
}
"""Name -> a change of a good model's `graph.json` or arrays that makes it bad."""
