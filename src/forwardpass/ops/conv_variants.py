"""Convolutions that sample elsewhere: between the pixels (DeformConv), or only in the past (CausalConvWithState)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .conv import check_channels, kernel_of
from .interpolation import gather
from .linear import check_bias
from .numeric import widened
from .registry import Attributes, Case, Constants, Types, operator


def _check_samples(types: Types, index: int, name: str, expected: Sequence[Dim]) -> None:
    """Raise GraphError unless the input that says where to sample has the shape expected."""
    found = shapes.at(types, index)
    if found is None:
        return
    shape = shapes.rank_of(found, name, len(expected), len(expected))
    for axis, (d, e) in enumerate(zip(shape or (), expected)):
        shapes.unify(e, d, f"dimension {axis} of input {name}")


def _infer_deform_conv(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "W", "offset", "B", "mask"))
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 3)
    w = shapes.rank_of(shapes.required(types, 1, "W"), "W", 3)
    shapes.required(types, 2, "offset")
    if x is None or w is None:
        return [TensorType(dtype, None)]
    rank = len(x) - 2
    if len(w) != len(x):
        raise GraphError("inputs X and W differ in rank", expected=str(len(x)), got=str(len(w)))
    check_channels(x[1], w[1], w[0], shapes.integer(attributes, "group"))
    check_bias(types, 3, w[0])
    groups = shapes.integer(attributes, "offset_group")
    if groups < 1 or (isinstance(x[1], int) and x[1] % groups):
        raise GraphError("attribute 'offset_group' is wrong", expected=f"a divisor of {x[1]}", got=str(groups))
    kernel = kernel_of(attributes, w[2:], rank)
    if kernel is None:
        return [TensorType(dtype, (x[0], w[0], *(None,) * rank))]
    out = windows.output_sizes(attributes, x[2:], kernel)
    taps = groups * math.prod(kernel)
    _check_samples(types, 2, "offset", (x[0], taps * rank, *out))
    _check_samples(types, 4, "mask", (x[0], taps, *out))
    return [shapes.tensor(dtype, (x[0], w[0], *out))]


def _deform_conv(
    attributes: Attributes, x: Array, w: Array, offset: Array, bias: Array | None = None, mask: Array | None = None
) -> Array:
    rank, groups, group = x.ndim - 2, attributes["offset_group"], attributes["group"]
    found = windows.window(attributes, x.shape[2:], w.shape[2:])
    taps, pixels = math.prod(found.kernel), math.prod(found.out)
    offsets = widened(offset).reshape(x.shape[0] * groups, *found.kernel, rank, *found.out)
    places, weights = [], []
    for axis, size in enumerate(x.shape[2:]):
        regular = np.arange(found.out[axis]) * found.strides[axis] - found.before[axis]
        steps = np.arange(found.kernel[axis]) * found.dilations[axis]
        inner = (1,) * (rank - axis - 1)
        grid = steps.reshape(-1, *inner, *(1,) * rank) + regular.reshape(-1, *inner)
        position = (offsets[(slice(None),) * (rank + 1) + (axis,)] + grid).reshape(len(offsets), taps * pixels)
        # Far outside all values are 0, and NaN is nowhere.
        position = np.clip(np.where(np.isnan(position), -2, position), -2, size + 1)
        low = np.floor(position)
        around = np.stack([low, low + 1], axis=-1).astype(np.intp)
        part = position - low
        weights.append(np.where((around >= 0) & (around < size), np.stack([1 - part, part], axis=-1), 0))
        places.append(np.clip(around, 0, size - 1))
    images = widened(x).reshape(x.shape[0] * groups, x.shape[1] // groups, *x.shape[2:])
    values = gather(images, places, weights).reshape(x.shape[0], groups, -1, taps, pixels)
    if mask is not None:
        values = values * widened(mask).reshape(x.shape[0], groups, 1, taps, pixels)
    columns = values.reshape(x.shape[0], group, w.shape[1] * taps, pixels)
    rows = widened(w).reshape(group, w.shape[0] // group, w.shape[1] * taps)
    y = np.matmul(rows, columns).reshape(x.shape[0], w.shape[0], *found.out)
    if bias is not None:
        y = y + widened(bias).reshape(-1, *(1,) * rank)
    return np.asarray(y, dtype=x.dtype)


operator(
    "DeformConv",
    infer=_infer_deform_conv,
    reference=_deform_conv,
    attributes={**windows.WINDOW, "group": 1, "offset_group": 1},
    arity=(3, 5),
)


def _infer_causal_conv(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.choice(attributes, "activation", ("none", "silu", "swish"))
    dtype = shapes.same_dtype(types, ("input", "weight", "bias", "past_state"))
    x = shapes.rank_of(shapes.required(types, 0, "input", "f"), "input", 3, 3)
    w = shapes.rank_of(shapes.required(types, 1, "weight"), "weight", 3, 3)
    past = shapes.at(types, 3)
    state = None if past is None else shapes.rank_of(past, "past_state", 3, 3)
    batch, channels, length = x or (None, None, None)
    kept: Dim = None
    if w is not None:
        channels = shapes.unify(channels, w[0], "the channels of input and weight")
        shapes.unify(1, w[1], "1 and the second dimension of weight")
        if w[2] == 0:
            raise GraphError("the kernel is empty", expected="at least one tap", got=shapes.describe(w))
        kept = w[2] - 1 if isinstance(w[2], int) else None
    check_bias(types, 2, channels)
    if state is not None:
        batch = shapes.unify(batch, state[0], "the batches of input and past_state")
        channels = shapes.unify(channels, state[1], "the channels of input and past_state")
        kept = shapes.unify(kept, state[2], "the kernel's size less 1 and the length of past_state")
    return [shapes.tensor(dtype, (batch, channels, length)), shapes.tensor(dtype, (batch, channels, kept))]


def _causal_conv(
    attributes: Attributes, x: Array, w: Array, bias: Array | None = None, past: Array | None = None
) -> tuple[Array, Array]:
    taps, length = w.shape[2], x.shape[2]
    before = np.zeros((*x.shape[:2], taps - 1), x.dtype) if past is None else past
    padded = np.concatenate([before, x], axis=2)
    values, weights = widened(padded), widened(w)
    total = np.zeros(x.shape, values.dtype)
    for t in range(taps):
        total += values[:, :, t : t + length] * weights[:, 0, t, None]
    if bias is not None:
        total += widened(bias)[:, None]
    if attributes["activation"] != "none":
        # The sigmoid by way of tanh, which does not overflow.
        total = total * (0.5 + 0.5 * np.tanh(total / 2))
    return np.asarray(total, dtype=x.dtype), padded[:, :, length:]


operator(
    "CausalConvWithState",
    infer=_infer_causal_conv,
    reference=_causal_conv,
    attributes={"activation": "none"},
    arity=(2, 4),
    cases=(Case(((2, 3, 7), (3, 1, 4), (3,), (2, 3, 3)), {"activation": "silu"}, constants=(1, 2), name="state"),),
)
