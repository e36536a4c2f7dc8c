"""Nodes that change nothing are taken out."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Node
from .rewrite import Declined, Pass, Result, drop, rule
from .view import View

__all__ = ["PASS"]


@rule("Identity")
def identity(view: View, node: Node) -> Result:
    """Identity."""
    return drop(view, node, node.inputs[0], "dropped")


@rule("Dropout")
def dropout(view: View, node: Node) -> Result:
    """Dropout, which acts in training alone."""
    if len(node.outputs) > 1 and node.outputs[1] and view.uses(node.outputs[1]):
        return Declined(f"the mask {node.outputs[1]!r} is used")
    if len(node.outputs) > 1 and node.outputs[1] and view.is_output(node.outputs[1]):
        return Declined(f"the mask {node.outputs[1]!r} is a graph output")
    if len(node.inputs) > 2 and node.inputs[2] and view.constant(node.inputs[2]) is None:
        return Declined(f"training_mode {node.inputs[2]!r} is not a constant")
    if len(node.inputs) > 2 and node.inputs[2] and np.any(view.constant(node.inputs[2])):
        return Declined("training_mode is on")
    return drop(view, node, node.inputs[0], "dropped")


@rule("Cast")
def cast(view: View, node: Node) -> Result:
    """Cast to the dtype that the value has."""
    if view.type(node.inputs[0]).dtype != view.type(node.outputs[0]).dtype:
        return None
    return drop(view, node, node.inputs[0], "dropped: the dtype stays")


@rule("Concat", "Sum", "Min", "Max")
def single(view: View, node: Node) -> Result:
    """Variadic operators of one operand."""
    return drop(view, node, node.inputs[0], "dropped: one operand") if len(node.inputs) == 1 else None


@rule("Pad")
def pad(view: View, node: Node) -> Result:
    """Pad by nothing."""
    pads = view.constant(node.inputs[1])
    return drop(view, node, node.inputs[0], "dropped: no pads") if pads is not None and not pads.any() else None


@rule("Expand")
def expand(view: View, node: Node) -> Result:
    """Expand to the shape that the value has."""
    before, after = view.type(node.inputs[0]).shape, view.type(node.outputs[0]).shape
    if before is None or before != after or None in before:
        return None
    if view.constant(node.inputs[1]) is None:
        return Declined(f"the shape {node.inputs[1]!r} may be one to which the value cannot be expanded")
    return drop(view, node, node.inputs[0], "dropped: the shape stays")


_NEUTRAL = {"Add": (0, (0, 1)), "Sub": (0, (1,)), "Mul": (1, (0, 1)), "Div": (1, (1,)), "Pow": (1, (1,))}
"""Operator -> the value that changes nothing, and the inputs where it may stand."""


def _is(array: Array | None, value: int) -> bool:
    # Large constants are weights and not worth the look; of others, the first element mostly says it.
    if array is None or array.size > 4096 or (array.size and array.item(0) != value):
        return False
    return bool(np.all(array == value))


@rule(*_NEUTRAL)
def neutral(view: View, node: Node) -> Result:
    """x + 0, x - 0, x * 1, x / 1, x ** 1, where the constant does not make the shape larger."""
    value, places = _NEUTRAL[node.op]
    for k in places:
        source = node.inputs[1 - k]
        if _is(view.constant(node.inputs[k]), value) and view.constant(source) is None:
            before, after = view.type(source), view.type(node.outputs[0])
            if before == after and before.shape is not None and None not in before.shape:
                return drop(view, node, source, f"dropped: {node.op} of {value}")
    return None


PASS = Pass("drop_identity", (identity, dropout, cast, single, pad, expand, neutral))
