"""Upgrades of normalisations and Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph import Node
from .upgrade_parts import Parts, Table, drop

if TYPE_CHECKING:
    from .context import Context

__all__ = ["NORMALIZATION"]

_CONSUMED = drop("consumed_inputs")


def _test_flag(node: Node, context: Context) -> list[Node]:
    """From here on, outputs of statistics say that the node trains; in a test they were left unfilled."""
    if node.attributes.pop("is_test", 0):
        del node.outputs[1:]
    if context.rank(node.inputs[1]) in (None, 1):  # always per channel by the text, so that nothing depends on it
        node.attributes.pop("spatial", None)
    return [node]


def _spatial(node: Node, context: Context) -> list[Node]:
    """Without `spatial` every element of an image has a mean and variance of its own."""
    if node.attributes.pop("spatial", 1) or context.rank(node.inputs[1]) == 1:
        return [node]
    parts = Parts(node, context)
    x = node.inputs[0]
    flat = parts.integers([-1])
    node.inputs = [parts.emit("Flatten", x, axis=1), *(parts.emit("Reshape", i, flat) for i in node.inputs[1:])]
    result = parts.rename_output()
    shapes = [""] + [i if o else "" for i, o in zip(("mean", "var", "mean", "var"), node.outputs[1:])]
    given = dict(zip(("mean", "var"), _originals(parts)))
    renamed = [(k, parts.rename_output(k), given[s]) for k, s in enumerate(shapes) if s]
    parts.keep()
    parts.emit("Reshape", node.outputs[0], parts.emit("Shape", x), output=result, allowzero=1)
    for k, old, source in renamed:
        parts.emit("Reshape", node.outputs[k], parts.emit("Shape", source), output=old, allowzero=1)
    return parts.nodes


def _originals(parts: Parts) -> list[str]:
    """What the reshaped mean and variance of the node were made of."""
    made = {n.outputs[0]: n.inputs[0] for n in parts.nodes}
    return [made[i] for i in parts.node.inputs[3:5]]


def _training_outputs(node: Node, context: Context) -> list[Node]:
    """The batch's own mean and variance were outputs 3 and 4 of a node that trains."""
    if not any(node.outputs[1:]):
        del node.outputs[1:]
        return [node]
    node.attributes["training_mode"] = 1
    saved_mean, saved_variance = [*node.outputs[3:], "", ""][:2]
    del node.outputs[3:]
    parts = Parts(node, context)
    parts.keep()
    if saved_mean or saved_variance:
        x = parts.emit("Reshape", node.inputs[0], parts.integers([0, 0, -1]))
        axes = parts.integers([0, 2])
        mean = parts.emit("ReduceMean", x, axes)
        if saved_mean:
            parts.emit("Squeeze", mean, axes, output=saved_mean)
        if saved_variance:
            centred = parts.emit("Sub", x, mean)
            parts.emit("ReduceMean", parts.emit("Mul", centred, centred), axes, output=saved_variance, keepdims=0)
    return parts.nodes


def _bool_mask(node: Node, context: Context) -> list[Node]:
    """The mask had the dtype of the data."""
    if len(node.outputs) < 2 or not node.outputs[1]:
        return [node]
    parts = Parts(node, context)
    mask = parts.rename_output(1)
    parts.keep()
    parts.emit("CastLike", node.outputs[1], node.inputs[0], output=mask)
    return parts.nodes


def _per_channel(node: Node, context: Context) -> list[Node]:
    """Scale and bias were given per group."""
    parts = Parts(node, context)
    groups = int(node.attributes.get("num_groups", 1))
    count = parts.integers([groups])
    channels = parts.emit("Shape", node.inputs[0], start=1, end=2)
    shape = parts.emit("Concat", count, parts.emit("Div", channels, count), axis=0)
    for k in (1, 2):
        column = parts.emit("Reshape", node.inputs[k], parts.integers([groups, 1]))
        node.inputs[k] = parts.emit("Reshape", parts.emit("Expand", column, shape), parts.integers([-1]))
    parts.keep()
    return parts.nodes


def _mean_variance_axes(node: Node, context: Context) -> list[Node]:
    """An experimental form, which also could leave the variance as it is."""
    across = node.attributes.pop("across_channels", 0)
    node.attributes.setdefault("axes", [0, 1, 2, 3] if across else [0, 2, 3])
    if node.attributes.pop("normalize_variance", 1):
        return [node]
    parts = Parts(node, context)
    axes = parts.integers(node.attributes["axes"])
    mean = parts.emit("ReduceMean", node.inputs[0], axes)
    parts.emit("Sub", node.inputs[0], mean, output=node.outputs[0])
    return parts.nodes


NORMALIZATION: Table = {
    "BatchNormalization": ((6, _CONSUMED), (7, _test_flag), (9, _spatial), (14, _training_outputs)),
    "InstanceNormalization": ((6, _CONSUMED),),
    "MeanVarianceNormalization": ((9, _mean_variance_axes),),
    "GroupNormalization": ((21, _per_channel),),
    "Dropout": ((6, _CONSUMED), (7, drop("is_test")), (10, _bool_mask), (12, drop("ratio"))),
}
