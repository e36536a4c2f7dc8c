"""Graphs run by the definitions of their operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardpass.errors import InputError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, evaluate_node, registry
from forwardpass.ops.activations import activation_of


def _type(shape: Any) -> TensorType:
    return TensorType(np.dtype(np.float32), shape)


def _chain() -> Graph:
    """y = Relu(x @ w) with a batch of unknown size."""
    nodes = [Node("MatMul", ["x", "w"], ["h"], name="product"), Node("Relu", ["h"], ["y"], name="cut")]
    w = np.array([[1.0, -1.0], [2.0, 0.5], [0.1, 3.0]], np.float32)
    return Graph({"x": _type(("N", 3))}, ["y"], nodes, {"w": w})


def test_evaluate_returns_any_value_and_new_arrays() -> None:
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    found = evaluate(_chain(), {"x": x}, outputs=["h", "x"])
    np.testing.assert_array_equal(found["x"], x)
    found["x"][:] = 0
    assert x[0, 0] == 1


def test_evaluate_in_float64_promotes_inputs_constants_and_casts() -> None:
    third = np.float32(1) / np.float32(3)
    nodes = [
        Node("Mul", ["x", "k"], ["m"]),
        Node("Cast", ["m"], ["c"], {"to": 1}),
        Node("Exp", ["c"], ["y"]),
        Node("Shape", ["y"], ["s"]),
    ]
    graph = Graph({"x": _type((1,))}, ["y", "s"], nodes, {"k": np.array([third])})
    found = evaluate(graph, {"x": np.array([third])}, dtype=np.float64)
    assert found["y"].dtype == np.float64
    assert found["s"].dtype == np.int64
    assert found["y"][0] == np.exp(np.float64(third) ** 2)
    assert evaluate(graph, {"x": np.array([third])})["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "input 'x': missing input: expected float32[N, 3]"),
        ({"x": np.zeros((1, 3), np.float32), "z": 0}, "input 'z': unknown input: expected x"),
        ({"x": np.zeros((1, 3))}, "input 'x': the dtype is wrong: expected float32, got float64"),
        (
            {"x": np.zeros((1, 4), np.float32)},
            "the shape is wrong: expected float32[N, 3], got float32[1, 4]",
        ),
        ({"x": np.zeros(3, np.float32)}, "the shape is wrong"),
    ],
)
def test_evaluate_checks_its_inputs(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(_chain(), inputs)
    assert words in str(caught.value)


def test_evaluate_checks_that_equal_names_have_equal_sizes() -> None:
    graph = Graph({"a": _type(("N",)), "b": _type(("N",))}, ["c"], [Node("Concat", ["a", "b"], ["c"], {"axis": 0})])
    with pytest.raises(InputError, match="input 'b'"):
        evaluate(graph, {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})


def test_evaluate_checks_its_outputs() -> None:
    with pytest.raises(InputError, match="output 'q': no such value"):
        evaluate(_chain(), {"x": np.zeros((1, 3), np.float32)}, outputs=["q"])


ACTIVATION_NODES = [
    (Node("Relu", ["x"], ["y"]), ("Relu", 0.0, 0.0)),
    (Node("LeakyRelu", ["x"], ["y"]), ("LeakyRelu", 0.01, 0.0)),
    (Node("LeakyRelu", ["x"], ["y"], {"alpha": 0.2}), ("LeakyRelu", 0.2, 0.0)),
    (Node("HardSigmoid", ["x"], ["y"], {"beta": 0.25}), ("HardSigmoid", 0.2, 0.25)),
    (Node("Selu", ["x"], ["y"], {"alpha": 2.0, "gamma": 3.0}), ("Selu", 2.0, 3.0)),
    (Node("Gelu", ["x"], ["y"]), ("Gelu", 0.0, 0.0)),
    (Node("Gelu", ["x"], ["y"], {"approximate": "tanh"}), ("GeluTanh", 0.0, 0.0)),
    (Node("Swish", ["x"], ["y"]), ("Silu", 0.0, 0.0)),
    (Node("Swish", ["x"], ["y"], {"alpha": 1.5}), ("Swish", 1.5, 0.0)),
    (Node("Clip", ["x", "zero", "six"], ["y"]), ("Clip", 0.0, 6.0)),
    (Node("Clip", ["x", "", "six"], ["y"]), ("Clip", -np.inf, 6.0)),
    (Node("Clip", ["x"], ["y"]), ("Clip", -np.inf, np.inf)),
    (Node("Clip", ["x", "other"], ["y"]), None),
    (Node("Softmax", ["x"], ["y"]), None),
    (Node("Relu", ["x"], ["y"], domain="elsewhere"), None),
]


@pytest.mark.parametrize(("node", "expected"), ACTIVATION_NODES)
def test_activation_of_a_node(node: Node, expected: Any) -> None:
    assert activation_of(node, {"zero": np.float32(0).reshape(()), "six": np.array(6, np.float32)}) == expected


@pytest.mark.parametrize(("node", "expected"), [p for p in ACTIVATION_NODES if p[1] is not None])
def test_activation_as_an_epilogue_is_the_operator(node: Node, expected: Any, rng: np.random.Generator) -> None:
    x = 3 * rng.standard_normal((4, 5))
    bounds = {"zero": np.zeros(()), "six": np.full((), 6.0)}
    alone = evaluate_node(node, [x, *(bounds.get(i) for i in node.inputs[1:])])[0]
    name, alpha, beta = expected
    attributes = {**registry["fused", "Linear"].attributes, "activation": name, "alpha": alpha, "beta": beta}
    fused = registry["fused", "Linear"].reference(attributes, x, np.eye(5))
    np.testing.assert_array_equal(fused, alone)
