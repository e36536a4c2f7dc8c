"""Activations become part of the layer before them."""

from __future__ import annotations

from ..graph import Node
from ..ops import ACTIVATIONS, activation_of
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule(*dict.fromkeys(a.op for a in ACTIVATIONS.values()))
def fuse(view: View, node: Node) -> Result:
    """f(layer(x)) -> layer(x, activation=f)."""
    layer = view.producer(node.inputs[0])
    if layer is None or layer.qualified not in ("fused.Linear", "nhwc.Conv"):
        return None
    found = activation_of(node, view.graph.constants)
    if found is None:
        return Declined("its bounds are not constant")
    reason = view.shared(node.inputs[0])
    if reason is None and layer.attributes.get("activation"):
        reason = f"{layer.label} has the activation {layer.attributes['activation']} already"
    if reason is not None:
        return Declined(reason)
    activation, alpha, beta = found
    attributes = {**layer.attributes, "activation": activation, "alpha": alpha, "beta": beta}
    made = Node(layer.op, list(layer.inputs), list(node.outputs), attributes, layer.domain, layer.name)
    return Patch(f"became the activation of {layer.label}", [layer, node], [made])


PASS = Pass("fuse_activation", (fuse,))
