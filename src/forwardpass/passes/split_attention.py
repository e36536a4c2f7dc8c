"""com.microsoft's Attention, which has its projections inside, becomes those and a MultiHeadAttention."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_DOMAIN = "com.microsoft"
_KEPT = ("num_heads", "unidirectional", "scale", "mask_filter_value")


def _obstacle(view: View, node: Node, inputs: list[str]) -> str | None:
    mask = view.type(inputs[3]).shape if inputs[3] else ()
    if mask is None:
        return "the rank of its mask is unknown"
    if len(mask) == 1 and mask[0] != (view.type(inputs[0]).shape or (None,))[0]:
        return "its mask may have starts and ends"
    weights = view.type(inputs[1]).shape
    if weights is None or not isinstance(weights[1], int):
        return "the sizes of its weights are unknown"
    return None


def _state(view: View, node: Node) -> str:
    """The output that keys and values go to, "" where nobody reads it."""
    name = node.outputs[1] if len(node.outputs) > 1 else ""
    return name if name and (view.uses(name) or view.is_output(name)) else ""


def _past(view: View, past: str, stem: str) -> tuple[list[Node], list[str], dict[str, Array]]:
    """The keys and the values of a past [2, batch, heads, length, size]: nodes, values and constants."""
    if not past:
        return [], ["", ""], {}
    parts = [view.fresh(f"{stem}.past_{n}") for n in ("key", "value")]
    places = [view.fresh(f"{stem}.{n}") for n in ("first", "second")]
    nodes = [Node("Gather", [past, p], [o], {"axis": 0}) for p, o in zip(places, parts)]
    return nodes, parts, {p: np.array(k, np.int64) for k, p in enumerate(places)}


def _present(view: View, present: str, stem: str) -> tuple[list[str], list[Node], dict[str, Array]]:
    """The keys and values that MultiHeadAttention makes, and how they become one state: nodes and constants."""
    if not present:
        return [], [], {}
    made = [view.fresh(f"{stem}.present_{n}") for n in ("key", "value")]
    wide = [view.fresh(f"{name}.wide") for name in made]
    axis = view.fresh(f"{stem}.axis")
    nodes = [Node("Unsqueeze", [m, axis], [w]) for m, w in zip(made, wide)]
    return made, [*nodes, Node("Concat", wide, [present], {"axis": 0})], {axis: np.array([0], np.int64)}


@rule("com.microsoft.Attention")
def split(view: View, node: Node) -> Result:
    """Attention(x, W, b, mask, past) -> MultiHeadAttention(parts of x W + b, mask, parts of past)."""
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
    taken, past, places = _past(view, inputs[4], stem)
    made, joined, axis = _present(view, _state(view, node), stem)
    given = [*parts, "", inputs[3], inputs[5], *past]
    while not given[-1]:
        given.pop()
    attention = Node("MultiHeadAttention", given, [node.outputs[0], *made], kept, _DOMAIN, node.name)
    constants = {lengths: np.array(sizes, np.int64), **places, **axis}
    return Patch("became products and MultiHeadAttention", [node], [*added, *taken, attention, *joined], constants)


PASS = Pass("split_attention", (split,))
