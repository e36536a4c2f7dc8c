"""The addition of two values becomes the residual input of the layer that made one of them."""

from __future__ import annotations

from ..graph import Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _obstacle(view: View, layer: Node, value: str) -> str | None:
    """Why a layer cannot take a residual; None if it can."""
    reason = view.shared(value)
    if reason is not None:
        return reason
    if layer.attributes.get("activation"):
        return f"{layer.label} has an activation"
    if any(layer.inputs[3:]):
        return f"{layer.label} has a residual already"
    group = int(layer.attributes.get("group", 1))
    if group > 1 and view.type(layer.inputs[1]).shape[2:] == (1, group):  # type: ignore[index]
        return f"{layer.label} is depthwise"
    return None


@rule("Add", "Sum")
def fuse(view: View, node: Node) -> Result:
    """Add(layer(x), r) -> layer(x, residual=r)."""
    if len(node.inputs) != 2:
        return None
    reasons: list[str] = []
    found: list[tuple[Node, str]] = []
    for value, other in (node.inputs, node.inputs[::-1]):
        layer = view.producer(value)
        if layer is None or layer.qualified not in ("fused.Linear", "nhwc.Conv"):
            continue
        a, b = view.type(value), view.type(other)
        reason = _obstacle(view, layer, value)
        if reason is None and (a.shape is None or None in a.shape or a != b):
            reason = f"the shapes {a} and {b} are not known to be equal"
        if reason is None:
            found.append((layer, other))
        else:
            reasons.append(reason)
    if not found:
        return Declined("; ".join(reasons)) if reasons else None
    # The later layer: then the residual is there already, and nothing has to move.
    layer, residual = max(found, key=lambda pair: view.place(pair[0]))
    inputs = [*[*layer.inputs, "", ""][:3], residual]
    made = Node(layer.op, inputs, list(node.outputs), dict(layer.attributes), layer.domain, layer.name)
    return Patch(f"became the residual of {layer.label}", [layer, node], [made])


PASS = Pass("fuse_residual", (fuse,))
