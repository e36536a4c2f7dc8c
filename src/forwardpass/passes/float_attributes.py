"""Numbers among the attributes as ONNX holds them, in float32: a model computes the same before and after it is written
as an ONNX file, though Python's numbers are wider."""

from __future__ import annotations

import math
from struct import Struct
from typing import Any

import numpy as np

from ..graph import Graph, Node

__all__ = ["round_attributes"]

_FLOAT32 = Struct("f")
_PLAIN = frozenset({int, str, type(None)})


def round_attributes(graph: Graph) -> None:
    """Round the numbers of a graph's nodes, and of the bodies in them, which are replaced where they change."""
    for node in graph.nodes:
        for name, value in node.attributes.items():
            if type(value) in _PLAIN:
                continue
            made = _rounded(value)
            if made is not value:
                node.attributes[name] = made


def _rounded(value: Any) -> Any:
    """The value itself where it is as it should be."""
    if isinstance(value, float):
        number = _number(value)
        return value if number == value or value != value else number
    if isinstance(value, list) and value and isinstance(value[0], float):
        wide = np.asarray(value, np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        return value if np.array_equal(wide, narrow, equal_nan=True) else narrow.astype(np.float64).tolist()
    if isinstance(value, Graph):
        copy = value.copy()
        round_attributes(copy)
        return copy if any(_differ(a, b) for a, b in zip(copy.nodes, value.nodes)) else value
    return value


def _number(value: float) -> float:
    try:
        return float(_FLOAT32.unpack(_FLOAT32.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _differ(a: Node, b: Node) -> bool:
    return any(v is not b.attributes[k] for k, v in a.attributes.items())
