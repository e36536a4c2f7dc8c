"""Which opset a graph is written in, and what takes the place of nodes that ONNX's own tools do not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

from nodes import FLOAT, body
from onnx_nodes import checked, imported

from forwardpass.dtypes import BFLOAT16
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import ONNX_FLOAT32, ROUNDED

X = {"x": TensorType(FLOAT, ("N", 3))}


def opset(*nodes: Node, inputs: dict[str, TensorType] | None = None, **constants: Any) -> int:
    """The opset of a model of these nodes."""
    arrays = {k: np.asarray(v) for k, v in constants.items()}
    model = checked(Graph(inputs or X, [nodes[-1].outputs[0]], nodes, arrays))
    return next(int(o.version) for o in model.opset_import if o.domain == "")


def test_the_oldest_opset_that_has_all_nodes() -> None:
    relu, half = Node("Relu", ["x"], ["y"]), TensorType(BFLOAT16, ("N", 3))
    assert opset(relu) == 17
    assert opset(Node("Gelu", ["x"], ["y"])) == 20
    assert opset(Node("ReduceMean", ["x", "axes"], ["y"]), axes=[1]) == 18  # axes were an attribute
    assert opset(Node("ReduceSum", ["x", "axes"], ["y"]), axes=[1]) == 17
    assert opset(Node("Elu", ["x"], ["y"])) == 17
    assert opset(Node("Elu", ["x"], ["y"]), inputs={"x": half}) == 22  # bfloat16 came then
    assert opset(Node("Cast", ["x"], ["y"], {"to": 1})) == 17
    assert opset(Node("Cast", ["x"], ["y"], {"to": 1, "saturate": 1})) == 19
    assert opset(Node("Cast", ["x"], ["y"], {"to": 22})) == 21  # int4
    assert opset(relu, Node("Swish", ["y"], ["z"])) == 24


def test_values_in_bodies_count() -> None:
    made = body({"s": TensorType(FLOAT, None)}, [Node("Gelu", ["s"], ["t"])], ["t"])
    node = Node("If", ["c", "x"], ["y"], {"then_branch": made, "else_branch": made, "captures": 1})
    inputs = {"x": TensorType(FLOAT, (2,)), "c": TensorType(np.dtype(np.bool_), ())}
    assert opset(node, inputs=inputs) == 20
    # The body does not say that what it takes is bfloat16, as one from a file need not.
    made.nodes[0].op = "Elu"
    inputs["x"] = TensorType(BFLOAT16, (2,))
    assert opset(node, inputs=inputs) == 22


def test_windows_past_the_end_need_the_opset_that_settled_them() -> None:
    attributes = {"kernel_shape": [1, 1], "strides": [4, 4]}
    image = {"x": TensorType(FLOAT, (1, 1, 3, 3))}
    assert opset(Node("MaxPool", ["x"], ["y"], attributes), inputs=image) == 17
    assert opset(Node("MaxPool", ["x"], ["y"], {**attributes, "ceil_mode": 1}), inputs=image) == 22


def test_names_that_only_onnxruntime_has() -> None:
    inputs = {"x": TensorType(FLOAT, (2, 4)), "s": TensorType(FLOAT, (4,))}
    graph = Graph(inputs, ["y"], [Node("SimplifiedLayerNormalization", ["x", "s"], ["y"])])
    model = checked(graph)
    assert model.graph.node[0].op_type == "RMSNormalization"
    feeds = {k: np.random.default_rng(0).standard_normal(t.sizes).astype(np.float32) for k, t in inputs.items()}
    found, wanted = evaluate(imported(model), feeds)["y"], evaluate(graph, feeds)["y"]
    np.testing.assert_allclose(found, wanted, **ONNX_FLOAT32)  # exact where kernels compute it: test_onnx_export


@pytest.mark.parametrize("axis", [-1, 1, -2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_what_a_simplified_normalization_divided_by(axis: int, dtype: str) -> None:
    kind = np.dtype(dtype)
    inputs = {"x": TensorType(kind, ("N", 3, 4)), "s": TensorType(kind, (4,) if axis == -1 else (3, 4))}
    node = Node("SimplifiedLayerNormalization", ["x", "s"], ["y", "r"], {"axis": axis, "epsilon": 0.01})
    graph = Graph(inputs, ["y", "r"], [node])
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((2, 3, 4)).astype(kind), "s": np.ones(inputs["s"].sizes, kind)}
    found, wanted = evaluate(imported(checked(graph)), feeds), evaluate(graph, feeds)
    for name in graph.outputs:
        assert (found[name].dtype, found[name].shape) == (wanted[name].dtype, wanted[name].shape)
        tolerance = ROUNDED["float16"] if wanted[name].dtype == np.float16 else ONNX_FLOAT32
        np.testing.assert_allclose(found[name], wanted[name], **tolerance)


def test_trees_stay_where_they_are_not_deprecated() -> None:
    attributes = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.5, -1.0], "n_targets": 1,
    }  # fmt: skip
    graph = Graph(X, ["y"], [Node("TreeEnsembleRegressor", ["x"], ["y"], attributes, "ai.onnx.ml")])
    model = checked(graph)
    assert {o.domain: o.version for o in model.opset_import} == {"": 17, "ai.onnx.ml": 1}
    assert imported(model).nodes[0].attributes == attributes


def test_keys_of_maps() -> None:
    scores, strings = TensorType(FLOAT, ("N", 2)), {"classlabels_strings": ["a", "b"]}
    for attributes, key in ((strings, 8), ({"classlabels_int64s": [4, 5]}, 7)):
        model = checked(Graph({"x": scores}, ["y"], [Node("ZipMap", ["x"], ["y"], attributes, "ai.onnx.ml")]))
        assert model.graph.output[0].type.sequence_type.elem_type.map_type.key_type == key
    words = TensorType(FLOAT, (), ("map",))
    for attributes, key in (({"string_vocabulary": ["a", "b"]}, 8), ({"int64_vocabulary": [1, 2]}, 7)):
        model = checked(Graph({"x": words}, ["y"], [Node("DictVectorizer", ["x"], ["y"], attributes, "ai.onnx.ml")]))
        assert model.graph.input[0].type.map_type.key_type == key
