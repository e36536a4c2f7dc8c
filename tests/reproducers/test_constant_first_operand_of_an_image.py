"""A constant image lost its rank when it moved before a Transpose, and so did the sum of it and a smaller operand."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, infer_types
from forwardpass.passes import optimize
from tolerance import ONNX_FLOAT32


@pytest.mark.parametrize("op", ["PRelu", "Add"])
@pytest.mark.parametrize("shape", [(1,), (1, 2, 1, 1)])
def test_constant_first_operand_of_an_image(op: str, shape: tuple[int, ...]) -> None:
    constants = {
        "c": np.array([-1.5, -1.0], np.float32).reshape(1, 2, 1, 1),
        "w": np.array([-2.5, 3.0], np.float32).reshape(2, 1, 1, 1),
    }
    nodes = [Node(op, ["c", "x"], ["s"]), Node("Relu", ["s"], ["r"]), Node("Conv", ["r", "w"], ["y"], {"group": 2})]
    graph = Graph({"x": TensorType(np.dtype(np.float32), shape)}, ["y"], nodes, constants)
    x = np.full(shape, 2.5, np.float32)
    changed, _ = optimize(graph)
    assert infer_types(changed)["y"].shape == (1, 2, 1, 1)
    np.testing.assert_allclose(evaluate(changed, {"x": x})["y"], evaluate(graph, {"x": x})["y"], **ONNX_FLOAT32)
