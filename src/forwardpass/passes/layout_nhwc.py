"""Convolutions and pools of images become operators on channels-last values, between two Transposes each, which move
on at once: where the next of these operators comes to read a Transpose, it reads past it. Signals become images of one
row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from ..ops import windows
from . import image_rows, sink_transposes
from .fuse_activation import activated
from .image_rows import ROW, image_of, image_type, unsqueeze
from .merge_transposes import TO_NCDHW, TO_NCHW, TO_NDHWC, TO_NHWC, transpose, transposed_type
from .permuted import transposed
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _image_type(view: View, node: Node, spatial: int | None, kinds: str = "f", most: int = 3) -> TensorType | Declined:
    """The type of the node's image. Where its rank is unknown, the number of spatial dimensions of the window gives
    it."""
    found = view.type(node.inputs[0])
    shape = found.shape
    if shape is None and spatial is not None:
        shape = (None,) * (spatial + 2)
    if shape is None:
        return Declined(f"the rank of {node.inputs[0]!r} is unknown")
    if not 3 <= len(shape) <= most + 2:
        return Declined(f"{node.inputs[0]!r} has {len(shape) - 2} spatial dimensions, not 1 to {most}")
    return TensorType(found.dtype, shape) if found.dtype.kind in kinds else Declined(f"dtype {found.dtype.name}")


def _window(x: str, found: TensorType, bound: dict[str, Any], kernel: list[int]) -> dict[str, Any] | Declined:
    """The attributes of a window with explicit pads."""
    auto, ones = bound["auto_pad"], [1] * len(kernel)
    steps = bound["strides"] or ones
    if auto.startswith("SAME"):
        # One step apart, the windows of an image of any size have the same pads.
        given = [1 if s == 1 and not isinstance(d, int) else d for d, s in zip((found.shape or ())[2:], steps)]
        sizes = [d for d in given if isinstance(d, int)]
        if len(sizes) != len(kernel):
            return Declined(f"{auto} needs the size of {x!r}, which is unknown")
        same = windows.window(bound, sizes, kernel)
        pads = [*same.before, *same.after]
    else:
        fixed = None if auto == "VALID" else bound["pads"]
        pads = [0, 0] * len(kernel) if fixed is None else [int(p) for p in fixed]
    window = {"kernel_shape": kernel}
    window.update((k, [int(s) for s in bound[k] or ones]) for k in ("strides", "dilations"))
    if len(kernel) == 1:  # the image has one row
        window = {k: [1, *v] for k, v in window.items()}
        pads = [0, pads[0], 0, pads[1]]
    return {**window, "pads": pads}


def _between(
    view: View,
    node: Node,
    x_type: TensorType,
    operator: str,
    more: list[str],
    attributes: dict[str, Any],
    constants: dict[str, Array] | None = None,
) -> Patch:
    """The operator on channels-last values, between two Transposes; a signal gets a row before and loses it behind.
    A convolution takes the activation behind it along, which else would have to move first."""
    end, fused = activated(view, node) if constants else (node, {})
    x, y = node.inputs[0], end.outputs[0]
    y_type = view.type(y)
    assert x_type.shape is not None
    if y_type.shape is None:
        y_type = TensorType(y_type.dtype, (None,) * len(x_type.shape))
    constants = dict(constants or {})
    nodes, types = [], {}
    behind: list[Node] = []
    if len(x_type.shape) == 3:
        axes = view.fresh(f"{y}_row")
        constants[axes] = np.array([ROW], np.int64)
        image = image_of(view, x)
        if image is None:
            image = view.fresh(f"{x}_image")
            nodes.append(unsqueeze(x, image, axes))
            types[image] = image_type(x_type)
        x, x_type, y_type = image, image_type(x_type), image_type(y_type)
        signal, y = y, view.fresh(f"{y}_image")
        types[y] = y_type
        behind.append(Node("Squeeze", [y, axes], [signal]))
    to_last, to_first = (TO_NDHWC, TO_NCDHW) if len(x_type.shape or ()) == 5 else (TO_NHWC, TO_NCHW)
    before = transposed(view, x)
    if before is not None and before[1] == to_first:
        x_last = before[0]
    else:
        x_last = view.fresh(f"{x}_nhwc")
        nodes.append(transpose(x, x_last, to_last))
        types[x_last] = transposed_type(x_type, to_last)
    y_last = view.fresh(f"{y}_nhwc")
    nodes.append(Node(operator, [x_last, *more], [y_last], {**attributes, **fused}, "nhwc", node.name))
    nodes += [transpose(y_last, y, to_first), *behind]
    types[y_last] = transposed_type(y_type, to_last)
    with_activation = f" with the activation {fused['activation']}" if fused else ""
    removed = [node, end] if fused else [node]
    return Patch(f"became nhwc.{operator}{with_activation}", removed, nodes, constants, types=types)


@rule("Conv")
def conv(view: View, node: Node) -> Result:
    """Conv with constant weights: OIHW -> HWIO, and so with depth."""
    weights = view.constant(node.inputs[1])
    found = _image_type(view, node, None if weights is None else weights.ndim - 2)
    if isinstance(found, Declined):
        return found
    if weights is None:
        return Declined(f"the weights {node.inputs[1]!r} are not constant")
    bound = view.attributes(node)
    attributes = _window(node.inputs[0], found, bound, [int(d) for d in weights.shape[2:]])
    if isinstance(attributes, Declined):
        return attributes
    attributes["group"] = int(bound["group"])
    # A view: packing reads the weights in any order, so nothing is copied here.
    name = view.fresh(f"{node.inputs[1]}_hwio")
    images = weights if weights.ndim > 3 else np.expand_dims(weights, ROW)
    made = {name: images.transpose(*range(2, images.ndim), 1, 0)}
    return _between(view, node, found, "Conv", [name, *node.inputs[2:]], attributes, made)


def _transposed_window(
    view: View, node: Node, found: TensorType, bound: dict[str, Any], kernel: list[int]
) -> dict[str, Any] | Declined:
    """The attributes of the window of a ConvTranspose, with pads and output padding in place of the output's size."""
    rank = len(kernel)
    ones, zeros = [1] * rank, [0] * rank
    strides, dilations = ([int(v) for v in bound[k] or ones] for k in ("strides", "dilations"))
    extra = [int(v) for v in bound["output_padding"] or zeros]
    auto, asked = bound["auto_pad"], bound["output_shape"]
    pads = [0, 0] * rank if auto == "VALID" or bound["pads"] is None else [int(p) for p in bound["pads"]]
    if asked is not None or auto.startswith("SAME"):
        sizes = [d for d in (found.shape or ())[2:] if isinstance(d, int)]
        if asked is not None and len(sizes) != rank:
            return Declined(f"output_shape needs the size of {node.inputs[0]!r}, which is unknown")
        for k in range(rank):
            full = extra[k] + (kernel[k] - 1) * dilations[k] + 1 - strides[k]
            # What the whole output is longer than the one that is wanted; where it is shorter, zeros are appended.
            total = full if asked is None else full + strides[k] * sizes[k] - int(asked[k])
            extra[k] += max(0, -total)
            total = max(0, total)
            pads[k] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[k + rank] = total - pads[k]
    window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if rank == 1:  # the image has one row
        window = {k: [1, *v] for k, v in window.items()}
        pads, extra = [0, pads[0], 0, pads[1]], [0, *extra]
    return {**window, "pads": pads, "output_padding": extra}


