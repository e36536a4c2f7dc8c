"""Normalisation that most models use: BatchNormalization, Softmax, LogSoftmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Array, TensorType
from . import shapes
from .lower import collapse, dims, dtype_reason, given, scale_shift_step
from .numeric import FLOATS, rounded_once, typed, widened
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator

__all__ = ["log_softmax", "moments", "scale_and_shift"]

_NAMES = ("X", "scale", "B", "input_mean", "input_var")


def _infer_batch_normalization(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS)
    shape = shapes.rank_of(x, "X", 1)
    shapes.number(attributes, "epsilon")
    shapes.number(attributes, "momentum")
    channels = None if shape is None else shape[1] if len(shape) > 1 else 1
    vectors = []
    for index, name in enumerate(_NAMES[1:], 1):
        found = typed(types, index, name, FLOATS)
        vector = shapes.rank_of(found, name, 1, 1)
        if vector is not None:
            channels = shapes.unify(channels, vector[0], f"the channels of X and the length of input {name}")
        vectors.append(found)
    shapes.same_dtype(vectors[:2], _NAMES[1:3])
    shapes.same_dtype(vectors[2:], _NAMES[3:])
    y = shapes.tensor(x.dtype, shape)
    if not shapes.flag(attributes, "training_mode"):
        return [y]
    return [y, shapes.tensor(vectors[2].dtype, (channels,)), shapes.tensor(vectors[3].dtype, (channels,))]


def scale_and_shift(vectors: Sequence[Array], epsilon: float) -> tuple[Array, Array]:
    """The float64 vectors for which BatchNormalization of x is x * scale + shift.

    Parameters
    ----------
    vectors
        scale, B, input_mean and input_var.
    epsilon
        What is added to the variance.
    """
    scale, bias, mean, var = (np.asarray(v, np.float64) for v in vectors)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + epsilon)
        return factor, bias - mean * factor


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and population variance, with the axes kept as 1; NaN over an empty set."""
    # NumPy's mean and var warn of empty sets.
    count = math.prod(x.shape[a] for a in axes)
    mean = np.asarray(x.sum(axis=axes, keepdims=True) / count if count else x.sum(axis=axes, keepdims=True) * math.nan)
    square = np.square(x - mean).sum(axis=axes, keepdims=True)
    return mean.astype(x.dtype), np.asarray(square / count if count else square * math.nan, dtype=x.dtype)


def _batch_normalization(
    attributes: Attributes, x: Array, scale: Array, bias: Array, mean: Array, var: Array
) -> Array | tuple[Array, Array, Array]:
    epsilon, momentum = attributes["epsilon"], attributes["momentum"]
    axes = tuple(k for k in range(x.ndim) if k != 1)
    training = bool(attributes["training_mode"])
    wide = widened(x)
    centre, spread = moments(wide, axes) if training else (widened(mean), widened(var))
    channels = (-1,) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
    centre, spread, scale, bias = (v.reshape(channels) for v in (centre, spread, widened(scale), widened(bias)))
    y = np.asarray((wide - centre) * (scale / np.sqrt(spread + epsilon)) + bias, dtype=x.dtype)
    if not training:
        return y
    running = [
        np.asarray(old * momentum + new.reshape(-1) * (1 - momentum), dtype=old.dtype)
        for old, new in ((mean, centre), (var, spread))
    ]
    return y, running[0], running[1]


def _lower_batch_normalization(ctx: Lowering) -> str | None:
    if ctx.attributes["training_mode"]:
        return "training_mode has no native kernel"
    vectors = [ctx.constant(k) for k in range(1, 5)]
    fixed = [v for v in vectors if v is not None]
    if len(fixed) < 4:
        return "scale, B, mean and var are not all constant"
    x, y = given(ctx), ctx.output()
    key = ("batch_normalization", *ctx.node.inputs[1:5], ctx.attributes["epsilon"])
    channels = (-1,) + (1,) * (len(x.shape) - 2) if len(x.shape) > 1 else (-1,)

    def part(index: int) -> Tensor:
        def make() -> Array:
            made = scale_and_shift(fixed, ctx.attributes["epsilon"])[index]
            return made.astype(np.float32).reshape(channels)

        return ctx.tensor(ctx.packed((*key, len(channels), index), make))

    return dtype_reason(ctx, 0) or scale_shift_step(ctx, x, part(0), part(1), y)


