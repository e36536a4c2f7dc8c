"""Signals [N, C, L] as images of one row [N, C, 1, L], which the image operators take: rules of the layout pass that
move the Squeeze behind such an image toward the outputs, until it meets the Unsqueeze before the next one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from ..ops import shapes
from .merge_transposes import TO_NCHW, TO_NHWC, order_of, transpose, transposed_type
from .permuted import POINTWISE, sliced_axes, transposed
from .rewrite import Declined, Patch, Result, rule
from .view import View

__all__ = ["ROW", "RULES", "image_of", "image_type", "unsqueeze"]

ROW = 2
"""The dimension of size 1."""


def image_type(found: TensorType) -> TensorType:
    """The type of a signal as an image."""
    assert found.shape is not None
    return TensorType(found.dtype, (*found.shape[:ROW], 1, *found.shape[ROW:]))


def image_of(view: View, value: str) -> str | None:
    """The image that a signal is a Squeeze of, where the layout has made it."""
    node = view.producer(value)
    if node is None or node.qualified != "Squeeze" or len(node.inputs) < 2:
        return None
    axes, shape = view.constant(node.inputs[1]), view.type(node.inputs[0]).shape
    if axes is None or axes.ravel().tolist() != [ROW] or shape is None or len(shape) != 4:
        return None
    found = transposed(view, node.inputs[0])
    return node.inputs[0] if found is not None and found[1] == TO_NCHW else None


class _Images:
    """The operands of a node as images, and the nodes, types and constants that they need."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}

    def axes(self, stem: str, *values: int) -> str:
        name = self.view.fresh(f"{stem}_axes")
        self.constants[name] = np.array(values, np.int64)
        return name

    def add(self, value: str) -> str | None:
        """The operand's name; None where its rank does not fit."""
        if not value:
            return ""
        found = image_of(self.view, value)
        if found is not None:
            return found
        known = self.view.type(value)
        if known.shape is None or len(known.shape) > 3:
            return None
        if len(known.shape) < 2:
            return value
        array = self.view.constant(value)
        name = self.view.fresh(f"{value}_image")
        if array is not None:
            self.constants[name] = np.expand_dims(array, -2)
            return name
        self.nodes.append(unsqueeze(value, name, self.axes(value, len(known.shape) - 1)))
        return name

    def patch(self, node: Node, inputs: list[str], attributes: dict[str, Any] | None = None) -> Patch:
        """The node on images, with a Squeeze behind it."""
        y = node.outputs[0]
        inner = self.view.fresh(f"{y}_image")
        made = Node(node.op, inputs, [inner], {**node.attributes, **(attributes or {})}, node.domain, node.name)
        back = Node("Squeeze", [inner, self.axes(y, ROW)], [y])
        self.types[inner] = image_type(self.view.type(y))
        return Patch(
            "became an operator on images", [node], [*self.nodes, made, back], self.constants, types=self.types
        )


def unsqueeze(x: str, y: str, axes: str) -> Node:
    """A signal as an image."""
    return Node("Unsqueeze", [x, axes], [y])


def _moved(axis: int) -> int:
    return axis + (axis >= ROW)


@rule(*POINTWISE)
def pointwise(view: View, node: Node) -> Result:
    """f(Squeeze(a), b, c) -> Squeeze(f(a, Unsqueeze(b), c')) with constants c as images."""
    if not any(image_of(view, i) for i in node.inputs if i):
        return None
    shape = view.type(node.outputs[0]).shape
    images = _Images(view)
    inputs = [images.add(i) for i in node.inputs]
    if shape is None or len(shape) != 3 or None in inputs:
        return Declined("an operand has more dimensions than a signal, or an unknown number")
    return images.patch(node, [i for i in inputs if i is not None])


@rule("Concat")
def concat(view: View, node: Node) -> Result:
    """Concat of signals."""
    if not any(image_of(view, i) for i in node.inputs):
        return None
    images = _Images(view)
    inputs = [images.add(i) for i in node.inputs]
    if None in inputs:
        return Declined("an operand is of unknown rank")
    axis = shapes.axis_of(int(node.attributes["axis"]), 3)
    return images.patch(node, [i for i in inputs if i is not None], {"axis": _moved(axis)})


