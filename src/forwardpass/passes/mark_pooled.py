"""Convolutions whose result is only pooled by 2 x 2 are told so: kernels that pool in their epilogue take less time."""

from __future__ import annotations

from ..graph import Node
from .rewrite import Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_POOL = {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1], "pads": [0, 0, 0, 0], "ceil_mode": 0}


@rule("nhwc.Conv")
def mark_pooled(view: View, node: Node) -> Result:
    """Set the attribute `pooled` where the one reader is a MaxPool of windows of 2 x 2 that do not overlap."""
    readers = view.uses(node.outputs[0])
    if len(readers) != 1 or view.is_output(node.outputs[0]) or node.attributes.get("pooled"):
        return None
    pool = readers[0]
    if pool.qualified != "nhwc.MaxPool":
        return None
    given = view.attributes(pool)
    if any(list(given[k] or v) != v if isinstance(v, list) else given[k] != v for k, v in _POOL.items()):
        return None
    made = Node(node.op, node.inputs, node.outputs, {**node.attributes, "pooled": 1}, node.domain, node.name)
    return Patch(f"only {pool.label} reads it", [node], [made])


PASS = Pass("mark_pooled", (mark_pooled,))
