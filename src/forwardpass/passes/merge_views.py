"""Reshape, Flatten, Squeeze and Unsqueeze: chains become one Reshape, and those that change nothing go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Dim, Node
from .rewrite import Declined, Pass, Patch, Result, drop, rule
from .view import View

__all__ = ["PASS", "reshape_target"]

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def reshape_target(before: Sequence[Dim] | None, after: Sequence[Dim] | None) -> list[int] | None:
    """The second input of a Reshape between two shapes of equally many elements; None where there is none.

    A size that only a call knows is written as 0 (copied) where it stays in its place, else as -1 (deduced), which
    can stand but once.
    """
    if before is None or after is None:
        return None
    target: list[int] = []
    for k, d in enumerate(after):
        stays = k < len(before) and before[k] == d and d is not None
        if isinstance(d, int) and d > 0:
            target.append(d)
        elif stays:
            target.append(0)
        elif isinstance(d, int):
            return None
        else:
            target.append(-1)
    if target.count(-1) > 1 or (-1 in target and 0 in before):
        return None
    return target


def _plain(node: Node) -> bool:
    return not node.attributes.get("allowzero", 0)


@rule(*VIEWS)
def merge(view: View, node: Node) -> Result:
    """Drop a view that keeps the shape, and read past views."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = view.type(x).shape, view.type(y).shape
    if before is not None and before == after and None not in before:
        return drop(view, node, x, "dropped: the shape stays")
    inner = view.producer(x)
    if inner is None or inner.domain or inner.op not in VIEWS:
        return None
    source = inner.inputs[0]
    if not _plain(node) or not _plain(inner):
        return Declined("allowzero")
    shape = view.type(source).shape
    if shape is not None and shape == after and None not in shape:
        return drop(view, node, source, f"undoes {inner.label}")
    target = reshape_target(shape, after)
    if target is None:
        return Declined(f"the shape {view.type(y)} cannot be written as that of a Reshape of {source!r}")
    name = view.fresh(f"{y}_shape")
    return Patch(
        f"reads past {inner.label}",
        [node],
        [Node("Reshape", [source, name], [y], name=node.name)],
        {name: np.array(target, np.int64)},
    )


PASS = Pass("merge_views", (merge,))
AGAIN = Pass("merge_views_again", PASS.rules)
"""For the views that the layout leaves."""
