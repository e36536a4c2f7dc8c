"""A graph with all that ONNX has and small graphs do not, and changes of its file that make it bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bad_files import GOOD, npy
from bad_models import drop, put

from forwardpass.dtypes import BFLOAT16, DTYPES, FLOAT4E2M1, FLOAT6E3M2, INT4, STRING, encode, is_narrow
from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)


def values(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Some values of any dtype."""
    numbers = rng.integers(0, 2, shape)
    if dtype == STRING:
        return np.array([f'{n} "\\é\n' for n in numbers.flat], STRING).reshape(shape)
    if dtype.kind == "c":
        return np.asarray(numbers + 1j * rng.standard_normal(shape), dtype)
    return encode(numbers, dtype) if is_narrow(dtype) else np.asarray(numbers.astype(dtype))


def nested(levels: int) -> Graph:
    """A graph in a graph, so many times."""
    made = Graph({"x": TensorType(F32, None)}, ["y"], [Node("Relu", ["x"], ["y"])])
    for _ in range(levels):
        made = Graph({"x": TensorType(F32, None)}, ["y"], [Node("Scan", ["x"], ["y"], {"body": made})])
    return made


def _bodies(rng: np.random.Generator) -> tuple[Graph, Graph]:
    """Two branches; the first has a node that has two more, and constants of the same names."""
    inner = [
        Graph({"h": TensorType(F32, ("N", 2))}, ["r"], [Node(op, ["h", "w"], ["r"])], {"w": w}, name=op)
        for op, w in (("Add", values(F32, (2,), rng)), ("Mul", encode(values(F32, (2,), rng), BFLOAT16)))
    ]
    attributes = {"then_branch": inner[0], "else_branch": inner[1], "captures": 1}
    node = Node("If", ["cond", "h"], ["r"], attributes)
    inputs = {"h": TensorType(F32, ("N", 2)), "s": TensorType(STRING, None, ("optional", "sequence"))}
    constants = {"cond": np.array(True), "w": np.array(["a", ""], STRING), "../w": values(F32, (3,), rng)}
    users = Node("User", ["w", "../w"], ["v"], {"array": np.arange(3), "text": np.array("ж", STRING)}, "my.domain")
    outer = Graph(inputs, ["r", "v"], [node, users], constants, name="then", metadata={"a": "b"})
    other = Graph(inputs, ["h", "w"], [], {"w": values(F32, (2,), rng)})
    return outer, other


def rich_graph() -> Graph:
    """A graph with every dtype, containers, and attributes of every kind."""
    rng = np.random.default_rng(11)
    then, other = _bodies(rng)
    attributes = {
        "body": then,
        "bodies": [other, nested(1)],
        "narrow": encode(rng.standard_normal((2, 3)), BFLOAT16),
        "complex": values(np.dtype(np.complex64), (2, 2), rng),
        "text": values(STRING, (2, 1), rng),
        "tensors": [values(INT4, (3,), rng), values(F32, (0,), rng), values(STRING, (), rng)],
        "type": TensorType(FLOAT6E3M2, ("N", None, 3), ("optional", "sequence")),
        "types": [TensorType(F32, None), None],
        "ints": [*range(300), -(1 << 63)],
        "floats": [float("nan"), -0.0, *rng.standard_normal(300).tolist()],
        "modes": ["LEQ", "ж"] * 200,
        "words": [f"w{k}" for k in range(300)],
        "huge": [1 << 62] * 2,
    }
    constants = {f"c{code}": values(dtype, (2, 3), rng) for code, dtype in DTYPES.items()}
    constants["codes"] = np.arange(16, dtype=np.uint8).view(FLOAT4E2M1)
    inputs = {f"x{code}": TensorType(dtype, ("N", code)) for code, dtype in DTYPES.items()}
    inputs["list"] = TensorType(F32, None, ("sequence",))
    inputs["maps"] = TensorType(np.dtype(np.int64), (), ("sequence", "map"))
    nodes = [Node("Odd", ["list", "c16"], ["y", "z"], attributes, name="all"), Node("Identity", ["z"], ["w"])]
    return Graph(inputs, ["y", "w"], nodes, constants, name="rich")


def _entry(name: str, array: np.ndarray[Any, Any]) -> Callable[[Any, dict[str, bytes]], None]:
    """Put another array in the place of one."""

    def edit(document: Any, entries: dict[str, bytes]) -> None:
        assert f"{name}.npy" in entries
        entries[f"{name}.npy"] = npy(array)

    return edit


def _missing(document: Any, entries: dict[str, bytes]) -> None:
    del entries["body/0/body/body/0/then_branch/w.npy"]


_narrow, _text = ("constants", "c16"), ("constants", "c8")
_attributes = ("nodes", 0, "attributes")
_body = (*_attributes, "body")
_inner = (*_body, "nodes", 0, "attributes", "then_branch")
_input = ("inputs", -1)

