"""Upgrades of elementwise operators, reductions, Gemm, and the Softmax family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph import Node
from .upgrade_parts import Parts, Rule, Table, attribute_to_input, drop, set_input

if TYPE_CHECKING:
    from .context import Context

__all__ = ["ARITHMETIC"]

_CONSUMED = drop("consumed_inputs")


def _suffix(node: Node, context: Context) -> list[Node]:
    """`axis` said which dimension of A the first one of B matches: now B needs ones after its own dimensions."""
    axis = node.attributes.pop("axis", None)
    broadcast = node.attributes.pop("broadcast", 0)
    if axis is None or not broadcast:
        return [node]
    parts = Parts(node, context)
    a, b = node.inputs
    rank_a, rank_b = context.rank(a), context.rank(b)
    if rank_a is not None and rank_b is not None:
        count = rank_a - (axis % max(rank_a, 1)) - rank_b
        if count > 0:
            node.inputs[1] = parts.emit("Unsqueeze", b, parts.integers(range(rank_b, rank_b + count)))
    else:
        free = parts.integers([-axis])
        if axis >= 0:
            free = parts.emit("Add", parts.rank(a), free)
        ones = parts.ones(parts.emit("Sub", free, parts.rank(b)))
        node.inputs[1] = parts.emit("Reshape", b, parts.emit("Concat", parts.emit("Shape", b), ones, axis=0))
    parts.keep()
    return parts.nodes


def _slope_per_channel(node: Node, context: Context) -> list[Node]:
    """PRelu's slope of one dimension was one number per channel."""
    x, slope = node.inputs
    rank, given = context.rank(x), context.rank(slope)
    if given not in (None, 1) or (rank is not None and rank <= 2):
        return [node]
    parts = Parts(node, context)
    if rank is not None:
        shape = parts.integers([-1] + [1] * (rank - 2))
    else:
        ones = parts.ones(parts.emit("Sub", parts.rank(x), parts.integers([2])))
        shape = parts.emit("Concat", parts.integers([-1]), ones, axis=0)
    node.inputs[1] = parts.emit("Reshape", slope, shape)
    parts.keep()
    return parts.nodes


def _clip_bounds(node: Node, context: Context) -> list[Node]:
    parts = Parts(node, context)
    for index, name in enumerate(("min", "max"), 1):
        value = node.attributes.pop(name, None)
        if value is not None:
            set_input(node, index, parts.number(value, node.inputs[0]))
    parts.keep()
    return parts.nodes


def _selu_constants(node: Node, context: Context) -> list[Node]:
    node.attributes.pop("consumed_inputs", None)
    node.attributes = {"alpha": 1.6732, "gamma": 1.0507, **node.attributes}
    return [node]


def _over_rows(node: Node, context: Context) -> list[Node]:
    """Softmax and the like worked on the rows of a matrix: the dimensions before `axis`, and all from it on."""
    axis = node.attributes.get("axis", 1)
    rank = context.rank(node.inputs[0])
    node.attributes["axis"] = -1
    if axis == -1 or axis + 1 == rank:
        return [node]
    parts = Parts(node, context)
    x = node.inputs[0]
    node.inputs[0] = parts.emit("Flatten", x, axis=axis)
    result = parts.rename_output()
    parts.keep()
    parts.emit("Reshape", node.outputs[0], parts.emit("Shape", x), output=result, allowzero=1)
    return parts.nodes


def _only_consumed(*names: str) -> Table:
    rules: tuple[tuple[int, Rule], ...] = ((6, _CONSUMED),)
    return dict.fromkeys(names, rules)


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

ARITHMETIC: Table = {
    **_only_consumed("Abs", "Ceil", "Elu", "Exp", "Floor", "HardSigmoid", "LeakyRelu", "Log", "Neg", "Reciprocal"),
    **_only_consumed("Relu", "Sigmoid", "Sqrt", "Tanh", "Sum", "Mean", "Max", "Min"),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), ((6, _CONSUMED), (7, _suffix))),
    **dict.fromkeys(("And", "Or", "Xor", "Equal", "Greater", "Less", "Pow"), ((7, _suffix),)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), ((13, _over_rows),)),
    **{f"Reduce{name}": ((18, attribute_to_input("axes", 1)),) for name in _REDUCTIONS},
    "ReduceSum": ((13, attribute_to_input("axes", 1)),),
    "PRelu": ((6, _CONSUMED), (7, _slope_per_channel)),
    "Clip": ((6, _CONSUMED), (11, _clip_bounds)),
    "Selu": ((6, _selu_constants),),
    "Gemm": ((7, drop("broadcast")),),
}
