"""A factor for each channel of an image becomes an input of the convolution that reads the products: it then multiplies
weights, or what is split for matrix tiles anyway, in place of a pass over the image."""

from __future__ import annotations

from ..graph import Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _factors(view: View, product: Node) -> list[tuple[str, str]]:
    """(image, factors) of a product of an image and one number per channel, or per channel of each image."""
    whole = view.type(product.outputs[0])
    found = []
    for x, scale in (product.inputs, product.inputs[::-1]):
        shape = view.type(scale).shape
        if view.type(x) != whole or whole.shape is None or shape is None or view.constant(scale) is not None:
            continue
        if shape[1:] == (1, 1, whole.shape[-1]) and shape[0] in (1, whole.shape[0]):
            found.append((x, scale))
    return found


def _obstacle(view: View, node: Node, product: str) -> str | None:
    """Why a convolution cannot take the factors of its image; None if it can."""
    kernel = view.type(node.inputs[1]).shape
    if kernel is None or kernel[:2] != (1, 1) or len(kernel) != 4 or any(node.attributes.get("pads") or ()):
        return "its windows are larger than a pixel"
    if node.attributes.get("group", 1) != 1:
        return "it has groups"
    return view.shared(product)


@rule("nhwc.Conv")
def fuse(view: View, node: Node) -> Result:
    """nhwc.Conv(x * scale) -> nhwc.Conv(x, scale=scale)."""
    product = view.producer(node.inputs[0])
    if product is None or product.qualified != "Mul" or any(node.inputs[4:]) or node.attributes.get("channels_first"):
        return None
    found = _factors(view, product)
    if not found:
        return None
    reason = _obstacle(view, node, node.inputs[0])
    if reason is not None:
        return Declined(f"the factors of {product.label}: {reason}")
    x, scale = found[0]
    inputs = [x, *[*node.inputs[1:], "", ""][:3], scale]
    made = Node(node.op, inputs, list(node.outputs), dict(node.attributes), node.domain, node.name)
    return Patch(f"took the factors of {product.label}", [product, node], [made])


PASS = Pass("fuse_scale", (fuse,))
