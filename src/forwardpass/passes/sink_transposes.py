"""Transposes move toward the outputs, until they meet others and cancel or only stand at the edges of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Array, Dim, Node
from ..ops import ACTIVATIONS, shapes
from . import merge_transposes
from .layout_nhwc import TO_NCHW
from .merge_transposes import inverse, order_of, transpose
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

POINTWISE = tuple(
    dict.fromkeys(
        [a.op for a in ACTIVATIONS.values()]
        + ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "PRelu", "Cast", "fused.ScaleShift"]
    )
)


def _transposed(view: View, value: str) -> tuple[str, tuple[int, ...]] | None:
    """(source, permutation) where the value is a Transpose of rank 3 or more."""
    node = view.producer(value)
    order = None if node is None else order_of(view, node)
    return None if node is None or order is None else (node.inputs[0], order)


def _pays(view: View, node: Node, order: tuple[int, ...]) -> bool:
    """Whether a Transpose is worth moving past a node: those of the layout are, and those that another one awaits."""
    if order == TO_NCHW:
        return True
    readers = view.uses(node.outputs[0])
    return bool(readers) and all(r.qualified == "Transpose" for r in readers) and not view.is_output(node.outputs[0])


def _still(shape: Sequence[Dim] | None, order: Sequence[int]) -> bool:
    """Whether a Transpose by `order` of a value of that shape only moves dimensions of size 1."""
    if shape is None:
        return False
    moved = [k for k in order if shape[k] != 1]
    return moved == sorted(moved)


class _Operands:
    """The operands of a pointwise node before a Transpose by `order`, with the nodes and constants that they need."""

    def __init__(self, view: View, order: tuple[int, ...]) -> None:
        self.view, self.order, self.back = view, order, inverse(order)
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.reason = ""

    def add(self, value: str) -> str:
        """The operand's name; sets `reason` where there is none."""
        if not value:
            return ""
        found = _transposed(self.view, value)
        if found is not None and found[1] == self.order:
            return found[0]
        shape = self.view.type(value).shape
        if shape is not None and all(d == 1 for d in shape) and len(shape) <= 1:
            return value
        array = self.view.constant(value)
        if array is not None:
            return self._constant(value, array)
        if shape is not None and len(shape) == len(self.order) and _still(shape, self.back):
            moved = self.view.fresh(f"{value}_moved")
            self.nodes.append(transpose(value, moved, self.back))
            return moved
        self.reason = f"operand {value!r} is not transposed alike"
        return ""

    def _constant(self, value: str, array: Array) -> str:
        if array.ndim > len(self.order):
            self.reason = f"constant {value!r} has more dimensions"
            return ""
        full = array.reshape((1,) * (len(self.order) - array.ndim) + array.shape)
        moved = np.transpose(full, self.back)
        while moved.ndim > 0 and moved.shape[0] == 1:
            moved = moved[0]
        name = self.view.fresh(f"{value}_moved")
        self.constants[name] = np.ascontiguousarray(moved)
        return name


@rule(*POINTWISE)
def pointwise(view: View, node: Node) -> Result:
    """f(Transpose(a), Transpose(b), c) -> Transpose(f(a, b, c')) with constants c in the other layout."""
    first = next((t for t in (_transposed(view, i) for i in node.inputs if i) if t is not None), None)
    if first is None or not _pays(view, node, first[1]):
        return None
    y = node.outputs[0]
    shape = view.type(y).shape
    if shape is None or len(shape) != len(first[1]):
        return Declined(f"the rank of {y!r} is not that of the Transpose")
    operands = _Operands(view, first[1])
    inputs = [operands.add(i) for i in node.inputs]
    if operands.reason:
        return Declined(operands.reason)
    inner = view.fresh(f"{y}_moved")
    made = Node(node.op, inputs, [inner], dict(node.attributes), node.domain, node.name)
    return Patch(
        "moved before a Transpose",
        [node],
        [*operands.nodes, made, transpose(inner, y, first[1])],
        operands.constants,
    )


@rule("Concat")
def concat(view: View, node: Node) -> Result:
    """Concat of values that are transposed alike."""
    found = [_transposed(view, i) for i in node.inputs]
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
    attributes: dict[str, int],
    order: tuple[int, ...],
    constants: dict[str, Array] | None = None,
) -> Patch:
    inner = view.fresh(f"{node.outputs[0]}_moved")
    made = Node(node.op, inputs, [inner], {**node.attributes, **attributes}, node.domain, node.name)
    nodes = [made, transpose(inner, node.outputs[0], order)]
    return Patch("moved before a Transpose", [node], nodes, constants or {})


@rule("Softmax", "LogSoftmax")
def softmax(view: View, node: Node) -> Result:
    """Softmax along the axis that the Transpose moved."""
    found = _transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    axis = shapes.axis_of(int(view.attributes(node)["axis"]), len(order))
    return _moved(view, node, [source], {"axis": order[axis]}, order)


@rule("Pad")
def pad(view: View, node: Node) -> Result:
    """Pad of the dimensions that the Transpose moved."""
    found = _transposed(view, node.inputs[0])
    if found is None or not _pays(view, node, found[1]):
        return None
    source, order = found
    rank = len(order)
    listed = [view.constant(i) if i else None for i in (*node.inputs, "", "")[1:4:2]]
    if listed[0] is None or (listed[1] is None and len(node.inputs) > 3 and node.inputs[3]):
        return Declined("the pads are not constant")
    axes = range(rank) if listed[1] is None else [int(a) % rank for a in listed[1].ravel()]
    given = listed[0].ravel()
    widths = np.zeros((2, rank), np.int64)
    for k, axis in enumerate(axes):
        widths[:, order[axis]] = given[k], given[k + len(axes)]
    pads = view.fresh(f"{node.inputs[1]}_moved")
    inputs = [source, pads, *(i for i in node.inputs[2:3] if i)]
    return _moved(view, node, inputs, {}, order, {pads: widths.ravel()})


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduce(view: View, node: Node) -> Result:
    """Reductions of the dimensions that the Transpose moved; one that is left over without them is smaller."""
    found = _transposed(view, node.inputs[0])
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
    found = _transposed(view, view_node.inputs[0])
    if found is None or found[1][0] != 0:
        return None
    source, order = found
    before, after = view.type(source).shape, view.type(node.inputs[0]).shape
    sizes = [] if before is None else [d for d in before[1:] if isinstance(d, int)]
    features = int(np.prod(sizes, dtype=np.int64))
    if after is None or len(after) != 2 or after[1] != features or not features or len(sizes) != len(order) - 1:
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


PASS = Pass("sink_transposes", (*merge_transposes.RULES, pointwise, concat, softmax, pad, reduce, flatten))
