"""Transposes that cancel, merge, repeat each other or move nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node, TensorType
from ..ops.layout import permutation
from .merge_views import reshape_target
from .rewrite import Declined, Pass, Patch, Result, drop, rule
from .view import View

__all__ = [
    "AS_VIEWS",
    "PASS",
    "RULES",
    "TO_NCDHW",
    "TO_NCHW",
    "TO_NDHWC",
    "TO_NHWC",
    "inverse",
    "order_of",
    "transpose",
    "transposed_type",
]

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
TO_NDHWC = (0, 2, 3, 4, 1)
TO_NCDHW = (0, 4, 1, 2, 3)


def order_of(view: View, node: Node) -> tuple[int, ...] | None:
    """The permutation of a Transpose; None where it depends on an unknown rank, and for other nodes."""
    if node.qualified != "Transpose":
        return None
    shape = view.type(node.inputs[0]).shape
    given = node.attributes.get("perm")
    if given is not None:
        return tuple(map(int, given))
    return None if shape is None else tuple(permutation({"perm": None}, len(shape)))


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(order)), key=lambda k: order[k]))


def transposed_type(found: TensorType, order: Sequence[int]) -> TensorType:
    """The type of a value after a Transpose."""
    shape = found.shape
    return TensorType(found.dtype, None if shape is None else tuple(shape[k] for k in order))


def transpose(x: str, y: str, order: Sequence[int], name: str = "") -> Node:
    """A Transpose."""
    return Node("Transpose", [x], [y], {"perm": list(order)}, name=name)


@rule("Transpose")
def merge(view: View, node: Node) -> Result:
    """Drop a Transpose that moves nothing, and make one of two."""
    order = order_of(view, node)
    if order is None:
        return Declined(f"the rank of {node.inputs[0]!r} is unknown")
    x, y = node.inputs[0], node.outputs[0]
    if order == tuple(range(len(order))):
        return drop(view, node, x, "dropped: moves nothing")
    inner = view.producer(x)
    first = None if inner is None else order_of(view, inner)
    if inner is None or first is None:
        return None
    together = tuple(first[k] for k in order)
    if together == tuple(range(len(together))):
        return drop(view, node, inner.inputs[0], f"undoes {inner.label}")
    return Patch(f"reads past {inner.label}", [node], [transpose(inner.inputs[0], y, together, node.name)])


@rule("Transpose")
def share(view: View, node: Node) -> Result:
    """Drop a Transpose of a value that another one transposes alike."""
    order, y = order_of(view, node), node.outputs[0]
    for other in view.uses(node.inputs[0]):
        if other is not node and view.place(other) < view.place(node) and order_of(view, other) == order:
            if view.is_output(y) and view.is_output(other.outputs[0]):
                return Declined(f"values {y!r} and {other.outputs[0]!r} are both graph outputs")
            return drop(view, node, other.outputs[0], f"the same as {other.label}")
    return None


@rule("Transpose")
def as_view(view: View, node: Node) -> Result:
    """A Transpose that only moves dimensions of size 1 leaves the values where they are: a Reshape."""
    order, x, y = order_of(view, node), node.inputs[0], node.outputs[0]
    before, after = view.type(x).shape, view.type(y).shape
    if order is None or before is None or after is None:
        return None
    moved = [k for k in order if before[k] != 1]
    if moved != sorted(moved):
        return None
    target = reshape_target(before, after)
    if target is None:
        return Declined(f"the shape {view.type(y)} cannot be written as that of a Reshape of {x!r}")
    name = view.fresh(f"{y}_shape")
    return Patch(
        "only moves dimensions of size 1: became Reshape",
        [node],
        [Node("Reshape", [x, name], [y], name=node.name)],
        {name: np.array(target, np.int64)},
    )


RULES = (merge, share)
PASS = Pass("merge_transposes", RULES)
AS_VIEWS = Pass("transposes_as_views", (as_view,))
