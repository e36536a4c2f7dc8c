"""Transposes move toward the outputs, until they meet others and cancel, or stand at the edges of the graph: rules of
the layout pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node
from ..ops import shapes
from . import merge_transposes
from .merge_transposes import TO_NCDHW, TO_NCHW, inverse, transpose, transposed_type
from .permuted import POINTWISE, Operands, moved_pads, sliced_axes, transposed
from .rewrite import Declined, Patch, Result, rule
from .view import View

__all__ = ["RULES"]


def _pays(view: View, node: Node, order: tuple[int, ...]) -> bool:
    """Whether a Transpose is worth moving past a node: one of the layout is, and one that another awaits."""
    if order in (TO_NCHW, TO_NCDHW):
        return True
    readers = view.uses(node.outputs[0])
    return bool(readers) and all(r.qualified == "Transpose" for r in readers) and not view.is_output(node.outputs[0])


@rule(*POINTWISE)
def pointwise(view: View, node: Node) -> Result:
    """f(Transpose(a), Transpose(b), c) -> Transpose(f(a, b, c')) with constants c in the other layout."""
    first = next((t for t in (transposed(view, i) for i in node.inputs if i) if t is not None), None)
    if first is None or not _pays(view, node, first[1]):
        return None
    y = node.outputs[0]
    shape = view.type(y).shape
    if shape is None or len(shape) != len(first[1]):
        return Declined(f"the rank of {y!r} is not that of the Transpose")
    operands = Operands(view, first[1])
    inputs = operands.add_all(node)
    if operands.reason:
        return Declined(operands.reason)
    return _moved(view, node, inputs, {}, first[1], operands.constants, operands.nodes)


@rule("Concat")
def concat(view: View, node: Node) -> Result:
    """Concat of values that are transposed alike."""
    found = [transposed(view, i) for i in node.inputs]
    first = next((t for t in found if t is not None), None)
    if first is None or not _pays(view, node, first[1]):
        return None
    order = first[1]
    sources: list[str] = []
    constants: dict[str, Array] = {}
    for value, t in zip(node.inputs, found):
        array = view.constant(value)
        if t is not None and t[1] == order:
            sources.append(t[0])
        elif array is not None:
            sources.append(view.fresh(f"{value}_moved"))
            constants[sources[-1]] = np.transpose(array, inverse(order))
        else:
            return Declined(f"operand {value!r} is not transposed alike")
    axis = order[shapes.axis_of(int(node.attributes["axis"]), len(order))]
    return _moved(view, node, sources, {"axis": axis}, order, constants)


def _moved(
    view: View,
    node: Node,
    inputs: list[str],
    attributes: dict[str, Any],
    order: tuple[int, ...],
    constants: dict[str, Array] | None = None,
    before: Sequence[Node] = (),
) -> Patch:
    y = node.outputs[0]
    inner = view.fresh(f"{y}_moved")
    made = Node(node.op, inputs, [inner], {**node.attributes, **attributes}, node.domain, node.name)
    nodes = [*before, made, transpose(inner, y, order)]
    types = {inner: transposed_type(view.type(y), inverse(order))}
    return Patch("moved before a Transpose", [node], nodes, constants or {}, types=types)


@rule("Softmax", "LogSoftmax")
def softmax(view: View, node: Node) -> Result:
    """Softmax along the axis that the Transpose moved."""
    found = transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    axis = shapes.axis_of(int(view.attributes(node)["axis"]), len(order))
    return _moved(view, node, [source], {"axis": order[axis]}, order)


@rule("Resize")
def resize(view: View, node: Node) -> Result:
    """Resize along the axes that the Transpose moved."""
    found = transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    given = view.attributes(node)["axes"]
    axes = range(len(order)) if given is None else [shapes.axis_of(int(a), len(order)) for a in given]
    return _moved(view, node, [source, *node.inputs[1:]], {"axes": [order[a] for a in axes]}, order)


@rule("Slice")
def cut(view: View, node: Node) -> Result:
    """Slice of the dimensions that the Transpose moved."""
    found = transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    axes = sliced_axes(view, node, len(order))
    if axes is None:
        return Declined("the axes are not constant")
    name = view.fresh(f"{node.outputs[0]}_axes")
    inputs = [source, *node.inputs[1:3], name, *node.inputs[4:]]
    return _moved(view, node, inputs, {}, order, {name: np.array([order[a] for a in axes], np.int64)})


@rule("Pad")
def pad(view: View, node: Node) -> Result:
    """Pad of the dimensions that the Transpose moved."""
    found = transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    pads = moved_pads(view, node, order)
    if pads is None:
        return Declined("the pads are not constant")
    inputs = [source, pads[0], *(i for i in node.inputs[2:3] if i)]
    return _moved(view, node, inputs, {}, order, dict([pads]))


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduce(view: View, node: Node) -> Result:
    """Reductions of the dimensions that the Transpose moved. Without them less is left to transpose."""
    found = transposed(view, node.inputs[0])
    if found is None:
        return None
    source, order = found
    bound = view.attributes(node)
    given = node.inputs[1] if len(node.inputs) > 1 else ""
    listed = view.constant(given) if given else None
    if given and listed is None:
        return Declined(f"the axes {given!r} are not constant")
    axes = [] if listed is None else [int(a) % len(order) for a in listed.ravel()]
    if not axes:
        if bound["noop_with_empty_axes"]:
            return None
        axes = list(range(len(order)))
    left = order
    if not bound["keepdims"]:
        kept = [order[k] for k in range(len(order)) if k not in axes]
        left = tuple(sorted(kept).index(k) for k in kept)
    if left != tuple(range(len(left))) and not _pays(view, node, order):
        return None
    name = view.fresh(f"{node.outputs[0]}_axes")
    constants = {name: np.array(sorted(order[a] for a in axes), np.int64)}
    return _moved(view, node, [source, name], {}, left, constants)


@rule("fused.Linear")
def flatten(view: View, node: Node) -> Result:
    """Linear of a flattened Transpose: the rows of the weights are put into the order before it."""
    view_node = view.producer(node.inputs[0])
    if view_node is None or view_node.qualified not in ("Flatten", "Reshape"):
        return None
    found = transposed(view, view_node.inputs[0])
    if found is None or found[1][0] != 0:
        return None
    source, order = found
    before, after = view.type(source).shape, view.type(node.inputs[0]).shape
    sizes = [] if before is None else [d for d in before[1:] if isinstance(d, int)]
    features = math.prod(sizes)
    known = len(sizes) == len(order) - 1 and features > 0
    if not known or after is None or len(after) != 2 or after[1] != features:
        return Declined(f"{view_node.label} does not flatten images of known size")
    w = node.inputs[1]
    weights = view.constant(w)
    if weights is None:
        return Declined(f"the weights {w!r} are not constant")
    rows = np.arange(features).reshape([sizes[k - 1] for k in order[1:]])
    rows = rows.transpose([k - 1 for k in inverse(order)[1:]]).ravel()
    flat, moved = view.fresh(f"{node.inputs[0]}_moved"), w
    constants: dict[str, Array] = {}
    if bool((np.diff(rows) != 1).any()):
        moved = view.fresh(f"{w}_moved")
        constants[moved] = weights[rows]
    nodes = [
        Node("Flatten", [source], [flat], {"axis": 1}, name=view_node.name),
        Node("Linear", [flat, moved, *node.inputs[2:]], list(node.outputs), dict(node.attributes), "fused", node.name),
    ]
    return Patch("reads the image before a Transpose", [node], nodes, constants)


RULES = (*merge_transposes.RULES, pointwise, concat, softmax, resize, cut, pad, reduce, flatten)
