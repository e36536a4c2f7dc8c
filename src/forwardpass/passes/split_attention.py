"""com.microsoft's Attention, which has its projections inside, becomes those and a MultiHeadAttention."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_DOMAIN = "com.microsoft"
_KEPT = ("num_heads", "unidirectional", "scale", "mask_filter_value")


def _obstacle(view: View, node: Node, inputs: list[str]) -> str | None:
    if len(node.outputs) > 1 and node.outputs[1] and (view.uses(node.outputs[1]) or view.is_output(node.outputs[1])):
        return "its state is wanted"
    if inputs[4]:
        return "it has a past"
    mask = view.type(inputs[3]).shape if inputs[3] else ()
    if mask is None:
        return "the rank of its mask is unknown"
    if len(mask) == 1 and mask[0] != (view.type(inputs[0]).shape or (None,))[0]:
        return "its mask may have starts and ends"
    weights = view.type(inputs[1]).shape
    if weights is None or not isinstance(weights[1], int):
        return "the sizes of its weights are unknown"
    return None


@rule("com.microsoft.Attention")
def split(view: View, node: Node) -> Result:
    """Attention(x, W, b, mask) -> MultiHeadAttention(parts of x W + b, mask)."""
    inputs = (list(node.inputs) + [""] * 6)[:6]
    reason = _obstacle(view, node, inputs)
    if reason:
        return Declined(reason)
    bound = view.attributes(node)
    columns = view.type(inputs[1]).shape[1]  # type: ignore[index]
    assert isinstance(columns, int)
    sizes = list(bound["qkv_hidden_sizes"] or [columns // 3] * 3)
    stem = node.outputs[0]
    product, total, lengths = (view.fresh(f"{stem}.{n}") for n in ("product", "projected", "sizes"))
    parts = [view.fresh(f"{stem}.{n}") for n in "qkv"]
    added = [Node("MatMul", inputs[:2], [product])]
    if inputs[2]:
        added.append(Node("Add", [product, inputs[2]], [total]))
    added.append(Node("Split", [total if inputs[2] else product, lengths], parts, {"axis": 2}))
    kept = {k: v for k in _KEPT if (v := bound[k]) is not None}
    given = [*parts, "", inputs[3], inputs[5]]
    while not given[-1]:
        given.pop()
    added.append(Node("MultiHeadAttention", given, [node.outputs[0]], kept, _DOMAIN, node.name))
    return Patch("became products and MultiHeadAttention", [node], added, {lengths: np.array(sizes, np.int64)})


PASS = Pass("split_attention", (split,))