@rule("ConvTranspose")
def conv_transpose(view: View, node: Node) -> Result:
    """ConvTranspose with constant weights: IOHW, its groups along I -> HWIO, its groups along O."""
    weights = view.constant(node.inputs[1])
    found = _image_type(view, node, None if weights is None else weights.ndim - 2, most=2)
    if isinstance(found, Declined):
        return found
    if weights is None:
        return Declined(f"the weights {node.inputs[1]!r} are not constant")
    bound = view.attributes(node)
    attributes = _transposed_window(view, node, found, bound, [int(d) for d in weights.shape[2:]])
    if isinstance(attributes, Declined):
        return attributes
    group = attributes["group"] = int(bound["group"])
    images = weights if weights.ndim == 4 else np.expand_dims(weights, ROW)
    channels, per_group, *kernel = images.shape
    grouped = images.reshape(group, channels // group, per_group, *kernel).transpose(3, 4, 1, 0, 2)
    name = view.fresh(f"{node.inputs[1]}_hwio")
    made = {name: grouped.reshape(*kernel, channels // group, group * per_group)}
    return _between(view, node, found, "ConvTranspose", [name, *node.inputs[2:]], attributes, made)


@rule("MaxPool", "AveragePool")
def pool(view: View, node: Node) -> Result:
    """Pools of windows; those that also say where the largest value was stay."""
    bound = view.attributes(node)
    found = _image_type(view, node, len(bound["kernel_shape"]), "fiu" if node.op == "MaxPool" else "f")
    if isinstance(found, Declined):
        return found
    indices = node.outputs[1] if len(node.outputs) > 1 else ""
    if indices and (view.uses(indices) or view.is_output(indices)):
        return Declined(f"the indices {indices!r} are used")
    attributes = _window(node.inputs[0], found, bound, [int(k) for k in bound["kernel_shape"]])
    if isinstance(attributes, Declined):
        return attributes
    # The number of SAME windows is given by the stride alone.
    attributes["ceil_mode"] = 0 if bound["auto_pad"].startswith("SAME") else int(bound["ceil_mode"])
    attributes["count_include_pad"] = int(bound.get("count_include_pad", 0))
    return _between(view, node, found, node.op, [], attributes)


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(view: View, node: Node) -> Result:
    """Pools of whole images or signals."""
    found = _image_type(view, node, None)
    return found if isinstance(found, Declined) else _between(view, node, found, node.op, [], {})


PASS = Pass("layout_nhwc", (conv, conv_transpose, pool, global_pool, *sink_transposes.RULES, *image_rows.RULES))
