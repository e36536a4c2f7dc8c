"""What the values are made of that exporters calculate shapes with: which size of which value, where it is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..graph import Node
from .view import View

__all__ = ["Size", "is_size", "sizes_of"]

Size: TypeAlias = "int | tuple[str, int] | None"
"""A number, (value, axis), or None where nothing is known."""
_DEPTH = 32


def sizes_of(view: View, value: str, depth: int = _DEPTH) -> list[Size] | None:
    """The elements of a vector or a scalar of integers; None where not even their number is known."""
    array = view.constant(value)
    if array is not None:
        return [int(v) for v in array.reshape(-1)] if array.dtype.kind in "iu" and array.ndim < 2 else None
    node = view.producer(value)
    if node is None or depth == 0:
        return None
    if node.qualified == "Shape":
        return _shape(view, node)
    if node.qualified == "Concat":
        parts = [sizes_of(view, i, depth - 1) for i in node.inputs]
        return None if any(p is None for p in parts) else [s for p in parts if p is not None for s in p]
    if node.qualified in ("Squeeze", "Unsqueeze", "Identity", "Cast", "Reshape"):
        found = sizes_of(view, node.inputs[0], depth - 1)
        return found if found is not None and (len(found) == 1 or node.qualified == "Identity") else None
    if node.qualified == "Gather":
        return _gather(view, node, depth)
    return _slice(view, node, depth) if node.qualified == "Slice" else None


def _shape(view: View, node: Node) -> list[Size] | None:
    found = view.type(node.inputs[0]).shape
    if found is None:
        return None
    bound = view.attributes(node)
    axes = range(len(found))[slice(bound["start"], bound["end"])]
    result: list[Size] = []
    for axis in axes:
        size = found[axis]
        result.append(size if isinstance(size, int) else _origin(view, node.inputs[0], axis))
    return result


def _origin(view: View, value: str, axis: int) -> tuple[str, int]:
    """The value before its Transposes whose size it is."""
    node = view.producer(value)
    while node is not None and node.qualified == "Transpose" and node.attributes.get("perm"):
        value, axis = node.inputs[0], int(node.attributes["perm"][axis])
        node = view.producer(value)
    return value, axis


def _gather(view: View, node: Node, depth: int) -> list[Size] | None:
    found, index = sizes_of(view, node.inputs[0], depth - 1), view.constant(node.inputs[1])
    if found is None or index is None or index.ndim > 1:
        return None
    places = [int(i) for i in index.reshape(-1)]
    return [found[i] for i in places] if all(-len(found) <= i < len(found) for i in places) else None


def _slice(view: View, node: Node, depth: int) -> list[Size] | None:
    found = sizes_of(view, node.inputs[0], depth - 1)
    bounds: list[Any] = [view.constant(i) if i else np.array([1]) for i in node.inputs[1:]]
    if found is None or len(bounds) < 2 or any(b is None or b.size != 1 for b in bounds):
        return None
    start, end = (int(b.reshape(())) for b in bounds[:2])
    step = int(bounds[3].reshape(())) if len(bounds) > 3 else 1
    return found[start:end:step] if step > 0 else None


def is_size(view: View, size: Size, value: str, axis: int) -> bool:
    """Whether it is the size of a value along an axis."""
    found = view.type(value).shape
    if isinstance(size, int):
        return found is not None and found[axis] == size
    if size is None:
        return False
    rank = None if found is None else len(found)
    if axis < 0:
        if rank is None:
            return False
        axis += rank
    return size == _origin(view, value, axis)


def tail(sizes: Sequence[Size], count: int) -> list[Size]:
    """The last ones."""
    return list(sizes[len(sizes) - count :])
