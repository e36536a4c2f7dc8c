"""The graphs that ONNX models become: types, names, order, bodies, functions, versions and operators."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    MODELS,
    B,
    F,
    I,
    function,
    graph,
    info,
    initializer,
    model,
    node,
    reference,
    typed,
)

import forwardpass as fp
from forwardpass import dtypes
from forwardpass.formats.onnx import import_model
from forwardpass.formats.onnx.context import Context
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate

F32 = np.dtype(np.float32)


def test_types_of_inputs() -> None:
    tensor = helper.make_tensor_type_proto
    kinds = {
        "symbols": (tensor(F, ["N", 3, None]), TensorType(F32, ("N", 3, None))),
        "scalar": (tensor(B, []), TensorType(np.dtype(bool), ())),
        "any rank": (tensor(I, None), TensorType(np.dtype(np.int64), None)),
        "narrow": (tensor(TensorProto.INT4, [2]), TensorType(dtypes.INT4, (2,))),
        "text": (tensor(TensorProto.STRING, [0]), TensorType(dtypes.STRING, (0,))),
        "list": (helper.make_sequence_type_proto(tensor(F, [2])), TensorType(F32, (2,), ("sequence",))),
        "perhaps": (
            helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor(F, None))),
            TensorType(F32, None, ("optional", "sequence")),
        ),
        "map": (helper.make_map_type_proto(I, tensor(F, [])), TensorType(F32, (), ("map",))),
    }
    inputs = [helper.make_value_info(k, proto) for k, (proto, _) in kinds.items()]
    found = import_model(model(graph([node("Relu", ["symbols"], ["y"])], inputs, ["y"])))
    assert found.inputs == {k: wanted for k, (_, wanted) in kinds.items()}
    assert list(found.inputs) == list(kinds)


def test_names_and_order() -> None:
    """Nodes may come in any order; names are kept, of nodes too."""
    nodes = [
        node("Relu", ["mid/1"], ["out:0"], name="last"),
        node("Neg", ["in.0"], ["mid/1"], name="first"),
        node("Abs", ["in.0"], ["unused"]),
    ]
    found = import_model(model(graph(nodes, [info("in.0")], ["out:0"], name="graph 1")))
    assert [n.name for n in found.nodes] == ["first", "", "last"]
    assert (found.name, list(found.inputs), found.outputs) == ("graph 1", ["in.0"], ["out:0"])


def test_an_order_that_bodies_ask_for() -> None:
    body = graph([node("Add", ["late", "x"], ["t"])], [], ["t"], name="b")
    nodes = [
        node("If", ["c"], ["y"], then_branch=body, else_branch=body),
        node("Neg", ["x"], ["late"]),
    ]
    found = import_model(model(graph(nodes, [info("x", F, [1]), info("c", B, [])], ["y"])))
    assert [n.op for n in found.nodes] == ["Neg", "If"]
    np.testing.assert_array_equal(evaluate(found, {"x": np.float32([2]), "c": np.array(True)})["y"], [0])


def test_initializers_that_are_inputs_are_constants() -> None:
    main = graph([node("Add", ["x", "w"], ["y"])], [info("x"), info("w", F, [3])], ["y"], [initializer("w", [1, 2, 3])])
    found = import_model(model(main))
    assert list(found.inputs) == ["x"]
    assert list(found.constants) == ["w"]


def test_outputs_that_are_inputs_or_constants() -> None:
    main = graph([node("Constant", [], ["k"], value_int=7)], [info("x")], ["x", "w", "k"], [initializer("w", [1])])
    x = np.zeros((1, 3), np.float32)
    got = evaluate(import_model(model(main)), {"x": x})
    assert list(got) == ["x", "w", "k"]
    assert got["k"] == 7


def test_absent_values_and_unseen_nodes() -> None:
    nodes = [
        node("Clip", ["x", "", "most", ""], ["y", ""]),
        node("Relu", ["x"], [""]),
    ]
    found = import_model(model(graph(nodes, [info("x")], ["y"], [initializer("most", 1), initializer("unused", 1)])))
    assert [str(n) for n in found.nodes] == ["y = Clip(x, -, most)"]
    assert list(found.constants) == ["most"]


# ---- bodies


def _body(found: Graph, k: int = 0, name: str = "then_branch") -> Graph:
    body = found.nodes[k].attributes[name]
    assert isinstance(body, Graph)
    return body


def test_bodies_are_closed() -> None:
    found = import_model(MODELS["branches"]())
    outer = found.nodes[-1]
    assert outer.inputs[0] == "c"
    captured = outer.inputs[1:]
    assert sorted(captured) == ["deep", "h", "x"]
    assert outer.attributes["captures"] == 3
    then, otherwise = _body(found, 1), _body(found, 1, "else_branch")
    assert [then.inputs[k] for k in then.inputs] == [TensorType(np.dtype(bool), ()), *[TensorType(F32, (3,))] * 2]
    assert list(then.inputs) == list(otherwise.inputs) == captured
    assert then.nodes[0].attributes["then_branch"].constants.keys() == {"w"}
    assert otherwise.constants.keys() == {"w", "own"}
    assert found.constants == {}
    for body in (then, otherwise, *then.nodes[0].attributes.values()):
        if isinstance(body, Graph):
            body.verify()


def test_a_name_inside_hides_the_one_outside() -> None:
    """Of values that the other branch captures too."""
    then = graph([node("Abs", ["x"], ["h"]), node("Neg", ["h"], ["t"])], [], ["t"], name="then")
    otherwise = graph([node("Add", ["h", "h"], ["t"])], [], ["t"], name="else")
    nodes = [
        node("Exp", ["x"], ["h"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    found = import_model(model(graph(nodes, [info("x", F, [1]), info("c", B, [])], ["y"])))
    x = np.float32([-2])
    np.testing.assert_array_equal(evaluate(found, {"x": x, "c": np.array(True)})["y"], [-2])
    np.testing.assert_array_equal(evaluate(found, {"x": x, "c": np.array(False)})["y"], np.exp(x) * 2)
    _body(found, 1).verify()


def test_an_outer_value_and_one_twice_as_outputs_of_a_body() -> None:
    branch = graph([node("Neg", ["x"], ["t"])], [], ["x", "t", "t", "w"], name="b")
    main = graph(
        [node("If", ["c"], ["a", "b", "d", "e"], then_branch=branch, else_branch=branch)],
        [info("x", F, [1]), info("c", B, [])],
        ["a", "b", "d", "e"],
        [initializer("w", [9])],
    )
    found = import_model(model(main))
    got = evaluate(found, {"x": np.float32([2]), "c": np.array(True)})
    assert [float(v[0]) for v in got.values()] == [2, -2, -2, 9]
    _body(found).verify()


# ---- functions


def test_functions_are_put_in_place() -> None:
    found = import_model(MODELS["functions"]())
    assert {n.domain for n in found.nodes} == {""}
    slopes = [n.attributes["alpha"] for n in found.nodes if n.op == "LeakyRelu"]
    assert slopes == [0.125, 0.25, 0.5]
    assert [n.outputs[0] for n in found.nodes][:4] == ["u", "one/m", "one/r", "p"]


def _run(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto], x: Any, **constants: Any) -> Any:
    outputs = [o for o in nodes[-1].output if o]
    arrays = [initializer(k, v) for k, v in constants.items()]
    main = graph(nodes, [info("x", F, None)], outputs, arrays)
    got = evaluate(import_model(model(main, functions=functions)), {"x": np.asarray(x, np.float32)})
    return [got[o].tolist() for o in outputs]


def test_versions_belong_to_the_function() -> None:
    """Its Squeeze is one of opset 11, whose axes are an attribute, in a model of opset 21."""
    f = function("F", [node("Squeeze", ["a"], ["b"], axes=[1])], ["a"], ["b"], opset=11)
    assert _run([node("F", ["x"], ["y"], domain="local")], [f], [[1]]) == [[1]]


def test_inputs_and_outputs_of_a_function_that_are_absent() -> None:
    f = function(
        "F",
        [node("Clip", ["a", "low", "high"], ["c"]), node("Neg", ["c"], ["d"])],
        ["a", "low", "high"],
        ["c", "d"],
    )
    call = node("F", ["x", "", "most"], ["", "y"], domain="local")
    assert _run([call], [f], [-3, 3], most=1) == [[3, -1]]
    assert _run([node("F", ["x"], ["y"], domain="local")], [f], [-3, 3]) == [[-3, 3]]


def test_outputs_of_a_function_that_are_inputs_or_there_twice() -> None:
    f = function("F", [node("Neg", ["a"], ["b"])], ["a"], ["a", "b", "b"])
    assert _run([node("F", ["x"], ["p", "q", "r"], domain="local")], [f], [1]) == [[1], [-1], [-1]]


def test_overloads_of_a_function() -> None:
    one = function("F", [node("Neg", ["a"], ["b"])], ["a"], ["b"])
    two = function("F", [node("Abs", ["a"], ["b"])], ["a"], ["b"])
    two.overload = "second"
    calls = [node("F", ["x"], ["h"], domain="local"), node("F", ["h"], ["y"], domain="local", overload="second")]
    assert _run(calls, [one, two], [2]) == [[2]]
    assert _run(calls[:1], [one, two], [2]) == [[-2]]


def test_a_body_given_to_a_function_sees_the_names_of_the_caller() -> None:
    """And what is passed on may be a body in a body of the function."""
    given = graph([node("Add", ["a", "w"], ["t"])], [], ["t"], name="given")
    plain = graph([node("Neg", ["a"], ["t"])], [], ["t"], name="plain")
    inner = graph(
        [reference(node("If", ["c"], ["t"], else_branch=plain), "then_branch", "body", onnx.AttributeProto.GRAPH)],
        [], ["t"], name="inner",
    )  # fmt: skip
    f = function(
        "F",
        [node("If", ["c"], ["b"], then_branch=inner, else_branch=plain)],
        ["a", "c"],
        ["b"],
        attributes=["body"],
    )
    nodes = [
        node("Constant", [], ["yes"], value=typed("t", B, [], [True])),
        node("Abs", ["x"], ["a"]),
        node("F", ["x", "yes"], ["y"], domain="local", body=given),
    ]
    assert _run(nodes, [f], [-2], w=10) == [[12]]


def test_an_attribute_that_nobody_gives_is_absent() -> None:
    leaky = reference(node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", onnx.AttributeProto.FLOAT)
    f = function("F", [leaky], ["a"], ["b"])
    assert _run([node("F", ["x"], ["y"], domain="local")], [f], [-100]) == [[-1]]


# ---- operators


def test_all_unsupported_nodes_are_reported_at_once() -> None:
    then = graph([node("Inner", ["x"], ["t"], domain="my.ops")], [], ["t"], name="then")
    otherwise = graph([node("Neg", ["x"], ["t"])], [], ["t"], name="else")
    nodes = [
        node("Mystery", ["x", "", "c"], ["m"], name="who"),
        node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise),
        node("Gradient", ["x"], ["g"], domain="ai.onnx.preview.training"),
    ]
    main = graph(nodes, [info("x"), info("c", B, [])], ["m", "y", "g"])
    made = model(main)
    made.opset_import.append(helper.make_opsetid("my.ops", 3))
    with pytest.raises(fp.UnsupportedError) as e:
        import_model(made, where="model.onnx")
    assert str(e.value) == (
        "model.onnx: 3 nodes of operators that are not supported: "
        "who: Mystery (domain ai.onnx, opset 21, inputs float32, -, bool); "
        "-> t: Inner (domain my.ops, opset 3, inputs float32); "
        "-> g: Gradient (domain ai.onnx.preview.training, opset 1, inputs float32)"
    )


def test_both_names_of_the_default_domain() -> None:
    made = model(graph([node("Relu", ["x"], ["y"], domain="ai.onnx")], [info("x")], ["y"]))
    made.opset_import[0].domain = "ai.onnx"
    assert import_model(made).nodes[0].domain == ""


def test_models_from_before_there_were_opsets() -> None:
    made = model(graph([node("Relu", ["x"], ["y"], consumed_inputs=[0])], [info("x")], ["y"]))
    del made.opset_import[:]
    made.ir_version = 2
    assert import_model(made).nodes[0].attributes == {}


def test_context_knows_what_was_imported() -> None:
    context = Context({"x"}, declared={"declared": TensorType(F32, (1, 2))})
    context.add_input("x", TensorType(F32, ("N", 3)))
    assert context.add_constant("shape", np.array([3, -1])) == "shape"
    assert context.fresh("shape") == "shape_1"
    context.nodes.append(Node("Reshape", ["x", "shape"], ["r"]))
    context.nodes.append(Node("Nobody", ["x"], ["n"]))
    context.nodes.append(Node("Relu", ["n"], ["after"]))
    assert (context.rank("r"), context.dtype("r")) == (2, F32)
    assert context.rank("after") is None
    context.nodes.append(Node("Cast", ["r"], ["later"], {"to": 7}))
    assert context.dtype("later") == np.int64
    assert (context.rank("declared"), context.rank("nobody")) == (2, None)
    inner = Context(set(), context)
    local = inner.bring(context, "shape", "shape")
    found = inner.constant(local)
    assert found is not None
    np.testing.assert_array_equal(found, [3, -1])
    assert inner.rank(inner.bring(context, "r", "r")) == 2
    assert inner.captured() == ["r"]


def test_many_nodes_are_fast() -> None:
    """20,000 nodes in reverse order: nothing is quadratic."""
    count = 20_000
    nodes = [node("Neg", [f"v{k}"], [f"v{k + 1}"]) for k in reversed(range(count))]
    made = model(graph(nodes, [info("v0")], [f"v{count}"]))
    start = time.perf_counter()
    assert len(import_model(made).nodes) == count
    assert time.perf_counter() - start < 10
