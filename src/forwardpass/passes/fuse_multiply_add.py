"""The addition of a product becomes one operator with it, which the activation behind can join."""

from __future__ import annotations

import numpy as np

from ..graph import Node, TensorType
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _spreads(small: TensorType, whole: TensorType) -> bool:
    """Whether a value is known to broadcast to another one's shape."""
    if small.shape is None or whole.shape is None or len(small.shape) > len(whole.shape):
        return False
    return all(a in (1, b) for a, b in zip(small.shape[::-1], whole.shape[::-1]))


@rule("Add")
def fuse(view: View, node: Node) -> Result:
    """Add(Mul(x, scale), shift) -> fused.ScaleShift(x, scale, shift)."""
    whole = view.type(node.outputs[0])
    if whole.dtype != np.float32 or whole.shape is None:
        return None
    reasons = []
    for product, shift in (node.inputs, node.inputs[::-1]):
        before = view.producer(product)
        if before is None or before.qualified != "Mul" or view.type(product) != whole:
            continue
        for x, scale in (before.inputs, before.inputs[::-1]):
            if view.type(x) == whole and all(_spreads(view.type(v), whole) for v in (scale, shift)):
                reason = view.shared(product)
                if reason is None:
                    made = Node("ScaleShift", [x, scale, shift], node.outputs, {}, "fused", node.name)
                    return Patch(f"took {before.label}", [before, node], [made])
                reasons.append(reason)
    return Declined(reasons[0]) if reasons else None


PASS = Pass("fuse_multiply_add", (fuse,))