BAD_RICH: dict[str, Callable[[Any, Any], Any]] = {
    "bfloat16 stored as float32": _entry("c16", np.zeros((2, 3), np.float32)),
    "bfloat16 of another shape": _entry("c16", np.zeros((2, 4), np.uint16)),
    "bfloat16 declared float16": put(*_narrow, "dtype", "float16"),
    "int4 of 8": _entry("c22", np.full((2, 3), 8, np.int8)),
    "uint2 of 4": _entry("c25", np.full((2, 3), 4, np.uint8)),
    "float4 of 16": _entry("codes", np.arange(1, 17, dtype=np.uint8)),
    "float6 of 64": _entry("c27", np.full((2, 3), 64, np.uint8)),
    "complex stored without its last axis": _entry("c14", np.zeros((2, 3), np.float32)),
    "complex stored with three parts": _entry("c14", np.zeros((2, 3, 3), np.float32)),
    "complex64 stored as float64": _entry("c14", np.zeros((2, 3, 2), np.float64)),
    "complex of unknown rank": put("constants", "c14", "shape", None),
    "text missing": drop(*_text, "text"),
    "text too short": put(*_text, "text", ["a"]),
    "text of numbers": put(*_text, "text", [1] * 6),
    "text is a number": put(*_text, "text", 6),
    "text of no shape": drop(*_text, "shape"),
    "text of unknown rank": put(*_text, "shape", None),
    "text of a symbol": put(*_text, "shape", ["N", 3]),
    "text of negative size": put(*_text, "shape", [-2, -3]),
    "text of huge size": put(*_text, "shape", [1 << 40, 1 << 40, 0]),
    "text of rank 33": put(*_text, "shape", [1] * 33),
    "text with an entry": put(*_text, "entry", "c1"),
    "text in float32": put("constants", "c1", "text", ["a"]),
    "text declared float32": put(*_text, "dtype", "float32"),
    "string array in a file": put("constants", "c1", "dtype", "string"),
    "container unknown": put(*_input, "container", ["tuple"]),
    "container empty": put(*_input, "container", []),
    "container is text": put(*_input, "container", "sequence"),
    "container of numbers": put(*_input, "container", [1]),
    "container too deep": put(*_input, "container", ["sequence"] * 9),
    "container of a constant": put(*_narrow, "container", ["sequence"]),
    "input with an unknown field": put(*_input, "entry", "c1"),
    "attribute dtype of text": put(*_attributes, "narrow", "dtype", "string"),
    "attribute dtype unknown": put(*_attributes, "narrow", "dtype", "bfloat17"),
    "attribute dtype null": put(*_attributes, "narrow", "dtype", None),
    "attribute dtype of another size": put(*_attributes, "narrow", "dtype", "float8_e5m2"),
    "attribute complex of rank 0": _entry("attributes/0/complex", np.float32(1)),
    "attribute complex with three parts": _entry("attributes/0/complex", np.zeros((2, 2, 3), np.float32)),
    "attribute array null": put(*_attributes, "narrow", "array", None),
    "attribute array twice": put(*_attributes, "narrow", "array", "c16"),
    "attribute with an unknown field": put(*_attributes, "narrow", "shape", [2, 3]),
    "attribute empty": put(*_attributes, "narrow", {}),
    "attribute of bytes": put(*_attributes, "narrow", {"bytes": "aGk="}),
    "attribute text without a dtype": drop(*_attributes, "text", "dtype"),
    "float of another kind": put(*_attributes, "floats", {"float": []}),
    "float with an unknown field": put(*_attributes, "floats", {"float": "nan", "x": 1}),
    "list of rank 2": _entry("attributes/0/ints", np.zeros((1, 301), np.int64)),
    "list of float32": _entry("attributes/0/floats", np.zeros(302, np.float32)),
    "list twice": put(*_attributes, "floats", "list", "attributes/0/ints"),
    "list nowhere": put(*_attributes, "floats", "list", "nowhere"),
    "list of a number": put(*_attributes, "floats", "list", 1),
    "list of text out of range": _entry("attributes/0/modes", np.array([2])),
    "list of text below range": _entry("attributes/0/modes", np.array([-1])),
    "list of text by floats": _entry("attributes/0/modes", np.array([0.0])),
    "list of numbers as text": put(*_attributes, "modes", "text", [1, 2]),
    "list with an unknown field": put(*_attributes, "modes", "dtype", "int64"),
    "type is text": put(*_attributes, "type", "type", "float32"),
    "type of a negative size": put(*_attributes, "type", "type", "shape", [-1]),
    "type without a shape": drop(*_attributes, "type", "type", "shape"),
    "type with an unknown field": put(*_attributes, "type", "name", "x"),
    "body without inputs": drop(*_body, "inputs"),
    "body without outputs": drop(*_body, "outputs"),
    "body without constants": drop(*_body, "constants"),
    "body of no outputs": put(*_body, "outputs", []),
    "body without nodes": drop(*_body, "nodes"),
    "body whose nodes are text": put(*_body, "nodes", "x"),
    "body with an unknown field": put(*_body, "schema", 1),
    "body with a metadata of numbers": put(*_body, "metadata", {"a": 1}),
    "body whose name is a number": put(*_body, "name", 1),
    "body with an undefined output": put(*_body, "outputs", ["nothing"]),
    "body with an input twice": lambda d, e: d["nodes"][0]["attributes"]["body"]["inputs"].append(
        d["nodes"][0]["attributes"]["body"]["inputs"][0]
    ),
    "body whose constant shares an entry": put(*_body, "constants", "../w", "entry", "c1"),
    "body whose constant is elsewhere": drop(*_body, "constants", "../w", "entry"),
    "body whose array is missing": _missing,
    "inner body with an undefined input": put(*_inner, "nodes", 0, "inputs", ["nothing"]),
    "inner body with an unknown dtype": put(*_inner, "inputs", 0, "dtype", "float33"),
    "listed body that is not valid": put(*_attributes, "bodies", 0, "outputs", ["nothing"]),
    "inner body in a listed one that is not valid": put(
        *_attributes, "bodies", 1, "nodes", 0, "attributes", "body", "outputs", ["nothing"]
    ),
    "extra array": lambda document, entries: entries.update({"body/0/body/x.npy": GOOD}),
}
"""Name -> a change of the rich model's `graph.json` or arrays that makes it bad."""
