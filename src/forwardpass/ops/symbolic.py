"""Values that follow from sizes of which it is tracked where they came from.

Few integers of a fixed number (a shape, one size) are an array of tracked numbers, which shape rules read like any
other. What has more of them, or comes from an operator that is not among those, is one tracked array, whose elements
only a run knows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType, Value
from ..tracked import call, integer, is_tracked
from . import shapes
from .registry import Attributes, Operator

__all__ = ["OF_SHAPES", "as_tracked", "elements_of", "has_tracked", "tracked_values"]

OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators whose results follow from the shape of their input alone."""
_MOST = 64
"""Elements of an array of tracked numbers."""
_VIEWS = frozenset({"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"})
_MOVING = _VIEWS | {"Concat", "Gather", "Slice"}
"""Operators that do no more to the elements of their data than to put them elsewhere."""
_ARITHMETIC = frozenset({"Add", "Sub", "Mul"})


def has_tracked(value: Any) -> bool:
    """Whether a value is tracked, or holds something that is."""
    if is_tracked(value):
        return True
    return isinstance(value, np.ndarray) and value.dtype.hasobject and any(is_tracked(v) for v in value.flat)


def elements_of(value: Any) -> Any:
    """A value as shape rules and lowerings may read it: None where only a run knows the elements."""
    return None if is_tracked(value) else value


def as_tracked(value: Any, dtype: np.dtype[Any]) -> Any:
    """An array of tracked numbers as a tracked array; anything else as it is."""
    if is_tracked(value) or not has_tracked(value):
        return value
    return call(partial(_array, value.shape, dtype), *value.flat)


def _array(shape: tuple[int, ...], dtype: np.dtype[Any], *elements: int) -> Array:
    return np.array(elements, dtype).reshape(shape)


def tracked_values(
    node: Node, operator: Operator, types: list[TensorType | None], known: list[Value], found: list[TensorType]
) -> list[Any] | None:
    """The outputs of a node that works on tracked sizes; None where it has several."""
    attributes = operator.bind(node)
    if node.qualified in OF_SHAPES:
        return _sizes(node, attributes, types[0])
    if len(found) != 1:
        return None
    if _stays_small(node, types, known, found[0]):
        whole = _whole(node)
        data = [v.astype(object) if isinstance(v, np.ndarray) and k not in whole else v for k, v in enumerate(known)]
        result = np.array(operator.reference(attributes, *data), object).reshape(found[0].sizes)
        return [result if has_tracked(result) else result.astype(found[0].dtype)]
    made = _directly(node, attributes, types, known, found[0])
    if made is not None:
        return [made]
    arrays = [v if t is None else as_tracked(v, t.dtype) for v, t in zip(known, types)]
    return [call(partial(_evaluated, operator, attributes, found[0].dtype), *arrays)]


def _directly(
    node: Node, attributes: Attributes, types: list[TensorType | None], known: list[Any], found: TensorType
) -> Any:
    """The result of common operators by a few calls of NumPy: a definition looks at shapes that are known here."""
    first, name = types[0], node.qualified
    if first is None or not found.is_known or first.dtype != found.dtype:
        return None
    data = as_tracked(known[0], first.dtype)
    if name in _VIEWS:
        return call(_reshaped, data, *found.sizes)
    if name == "Expand":
        return call(_expanded, data, *found.sizes)
    if name == "Concat":
        return call(_joined, attributes["axis"], *(as_tracked(v, found.dtype) for v in known))
    if name == "Range" and found.dtype == np.int64:
        start, _, step = (v.item() for v in known if isinstance(v, np.ndarray))
        return call(_counted, start, step, *found.sizes)
    if name == "Slice" and not any(map(is_tracked, known[1:])):
        return _part(data, [None if v is None else list(v.ravel()) for v in known[1:]])
    return None


def _part(x: Any, given: list[list[Any] | None]) -> Any:
    """A Slice in steps of one, which ONNX takes as Python does; None for others."""
    starts, ends, axes, steps = [*given, None, None][:4]
    assert starts is not None
    assert ends is not None
    along = range(len(starts)) if axes is None else axes
    if any(map(is_tracked, along)) or any(is_tracked(s) or s != 1 for s in steps or ()):
        return None
    return call(_cut, x, tuple(map(int, along)), *map(integer, [*starts, *ends]))


def _cut(x: Array, axes: tuple[int, ...], *ends: int) -> Array:
    taken = [slice(None)] * x.ndim
    for axis, start, end in zip(axes, ends, ends[len(axes) :]):
        taken[axis] = slice(start, end)
    return np.ascontiguousarray(x[tuple(taken)])


def _reshaped(x: Array, *shape: int) -> Array:
    return x.reshape(shape)


def _expanded(x: Array, *shape: int) -> Array:
    made = np.empty(shape, x.dtype)
    made[...] = x
    return made


def _joined(axis: int, *parts: Array) -> Array:
    return np.concatenate(parts, axis)


def _counted(start: int, step: int, count: int) -> Array:
    return np.arange(start, start + step * count, step)


def _whole(node: Node) -> tuple[int, ...]:
    """Inputs that say where elements go, and are no data."""
    return () if node.op in _ARITHMETIC or node.op == "Concat" else (1, 2, 3, 4)


def _stays_small(node: Node, types: list[TensorType | None], known: list[Value], found: TensorType) -> bool:
    if node.domain or node.op not in _MOVING | _ARITHMETIC or any(is_tracked(v) for v in known):
        return False
    if any(has_tracked(known[k]) for k in _whole(node) if k < len(known)):
        return False
    if found.dtype.kind not in "iu" or any(is_tracked(d) for t in [*types, found] if t for d in t.shape or ()):
        return False
    return all(not isinstance(v, np.ndarray) or v.size <= _MOST for v in known)


def _sizes(node: Node, attributes: Attributes, given: TensorType | None) -> list[Any] | None:
    if given is None or not given.is_known:
        return None
    sizes = given.sizes
    if node.op == "Size":
        count = math.prod(sizes)
        return [np.array(count, object) if is_tracked(count) else np.array(count, np.int64)]
    sizes = sizes[shapes.axes_between(attributes, len(sizes))]
    return [np.array(sizes, object if any(map(is_tracked, sizes)) else np.int64)]


def _evaluated(operator: Operator, attributes: Attributes, dtype: np.dtype[Any], *arrays: Array | None) -> Array:
    """The definition's result, dense."""
    result = operator.reference(attributes, *arrays)
    if type(result) is np.ndarray and result.dtype == dtype and result.flags.carray:
        return result
    return np.require(result, dtype, ["C", "A"])
