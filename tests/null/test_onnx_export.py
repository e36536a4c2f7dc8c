"""Graphs written as ONNX models: names, bodies, element types, attributes, versions, and what cannot be written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

from nodes import FLOAT, INT, body, loop_body  # noqa: E402
from onnx_nodes import checked  # noqa: E402
from rich_models import values  # noqa: E402

from forwardpass.dtypes import BFLOAT16, DTYPES, STRING, encode, name_of  # noqa: E402
from forwardpass.errors import FileError, GraphError, UnsupportedError  # noqa: E402
from forwardpass.formats.onnx import export, import_model, read  # noqa: E402
from forwardpass.formats.onnx.export import to_model, write  # noqa: E402
from forwardpass.formats.onnx.tensors import bits_of  # noqa: E402
from forwardpass.graph import Graph, Node, TensorType  # noqa: E402
from forwardpass.ops import evaluate  # noqa: E402
from forwardpass.passes import optimize  # noqa: E402

X = {"x": TensorType(FLOAT, ("N", 3))}


# ---- names and text


def test_names_and_metadata_stay() -> None:
    metadata = {
        "description": "what\nit does",
        "graph_description": "and how",
        "domain": "org.example",
        "version": "7",
        "labels": '["a", "ж"]',
    }
    nodes = [Node("Relu", ["x"], ["mid/1"], name="first node"), Node("Neg", ["mid/1"], ["y:0"])]
    graph = Graph(X, ["y:0", "mid/1"], nodes, name="a graph", metadata=metadata)
    model = checked(graph)
    assert (model.doc_string, model.domain, model.model_version) == ("what\nit does", "org.example", 7)
    assert {p.key: p.value for p in model.metadata_props} == {"labels": '["a", "ж"]'}
    assert model.producer_name == "forwardpass"
    again = import_model(model)
    assert str(again) == str(graph)
    assert again.inputs == graph.inputs
    assert metadata.items() <= again.metadata.items()


@pytest.mark.parametrize("version", ["1.2", "007", "0", "", "9" * 30])
def test_versions_that_are_no_number_stay_text(version: str) -> None:
    graph = Graph(X, ["y"], [Node("Relu", ["x"], ["y"])], metadata={"version": version})
    assert import_model(checked(graph)).metadata.get("version", "") == version


def test_the_types_of_inputs_and_outputs() -> None:
    inputs = {
        "a": TensorType(FLOAT, ("N", None, 3)),
        "s": TensorType(INT, ("N",), ("sequence",)),
        "o": TensorType(FLOAT, (2,), ("optional", "sequence")),
    }
    nodes = [Node("Relu", ["a"], ["y"]), Node("SequenceLength", ["s"], ["n"]), Node("OptionalGetElement", ["o"], ["l"])]
    model = checked(Graph(inputs, ["y", "n", "l"], nodes))
    assert import_model(model).inputs == inputs
    kinds = [o.type.WhichOneof("value") for o in model.graph.output]
    assert kinds == ["tensor_type", "tensor_type", "sequence_type"]
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [(d.dim_param, d.dim_value) for d in dims] == [("N", 0), ("", 0), ("", 3)]


def test_outputs_that_are_inputs_or_constants() -> None:
    graph = Graph(X, ["x", "w", "y"], [Node("Relu", ["x"], ["y"])], {"w": np.float32([1, 2])})
    x = np.float32([[-1, 0, 1]])
    found = evaluate(import_model(checked(graph)), {"x": x})
    assert list(found) == ["x", "w", "y"]
    np.testing.assert_array_equal(found["w"], [1, 2])


# ---- element types


@pytest.mark.parametrize("code", DTYPES)
def test_constants_of_every_type(code: int) -> None:
    rng = np.random.default_rng(code)
    dtype = DTYPES[code]
    constants = {"few": values(dtype, (3, 5), rng), "none": values(dtype, (0, 2), rng), "one": values(dtype, (), rng)}
    if bits_of(dtype) < 8:  # every pattern of bits that the type has
        codes = np.arange(1 << bits_of(dtype), dtype=np.uint8)
        constants["all"] = encode(codes, dtype) if "int" in name_of(dtype) else codes.view(dtype)
    elif dtype.kind not in "Ob":
        constants["all"] = rng.integers(0, 256, 64 * dtype.itemsize, np.uint8).view(dtype)
    big = constants["few"].astype(dtype.newbyteorder(">")) if dtype.kind in "iufc" else constants["few"]
    graph = Graph(X, ["y", *constants, "big"], [Node("Relu", ["x"], ["y"])], {**constants, "big": big})
    again = import_model(checked(graph))
    for name, array in {**constants, "big": constants["few"]}.items():
        found = again.constants[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tolist() == array.tolist() if dtype == STRING else found.tobytes() == array.tobytes()


# ---- bodies


def _branches() -> Graph:
    """An If in an If whose bodies read values of both graphs around them, under names that clash."""
    kind = TensorType(FLOAT, ("N", 3))
    deep = {
        name: body({"a": kind, "b": kind}, [Node(op, ["a", "b"], ["y"])], ["y"])
        for name, op in (("then_branch", "Add"), ("else_branch", "Mul"))
    }
    nodes = [
        Node("Neg", ["t"], ["h"]),  # hides the h around it
        Node("If", ["c", "h", "outer"], ["y"], {**deep, "captures": 2}),
    ]
    bools = TensorType(np.dtype(np.bool_), ())
    then = body({"c": bools, "t": kind, "outer": kind}, nodes, ["y"])
    other = body({"c": bools, "t": kind, "outer": kind}, [Node("Sub", ["t", "w"], ["y"])], ["y"], w=np.float32(2))
    attributes = {"then_branch": then, "else_branch": other, "captures": 3}
    outer = [Node("Relu", ["x"], ["h"]), Node("If", ["c", "c", "x", "h"], ["y"], attributes)]
    return Graph({"x": kind, "c": bools}, ["y"], outer, name="outer")


@pytest.mark.parametrize("condition", [True, False])
def test_bodies_read_the_values_around_them(condition: bool) -> None:
    graph = _branches()
    model = checked(graph)
    inner = model.graph.node[1].attribute
    assert all(not a.g.input for a in inner)
    assert [len(n.input) for n in model.graph.node] == [1, 1]
    x = np.float32([[-1, 0, 2]])
    feeds = {"x": x, "c": np.array(condition)}
    h = np.maximum(x, 0)
    np.testing.assert_array_equal(evaluate(import_model(model), feeds)["y"], -x + h if condition else x - 2)


def _of_two_ranks() -> Graph:
    """An If of the sizes of a call, whose branches give vectors or matrices."""
    kind = TensorType(FLOAT, ("N", 1))
    squeezed = body({"t": kind}, [Node("Squeeze", ["t"], ["y"])], ["y"])
    kept = body({"t": kind}, [Node("Neg", ["t"], ["y"])], ["y"])
    nodes = [
        Node("Shape", ["x"], ["sizes"]),
        Node("Equal", ["sizes", "seven"], ["same"]),
        Node("Cast", ["same"], ["numbers"], {"to": 6}),
        Node("ReduceMax", ["numbers"], ["most"], {"keepdims": 0}),
        Node("Cast", ["most"], ["c"], {"to": 9}),
        Node("If", ["c", "x"], ["y"], {"then_branch": squeezed, "else_branch": kept, "captures": 1}),
    ]
    return Graph({"x": kind}, ["y"], nodes, {"seven": np.array([7, 7])}, name="ranks")


def test_shapes_of_outputs_that_only_the_file_knows() -> None:
    graph = _of_two_ranks()
    model = to_model(graph)
    assert not model.graph.output[0].type.tensor_type.HasField("shape")
    for name in ("N", "M"):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_param=name)
        again = import_model(model)
        written = checked(again)
        assert written.graph.output == model.graph.output
        assert [p.key for p in written.metadata_props] == ["producer"]
        x = np.ones((2, 1), np.float32)
        np.testing.assert_array_equal(evaluate(import_model(written), {"x": x})["y"], -x)


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, "3", '{"y": 3}', '{"y": [true]}', '{"y": [-1]}', '{"z": [1]}']
)
def test_metadata_that_say_no_shape(text: str) -> None:
    graph = _of_two_ranks()
    graph.metadata["output_shapes"] = text
    assert not to_model(graph).graph.output[0].type.tensor_type.HasField("shape")


def test_names_are_unique_across_bodies() -> None:
    def names(graph: Any, around: frozenset[str]) -> None:
        own = [i.name for i in graph.input] + [i.name for i in graph.initializer]
        own += [o for n in graph.node for o in n.output if o]
        assert len(set(own)) == len(own)
        assert not around & set(own)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == 5:
                    names(attribute.g, around | set(own))

    names(to_model(_branches()).graph, frozenset())


def test_a_weight_that_bodies_share_is_written_once() -> None:
    w = np.arange(300, dtype=np.float32).reshape(3, 100)
    kind = {"x": TensorType(FLOAT, None)}
    made = body(kind, [Node("MatMul", ["x", "w"], ["r"])], ["r"], w=w)
    again = body(kind, [Node("MatMul", ["x", "v"], ["r"]), Node("Neg", ["r"], ["s"])], ["s"], v=w)
    nodes = [
        Node("MatMul", ["x", "w"], ["h"]),
        Node("If", ["c", "x"], ["y"], {"then_branch": made, "else_branch": again, "captures": 1}),
    ]
    graph = Graph({**X, "c": TensorType(np.dtype(np.bool_), ())}, ["h", "y"], nodes, {"w": w})
    model = checked(graph)
    assert model.ByteSize() < 2 * w.nbytes
    assert model.SerializeToString().count(w.tobytes()) == 1
    for condition in (True, False):
        feeds = {"x": np.float32([[1, 2, 3]]), "c": np.array(condition)}
        for name, value in evaluate(graph, feeds).items():
            np.testing.assert_array_equal(evaluate(import_model(model), feeds)[name], value)


def test_bodies_that_give_what_they_get() -> None:
    """A state that stays, a constant and a captured value: none is made by a node of the body."""
    states = {"s": TensorType(FLOAT, (2,)), "k": TensorType(FLOAT, ())}
    made = loop_body(states, [], ["go", "s", "k", "w"], w=np.float32([5, 6]))
    node = Node("Loop", ["trips", "", "start", "x"], ["end", "xs", "ws"], {"body": made, "captures": 1})
    inputs = {"start": TensorType(FLOAT, (2,)), "x": TensorType(FLOAT, ())}
    graph = Graph(inputs, ["end", "xs", "ws"], [node], {"trips": np.array(3)})
    feeds = {"start": np.float32([1, 2]), "x": np.float32(7)}
    found = evaluate(import_model(checked(graph)), feeds)
    np.testing.assert_array_equal(found["end"], [1, 2])
    np.testing.assert_array_equal(found["xs"], [7, 7, 7])
    np.testing.assert_array_equal(found["ws"], [[5, 6]] * 3)


# ---- attributes


def test_numbers_become_float32() -> None:
    """The passes see what a file holds, so that a model computes the same before and after."""
    slopes = {"alpha": 0.2}
    inner = body({"x": TensorType(FLOAT, None)}, [Node("LeakyRelu", ["x"], ["y"], dict(slopes))], ["y"])
    nodes = [
        Node("LeakyRelu", ["x"], ["h"], dict(slopes)),
        Node("If", ["c", "h"], ["y"], {"then_branch": inner, "else_branch": inner, "captures": 1}),
        Node("Elu", ["y"], ["z"], {"alpha": 1e300}),
        Node("HardSigmoid", ["z"], ["s"], {"alpha": 1, "beta": 0.5}),
    ]
    graph = Graph({**X, "c": TensorType(np.dtype(np.bool_), ())}, ["s"], nodes, name="g")
    again = import_model(checked(graph))
    seen, _ = optimize(graph)
    want, _ = optimize(again)
    assert [n.attributes.get("alpha") for n in seen.nodes] == [n.attributes.get("alpha") for n in want.nodes]
    narrow = float(np.float32(0.2))
    assert [n.attributes["alpha"] for n in seen.nodes if "alpha" in n.attributes][:2] == [narrow, np.inf]
    branches = [n.attributes["then_branch"] for n in seen.nodes if n.op == "If"]
    assert [b.nodes[0].attributes["alpha"] for b in branches] == [narrow]
    assert graph.nodes[0].attributes == slopes  # what the caller has stays
    assert inner.nodes[0].attributes == slopes


def test_long_lists_of_numbers_become_float32() -> None:
    weights = [0.1, 0.5, float("nan")]
    node = Node("Scaler", ["x"], ["y"], {"scale": weights, "offset": [0.5, 0.25, 1.0]}, "ai.onnx.ml")
    seen, _ = optimize(Graph(X, ["y"], [node]))
    np.testing.assert_array_equal(seen.nodes[0].attributes["scale"], np.float32(weights).astype(np.float64))
    assert seen.nodes[0].attributes["offset"] is node.attributes["offset"]


def test_operators_of_other_domains() -> None:
    attributes = {
        "alpha": 2.5,
        "count": np.int64(3),
        "mode": "ж",
        "floats": [1, 0.5],
        "ints": (1, 2),
        "none": [],
        "words": ["a", ""],
        "array": values(BFLOAT16, (2,), np.random.default_rng(0)),
        "arrays": [np.array(["t"], STRING), np.arange(3)],
        "kind": TensorType(FLOAT, ("N", None), ("sequence",)),
        "absent": None,
        "flag": True,
    }
    node = Node("Own", ["x"], ["y"], attributes, "my.domain")
    (made,) = _parts(Graph(X, ["y"], [node])).node
    kinds = {a.name: a.type for a in made.attribute}
    assert kinds == {
        "alpha": 1, "count": 2, "mode": 3, "floats": 6, "ints": 7, "none": 7, "words": 8, "array": 4, "arrays": 9,
        "kind": 13, "flag": 2,
    }  # fmt: skip


def _parts(graph: Graph) -> Any:
    """The graph of a model with operators that nobody knows."""
    from forwardpass.formats.onnx.export_graph import Writer
    from forwardpass.formats.onnx.export_versions import Types

    types = Types(Graph(graph.inputs, list(graph.inputs), [], graph.constants))
    proto = onnx.GraphProto()
    writer = Writer(types, None)
    types._found[id(graph)] = dict.fromkeys(graph.outputs, TensorType(FLOAT, ()))
    writer.graph(proto, graph)
    return proto


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node("Own", ["x"], ["y"], {"bad": {1: 2}}, "d"), "attribute 'bad': ONNX cannot hold this: .* got dict"),
        (Node("Own", ["x"], ["y"], {"bad": [1, "a"]}, "d"), "attribute 'bad': ONNX cannot hold this"),
        (Node("Own", ["x"], ["y"], {"bad": 1j}, "d"), "got complex"),
        (Node("Own", ["x"], ["y"], {"bad": 1 << 63}, "d"), "expected an int64, got int 9223372036854775808"),
        (Node("Own", ["x"], ["y"], {"bad": np.zeros(2, "M8[s]")}, "d"), "ONNX has no such dtype"),
        (Node("Elu", ["x"], ["y"], {"alpha": "a"}), "attribute 'alpha': ONNX cannot hold this: expected a number"),
        (Node("Conv", ["x"], ["y"], {}, "nhwc"), "ONNX has no such operator"),
    ],
)
def test_what_cannot_be_written(node: Node, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        _parts(Graph(X, ["y"], [node]))


def test_bad_graphs() -> None:
    with pytest.raises(GraphError, match="input 'q' is undefined"):
        to_model(Graph(X, ["y"], [Node("Relu", ["q"], ["y"])]))
    with pytest.raises(GraphError, match="not valid Unicode"):
        to_model(Graph(X, ["y"], [Node("Relu", ["x"], ["y"], name="\ud800")]))
    with pytest.raises(GraphError, match="unknown attribute 'slope'"):
        to_model(Graph(X, ["y"], [Node("Relu", ["x"], ["y"], {"slope": 1})]))


# ---- files


def _weighty() -> Graph:
    rng = np.random.default_rng(0)
    constants = {f"w{k}": rng.standard_normal((300, 3), dtype=np.float32).T for k in range(3)}
    constants["axes"] = np.array([1])
    nodes = [Node("MatMul", ["x", "w0"], ["h0"]), Node("MatMul", ["x", "w1"], ["h1"]), Node("Add", ["h0", "h1"], ["s"])]
    nodes += [Node("Add", ["s", "bias"], ["b"]), Node("ReduceSum", ["b", "axes"], ["y"])]
    constants["bias"] = constants.pop("w2")[0]
    return Graph(X, ["y"], nodes, constants)


def test_weights_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, target = _weighty(), tmp_path / "m.onnx"
    monkeypatch.setattr(export, "_ROOM", export.MAX_BYTES - 4096)
    with pytest.raises(UnsupportedError, match="too large for a protobuf message: expected at most 4096 bytes"):
        to_model(graph)
    write(graph, target)
    write(graph, target)  # over the old files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert target.stat().st_size < 2000
    onnx.checker.check_model(str(target), full_check=True)
    again = read(target)
    assert again.constants.keys() == graph.constants.keys()
    for name, array in graph.constants.items():
        np.testing.assert_array_equal(again.constants[name], array)
    assert again.constants["w0"].ctypes.data % 64 == 0


def test_files(tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    write(_weighty(), target)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    onnx.checker.check_model(str(target), full_check=True)
    before = target.read_bytes()
    write(_weighty(), target)
    assert target.read_bytes() == before  # equal graphs give equal files
    with pytest.raises(FileError, match="cannot write the file"):
        write(_weighty(), tmp_path / "missing" / "m.onnx")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnsupportedError, match=r"writing ONNX models needs the package onnx \(pip install"):
        to_model(Graph(X, ["y"], [Node("Relu", ["x"], ["y"])]))