@rule("Softmax", "LogSoftmax")
def softmax(view: View, node: Node) -> Result:
    """Softmax of a signal."""
    found = image_of(view, node.inputs[0])
    if found is None:
        return None
    axis = shapes.axis_of(int(view.attributes(node)["axis"]), 3)
    return _Images(view).patch(node, [found], {"axis": _moved(axis)})


@rule("Resize")
def resize(view: View, node: Node) -> Result:
    """Resize of a signal."""
    found = image_of(view, node.inputs[0])
    if found is None:
        return None
    given = view.attributes(node)["axes"]
    axes = range(3) if given is None else [shapes.axis_of(int(a), 3) for a in given]
    return _Images(view).patch(node, [found, *node.inputs[1:]], {"axes": [_moved(a) for a in axes]})


@rule("Slice")
def cut(view: View, node: Node) -> Result:
    """Slice of a signal."""
    found = image_of(view, node.inputs[0])
    if found is None:
        return None
    axes = sliced_axes(view, node, 3)
    if axes is None:
        return Declined("the axes are not constant")
    images = _Images(view)
    moved = images.axes(node.outputs[0], *(_moved(a) for a in axes))
    return images.patch(node, [found, *node.inputs[1:3], moved, *node.inputs[4:]])


def _image_pads(view: View, node: Node) -> Array | None:
    """The pads of an image for a Pad of a signal; None where they are not constant."""
    listed = [view.constant(i) if i else None for i in (*node.inputs, "", "")[1:4:2]]
    if listed[0] is None or (listed[1] is None and any(node.inputs[3:])):
        return None
    axes = range(3) if listed[1] is None else [int(a) % 3 for a in listed[1].ravel()]
    given = listed[0].ravel()
    widths = np.zeros((2, 4), np.int64)
    for k, axis in enumerate(axes):
        widths[:, _moved(axis)] = given[k], given[k + len(axes)]
    return widths.ravel()


@rule("Pad")
def pad(view: View, node: Node) -> Result:
    """Pad of a signal."""
    found = image_of(view, node.inputs[0])
    return None if found is None else _padded(view, node, found, _Images(view))


def _padded(view: View, node: Node, source: str, images: _Images) -> Result:
    pads = _image_pads(view, node)
    if pads is None:
        return Declined("the pads are not constant")
    name = view.fresh(f"{node.inputs[1]}_image")
    images.constants[name] = pads
    return images.patch(node, [source, name, *(i for i in node.inputs[2:3] if i)])


@rule("Unsqueeze")
def pad_before(view: View, node: Node) -> Result:
    """Unsqueeze(Pad(x)) -> Pad(Unsqueeze(x)), so that a convolution of images finds the Pad before it."""
    before = view.producer(node.inputs[0])
    axes = view.constant(node.inputs[1])
    if before is None or before.qualified != "Pad" or axes is None or axes.ravel().tolist() != [ROW]:
        return None
    shape = view.type(before.inputs[0]).shape
    if shape is None or len(shape) != 3:
        return None
    reason = view.shared(node.inputs[0])
    pads = _image_pads(view, before)
    if reason is not None or pads is None:
        return Declined(reason or "the pads are not constant")
    name, source = view.fresh(f"{before.inputs[1]}_image"), view.fresh(f"{before.inputs[0]}_image")
    made = Node(
        "Pad",
        [source, name, *(i for i in before.inputs[2:3] if i)],
        list(node.outputs),
        dict(before.attributes),
        name=before.name,
    )
    nodes = [unsqueeze(before.inputs[0], source, node.inputs[1]), made]
    return Patch(f"moved before {before.label}", [before, node], nodes, {name: pads})


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduce(view: View, node: Node) -> Result:
    """Reductions of a signal: with their dimensions the image's row goes too, where they keep none."""
    found = image_of(view, node.inputs[0])
    if found is None:
        return None
    bound = view.attributes(node)
    given = node.inputs[1] if len(node.inputs) > 1 else ""
    listed = view.constant(given) if given else None
    if given and listed is None:
        return Declined(f"the axes {given!r} are not constant")
    axes = [] if listed is None else [int(a) % 3 for a in listed.ravel()]
    if not axes:
        if bound["noop_with_empty_axes"]:
            return None
        axes = [0, 1, 2]
    images = _Images(view)
    along = [_moved(a) for a in axes]
    if bound["keepdims"]:
        return images.patch(node, [found, images.axes(node.outputs[0], *along)])
    inputs = [found, images.axes(node.outputs[0], *sorted([*along, ROW]))]
    made = Node(node.op, inputs, list(node.outputs), dict(node.attributes), name=node.name)
    return Patch("reads the image before a Squeeze", [node], [made], images.constants)


