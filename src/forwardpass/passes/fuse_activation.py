"""Activations become part of the layer before them."""

from __future__ import annotations

from typing import Any

from ..graph import Node
from ..ops import ACTIVATIONS, activation_of
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS", "activated"]


def activated(view: View, layer: Node) -> tuple[Node, dict[str, Any]]:
    """What ends a layer: the activation that alone reads it, if there is one that an epilogue can be, and the
    attributes of that; else the layer itself, and none."""
    y = layer.outputs[0]
    reader = view.uses(y)[0] if view.shared(y) is None else None
    if reader is None or reader.inputs[0] != y:
        return layer, {}
    found = activation_of(reader, view.graph.constants)
    return (layer, {}) if found is None else (reader, dict(zip(("activation", "alpha", "beta"), found)))


@rule(*dict.fromkeys(a.op for a in ACTIVATIONS.values()))
def fuse(view: View, node: Node) -> Result:
    """f(layer(x)) -> layer(x, activation=f)."""
    layer = view.producer(node.inputs[0])
    if layer is None or layer.qualified not in ("fused.Linear", "fused.ScaleShift", "nhwc.Conv", "nhwc.ConvTranspose"):
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
