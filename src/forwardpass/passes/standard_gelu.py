"""The forms of Gelu of com.microsoft become those of ONNX, which layers take as their activation."""

from __future__ import annotations

from typing import Any

from ..graph import Node
from .rewrite import Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Gelu": ("Gelu", {"approximate": "none"}),
    "BiasGelu": ("Gelu", {"approximate": "none"}),
    "FastGelu": ("Gelu", {"approximate": "tanh"}),
    "QuickGelu": ("Swish", {}),
}


@rule(*(f"com.microsoft.{name}" for name in _FORMS))
def standard(view: View, node: Node) -> Result:
    """f(x + bias) of com.microsoft -> Add and f."""
    op, attributes = _FORMS[node.op]
    if node.op == "QuickGelu":
        attributes = {"alpha": view.attributes(node)["alpha"]}
    x, added = node.inputs[0], []
    if len(node.inputs) > 1 and node.inputs[1]:
        total = view.fresh(f"{node.outputs[0]}.biased")
        added.append(Node("Add", [x, node.inputs[1]], [total]))
        x = total
    made = Node(op, [x], list(node.outputs), attributes, name=node.name)
    return Patch(f"became {op}", [node], [*added, made])


PASS = Pass("standard_gelu", (standard,))
