"""The forms of Gelu of com.microsoft in native kernels."""

from __future__ import annotations

import numpy as np
import pytest
from judged import judge, operands

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.passes import optimize

DOMAIN = "com.microsoft"


@pytest.mark.parametrize(("name", "inputs"), [("Gelu", 1), ("BiasGelu", 2), ("FastGelu", 1), ("FastGelu", 2)])
def test_forms(name: str, inputs: int) -> None:
    judge(name, (operands((3, 5, 20), 0), operands((20,), 1))[:inputs], (1,) if inputs == 2 else (), DOMAIN)


@pytest.mark.parametrize("alpha", [1.702, 0.5])
def test_quick(alpha: float) -> None:
    judge("QuickGelu", (operands((3, 5, 20), 0),), (), DOMAIN, alpha=alpha)


@pytest.mark.parametrize("name", ["BiasGelu", "FastGelu"])
def test_they_become_the_activation_of_a_layer(name: str) -> None:
    x = TensorType(np.dtype(np.float32), ("N", 4))
    nodes = [Node("MatMul", ["x", "w"], ["a"]), Node(name, ["a", "b"], ["y"], {}, DOMAIN)]
    constants = {"w": operands((4, 6), 0), "b": operands((6,), 1)}
    made, _ = optimize(Graph({"x": x}, ["y"], nodes, constants))
    assert [n.qualified for n in made.nodes] == ["fused.Linear"]
    assert made.nodes[0].attributes["activation"].startswith("Gelu")
