"""Convolutions of images of few channels read them channels first, as the caller gives them."""

from __future__ import annotations

from ..graph import Node
from ..ops.lower_stem import is_stem
from .merge_transposes import TO_NHWC, order_of
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule("nhwc.Conv")
def read_planes(view: View, node: Node) -> Result:
    """Read past the Transpose that makes the channels the last dimension, where nobody else needs it."""
    weights = view.constant(node.inputs[1])
    before = view.producer(node.inputs[0])
    if before is None or order_of(view, before) != TO_NHWC or weights is None:
        return None
    if len(node.inputs) > 3 or not is_stem(node.attributes, weights.shape):
        return None
    if view.is_output(node.inputs[0]) or len(view.uses(node.inputs[0])) > 1:
        return Declined(f"others read {node.inputs[0]!r} too")
    attributes = {**node.attributes, "channels_first": 1}
    made = Node(node.op, [before.inputs[0], *node.inputs[1:]], node.outputs, attributes, node.domain, node.name)
    return Patch(f"reads past {before.label}", [node, before], [made])


PASS = Pass("read_planes", (read_planes,))
