"""Averages of pixels before convolutions of single pixels, in place of after them: the same sums, of fewer products."""

from __future__ import annotations

import math

from ..graph import Node, TensorType
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_LEAST = 2
"""Pixels that become one, or more: with fewer the products that are saved may not pay for the pool's wider pixels."""
_WEIGHTS = 2
"""Numbers of an image that are read in the time of one weight."""


def _linear(view: View, layer: Node) -> bool:
    """Whether each output of a layer is a sum of products with the channels of one pixel."""
    kernel = view.type(layer.inputs[1]).shape
    a = layer.attributes
    if kernel is None or any(k != 1 for k in kernel[:-2]) or any(a.get("pads") or ()):
        return False
    every = all(s == 1 for s in a.get("strides") or ())
    return every and not a.get("activation") and not any(layer.inputs[3:4])


def _pays_beside(view: View, layer: Node, pool: Node) -> bool:
    """Whether it takes less time to average the inputs of a layer, and to multiply their means beside the layer, than
    to average its outputs, which others read: the images from memory, and the weights once more."""
    x, y = view.type(layer.inputs[0]).shape, view.type(layer.outputs[0]).shape
    if pool.op != "GlobalAveragePool" or x is None or y is None:
        return False
    known = [d for d in (*y[1:-1], x[-1], y[-1]) if isinstance(d, int)]
    if len(known) < len(y):
        return False
    *pixels, inputs, outputs = known
    return math.prod(pixels) * (outputs - inputs) > _WEIGHTS * inputs * outputs


@rule("nhwc.AveragePool", "nhwc.GlobalAveragePool")
def pool_first(view: View, node: Node) -> Result:
    """AveragePool(nhwc.Conv(x)) -> nhwc.Conv(AveragePool(x))."""
    layer = view.producer(node.inputs[0])
    if layer is None or layer.qualified != "nhwc.Conv" or layer.attributes.get("channels_first"):
        return None
    if not _linear(view, layer):
        return None
    if node.op == "AveragePool" and math.prod(node.attributes.get("strides") or (1,)) < _LEAST:
        return None
    a = node.attributes
    if any(a.get("pads") or ()) and a.get("count_include_pad") and any(layer.inputs[2:3]):
        return Declined(f"it counts zeros, to which {layer.label} adds no bias")
    reason = view.shared(node.inputs[0])
    if reason is not None and not _pays_beside(view, layer, node):
        return Declined(reason)
    x, image = view.type(layer.inputs[0]), view.type(node.outputs[0])
    y = view.fresh(f"{layer.inputs[0]}_pooled")
    pool = Node(node.op, layer.inputs[:1], [y], dict(a), node.domain, node.name)
    made = Node(layer.op, [y, *layer.inputs[1:]], list(node.outputs), dict(layer.attributes), layer.domain, layer.name)
    types = {}
    if x.shape is not None and image.shape is not None:
        types[y] = TensorType(x.dtype, (*image.shape[:-1], x.shape[-1]))
    if reason is not None:
        return Patch(f"averages what {layer.label} reads", [node], [pool, made], types=types)
    return Patch(f"moved before {layer.label}", [layer, node], [pool, made], types=types)


PASS = Pass("pool_first", (pool_first,))
