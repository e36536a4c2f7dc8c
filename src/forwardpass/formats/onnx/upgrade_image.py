"""Upgrades of image operators: resizing, pooling, sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import GraphError, UnsupportedError
from ...graph import Node
from .upgrade_parts import ALWAYS, Parts, Table, set_input

if TYPE_CHECKING:
    from .context import Context

__all__ = ["IMAGE"]

_SIMPLE = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _whole_p(node: Node, context: Context) -> list[Node]:
    """p was a floating-point number."""
    p = node.attributes.get("p", 2.0)
    if p != int(p):
        raise UnsupportedError("the norm is no whole number", where=node.label, expected="an integer", got=f"p={p:g}")
    node.attributes["p"] = int(p)
    return [node]


def _upsample_scales(node: Node, context: Context) -> list[Node]:
    """Height and width had attributes of their own."""
    scales = [float(node.attributes.pop(k, 1.0)) for k in ("height_scale", "width_scale")]
    node.attributes["scales"] = [1.0, 1.0, *scales]
    if node.attributes.get("mode") == "bilinear":
        node.attributes["mode"] = "linear"
    return [node]


def _scales_input(node: Node, context: Context) -> list[Node]:
    scales = node.attributes.pop("scales", None)
    if scales is not None:
        set_input(node, 1, Parts(node, context).constant(np.array(scales, np.float32)))
    return [node]


def _upsample_to_resize(node: Node, context: Context) -> list[Node]:
    x, scales = node.inputs
    attributes = {**_SIMPLE, "mode": node.attributes.get("mode", "nearest")}
    return [Node("Resize", [x, "", scales], list(node.outputs), attributes, "", node.name)]


def _resize_simple(node: Node, context: Context) -> list[Node]:
    """Resize 10 took the source pixel before a place where it enlarges, and the one after it where it shrinks."""
    parts = Parts(node, context)
    x, scales = node.inputs
    node.inputs = [x, "", scales]
    node.attributes.update(_SIMPLE)
    if node.attributes.get("mode", "nearest") != "nearest":
        return [node]
    known = context.constant(scales)
    if known is None or (np.any(known < 1) and np.any(known > 1)):
        one = parts.constant(np.ones(1, np.float32))
        shrink = parts.emit("Min", scales, one)
        attributes = {**node.attributes, "nearest_mode": "ceil"}
        node.inputs = [parts.emit("Resize", x, "", shrink, **attributes), "", parts.emit("Max", scales, one)]
    elif np.any(known < 1):
        node.attributes["nearest_mode"] = "ceil"
    parts.keep()
    return parts.nodes


def _resize_inputs(node: Node, context: Context) -> list[Node]:
    """All of roi, scales and sizes were there, empty where they had no meaning."""
    mode = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if len(node.inputs) > 1 and mode != "tf_crop_and_resize":
        node.inputs[1] = ""
    if len(node.inputs) > 3 and node.inputs[3]:
        node.inputs[2] = ""
    if mode == "tf_half_pixel_for_nn":
        _without_tf_half_pixel(node)
    return [node]


def _without_tf_half_pixel(node: Node) -> None:
    """floor((i + 0.5) / scale) is the half-pixel coordinate (i + 0.5) / scale - 0.5 rounded half up."""
    kind = node.attributes.get("mode", "nearest"), node.attributes.get("nearest_mode", "round_prefer_floor")
    if kind != ("nearest", "floor"):
        expected = "mode nearest with nearest_mode floor"
        raise UnsupportedError("tf_half_pixel_for_nn is gone", where=node.label, expected=expected, got=", ".join(kind))
    node.attributes.update(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")


def _resize_empty_scales(node: Node, context: Context) -> list[Node]:
    """Exporters wrote an empty tensor for absent scales when an absent input was long allowed."""
    if len(node.inputs) > 3 and node.inputs[3] and node.inputs[2]:
        known = context.constant(node.inputs[2])
        if known is not None and known.size == 0:
            node.inputs[2] = ""
    return [node]


def _grid_sample_modes(node: Node, context: Context) -> list[Node]:
    mode = node.attributes.get("mode", "bilinear")
    node.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return [node]


def _roi_align_pixels(node: Node, context: Context) -> list[Node]:
    node.attributes["coordinate_transformation_mode"] = "output_half_pixel"
    return [node]


def _spatial_output_shape(node: Node, context: Context) -> list[Node]:
    """Exporters gave batch and channels in output_shape too before the text ruled it out."""
    shape, rank = node.attributes.get("output_shape"), context.rank(node.inputs[0])
    if shape and rank is None:
        kernel = node.attributes.get("kernel_shape")
        rank = len(kernel) + 2 if kernel else None
    if shape and len(shape) == rank:
        node.attributes["output_shape"] = shape[2:]
    elif shape and rank is not None and len(shape) != rank - 2:
        raise GraphError("attribute 'output_shape' is wrong", where=node.label, expected=f"{rank - 2} integers")
    return [node]


IMAGE: Table = {
    "GlobalLpPool": ((2, _whole_p),),
    "LpPool": ((2, _whole_p),),
    "ConvTranspose": ((11, _spatial_output_shape),),
    "Upsample": ((7, _upsample_scales), (9, _scales_input), (ALWAYS, _upsample_to_resize)),
    "Resize": ((11, _resize_simple), (13, _resize_inputs), (19, _resize_empty_scales)),
    "GridSample": ((20, _grid_sample_modes),),
    "RoiAlign": ((16, _roi_align_pixels),),
}