@rule("Flatten")
def flatten(view: View, node: Node) -> Result:
    """Flatten of a signal is that of its image."""
    found = image_of(view, node.inputs[0])
    axis = int(view.attributes(node)["axis"])
    if found is None or axis not in (0, 1):
        return None
    made = Node("Flatten", [found], list(node.outputs), dict(node.attributes), name=node.name)
    return Patch("reads the image before a Squeeze", [node], [made])


@rule("Reshape")
def reshape(view: View, node: Node) -> Result:
    """Reshape of a signal to rows is that of its image."""
    found = image_of(view, node.inputs[0])
    shape = view.constant(node.inputs[1])
    if found is None or shape is None or shape.size != 2 or 0 in shape[1:]:
        return None
    made = Node("Reshape", [found, node.inputs[1]], list(node.outputs), dict(node.attributes), name=node.name)
    return Patch("reads the image before a Squeeze", [node], [made])


@rule("Unsqueeze")
def meet(view: View, node: Node) -> Result:
    """Unsqueeze of a Squeeze is the image."""
    found = image_of(view, node.inputs[0])
    axes = view.constant(node.inputs[1])
    if found is None or axes is None or axes.ravel().tolist() != [ROW]:
        return None
    return Patch("undoes a Squeeze", [node], rename={node.outputs[0]: found})


@rule("Unsqueeze")
def share(view: View, node: Node) -> Result:
    """Drop an Unsqueeze of a value that another one makes an image of already."""
    axes, y = view.constant(node.inputs[1]), node.outputs[0]
    if axes is None or axes.ravel().tolist() != [ROW]:
        return None
    for other in view.uses(node.inputs[0]):
        if other is node or other.qualified != "Unsqueeze" or view.place(other) > view.place(node):
            continue
        found = view.constant(other.inputs[1])
        if found is not None and found.ravel().tolist() == [ROW] and not view.is_output(y):
            return Patch(f"the same as {other.label}", [node], rename={y: other.outputs[0]})
    return None


@rule("Transpose")
def transpose_behind(view: View, node: Node) -> Result:
    """Transpose(Squeeze(x)) -> Squeeze(Transpose(x)), where two Transposes meet."""
    found, order = image_of(view, node.inputs[0]), order_of(view, node)
    if found is None or order is None:
        return None
    y = node.outputs[0]
    images = _Images(view)
    inner = view.fresh(f"{y}_image")
    full = [_moved(k) for k in order]
    row = order.index(ROW)
    full.insert(row, ROW)
    images.types[inner] = transposed_type(view.type(found), full)
    nodes = [transpose(found, inner, full), Node("Squeeze", [inner, images.axes(y, row)], [y], name=node.name)]
    return Patch("moved before a Squeeze", [node], nodes, images.constants, types=images.types)


@rule("Unsqueeze")
def transpose_before(view: View, node: Node) -> Result:
    """Unsqueeze(Transpose(x)) -> Transpose(Unsqueeze(x)), where two Transposes meet."""
    x, y = node.inputs[0], node.outputs[0]
    before = view.producer(x)
    order = None if before is None else order_of(view, before)
    axes = view.constant(node.inputs[1])
    if before is None or order is None or len(order) != 3 or axes is None or axes.ravel().tolist() != [ROW]:
        return None
    readers = view.uses(y)
    if view.is_output(y) or not readers or any(order_of(view, r) != TO_NHWC for r in readers):
        return None
    images = _Images(view)
    inner = view.fresh(f"{before.inputs[0]}_image")
    row = order[ROW]
    full = [k + (k >= row) for k in order]
    full.insert(ROW, row)
    nodes = [unsqueeze(before.inputs[0], inner, images.axes(inner, row)), transpose(inner, y, full, node.name)]
    return Patch(f"moved before {before.label}", [node], nodes, images.constants)


RULES = (
    pointwise,
    concat,
    softmax,
    resize,
    cut,
    pad,
    pad_before,
    reduce,
    flatten,
    reshape,
    meet,
    share,
    transpose_behind,
    transpose_before,
)
