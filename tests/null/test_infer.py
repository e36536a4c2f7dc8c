"""Bad attributes, shapes and dtypes give one typed error: the node, what was expected, and what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardpass.errors import Error, GraphError, UnsupportedError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import Attributes, evaluate_node, infer_node, infer_types, load_all, registry
from forwardpass.ops.reshape import reshaped

F = np.dtype(np.float32)


def _type(shape: Any, dtype: Any = F) -> TensorType:
    return TensorType(np.dtype(dtype), shape)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _infer(op: str, inputs: list[Any], attributes: Attributes | None = None) -> list[TensorType]:
    """Infer a node named "bad". Inputs are shapes, types, arrays (constants) or None (absent)."""
    domain, _, name = op.rpartition(".")
    types: list[TensorType | None] = []
    constants: list[np.ndarray | None] = []
    for i in inputs:
        constants.append(i if isinstance(i, np.ndarray) else None)
        types.append(i if i is None or isinstance(i, TensorType) else _type(i) if isinstance(i, tuple) else None)
        if isinstance(i, np.ndarray):
            types[-1] = TensorType.of(i)
    names = ["" if i is None else f"v{k}" for k, i in enumerate(inputs)]
    node = Node(name, names, ["y"], dict(attributes or {}), domain, "bad")
    return infer_node(node, types, constants)


K3 = {"kernel_shape": [3, 3]}
IMAGE = (1, 4, 8, 8)
BAD = [
    # operator, inputs, attributes, words of the message
    ("Relu", [_type((2,), bool)], {}, "wrong dtype: expected floating point or signed, got bool"),
    ("Sqrt", [_type((2,), np.int64)], {}, "expected floating point, got int64"),
    ("Elu", [(2,)], {"alpha": "x"}, "attribute 'alpha' is wrong: expected a number, got 'x'"),
    ("Elu", [(2,)], {"beta": 1.0}, "unknown attribute 'beta': expected one of: alpha"),
    ("Relu", [(2,)], {"alpha": 1.0}, "unknown attribute 'alpha': expected one of: none"),
    ("Gelu", [(2,)], {"approximate": "sigmoid"}, "expected one of none, tanh, got 'sigmoid'"),
    ("Relu", [(2,), (2,)], {}, "wrong number of inputs: expected 1 to 1, got 2"),
    ("Relu", [None], {}, "wrong number of inputs: expected 1 to 1, got 0"),
    ("Clip", [(2,), (2, 1)], {}, "input min has the wrong rank: expected rank 0"),
    (
        "Clip",
        [(2,), _type((), np.float64)],
        {},
        "differs in dtype from input input: expected float32, got float64",
    ),
    ("Add", [(2, 3), (2, 4)], {}, "cannot be broadcast together"),
    ("Add", [(2,), _type((2,), np.float64)], {}, "expected float32, got float64"),
    ("PRelu", [(3,), (2, 3)], {}, "input slope does not broadcast to input X"),
    ("PRelu", [(1, 3), (2, 3)], {}, "expected a shape that fits into [1, 3], got [2, 3]"),
    ("fused.ScaleShift", [(2, 3), (3,), (2,)], {}, "cannot be broadcast"),
    (
        "MatMul",
        [(2, 3), (4, 5)],
        {},
        "inner dimensions (K) of [2, 3] and [4, 5] do not match: expected 3, got 4",
    ),
    ("MatMul", [(), (2,)], {}, "input A has the wrong rank: expected rank 1 or more"),
    ("MatMul", [(2, 3, 4), (3, 4, 5)], {}, "cannot be broadcast"),
    ("Gemm", [(2, 3), (3, 4, 5)], {}, "input B has the wrong rank: expected rank 2"),
    ("Gemm", [(2, 3), (4, 5)], {}, "(K) of A and B do not match: expected 3, got 4"),
    ("Gemm", [(2, 3), (3, 5)], {"transB": 1}, "expected 3, got 5"),
    ("Gemm", [(2, 3), (3, 5)], {"transA": 2}, "attribute 'transA' is wrong: expected 0 or 1, got 2"),
    ("Gemm", [(2, 3), (3, 5), (7, 2, 5)], {}, "input C has the wrong rank"),
    ("Gemm", [(1, 3), (3, 5), (2, 5)], {}, "input C does not broadcast to the product"),
    ("fused.Linear", [(2, 3), (3, 5)], {"activation": "Nope"}, "attribute 'activation' is wrong"),
    ("fused.Linear", [(2, 3), (3, 5), (4,)], {}, "length of input bias do not match: expected 5, got 4"),
    ("fused.Linear", [(2, 3), (3, 5), None, (3, 5)], {}, "expected [2, 5], got [3, 5]"),
    ("Conv", [IMAGE, (6, 3, 3, 3)], {}, "channels do not fit the weights: expected 3 (group 1 x 3), got 4"),
    ("Conv", [IMAGE, (6, 2, 3, 3)], {"group": 3}, "expected 6 (group 3 x 2), got 4"),
    ("Conv", [IMAGE, (7, 2, 3, 3)], {"group": 2}, "no multiple of group: expected a multiple of 2, got 7"),
    ("Conv", [IMAGE, (6, 4, 3, 3)], {"group": 0}, "attribute 'group' is wrong: expected at least 1, got 0"),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"strides": [0, 1]},
        "attribute 'strides' is wrong: expected integers of at least 1",
    ),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"strides": [1]},
        "attribute 'strides' is wrong: expected 2 integers, got [1]",
    ),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"strides": 2},
        "attribute 'strides' is wrong: expected a list of integers, got 2",
    ),
    ("Conv", [IMAGE, (6, 4, 3, 3)], {"strides": [1, 1.5]}, "expected a list of integers"),
    ("Conv", [IMAGE, (6, 4, 3, 3)], {"dilations": [-1, 1]}, "attribute 'dilations' is wrong"),
    ("Conv", [IMAGE, (6, 4, 3, 3)], {"pads": [1, 1]}, "attribute 'pads' is wrong: expected 4 integers"),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"pads": [1, 1, -1, 1]},
        "attribute 'pads' is wrong: expected integers of at least 0",
    ),
    ("Conv", [IMAGE, (6, 4, 3, 3)], {"auto_pad": "SAME"}, "attribute 'auto_pad' is wrong"),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"kernel_shape": [3, 5]},
        "spatial dimension 1 do not match: expected 5, got 3",
    ),
    ("Conv", [IMAGE, (6, 4, 9, 9)], {}, "window is larger than the padded image: expected at least 9 pixels"),
    (
        "Conv",
        [IMAGE, (6, 4, 3, 3)],
        {"dilations": [4, 4]},
        "expected at least 9 pixels, got 8 with pads 0 and 0",
    ),
    ("Conv", [IMAGE, (6, 4, 0, 3)], {}, "attribute 'kernel_shape' is wrong: expected integers of at least 1"),
    ("Conv", [IMAGE, (6, 4, 3)], {}, "inputs X and W differ in rank: expected 4, got 3"),
    ("Conv", [(1, 4), (6, 4)], {}, "input X has the wrong rank: expected rank 3 or more"),
    ("Conv", [IMAGE, (6, 4, 3, 3), (4,)], {}, "length of input bias do not match: expected 6, got 4"),
    ("nhwc.Conv", [(1, 8, 8, 4), (3, 3, 3, 6)], {}, "channels do not fit the weights"),
    (
        "nhwc.Conv",
        [(1, 8, 8, 4), (3, 3, 4, 6), None, (1, 6, 6, 5)],
        K3,
        "expected [1, 6, 6, 6], got [1, 6, 6, 5]",
    ),
    ("nhwc.Conv", [(8, 8, 4), (3, 3, 4, 6)], K3, "input x has the wrong rank: expected rank 4"),
    ("MaxPool", [IMAGE], {}, "attribute 'kernel_shape' is missing"),
    ("MaxPool", [IMAGE], {"kernel_shape": [9, 9]}, "window is larger"),
    ("MaxPool", [IMAGE], {"kernel_shape": [0, 2]}, "expected integers of at least 1, got [0, 2]"),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2, 2]}, "expected 2 integers, got [2, 2, 2]"),
    ("MaxPool", [IMAGE], {**K3, "ceil_mode": 3}, "attribute 'ceil_mode' is wrong"),
    ("AveragePool", [_type(IMAGE, np.int8)], K3, "expected floating point, got int8"),
    ("nhwc.MaxPool", [(1, 2, 8, 4)], K3, "window is larger"),
    ("GlobalMaxPool", [(1, 4, 0, 8)], {}, "the image has no pixels"),
    ("nhwc.GlobalAveragePool", [(1, 0, 3, 8)], {}, "the image has no pixels"),
    ("BatchNormalization", [(2, 3), (3,), (3,), (4,), (3,)], {}, "length of input input_mean do not match"),
    ("BatchNormalization", [(2, 3), (3,), (3,), (3,)], {}, "wrong number of inputs: expected 5 to 5, got 4"),
    ("Softmax", [(2, 3)], {"axis": 2}, "axis is out of range: expected -2 to 1 for rank 2, got 2"),
    ("Softmax", [(2, 3)], {"axis": 1.0}, "attribute 'axis' is wrong: expected an integer, got 1.0"),
    ("ReduceSum", [(2, 3), _ints(0, -2)], {}, "axes has an axis twice"),
    ("ReduceSum", [(2, 3), _ints(2)], {}, "axes is out of range"),
    (
        "ReduceSum",
        [(2, 3), (1,)],
        {},
        "input axes has the wrong dtype: expected signed or unsigned, got float32",
    ),
    (
        "Concat",
        [(2, 3), (3, 3)],
        {"axis": 1},
        "dimension 0 of the inputs of a concatenation along 1 do not match",
    ),
    ("Concat", [(2, 3), (2, 3, 1)], {"axis": 1}, "wrong rank"),
    ("Concat", [(2, 3)], {}, "attribute 'axis' is missing"),
    ("Transpose", [(2, 3)], {"perm": [0, 0]}, "attribute 'perm' is wrong: expected a permutation of 0 to 1"),
    ("Transpose", [(2, 3)], {"perm": [0]}, "expected 2 integers, got [0]"),
    ("Pad", [(2, 3), _ints(1, 1)], {}, "input pads has the wrong length: expected 4, got 2"),
    ("Pad", [(2, 3), _ints(-1, 0, -2, 0)], {}, "negative pads crop more than there is"),
    (
        "Pad",
        [(0, 3), _ints(1, 0, 0, 0)],
        {"mode": "edge"},
        "a dimension of size 0 cannot be padded in mode 'edge'",
    ),
    ("Pad", [(2, 3), _ints(0, 0, 0, 0)], {"mode": "mirror"}, "expected one of constant, reflect, edge, wrap"),
    ("Pad", [(2,), _ints(2**62, 2**62)], {}, "the output is too large"),
    (
        "Reshape",
        [(2, 3), _ints(4, -1)],
        {},
        "does not fit the number of elements: expected a divisor of 6, got 4",
    ),
    ("Reshape", [(2, 3), _ints(5)], {}, "expected 6 elements as in [2, 3], got 5 in [5]"),
    ("Reshape", [(2, 3), _ints(-1, -1)], {}, "expected at most one -1"),
    ("Reshape", [(2, 3), _ints(-2)], {}, "expected at most one -1, and nothing below"),
    ("Reshape", [(2, 3), _ints(1, 6, 0)], {}, "0 stands for a dimension that the input lacks"),
    ("Reshape", [(0, 3), _ints(-1, 0)], {"allowzero": 1}, "not both 0 and -1"),
    ("Flatten", [(2, 3)], {"axis": 3}, "axis is out of range: expected -2 to 2"),
    ("Flatten", [(2**32, 2**31)], {}, "the output is too large"),
    ("Squeeze", [(2, 3), _ints(0)], {}, "expected 1, got 2"),
    ("Unsqueeze", [(2, 3), _ints(4)], {}, "axes is out of range"),
    ("Dropout", [(2,), np.float32(0.5), np.float32(1)], {}, "input training_mode has the wrong dtype: expected bool"),
    ("Cast", [(2,)], {"to": 99}, "attribute 'to' is wrong: expected the number of an element type, got 99"),
    ("Slice", [(4,), _ints(0), _ints(1, 2)], {}, "differ in length"),
    ("Slice", [(4,), _ints(0), _ints(1), _ints(0), _ints(0)], {}, "step of 0"),
    ("Expand", [(3,), _ints(2, 4)], {}, "cannot be broadcast"),
    ("Expand", [(1,), _ints(2**40, 2**40)], {}, "the output is too large: expected at most 2^63 - 1 bytes"),
    ("ConstantOfShape", [_ints(2**62, 4)], {}, "the output is too large"),
    ("ConstantOfShape", [_ints(-1)], {}, "negative dimension"),
    ("Constant", [], {}, "a Constant has one value"),
    ("Gather", [(3, 2), _ints(3)], {}, "input indices is out of range: expected -3 to 2, got 3 to 3"),
    ("MatMul", [(2**40, 1), (1, 2**40)], {}, "the output is too large"),
    ("Nope", [(2,)], {}, "unknown operator Nope"),
    ("nhwc.Relu", [(2,)], {}, "unknown operator nhwc.Relu"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "words"), BAD)
def test_bad_node(op: str, inputs: list[Any], attributes: Attributes, words: str) -> None:
    inputs = [np.asarray(i) if isinstance(i, np.generic) else i for i in inputs]
    with pytest.raises((GraphError, UnsupportedError)) as caught:
        _infer(op, inputs, attributes)
    assert words in str(caught.value)
    assert "'bad'" in caught.value.where
    assert f"({op})" in caught.value.where


load_all()
WITH_CASES = sorted(f"{d}.{n}".lstrip(".") for (d, n), operator in registry.items() if operator.cases)


@pytest.mark.parametrize("op", WITH_CASES)
@pytest.mark.parametrize("value", ["text", 1.5, None, [1, "x"], {}, b"\x00", -(2**70), np.zeros(3), True])
def test_attributes_of_any_type_give_typed_errors_or_work(op: str, value: Any) -> None:
    domain, _, name = op.rpartition(".")
    operator = registry[domain, name]
    case = operator.cases[0]
    arrays = case.draw()
    for attribute in operator.attributes:
        names = ["" if a is None else f"v{k}" for k, a in enumerate(arrays)]
        node = Node(name, names, ["y"], {**case.attributes, attribute: value}, domain, "bad")
        try:
            evaluate_node(node, arrays)
        except Error as error:
            assert "'bad'" in error.where  # noqa: PT017 - some values are valid


def test_windows_that_start_behind_the_image_are_ignored() -> None:
    attributes = {"kernel_shape": [1, 1], "strides": [4, 4], "ceil_mode": 1}
    assert _infer("MaxPool", [(1, 1, 6, 5)], attributes)[0].shape == (1, 1, 2, 2)
    assert _infer("MaxPool", [(1, 1, 4, 3)], attributes)[0].shape == (1, 1, 1, 1)


UNKNOWN = [
    ("Relu", [("N", None)], {}, ("N", None)),
    ("Relu", [_type(None)], {}, None),
    ("Add", [("N", 3), (3,)], {}, ("N", 3)),
    ("Add", [("N", 3), ("N", 1)], {}, ("N", 3)),
    ("Add", [("N", 3), ("M", 3)], {}, (None, 3)),
    ("Add", [("N", 3), (4, 3)], {}, (4, 3)),
    ("MatMul", [("N", 3), (3, 5)], {}, ("N", 5)),
    ("Gemm", [("N", None), (3, 5)], {}, ("N", 5)),
    ("Conv", [("N", 3, None, 8), (4, 3, 3, 3)], {}, ("N", 4, None, 6)),
    ("nhwc.Conv", [("N", 8, "W", 3), (3, 3, 3, 4)], K3, ("N", 6, None, 4)),
    ("MaxPool", [("N", "C", 8, "W")], {"kernel_shape": [2, 2]}, ("N", "C", 7, None)),
    ("GlobalAveragePool", [("N", 3, None, None)], {}, ("N", 3, 1, 1)),
    ("Flatten", [("N", 4, 4, 2)], {}, ("N", 32)),
    ("Flatten", [("N", "M", 2)], {}, ("N", None)),
    ("Flatten", [("N", 3, 1)], {"axis": 0}, (1, None)),
    ("Reshape", [("N", 4, 2), _ints(0, -1)], {}, ("N", 8)),
    ("Reshape", [("N", 4, 2), _ints(-1, 8)], {}, ("N", 8)),
    ("Reshape", [("N", 4, 2), _ints(-1, 4)], {}, (None, 4)),
    ("Reshape", [_type(None), _ints(-1, 4)], {}, (None, 4)),
    ("Reshape", [(2, 3), _type((3,), np.int64)], {}, (None, None, None)),
    ("Concat", [("N", 2), ("N", 3)], {"axis": 1}, ("N", 5)),
    ("Concat", [("N", 2), (4, 3)], {"axis": 1}, (4, 5)),
    ("Concat", [("N", 2), ("M", 2)], {"axis": 0}, (None, 2)),
    ("Transpose", [("N", 2, 3)], {"perm": [0, 2, 1]}, ("N", 3, 2)),
    ("Pad", [("N", 2), _ints(0, 1, 0, 1)], {}, ("N", 4)),
    ("Pad", [("N", 2), _ints(1, 1, 0, 1)], {}, (None, 4)),
    ("Squeeze", [("N", 1, 3), _ints(1)], {}, ("N", 3)),
    ("Squeeze", [("N", 1, 3)], {}, None),
    ("Squeeze", [("N", 1, 3), _type((1,), np.int64)], {}, (None, None)),
    ("Unsqueeze", [("N", 3), _ints(-1)], {}, ("N", 3, 1)),
    ("Unsqueeze", [("N", 3), _type((2,), np.int64)], {}, (None,) * 4),
    ("Unsqueeze", [("N", 3), _type((1 << 40,), np.int64)], {}, None),
    ("ReduceMean", [("N", 3, 4), _ints(-1)], {"keepdims": 0}, ("N", 3)),
    ("ReduceMean", [("N", 3, 4), _type((1,), np.int64)], {}, (None, None, None)),
    ("ReduceMean", [("N", 3, 4), _type((1,), np.int64)], {"keepdims": 0}, (None, None)),
    ("ReduceMean", [("N", 3, 4), _type((0,), np.int64)], {"keepdims": 0}, None),
    ("Expand", [("N", 3), _type((3,), np.int64)], {}, (None, None, 3)),
    ("Expand", [("N", 3), _type((1,), np.int64)], {}, ("N", 3)),
    ("Reshape", [(2, 3), _type((1 << 40,), np.int64)], {}, None),
    ("Softmax", [("N", 10)], {}, ("N", 10)),
    ("BatchNormalization", [("N", None, 4), (3,), (3,), (3,), (3,)], {}, ("N", None, 4)),
    ("Slice", [("N", 8), _ints(1), _ints(4), _ints(1)], {}, ("N", 3)),
    ("Gather", [("N", 8), _ints(1, 2)], {"axis": 1}, ("N", 2)),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "expected"), UNKNOWN)
def test_unknown_dimensions(op: str, inputs: list[Any], attributes: Attributes, expected: Any) -> None:
    assert _infer(op, inputs, attributes)[0].shape == expected


def test_reshape_deduces_from_what_is_not_kept() -> None:
    assert reshaped((0, 4, 2), (0, -1), False) == (0, 8)
    assert reshaped((0, 4), (-1, 4), False) == (0, 4)
    assert reshaped((4, 0), (0, -1), False) == (4, 0)


def _chain() -> Graph:
    """y = Relu(x @ w) with a batch of unknown size."""
    nodes = [Node("MatMul", ["x", "w"], ["h"], name="product"), Node("Relu", ["h"], ["y"], name="cut")]
    w = np.array([[1.0, -1.0], [2.0, 0.5], [0.1, 3.0]], np.float32)
    return Graph({"x": _type(("N", 3))}, ["y"], nodes, {"w": w})


def test_types_of_a_graph() -> None:
    types = infer_types(_chain())
    assert types["h"] == types["y"] == _type(("N", 2))
    assert infer_types(_chain(), {"x": _type((5, 3))})["y"] == _type((5, 2))


def test_types_of_a_graph_name_the_node_that_does_not_fit() -> None:
    with pytest.raises(GraphError, match="'product'") as caught:
        infer_types(_chain(), {"x": _type((5, 4))})
    assert (caught.value.expected, caught.value.got) == ("4", "3")


def test_shapes_computed_by_the_graph_are_known() -> None:
    nodes = [
        Node("Shape", ["x"], ["s"]),
        Node("Gather", ["s", "zero"], ["n"]),
        Node("Concat", ["n", "rest"], ["target"], {"axis": 0}),
        Node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": _ints(0), "rest": _ints(-1)}
    graph = Graph({"x": _type(("N", 3, 4))}, ["y"], nodes, constants)
    values: dict[str, np.ndarray] = {}
    types = infer_types(graph, {"x": _type((5, 3, 4))}, values=values)
    assert types["y"].shape == (5, 12)
    np.testing.assert_array_equal(values["target"], [5, -1])
    assert infer_types(graph)["y"].shape == (None, None)


def test_shape_of_a_huge_value_allocates_nothing() -> None:
    graph = Graph({"x": _type((2**30, 2**28))}, ["s"], [Node("Shape", ["x"], ["s"])])
    values: dict[str, np.ndarray] = {}
    infer_types(graph, values=values)
    np.testing.assert_array_equal(values["s"], [2**30, 2**28])


def test_too_many_outputs() -> None:
    node = Node("Relu", ["x"], ["y", "z"], name="bad")
    with pytest.raises(GraphError, match="too many outputs: expected at most 1, got 2"):
        infer_node(node, [_type((2,))])
