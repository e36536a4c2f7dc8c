"""Zeros around an image become pads of the convolution that reads it."""

from __future__ import annotations

from ..graph import Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule("nhwc.Conv")
def fold(view: View, node: Node) -> Result:
    """nhwc.Conv of Pad."""
    before = view.producer(node.inputs[0])
    if before is None or before.qualified != "Pad":
        return None
    if any(node.inputs[4:]):
        return Declined(f"{node.label} has factors of channels, and so no pads")
    if before.attributes.get("mode", "constant") != "constant":
        return Declined(f"{before.label} has mode {before.attributes['mode']!r}")
    inputs = (*before.inputs, "", "")[:4]
    pads, value, listed = (view.constant(i) if i else None for i in inputs[1:])
    if pads is None or any(i and view.constant(i) is None for i in inputs[2:]):
        return Declined(f"{before.label} has pads that are not constant")
    if value is not None and value.any():
        return Declined(f"{before.label} does not pad with zeros")
    spatial = len(node.attributes["pads"]) // 2
    axes = range(spatial + 2) if listed is None else [int(a) % (spatial + 2) for a in listed.ravel()]
    given = [int(p) for p in pads.ravel()]
    widths = dict(zip(axes, zip(given, given[len(axes) :])))
    if any(p < 0 for p in given) or any(any(widths.get(a, (0, 0))) for a in (0, spatial + 1)):
        return Declined(f"{before.label} crops, or pads more than height and width")
    more = [widths.get(k + 1, (0, 0))[end] for end in (0, 1) for k in range(spatial)]
    total = [int(p) + q for p, q in zip(node.attributes["pads"], more)]
    made = Node(
        node.op,
        [before.inputs[0], *node.inputs[1:]],
        list(node.outputs),
        {**node.attributes, "pads": total},
        node.domain,
        node.name,
    )
    return Patch(f"took in {before.label}", [node], [made])


PASS = Pass("fold_pad", (fold,))
