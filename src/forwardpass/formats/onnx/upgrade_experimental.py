"""Operators that were experiments of the first opsets, in terms of those that stayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import GraphError
from ...graph import Node
from .upgrade_parts import ALWAYS, Parts, Table

if TYPE_CHECKING:
    from .context import Context

__all__ = ["EXPERIMENTAL"]


def _scaled(parts: Parts, x: str, factor: float, output: str = "") -> str:
    return parts.emit("Mul", x, parts.number(factor, parts.node.inputs[0]), output=output)


def _affine(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    x = node.inputs[0]
    scaled = _scaled(parts, x, node.attributes.get("alpha", 1.0))
    parts.emit("Add", scaled, parts.number(node.attributes.get("beta", 0.0), x), output=node.outputs[0])
    return parts.nodes


def _scale(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    _scaled(parts, node.inputs[0], node.attributes.get("scale", 1.0), node.outputs[0])
    return parts.nodes


def _image_scaler(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    x = node.inputs[0]
    bias = parts.constant(np.array(node.attributes.get("bias", [0.0]), np.float32).reshape(-1, 1, 1))
    bias = parts.emit("CastLike", bias, x)
    parts.emit("Add", _scaled(parts, x, node.attributes.get("scale", 1.0)), bias, output=node.outputs[0])
    return parts.nodes


def _scaled_tanh(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    inner = parts.emit("Tanh", _scaled(parts, node.inputs[0], node.attributes.get("beta", 1.0)))
    _scaled(parts, inner, node.attributes.get("alpha", 1.0), node.outputs[0])
    return parts.nodes


def _parametric_softplus(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    inner = parts.emit("Softplus", _scaled(parts, node.inputs[0], node.attributes.get("beta", 1.0)))
    _scaled(parts, inner, node.attributes.get("alpha", 1.0), node.outputs[0])
    return parts.nodes


def _crop(node: Node, context: Context) -> list[Node]:
    """`border` is left, top, right, bottom; `scale`, where there is one, the height and width to keep."""
    border, scale = node.attributes.get("border"), node.attributes.get("scale")
    if border is None or len(border) != 4 or (scale is not None and len(scale) != 2):
        raise GraphError("a Crop needs a border of four numbers", where=node.label, got=str(border))
    left, top, right, bottom = border
    ends = [top + scale[0], left + scale[1]] if scale else [-b if b else 2**63 - 1 for b in (bottom, right)]
    parts = Parts(node, context)
    bounds = [parts.integers(v) for v in ([top, left], ends, [2, 3])]
    parts.emit("Slice", node.inputs[0], *bounds, output=node.outputs[0])
    return parts.nodes


def _dynamic_slice(node: Node, context: Context) -> list[Node]:
    return [Node("Slice", list(node.inputs), list(node.outputs), {}, "", node.name)]


EXPERIMENTAL: Table = {
    "Affine": ((ALWAYS, _affine),),
    "Scale": ((ALWAYS, _scale),),
    "ImageScaler": ((ALWAYS, _image_scaler),),
    "ScaledTanh": ((ALWAYS, _scaled_tanh),),
    "ParametricSoftplus": ((ALWAYS, _parametric_softplus),),
    "Crop": ((ALWAYS, _crop),),
    "DynamicSlice": ((ALWAYS, _dynamic_slice),),
}
