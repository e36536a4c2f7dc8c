"""Upgrades of operators that move data, and of Cast, DFT and the random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...dtypes import DTYPES, name_of
from ...errors import GraphError
from ...graph import Node
from .upgrade_parts import ALWAYS, Parts, Table, attribute_to_input, set_input

if TYPE_CHECKING:
    from .context import Context

__all__ = ["DATA"]

_CODES = {name_of(dtype).upper(): code for code, dtype in DTYPES.items()} | {"FLOAT": 1, "DOUBLE": 11}


def _cast_by_name(node: Node, context: Context) -> list[Node]:
    to = node.attributes.get("to")
    if isinstance(to, str):
        if to.upper() not in _CODES:
            raise GraphError("attribute 'to' is wrong", where=node.label, expected="the name of a data type", got=to)
        node.attributes["to"] = _CODES[to.upper()]
    return [node]


def _concat_axis(node: Node, context: Context) -> list[Node]:
    node.attributes.setdefault("axis", 1)
    return [node]


def _shape_input(node: Node, context: Context) -> list[Node]:
    node.attributes.pop("consumed_inputs", None)
    # An empty shape makes a scalar, so it must not count as absent.
    shape = node.attributes.pop("shape", None)
    if shape is not None:
        set_input(node, 1, Parts(node, context).integers(shape))
    return [node]


def _slice_bounds(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    starts = node.attributes.pop("starts", [])
    axes = node.attributes.pop("axes", None) or range(len(starts))
    set_input(node, 1, parts.integers(starts))
    set_input(node, 2, parts.integers(node.attributes.pop("ends", [])))
    set_input(node, 3, parts.integers(axes))
    return [node]


def _split_sizes(node: Node, context: Context) -> list[Node]:
    """The sizes were an attribute, or an input of the dtype of the data."""
    if len(node.inputs) < 2 or not node.inputs[1]:
        return [node]
    parts = Parts(node, context)
    node.inputs[1] = parts.emit("Cast", node.inputs[1], to=7)
    parts.keep()
    return parts.nodes


def _split_count(node: Node, context: Context) -> list[Node]:
    if len(node.inputs) < 2 or not node.inputs[1]:
        node.attributes.setdefault("num_outputs", len(node.outputs))
    return [node]


def _tile_repeats(node: Node, context: Context) -> list[Node]:
    """One axis and its number of copies became the number of copies of every axis."""
    parts = Parts(node, context)
    x, tiles, axis = node.inputs
    one = parts.integers([1])
    place, count = (parts.emit("Reshape", parts.emit("Cast", v, to=7), one) for v in (axis, tiles))
    node.inputs = [x, parts.emit("ScatterElements", parts.ones(parts.rank(x)), place, count, axis=0)]
    parts.keep()
    return parts.nodes


def _pad_name(node: Node, context: Context) -> list[Node]:
    if "paddings" in node.attributes:
        node.attributes["pads"] = node.attributes.pop("paddings")
    return [node]


def _pad_inputs(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    set_input(node, 1, parts.integers(node.attributes.pop("pads", [])))
    value = node.attributes.pop("value", None)
    if value is not None:
        set_input(node, 2, parts.number(value, node.inputs[0]))
    parts.keep()
    return parts.nodes


def _scatter_name(node: Node, context: Context) -> list[Node]:
    node.op = "ScatterElements"
    return [node]


def _dft_axis(node: Node, context: Context) -> list[Node]:
    axis = node.attributes.pop("axis", 1)
    set_input(node, 2, Parts(node, context).constant(np.array(axis, np.int64)))
    return [node]


_AXES = ((13, attribute_to_input("axes", 1)),)

DATA: Table = {
    "Cast": ((6, _cast_by_name),),
    "Concat": ((4, _concat_axis),),
    "Reshape": ((5, _shape_input),),
    "Slice": ((10, _slice_bounds),),
    "Split": ((2, _split_sizes), (13, attribute_to_input("split", 1)), (18, _split_count)),
    "Squeeze": _AXES,
    "Unsqueeze": _AXES,
    "Tile": ((6, _tile_repeats),),
    "Pad": ((2, _pad_name), (11, _pad_inputs)),
    "Scatter": ((ALWAYS, _scatter_name),),
    "TopK": ((10, attribute_to_input("k", 1)),),
    "DFT": ((20, _dft_axis),),
}
