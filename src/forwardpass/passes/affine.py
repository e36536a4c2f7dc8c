"""Operators that are x * scale + shift with constants, and what the passes that fold them share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node
from ..records import record
from .view import View

__all__ = ["OPS", "Affine", "affine_of", "channel_vector", "reshaped_for_channels", "rounded"]

OPS = ("Add", "Sub", "Mul", "Div", "fused.ScaleShift")


@record(frozen=True, slots=True)
class Affine:
    """y = x * scale + shift, None where there is no scale or shift; the constants as the graph has them, in
    float64 if they were computed."""

    x: str
    scale: Array | None
    shift: Array | None


def rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    """A float64 result rounded once, to the dtype of the graph."""
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=dtype)


def affine_of(view: View, node: Node) -> Affine | None:
    """What a node of `OPS` is as an affine function of its input that is no constant."""
    constants = [view.constant(i) for i in node.inputs]
    if node.op == "ScaleShift":
        if (
            constants[0] is not None
            or constants[1] is None
            or constants[2] is None
            or node.attributes.get("activation")
        ):
            return None
        return Affine(node.inputs[0], constants[1], constants[2])
    if len(constants) != 2 or (constants[0] is None) == (constants[1] is None):
        return None
    which = 0 if constants[0] is None else 1
    c = constants[1 - which]
    x = node.inputs[which]
    if c is None or c.dtype.kind != "f" or (node.op == "Div" and which == 1):
        return None
    if node.op == "Mul":
        return Affine(x, c, None)
    if node.op == "Div":
        with np.errstate(all="ignore"):
            return Affine(x, 1 / np.asarray(c, np.float64), None)
    if node.op == "Add":
        return Affine(x, None, c)
    return Affine(x, None, -c) if which == 0 else Affine(x, np.array(-1.0), c)


def channel_vector(array: Array | None, rank: int, axis: int, size: int) -> Array | None:
    """A constant as a float64 vector over one axis (negative) of a value of that rank, if it is the same along
    the others; None if it is not."""
    if array is None or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(d != 1 for k, d in enumerate(shape) if k - rank != axis) or shape[axis] not in (1, size):
        return None
    made = np.empty(size)
    made[:] = array.reshape(-1)
    return made


def reshaped_for_channels(vector: Array, rank: int) -> Array:
    """A vector over the channels [N, C, ...] of a value of that rank, in a shape that broadcasts."""
    return vector.reshape((-1,) + (1,) * max(rank - 2, 0))
