"""Operators from Python."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)
NUMBER = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has registered."""
    return f"Op{next(NUMBER)}"


def graph(name: str, outputs: int = 1, **attributes: Any) -> Graph:
    """x -> Relu -> the operator -> Neg."""
    made = [f"y{k}" for k in range(outputs)]
    nodes = [Node("Relu", ["x"], ["h"]), Node(name, ["h"], made, attributes, "tests")]
    nodes.append(Node("Neg", [made[0]], ["z"]))
    return Graph({"x": TensorType(F32, ("N", 3))}, ["z", *made[1:]], nodes)


def test_an_operator_runs_between_kernels(name: str) -> None:
    @fp.op("tests", name, attributes={"by": 2.0})
    def scaled(x: Any, by: float) -> Any:
        return x * np.float32(by)

    x = np.array([[-1, 2, 3]], np.float32)
    np.testing.assert_array_equal(fp.Model(graph(name))(x), [[0, -4, -6]])
    np.testing.assert_array_equal(fp.Model(graph(name, by=5.0))(x), [[0, -10, -15]])
    assert scaled(1, 3.0) == 3, "the function stays what it was"


def test_results_of_another_byte_order(name: str) -> None:
    fp.op("tests", name)(lambda x: x.astype(">f4"))
    np.testing.assert_array_equal(fp.Model(graph(name))(np.array([[1, 2, 3]], np.float32)), [[-1, -2, -3]])


@pytest.mark.parametrize("op", ["Constant", "ConstantOfShape"])
def test_attributes_of_another_byte_order(op: str) -> None:
    value = np.array([2] if op == "ConstantOfShape" else [1, 2, 3], ">f4")
    nodes = [Node(op, ["three"] * (op == "ConstantOfShape"), ["c"], {"value": value}), Node("Add", ["x", "c"], ["y"])]
    made = Graph({"x": TensorType(F32, (3,))}, ["y"], nodes, {"three": np.array([3])})
    np.testing.assert_array_equal(fp.Model(made)(np.ones(3, np.float32)), np.broadcast_to(1 + value, 3))


def test_shapes_may_depend_on_data(name: str) -> None:
    @fp.op("tests", name)
    def positive(x: Any) -> Any:
        return x[:, x[0] > 0]

    model = fp.Model(graph(name))
    np.testing.assert_array_equal(model(np.array([[-1, 2, 3]], np.float32)), [[-2, -3]])
    np.testing.assert_array_equal(model(np.array([[1, 2, 3]], np.float32)), [[-1, -2, -3]])


def test_several_outputs_with_a_shape_rule(name: str) -> None:
    integers = np.dtype(np.int64)

    @fp.op("tests", name, outputs=2, infer=lambda x: [x, TensorType(integers, x.shape)])
    def parts(x: Any) -> Any:
        return x % 1, x.astype(np.int64)

    model = fp.Model(graph(name, outputs=2))
    assert str(model.outputs["y1"]) == "int64[N, 3]"
    out = model(np.array([[0.5, 1.25, 3]], np.float32))
    np.testing.assert_array_equal(out[0], [[-0.5, -0.25, 0]])
    np.testing.assert_array_equal(out[1], [[0, 1, 3]])


def test_constants_do_not_freeze_it(name: str) -> None:
    calls = []

    @fp.op("tests", name)
    def counted(x: Any) -> Any:
        calls.append(x)
        return x + np.float32(len(calls))

    nodes = [Node(name, ["c"], ["y"], {}, "tests")]
    model = fp.Model(Graph({}, ["y"], nodes, {"c": np.zeros(1, np.float32)}))
    before = len(calls)
    assert [float(model()[0]) for _ in range(2)] == [before + 1, before + 2]


def test_an_operator_that_exists_is_kept_unless_asked(name: str) -> None:
    fp.op("tests", name)(lambda x: x)
    with pytest.raises(fp.ConfigError, match="there is such an operator already"):
        fp.op("tests", name)
    with pytest.raises(fp.ConfigError, match=r"Einsum: there is such an operator already"):
        fp.op("ai.onnx", "Einsum")
    fp.op("tests", name, replace=True)(lambda x: x + x)
    np.testing.assert_array_equal(fp.Model(graph(name))(np.ones((1, 3), np.float32)), [[-2, -2, -2]])


def test_errors_name_the_node(name: str) -> None:
    @fp.op("tests", name, outputs=2)
    def single(x: Any) -> Any:
        return x

    with pytest.raises(fp.GraphError, match="wrong number of results: expected 2, got 1"):
        fp.Model(graph(name, outputs=2))(np.ones((1, 3), np.float32))
    with pytest.raises(fp.GraphError, match="unknown attribute 'by'"):
        fp.Model(graph(name, outputs=2, by=1))

    @fp.op("tests", name + "Raises")
    def raises(x: Any) -> Any:
        raise ValueError("no such luck")

    with pytest.raises(fp.GraphError, match=rf"tests.{name}Raises.*no such luck"):
        fp.Model(graph(name + "Raises"))(np.ones((1, 3), np.float32))


def test_onnx_models_use_it(name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    helper = onnx.helper
    made = helper.make_graph(
        [helper.make_node(name, ["x"], ["y"], domain="tests", power=3)],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N"])],
        [helper.make_tensor_value_info("y", 1, ["N"])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("tests", 1)]
    proto = helper.make_model(made, opset_imports=opsets, ir_version=9)
    with pytest.raises(fp.UnsupportedError, match=name):
        fp.from_onnx(proto)
    fp.op("tests", name, attributes={"power": 1})(lambda x, power: x**power)
    np.testing.assert_array_equal(fp.from_onnx(proto)([2.0, 3.0]), [8, 27])
