"""ONNX models that are wrong in one way each, with the error that each deserves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from onnx import TensorProto, helper
from onnx_models import (
    MODELS,
    B,
    F,
    I,
    dense,
    external,
    function,
    graph,
    info,
    initializer,
    model,
    node,
    put_outside,
    typed,
)

from forwardpass.errors import Error, FileError, GraphError, UnsupportedError

__all__ = ["BAD", "FOLDERS"]

Bad: TypeAlias = tuple[Callable[[], Any], type[Error], str]


def _plain(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), constants: Any = (), x: Any = None) -> Any:
    return model(graph(nodes, [x or info("x")], outputs, constants))


def _edited(edit: Callable[[onnx.ModelProto], Any], make: Callable[[], onnx.ModelProto] = dense) -> Any:
    def made() -> onnx.ModelProto:
        found = make()
        edit(found)
        return found

    return made


def _tensor(**fields: Any) -> Callable[[], Any]:
    """A model with one constant."""

    def made() -> onnx.ModelProto:
        return _plain(node("Add", ["x", "w"], ["y"]), constants=[TensorProto(name="w", **fields)])

    return made


def _relu() -> onnx.NodeProto:
    return node("Relu", ["x"], ["y"])


def _recursive(*pairs: tuple[str, str]) -> Callable[[], Any]:
    """Functions that call: (name, called)."""

    def made() -> onnx.ModelProto:
        made = [function(n, [node(c, ["a"], ["b"], domain="local")], ["a"], ["b"]) for n, c in pairs]
        return model(graph([node(pairs[0][0], ["x"], ["y"], domain="local")], [info("x")], ["y"]), functions=made)

    return made


def _doubling() -> onnx.ModelProto:
    """40 functions of two calls each: 2^40 nodes if they were put in place."""
    functions = [function("F0", [node("Neg", ["a"], ["b"])], ["a"], ["b"])]
    for k in range(40):
        calls = [node(f"F{k}", ["a"], ["h"], domain="local"), node(f"F{k}", ["h"], ["b"], domain="local")]
        functions.append(function(f"F{k + 1}", calls, ["a"], ["b"]))
    return model(graph([node("F40", ["x"], ["y"], domain="local")], [info("x")], ["y"]), functions=functions)


def _tower() -> onnx.ModelProto:
    """Bodies that call functions whose bodies call functions."""
    functions = []
    for k in range(60):
        call = node(f"F{k + 1}", ["a", "c"], ["t"], domain="local") if k < 59 else node("Neg", ["a"], ["t"])
        branch = graph([call], [], ["t"], name="b")
        choice = node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)
        functions.append(function(f"F{k}", [choice], ["a", "c"], ["b"]))
    # One branch alone, else there would be 2^60 nodes.
    for f in functions:
        f.node[0].attribute[1].g.node[0].CopyFrom(node("Neg", ["a"], ["t"]))
    call = node("F0", ["x", "c"], ["y"], domain="local")
    return model(graph([call], [info("x"), info("c", B, [])], ["y"]), functions=functions)


def _chain() -> onnx.ModelProto:
    pairs = [(f"F{k}", f"F{k + 1}") for k in range(2000)]
    made = _recursive(*pairs)()
    made.functions.append(function("F2000", [node("Neg", ["a"], ["b"])], ["a"], ["b"]))
    return made


def _value_and_input() -> onnx.ModelProto:
    return _plain(node("Abs", ["w"], ["x"]), outputs=("x",), constants=[initializer("w", 1)])


def _body_cycle() -> onnx.ModelProto:
    body = graph([node("Neg", ["y"], ["t"])], [], ["t"], name="b")
    return _plain(node("If", ["c"], ["y"], then_branch=body, else_branch=body), constants=[typed("c", B, [], [1])])


def _wrapped(field: int, data: bytes) -> bytes:
    """A message as a field of another."""
    size, count = b"", len(data)
    while count > 127:
        size, count = size + bytes([count & 127 | 128]), count >> 7
    return bytes([field << 3 | 2]) + size + bytes([count]) + data


def _deep() -> bytes:
    """Bodies in bodies, more than protobuf reads."""
    inner = _relu().SerializeToString()
    for _ in range(2000):
        inner = node("If", ["c"], ["y"]).SerializeToString() + _wrapped(5, _wrapped(6, _wrapped(1, inner)))
    return model(graph([], [info("x")], ["y"])).SerializeToString() + _wrapped(7, _wrapped(1, inner))


def _sparse(dims: list[int], indices: onnx.TensorProto, count: int = 1) -> Callable[[], Any]:
    def made() -> onnx.ModelProto:
        found = _plain(node("Add", ["x", "w"], ["y"]))
        values = typed("w", F, [count], range(count))
        found.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=dims))
        return found

    return made


def _input(**shape: Any) -> Callable[[], Any]:
    def made() -> onnx.ModelProto:
        return _plain(_relu(), x=info("x", **shape))

    return made


def _renamed(old: bytes, new: bytes) -> Callable[[], bytes]:
    def made() -> bytes:
        data = dense().SerializeToString()
        assert old in data
        return data.replace(old, new)

    return made


BAD: dict[str, Bad] = {
    # bytes
    "empty": (lambda: b"", FileError, "not an ONNX model"),
    "text": (lambda: b"this is no model at all", FileError, "not an ONNX model"),
    "truncated": (lambda: dense().SerializeToString()[:-20], FileError, "not an ONNX model"),
    "other message": (lambda: info("x").SerializeToString(), FileError, "not an ONNX model"),
    "deep": (_deep, FileError, "not an ONNX model"),
    "no graph": (_edited(lambda m: m.ClearField("graph")), FileError, "expected an IR version and a graph"),
    "no IR version": (_edited(lambda m: m.ClearField("ir_version")), FileError, "expected an IR version and a graph"),
    "negative IR version": (_edited(lambda m: setattr(m, "ir_version", -4)), FileError, "the IR version is wrong"),
    "newer IR version": (
        _edited(lambda m: setattr(m, "ir_version", 99)),
        UnsupportedError,
        "expected at most 14, got 99",
    ),
    "name not UTF-8": (_renamed(b"first", b"f\xffrst"), FileError, "not UTF-8"),
    # opsets
    "no opset": (
        _edited(lambda m: setattr(m.opset_import[0], "domain", "other")),
        GraphError,
        "'first' (Gemm): the model imports no opset of the domain ai.onnx",
    ),
    "opset 0": (_edited(lambda m: setattr(m.opset_import[0], "version", 0)), GraphError, "opset version is wrong"),
    "newer opset": (
        _edited(lambda m: setattr(m.opset_import[0], "version", 1000)),
        UnsupportedError,
        "expected 1 to 28, got 1000",
    ),
    "two opsets": (
        _edited(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 7))),
        GraphError,
        "has two opset versions",
    ),
    # structure
    "cycle": (
        lambda: _plain(node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])),
        GraphError,
        "cycle through node Add -> ['a'], node Neg -> ['b']",
    ),
    "cycle of one": (lambda: _plain(node("Add", ["x", "y"], ["y"])), GraphError, "cycle"),
    "cycle through a body": (_body_cycle, GraphError, "cycle through node If"),
    "undefined input": (lambda: _plain(node("Add", ["x", "z"], ["y"])), GraphError, "input 'z' is undefined"),
    "undefined output": (lambda: _plain(_relu(), outputs=("y", "z")), GraphError, "output 'z' is undefined"),
    "output twice": (lambda: _plain(_relu(), outputs=("y", "y")), GraphError, "an output is listed twice"),
    "no output": (lambda: _plain(_relu(), outputs=()), GraphError, "needs at least one output"),
    "output without a name": (lambda: _plain(_relu(), outputs=("",)), GraphError, "an output has no name"),
    "value twice": (lambda: _plain(_relu(), _relu()), GraphError, "'y' is defined twice"),
    "value twice by one node": (
        lambda: _plain(node("Split", ["x"], ["y", "y"], num_outputs=2)),
        GraphError,
        "'y' is defined twice",
    ),
    "value and input": (
        _value_and_input,
        GraphError,
        "'x' is defined twice",
    ),
    "value and constant": (
        lambda: _plain(_relu(), constants=[initializer("y", 1)]),
        GraphError,
        "'y' is defined twice",
    ),
    "input twice": (
        _edited(lambda m: m.graph.input.append(info("x"))),
        GraphError,
        "'x' has no name or is there",
    ),
    "constant twice": (
        _edited(lambda m: m.graph.initializer.append(initializer("w", 1))),
        GraphError,
        "initializer 'w' has no name or is there twice",
    ),
    "constant without a name": (
        _edited(lambda m: m.graph.initializer[0].ClearField("name")),
        GraphError,
        "initializer '' has no name",
    ),
    "node without an operator": (_edited(lambda m: m.graph.node[0].ClearField("op_type")), GraphError, "without an op"),
    "undefined in a body": (
        _edited(lambda m: m.graph.node[1].attribute[0].g.output[0].ClearField("name"), MODELS["branches"]),
        GraphError,
        "an output has no name",
    ),
    # attributes
    "attribute twice": (
        _edited(lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])),
        GraphError,
        "attribute 'transB' has no name or is there twice",
    ),
    "attribute without a value": (
        _edited(lambda m: m.graph.node[0].attribute.append(onnx.AttributeProto(name="alpha"))),
        GraphError,
        "an attribute without a value",
    ),
    "text not UTF-8": (
        _edited(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("alpha", b"\xff"))),
        GraphError,
        "text that is not UTF-8",
    ),
    "constant of two values": (
        lambda: _plain(node("Constant", [], ["y"], value_int=1, value_float=1.0)),
        GraphError,
        "a Constant has one attribute",
    ),
    "constant of another kind": (
        lambda: _plain(node("Constant", [], ["y"], value_ints="text")),
        GraphError,
        "attribute 'value_ints' is wrong",
    ),
    # types
    "input without a type": (_edited(lambda m: m.graph.input[0].ClearField("type")), GraphError, "'x' has no type"),
    "unknown type of an input": (_input(code=77), UnsupportedError, "unknown data type"),
    "negative size": (_input(shape=[-5, 2]), GraphError, "'x': a dimension is negative: got -5"),
    "sizes that overflow": (_input(shape=[1 << 40, 1 << 40]), GraphError, "'x': the shape is too large"),
    "rank": (_input(shape=[1] * 33), UnsupportedError, "too many dimensions: expected at most 32, got 33"),
    # tensors
    "huge constant, no data": (_tensor(data_type=F, dims=[1 << 38]), FileError, "the wrong number of values"),
    "huge constant, little data": (
        _tensor(data_type=F, dims=[1 << 30, 8], raw_data=b"1234"),
        FileError,
        "initializer 'w': the data has the wrong size: expected 34359738368 bytes",
    ),
    "too much data": (_tensor(data_type=F, dims=[1], raw_data=bytes(8)), FileError, "expected 4 bytes"),
    "too many values": (_tensor(data_type=F, dims=[1], float_data=[1, 2]), FileError, "expected 1 in float_data"),
    "values in another field": (_tensor(data_type=F, dims=[1], int64_data=[1]), FileError, "expected 1 in float_data"),
    "negative size of a constant": (_tensor(data_type=F, dims=[-1]), GraphError, "a dimension is negative: got [-1]"),
    "overflow of a constant": (_tensor(data_type=F, dims=[1 << 62, 8, 0]), GraphError, "the tensor is too large"),
    "undefined type": (_tensor(dims=[0]), GraphError, "the data type is undefined"),
    "unknown type": (_tensor(data_type=99, dims=[0]), UnsupportedError, "unknown data type"),
    "rank of a constant": (
        _tensor(data_type=F, dims=[1] * 65, float_data=[1]),
        UnsupportedError,
        "too many dimensions",
    ),
    "segments": (
        _tensor(data_type=F, dims=[1], float_data=[1], segment=TensorProto.Segment(begin=0, end=1)),
        UnsupportedError,
        "segments",
    ),
    "strings not UTF-8": (_tensor(data_type=8, dims=[1], string_data=[b"\xff"]), GraphError, "text that is not UTF-8"),
    # sparse tensors
    "huge sparse tensor": (_sparse([1 << 40], typed("i", I, [1], [0])), FileError, "suspiciously large"),
    "index out of range": (_sparse([4], typed("i", I, [1], [4])), GraphError, "an index is out of range"),
    "negative index": (_sparse([2, 2], typed("i", I, [1, 2], [0, -1])), GraphError, "an index is out of range"),
    "indices of another rank": (_sparse([2, 2], typed("i", I, [1, 3], [0] * 3)), GraphError, "do not fit the shape"),
    "too few indices": (_sparse([4], typed("i", I, [1], [0]), count=2), GraphError, "do not fit the values"),
    "indices of another type": (_sparse([4], typed("i", F, [1], [0])), GraphError, "do not fit the values"),
    # functions
    "recursion": (_recursive(("F", "F")), GraphError, "functions call themselves: got F"),
    "recursion of two": (_recursive(("F", "G"), ("G", "F")), GraphError, "functions call themselves: got F, G"),
    "functions that double": (_doubling, UnsupportedError, "too many nodes with all functions in place"),
    "a long chain of functions": (_chain, GraphError, "calls are nested too deeply"),
    "bodies in functions in bodies": (_tower, GraphError, "bodies are nested too deeply"),
    "function twice": (_recursive(("F", "G"), ("F", "G")), GraphError, "a function has no name or is there twice"),
    "too many inputs of a function": (
        _edited(lambda m: m.graph.node[3].input.append("x"), MODELS["functions"]),
        GraphError,
        "the call does not fit the function",
    ),
    "missing attribute of a function": (
        _edited(lambda m: m.graph.node[1].ClearField("attribute"), MODELS["functions"]),
        GraphError,
        "attribute 'other' of the function is missing",
    ),
    "undefined output of a function": (
        _edited(lambda m: m.functions[0].output.append("nothing"), MODELS["functions"]),
        GraphError,
        "output 'nothing' is undefined",
    ),
    # operators
    "unknown operator": (lambda: _plain(node("Mystery", ["x"], ["y"])), UnsupportedError, "Mystery (domain ai.onnx"),
    "unknown domain": (lambda: _plain(node("Relu", ["x"], ["y"], domain="a.b")), UnsupportedError, "(domain a.b, op"),
}
"""Name -> the model or its bytes, the error, and a piece of its message."""


# ---- external data


def _at(location: str, **entries: str) -> Callable[[Path], onnx.ModelProto]:
    """`dense` with the data of its first tensor at a place; the folder has a good file `w.bin` of 48 bytes."""

    def made(folder: Path) -> onnx.ModelProto:
        (folder / "w.bin").write_bytes(bytes(48))
        found = dense()
        put_outside(found.graph.initializer[0], location=location, **entries)
        return found

    return made


def _linked(target: str, name: str = "link") -> Callable[[Path], onnx.ModelProto]:
    def made(folder: Path) -> onnx.ModelProto:
        (folder / name).symlink_to(target)
        return _at("link/hostname" if target == "/etc" else "link")(folder)

    return made


def _pipe(folder: Path) -> onnx.ModelProto:
    os.mkfifo(folder / "pipe")
    return _at("pipe")(folder)


def _strings(folder: Path) -> onnx.ModelProto:
    found = external(folder)
    found.graph.initializer[0].data_type = TensorProto.STRING
    return found


FOLDERS: dict[str, tuple[Callable[[Path], onnx.ModelProto], str]] = {
    "parent": (_at("../w.bin"), "unsafe location of external data"),
    "parent further in": (_at("sub/../../w.bin"), "unsafe location"),
    "parent in the style of Windows": (_at("sub\\..\\..\\w.bin"), "unsafe location"),
    "absolute": (_at("/etc/hostname"), "unsafe location"),
    "drive": (_at("C:\\w.bin"), "unsafe location"),
    "share": (_at("\\\\host\\share\\w.bin"), "unsafe location"),
    "null byte": (_at("w.bin\0.txt"), "unsafe location"),
    "no location": (_at(""), "unsafe location"),
    "link to a file": (_linked("/etc/hostname"), "a link leads out of the model's folder"),
    "link to a folder": (_linked("/etc"), "a link leads out of the model's folder"),
    "link to a parent": (_linked("../.."), "a link leads out of the model's folder"),
    "no such file": (_at("none.bin"), "'none.bin': cannot open the file (No such file"),
    "folder": (_at("."), "not a regular file"),
    "pipe": (_pipe, "not a regular file"),
    "beyond the end": (_at("w.bin", offset="1"), "reaches beyond its file: expected at most 48 bytes"),
    "huge offset": (_at("w.bin", offset="9" * 19), "reaches beyond its file"),
    "another length": (_at("w.bin", length="47"), "expected a length of 48 bytes, got 47"),
    "negative offset": (_at("w.bin", offset="-4"), "the offset of external data is wrong"),
    "offset in words": (_at("w.bin", offset="four"), "the offset of external data is wrong"),
    "long offset": (_at("w.bin", offset="9" * 5000), "the offset of external data is wrong"),
    "strings": (_strings, "strings cannot be external data"),
}
"""Name -> what makes the model in a folder, and a piece of the message of its FileError."""
