"""Normalisation by stored statistics, or by those of each sample."""

from __future__ import annotations

import numpy as np

from ...graph import Array
from .call import Call
from .config import Layer
from .kinds import layer, only


def _batch_weights(found: Layer) -> list[str]:
    return [*only(gamma="scale", beta="center")(found), "moving_mean", "moving_variance"]


@layer("BatchNormalization", weights=_batch_weights, masking="pass")
def batch_normalization(c: Call) -> str:
    if c.layer.flag("renorm", False):
        raise c.unsupported("batch renormalisation is not read")
    rank = c.rank(c.x)
    axes = c.layer.axes("axis", rank)
    if len(axes) != 1 or axes[0] == 0:
        raise c.unsupported("normalisation over several axes is not read", got=str(axes))
    (axis,) = axes
    size = c.size(c.x, axis)
    order = [0, axis, *(k for k in range(1, rank) if k != axis)]  # ONNX normalises axis 1
    values = [
        c.constant(name, _given(c, name, [size], default))
        for name, default in (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0))
    ]
    epsilon = c.layer.number("epsilon", 1e-3)
    y = c.node("BatchNormalization", [c.transpose(c.x, order), *values], epsilon=epsilon)
    return c.transpose(y, [order.index(k) for k in range(rank)])


def _given(c: Call, name: str, shape: list[int], default: float) -> Array:
    """A weight, or what stands for it where the layer has none."""
    return c.weight(name, shape) if name in c.unit.own else np.full(shape, default, np.float32)


@layer("LayerNormalization", weights=only(gamma="scale", beta="center"), masking="pass")
def layer_normalization(c: Call) -> str:
    if c.layer.flag("rms_scaling", False):
        raise c.unsupported("rms_scaling is not read")
    rank = c.rank(c.x)
    axes = c.layer.axes("axis", rank)
    sizes = [c.size(c.x, k) for k in axes]
    # ONNX normalises the last axes.
    order = [*(k for k in range(rank) if k not in axes), *axes]
    inputs = [c.transpose(c.x, order), c.constant("gamma", _given(c, "gamma", sizes, 1.0))]
    if "beta" in c.unit.own:
        inputs.append(c.constant("beta", c.weight("beta", sizes)))
    epsilon = c.layer.number("epsilon", 1e-3)
    y = c.node("LayerNormalization", inputs, axis=rank - len(axes), epsilon=epsilon)
    return c.transpose(y, [order.index(k) for k in range(rank)])


@layer("GroupNormalization", weights=only(gamma="scale", beta="center"), masking="pass")
def group_normalization(c: Call) -> str:
    rank = c.rank(c.x)
    (axis,) = c.layer.axes("axis", rank)
    channels = c.size(c.x, axis)
    groups = c.layer.integer("groups", 32, least=-1)
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups:
        raise c.layer.error("groups", f"a divisor of {channels}", groups)
    order = [0, axis, *(k for k in range(1, rank) if k != axis)]
    values = [c.constant(n, _given(c, n, [channels], default)) for n, default in (("gamma", 1.0), ("beta", 0.0))]
    epsilon = c.layer.number("epsilon", 1e-3)
    x = c.transpose(c.x, order)
    flat = c.node("Unsqueeze", [x, c.ints([2], "axes")]) if rank == 2 else x
    y = c.node("GroupNormalization", [flat, *values], num_groups=groups, epsilon=epsilon)
    y = c.node("Squeeze", [y, c.ints([2], "axes")]) if rank == 2 else y
    return c.transpose(y, [order.index(k) for k in range(rank)])


@layer("UnitNormalization", masking="pass")
def unit_normalization(c: Call) -> str:
    axes = c.layer.axes("axis", c.rank(c.x))
    length = c.node("ReduceL2", [c.x, c.ints(axes, "axes")], keepdims=1)
    return c.node("Div", [c.x, c.node("Max", [length, c.number(1e-12, "least")])])