_POSITIVE = np.array([0.5, 2.0, 1e-3], np.float32)

operator(
    "BatchNormalization",
    infer=_infer_batch_normalization,
    reference=_batch_normalization,
    attributes={"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
    arity=(5, 5),
    lower=_lower_batch_normalization,
    cases=(
        Case(((2, 3, 4, 5), (3,), (3,), (3,), _POSITIVE), constants=(1, 2, 3, 4)),
        Case(((2, 3), (3,), (3,), (3,), _POSITIVE), {"epsilon": 0.1}, constants=(1, 2, 3, 4), name="features"),
        Case(((2, 3, 7), (3,), (3,), (3,), _POSITIVE), constants=(1, 2, 3, 4), name="1-D"),
        Case(((0, 3, 4, 5), (3,), (3,), (3,), _POSITIVE), constants=(1, 2, 3, 4), name="no images"),
        Case(((2, 3, 4), (3,), (3,), (3,), _POSITIVE), name="from the caller"),
        Case(((2, 3, 4), (3,), (3,), (3,), _POSITIVE), {"training_mode": 1, "momentum": 0.75}, name="training"),
    ),
    elementwise=True,
    strided=True,
)


def _infer_softmax(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "input", FLOATS)
    axis = shapes.integer(attributes, "axis")
    if x.shape is not None:
        shapes.axis_of(axis, len(x.shape))
    return [shapes.tensor(x.dtype, x.shape)]


def _softmax(attributes: Attributes, x: Array) -> Array:
    # The largest value goes to 0, so that exp cannot overflow.
    e = np.exp(x - x.max(axis=attributes["axis"], keepdims=True, initial=-np.inf))
    return np.asarray(e / e.sum(axis=attributes["axis"], keepdims=True))


def _log_softmax(attributes: Attributes, x: Array) -> Array:
    return log_softmax(x, attributes["axis"])


def log_softmax(x: Array, axis: int) -> Array:
    """log(softmax(x)) along the axis, exact where the softmax itself is too small to be told from 0."""
    z = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(z - np.log(np.exp(z).sum(axis=axis, keepdims=True)))


def _lower_softmax(kernel: str, cost: int) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx)
        if reason:
            return reason
        x, y = given(ctx), ctx.output()
        axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))

        def others(values: tuple[int, ...]) -> tuple[int, ...]:
            return values[:axis] + values[axis + 1 :]

        rows = collapse(others(x.shape), others(x.strides), others(y.strides))
        if rows is None:
            return "too many dimensions that cannot be merged"
        params: dict[str, Any] = {
            "length": x.shape[axis],
            "in_axis": x.strides[axis],
            "out_axis": y.strides[axis],
            "rank": len(rows[0]),
            "shape": dims(rows[0]),
            "in_stride": dims(rows[1][0]),
            "out_stride": dims(rows[1][1]),
        }
        count = math.prod(others(x.shape))
        ctx.step(kernel, params, [x], y, units=count, grain=1, flops=cost * x.size)
        return None

    return lower


_LARGE = np.array([[1000.0, 1001.0, -1000.0], [-np.inf, 0.0, 1.0]], np.float32)


def _register_softmax(op: str, kernel: str, function: Callable[..., Array]) -> None:
    operator(
        op,
        infer=_infer_softmax,
        reference=rounded_once(function),
        attributes={"axis": -1},
        lower=_lower_softmax(kernel, 16),
        cases=(
            Case(((3, 10),)),
            Case(((2, 3, 5),), {"axis": 1}, name="middle axis"),
            Case(((7, 3),), {"axis": 0}, name="first axis"),
            Case(((2, 3, 4, 33),), {"axis": -2}, name="counted from the end"),
            Case(((1000,),), name="one row"),
            Case((_LARGE,), name="large values"),
            Case(((0, 5),), name="no rows"),
            Case(((3, 1),), name="length 1"),
        ),
        elementwise=True,
        strided=True,
    )


_register_softmax("Softmax", "softmax_f32", _softmax)
_register_softmax("LogSoftmax", "log_softmax_f32", _log_softmax)
