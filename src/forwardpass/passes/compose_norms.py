"""Normalisation of the last dimension that an exporter wrote out becomes one operator again."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _number(view: View, value: str) -> float | None:
    array = view.constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _from(view: View, value: str, *ops: str) -> Node | None:
    node = view.producer(value)
    return node if node is not None and node.qualified in ops else None


def _mean(view: View, value: str) -> str | None:
    """x where the value is its mean over the last axis, kept as a dimension."""
    node = _from(view, value, "ReduceMean")
    axes = None if node is None or len(node.inputs) < 2 else view.constant(node.inputs[1])
    if node is None or axes is None or axes.size != 1 or not view.attributes(node)["keepdims"]:
        return None
    axis, shape = int(axes.reshape(())), view.type(node.inputs[0]).shape
    last = axis == -1 or (shape is not None and axis == len(shape) - 1)
    return node.inputs[0] if last else None


def _squared(view: View, value: str) -> str | None:
    """x where the value is x squared."""
    node = _from(view, value, "Pow", "Mul")
    if node is None:
        return None
    x, other = node.inputs
    return x if (node.op == "Mul" and other == x) or (node.op == "Pow" and _number(view, other) == 2) else None


def _spread(view: View, value: str) -> tuple[str, float] | None:
    """(x, epsilon) where the value is mean(x squared) + epsilon."""
    node = _from(view, value, "Add")
    for k in (0, 1) if node is not None else ():
        assert node is not None
        epsilon, mean = _number(view, node.inputs[1 - k]), _mean(view, node.inputs[k])
        x = None if mean is None else _squared(view, mean)
        if x is not None and epsilon is not None:
            return x, epsilon
    return None


def _root(view: View, value: str) -> str | None:
    """x where the value is its square root."""
    node = _from(view, value, "Sqrt", "Pow")
    if node is None or (node.op == "Pow" and _number(view, node.inputs[1]) != 0.5):
        return None
    return node.inputs[0]


def _inverse_root(view: View, value: str) -> str | None:
    """x where the value is 1 / sqrt(x)."""
    node = _from(view, value, "Reciprocal", "Div", "Pow")
    if node is None:
        return None
    if node.op == "Pow":
        return node.inputs[0] if _number(view, node.inputs[1]) == -0.5 else None
    if node.op == "Div" and _number(view, node.inputs[0]) != 1:
        return None
    return _root(view, node.inputs[-1])


def _normalized(view: View, node: Node) -> tuple[str, str, float] | None:
    """(numerator, what its spread is of, epsilon) where the node divides by the root of mean square + epsilon."""
    if node.op == "Div":
        inner = _root(view, node.inputs[1])
        found = None if inner is None else _spread(view, inner)
        return None if found is None else (node.inputs[0], *found)
    for k in (0, 1):
        inner = _inverse_root(view, node.inputs[k])
        found = None if inner is None else _spread(view, inner)
        if found is not None:
            return node.inputs[1 - k], *found
    return None


def _centred(view: View, value: str) -> str | None:
    """x where the value is x - mean(x)."""
    node = _from(view, value, "Sub")
    if node is None:
        return None
    return node.inputs[0] if _mean(view, node.inputs[1]) == node.inputs[0] else None


def _row(view: View, node: Node, op: str, size: int) -> tuple[Node, str] | None:
    """The Mul or Add that alone reads a node's result, with a constant row; and the row."""
    value = node.outputs[0]
    reader = view.uses(value)[0] if view.shared(value) is None else None
    if reader is None or reader.qualified != op:
        return None
    other = reader.inputs[1 - reader.inputs.index(value)]
    array = view.constant(other)
    return (reader, other) if array is not None and array.shape == (size,) else None


@rule("Div", "Mul")
def normalization(view: View, node: Node) -> Result:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + shift, and the form without a mean."""
    found = _normalized(view, node)
    if found is None:
        return None
    top, of, epsilon = found
    x = _centred(view, top)
    if x is not None and (of == top or _centred(view, of) == x):
        op = "LayerNormalization"
    elif top == of:
        x, op = top, "RMSNormalization"
    else:
        return None
    assert x is not None
    if view.type(x).dtype != np.float32 or not epsilon >= 0:
        return Declined(f"its values are {view.type(x).dtype}, or its epsilon is negative")
    removed, constants, end = [node], dict[str, Array](), node
    size = (view.type(x).shape or (None,))[-1]
    if not isinstance(size, int):
        return Declined("the size of its rows is unknown")
    scaled = _row(view, node, "Mul", size)
    if scaled is None:
        scale = view.fresh(f"{node.outputs[0]}.scale")
        constants[scale] = np.ones(size, np.float32)
    else:
        end, scale = scaled
        removed.append(end)
    inputs = [x, scale]
    shifted = _row(view, end, "Add", size) if op == "LayerNormalization" else None
    if shifted is not None:
        end = shifted[0]
        inputs.append(shifted[1])
        removed.append(end)
    made = Node(op, inputs, list(end.outputs), {"axis": -1, "epsilon": epsilon}, name=node.name)
    return Patch(f"became {op} with epsilon {epsilon:g}", removed, [made], constants)


PASS = Pass("compose_norms", (normalization,))
