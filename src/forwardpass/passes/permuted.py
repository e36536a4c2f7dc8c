"""What the passes that move Transposes share: operands and pads on the other side of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Array, Dim, Node
from ..ops import ACTIVATIONS
from .merge_transposes import inverse, order_of, transpose
from .view import View

__all__ = ["POINTWISE", "Operands", "moved_pads", "sliced_axes", "transposed"]

POINTWISE = tuple(
    dict.fromkeys(
        [a.op for a in ACTIVATIONS.values()]
        + ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "PRelu", "Cast", "fused.ScaleShift"]
    )
)


def transposed(view: View, value: str) -> tuple[str, tuple[int, ...]] | None:
    """(source, permutation) where the value is a Transpose of rank 3 or more."""
    node = view.producer(value)
    order = None if node is None else order_of(view, node)
    return None if node is None or order is None else (node.inputs[0], order)


def _still(shape: Sequence[Dim] | None, order: Sequence[int]) -> bool:
    """Whether a Transpose by `order` of a value of that shape only moves dimensions of size 1."""
    if shape is None:
        return False
    moved = [k for k in order if shape[k] != 1]
    return moved == sorted(moved)


class Operands:
    """The operands of a pointwise node before a Transpose by `order`, and the nodes and constants that they need.

    Parameters
    ----------
    paid
        How many operands may get a Transpose of their own that really moves something.
    """

    def __init__(self, view: View, order: tuple[int, ...], paid: int = 0) -> None:
        self.view, self.order, self.back, self.paid = view, order, inverse(order), paid
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.reason = ""

    def add_all(self, node: Node) -> list[str]:
        """The names of a node's operands; sets `reason` where one has none.

        Constants lose their leading dimensions of size 1, which suits the kernels, unless the result would lose
        them too.
        """
        wide = any(self.view.constant(i) is None and self._is_full(i) for i in node.inputs if i)
        return [self._add(i, whole=not wide or (node.op == "PRelu" and k == 0)) for k, i in enumerate(node.inputs)]

    def _is_full(self, value: str) -> bool:
        shape = self.view.type(value).shape
        return shape is not None and len(shape) == len(self.order)

    def _add(self, value: str, *, whole: bool) -> str:
        if not value:
            return ""
        found = transposed(self.view, value)
        if found is not None and found[1] == self.order:
            return found[0]
        shape = self.view.type(value).shape
        if shape is not None and all(d == 1 for d in shape) and len(shape) <= 1:
            return value
        array = self.view.constant(value)
        if array is not None:
            return self._constant(value, array, whole)
        fits = self._is_full(value)
        free = fits and _still(shape, self.back)
        if fits and (free or self.paid > 0):
            self.paid -= not free
            moved = self.view.fresh(f"{value}_moved")
            self.nodes.append(transpose(value, moved, self.back))
            return moved
        self.reason = f"operand {value!r} is not transposed alike"
        return ""

    def _constant(self, value: str, array: Array, whole: bool) -> str:
        if array.ndim > len(self.order):
            self.reason = f"constant {value!r} has more dimensions"
            return ""
        full = array.reshape((1,) * (len(self.order) - array.ndim) + array.shape)
        moved = np.transpose(full, self.back)
        while not whole and moved.ndim > 0 and moved.shape[0] == 1:
            moved = moved[0]
        name = self.view.fresh(f"{value}_moved")
        self.constants[name] = np.ascontiguousarray(moved)
        return name


def moved_pads(view: View, node: Node, order: Sequence[int]) -> tuple[str, Array] | None:
    """The second input of a Pad, as a new name and value, before a Transpose by `order` that it stood behind; None
    where it is not constant."""
    rank = len(order)
    listed = [view.constant(i) if i else None for i in (*node.inputs, "", "")[1:4:2]]
    if listed[0] is None or (listed[1] is None and any(node.inputs[3:])):
        return None
    axes = range(rank) if listed[1] is None else [int(a) % rank for a in listed[1].ravel()]
    given = listed[0].ravel()
    widths = np.zeros((2, rank), np.int64)
    for k, axis in enumerate(axes):
        widths[:, order[axis]] = given[k], given[k + len(axes)]
    return view.fresh(f"{node.inputs[1]}_moved"), widths.ravel()


def sliced_axes(view: View, node: Node, rank: int) -> list[int] | None:
    """The axes of a Slice of a value of that rank; None where they are not constant."""
    name = node.inputs[3] if len(node.inputs) > 3 else ""
    if name:
        listed = view.constant(name)
        return None if listed is None else [int(a) % rank for a in listed.ravel()]
    starts = view.type(node.inputs[1]).shape
    return list(range(starts[0])) if starts and isinstance(starts[0], int) else None
