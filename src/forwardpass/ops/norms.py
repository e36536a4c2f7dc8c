"""Normalisation over groups of channels, rows and neighbourhoods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import DTYPES
from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .lower_norms import (
    lower_group,
    lower_instance,
    lower_layer,
    lower_lp,
    lower_lrn,
    lower_mean_variance,
)
from .normalization import moments
from .numeric import FLOATS, dtype_attribute, rounded_once, typed, unidirectional, widened
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator


def _channels(types: Types, names: tuple[str, str, str]) -> tuple[TensorType, Any]:
    """The type of X, and its number of channels, with which the vectors have to agree."""
    x = typed(types, 0, names[0], FLOATS)
    shape = shapes.rank_of(x, names[0], 2)
    count = None if shape is None else shape[1]
    for index in (1, 2):
        vector = shapes.rank_of(typed(types, index, names[index], FLOATS), names[index], 1, 1)
        if vector is not None:
            count = shapes.unify(count, vector[0], f"the channels of {names[0]} and the length of input {names[index]}")
    shapes.same_dtype(types, names)
    return x, count


def _infer_instance(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.number(attributes, "epsilon")
    x, _ = _channels(types, ("input", "scale", "B"))
    return [shapes.tensor(x.dtype, x.shape)]


def _per_channel(vector: Array, x: Array) -> Array:
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _instance(attributes: Attributes, x: Array, scale: Array, bias: Array) -> Array:
    mean, var = moments(x, tuple(range(2, x.ndim)))
    factor = _per_channel(scale, x) / np.sqrt(var + attributes["epsilon"])
    return np.asarray((x - mean) * factor + _per_channel(bias, x), dtype=x.dtype)


operator(
    "InstanceNormalization",
    infer=_infer_instance,
    reference=rounded_once(_instance),
    lower=lower_instance,
    typed=True,
    attributes={"epsilon": 1e-5},
    arity=(3, 3),
    cases=(
        Case(((2, 3, 4, 5), (3,), (3,)), constants=(1, 2)),
        Case(((2, 3, 7), (3,), (3,)), {"epsilon": 0.01}, constants=(1, 2), name="1-D"),
        Case(((1, 2, 3, 4, 3), (2,), (2,)), constants=(1, 2), name="3-D"),
        Case(((1, 33, 9, 9), (33,), (33,)), constants=(1, 2), name="many channels"),
        Case(((2, 3, 4, 5), (3,), (3,)), name="from the caller"),
        Case(((0, 3, 4, 5), (3,), (3,)), constants=(1, 2), name="no images"),
    ),
    elementwise=True,
)


def _infer_group(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.number(attributes, "epsilon")
    dtype_attribute(attributes, "stash_type", FLOATS)
    groups = shapes.integer(attributes, "num_groups")
    x, channels = _channels(types, ("X", "scale", "bias"))
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise GraphError("attribute 'num_groups' is wrong", expected=f"a divisor of {channels}", got=str(groups))
    return [shapes.tensor(x.dtype, x.shape)]


def _stage_one(attributes: Attributes, x: Array) -> Array:
    """x in the precision of stash_type, or its own where that is more: bfloat16 and float16 count as float32."""
    stash = DTYPES[int(attributes["stash_type"])]
    least = np.dtype(np.float64 if stash == np.float64 else np.float32)
    return x.astype(np.promote_types(x.dtype, least), copy=False)


def _group(attributes: Attributes, x: Array, scale: Array, bias: Array) -> Array:
    wide, groups = _stage_one(attributes, x), int(attributes["num_groups"])
    grouped = wide.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    mean, var = moments(grouped, tuple(range(2, grouped.ndim)))
    normal = ((grouped - mean) / np.sqrt(var + attributes["epsilon"])).reshape(x.shape)
    return np.asarray(normal * _per_channel(widened(scale), x) + _per_channel(widened(bias), x), dtype=x.dtype)


operator(
    "GroupNormalization",
    infer=_infer_group,
    reference=_group,
    lower=lower_group,
    typed=True,
    attributes={"num_groups": REQUIRED, "epsilon": 1e-5, "stash_type": 1},
    arity=(3, 3),
    cases=(
        Case(((2, 6, 4, 5), (6,), (6,)), {"num_groups": 3}, constants=(1, 2)),
        Case(((2, 6, 7), (6,), (6,)), {"num_groups": 1, "epsilon": 0.01}, constants=(1, 2), name="one group"),
        Case(((2, 6, 4, 5), (6,), (6,)), {"num_groups": 6}, constants=(1, 2), name="a group per channel"),
        Case(((1, 32, 9, 9), (32,), (32,)), {"num_groups": 8}, constants=(1, 2), name="many channels"),
        Case(((2, 4, 3, 3), (4,), (4,)), {"num_groups": 2}, name="from the caller"),
    ),
    elementwise=True,
)


def _first_axis(attributes: Attributes, x: TensorType) -> int | None:
    axis = shapes.integer(attributes, "axis")
    shapes.number(attributes, "epsilon")
    shape = shapes.rank_of(x, "X", 1)
    return None if shape is None else shapes.axis_of(axis, len(shape))


def _infer_layer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS)
    shapes.same_dtype(types, ("X", "Scale", "B"))
    axis = _first_axis(attributes, x)
    stash = dtype_attribute(attributes, "stash_type", FLOATS)
    assert stash is not None
    unidirectional(x, shapes.required(types, 1, "Scale"), "Scale")
    bias = shapes.at(types, 2)
    if bias is not None:
        unidirectional(x, bias, "B")
    if x.shape is None or axis is None:
        return [TensorType(x.dtype, None), TensorType(stash, None), TensorType(stash, None)]
    kept = (*x.shape[:axis], *(1,) * (len(x.shape) - axis))
    return [shapes.tensor(x.dtype, x.shape), shapes.tensor(stash, kept), shapes.tensor(stash, kept)]


def _layer(attributes: Attributes, x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, Array, Array]:
    wide = _stage_one(attributes, x)
    mean, var = moments(wide, tuple(range(attributes["axis"] % x.ndim, x.ndim)))
    inverse = 1 / np.sqrt(var + attributes["epsilon"])
    y = (wide - mean) * inverse * widened(scale)
    if bias is not None:
        y = y + widened(bias)
    stash = DTYPES[int(attributes["stash_type"])]
    saved = wide.dtype if stash.names else stash  # the evaluator rounds to narrow types
    return np.asarray(y, x.dtype), np.asarray(mean, saved), np.asarray(inverse, saved)


operator(
    "LayerNormalization",
    infer=_infer_layer,
    reference=_layer,
    lower=lower_layer(centred=True, shift=2, saved={"mean": 1, "inverse": 2}),
    typed=True,
    attributes={"axis": -1, "epsilon": 1e-5, "stash_type": 1},
    arity=(2, 3),
    cases=(
        Case(((2, 3, 16), (16,), (16,)), constants=(1, 2)),
        Case(((4, 33), (33,)), {"epsilon": 0.01}, constants=(1,), name="no bias"),
        Case(((2, 3, 4, 5), (4, 5), (4, 5)), {"axis": 2}, constants=(1, 2), name="two axes"),
        Case(((2, 3, 5), (2, 3, 5), (2, 3, 5)), {"axis": 0}, constants=(1, 2), name="all axes"),
        Case(((3, 7), (7,), (7,)), name="from the caller"),
        Case(((0, 7), (7,), (7,)), constants=(1, 2), name="no rows"),
        Case(((2, 3, 4, 5), (4, 1), (5,)), {"axis": 2}, constants=(1,), name="broadcast"),
        Case(((2, 3, 5), (3, 1), (5,)), constants=(1, 2), name="a scale per row"),
        Case(((3, 1), (1,), (1,)), constants=(1, 2), name="length 1"),
        Case(((2, 300), (300,), (300,)), constants=(1, 2), name="long rows"),
    ),
    elementwise=True,
)


def _infer_rms(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS)
    scale = typed(types, 1, "scale", FLOATS)
    _first_axis(attributes, x)
    dtype_attribute(attributes, "stash_type", FLOATS)
    unidirectional(x, scale, "scale")
    return [shapes.tensor(scale.dtype, x.shape)]


def _rms(attributes: Attributes, x: Array, scale: Array) -> Array:
    wide = _stage_one(attributes, x)
    axes = tuple(range(attributes["axis"] % x.ndim, x.ndim))
    count = math.prod(x.shape[a] for a in axes)
    mean_square = np.square(wide).sum(axis=axes, keepdims=True) / max(count, 1)
    return np.asarray(wide / np.sqrt(mean_square + attributes["epsilon"]) * widened(scale), dtype=scale.dtype)


operator(
    "RMSNormalization",
    infer=_infer_rms,
    reference=_rms,
    lower=lower_layer(centred=False),
    typed=True,
    attributes={"axis": -1, "epsilon": 1e-5, "stash_type": 1},
    arity=(2, 2),
    cases=(
        Case(((2, 3, 16), (16,)), constants=(1,)),
        Case(((4, 33), (33,)), {"epsilon": 0.01}, constants=(1,), name="epsilon"),
        Case(((2, 3, 4, 5), (4, 5)), {"axis": -2}, constants=(1,), name="two axes"),
        Case(((3, 7), (7,)), name="from the caller"),
        Case(((0, 7), (7,)), constants=(1,), name="no rows"),
    ),
    elementwise=True,
)


def _infer_lp(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "input", FLOATS)
    if shapes.integer(attributes, "p") not in (1, 2):
        raise GraphError("attribute 'p' is wrong", expected="1 or 2", got=str(attributes["p"]))
    axis = shapes.integer(attributes, "axis")
    shape = shapes.rank_of(x, "input", 1)
    if shape is not None:
        shapes.axis_of(axis, len(shape))
    return [shapes.tensor(x.dtype, x.shape)]


def _lp(attributes: Attributes, x: Array) -> Array:
    size = np.abs(x) if attributes["p"] == 1 else np.square(x)
    norm = size.sum(axis=attributes["axis"], keepdims=True)
    norm = norm if attributes["p"] == 1 else np.sqrt(norm)
    return np.asarray(np.where(norm == 0, x.dtype.type(0), x / norm))


_ZEROS = np.array([[0, 0, 0], [3, 0, -4]], np.float32)

operator(
    "LpNormalization",
    infer=_infer_lp,
    reference=rounded_once(_lp),
    lower=lower_lp,
    typed=True,
    attributes={"axis": -1, "p": 2},
    cases=(
        Case(((2, 3, 16),)),
        Case(((2, 5, 7),), {"axis": 1, "p": 1}, name="p 1"),
        Case(((4, 33),), {"axis": 0}, name="first axis"),
        Case((_ZEROS,), name="zeros"),
        Case(((0, 5),), name="no rows"),
    ),
    elementwise=True,
)


# The standard's function body adds this to the deviation, so that a constant channel becomes 0.
_DEVIATION = 1e-9


def _infer_mean_variance(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS)
    axes = shapes.integers(attributes, "axes")
    if x.shape is not None:
        shapes.axes_of(axes, len(x.shape))
    return [shapes.tensor(x.dtype, x.shape)]


def _mean_variance(attributes: Attributes, x: Array) -> Array:
    mean, var = moments(x, tuple(a % x.ndim for a in attributes["axes"]))
    return np.asarray((x - mean) / (np.sqrt(var) + _DEVIATION), dtype=x.dtype)


operator(
    "MeanVarianceNormalization",
    infer=_infer_mean_variance,
    reference=rounded_once(_mean_variance),
    attributes={"axes": [0, 2, 3]},
    lower=lower_mean_variance(_DEVIATION),
    typed=True,
    cases=(
        Case(((2, 3, 4, 5),)),
        Case(((2, 3, 7),), {"axes": [0, 2]}, name="1-D"),
        Case(((1, 3, 4, 5),), name="one image"),
        Case(((2, 3, 40),), {"axes": [-1]}, name="rows"),
    ),
    elementwise=True,
)


def _infer_lrn(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS)
    for name in ("alpha", "beta", "bias"):
        shapes.number(attributes, name)
    if shapes.integer(attributes, "size") < 1:
        raise GraphError("attribute 'size' is wrong", expected="at least 1", got=str(attributes["size"]))
    shapes.rank_of(x, "X", 2)
    return [shapes.tensor(x.dtype, x.shape)]


def _lrn(attributes: Attributes, x: Array) -> Array:
    size, channels = int(attributes["size"]), x.shape[1]
    square = np.square(x)
    total = np.zeros_like(square)
    before, after = min((size - 1) // 2, channels - 1), min(size // 2, channels - 1)
    for offset in range(-before, after + 1):
        low, high = max(0, -offset), channels - max(0, offset)
        total[:, low:high] += square[:, low + offset : high + offset]
    scale = attributes["bias"] + attributes["alpha"] / size * total
    return np.asarray(x / scale ** attributes["beta"], dtype=x.dtype)


operator(
    "LRN",
    infer=_infer_lrn,
    reference=rounded_once(_lrn),
    lower=lower_lrn,
    typed=True,
    attributes={"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "bias": 1.0},
    cases=(
        Case(((2, 8, 4, 5),), {"size": 5}),
        Case(((1, 7, 3, 3),), {"size": 3, "alpha": 0.5, "beta": 0.5, "bias": 2.0}, name="parameters"),
        Case(((1, 33, 5, 5),), {"size": 5, "alpha": 1.0}, name="many channels"),
        Case(((2, 3, 4, 4),), {"size": 9, "alpha": 1.0}, name="wider than the channels"),
        Case(((0, 3, 4, 4),), {"size": 3}, name="no images"),
    ),
)
