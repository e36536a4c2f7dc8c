"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .lower import copy_step, dtype_reason, given, reduce_step
from .registry import Attributes, Case, Constants, Lowering, Types, operator


def _axes(attributes: Attributes, given_axes: list[int] | None, rank: int) -> list[int]:
    """The axes to reduce: all where none are given, unless noop_with_empty_axes says none."""
    if given_axes:
        return shapes.axes_of(given_axes, rank)
    return [] if attributes["noop_with_empty_axes"] else list(range(rank))


def _infer(kinds: str) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = shapes.required(types, 0, "data", kinds)
        keep = shapes.flag(attributes, "keepdims")
        shapes.flag(attributes, "noop_with_empty_axes")
        axes = shapes.value_of(types, constants, 1, "axes")
        if x.shape is None:
            return [TensorType(x.dtype, None)]
        if axes is None and shapes.at(types, 1) is not None:
            return [TensorType(x.dtype, (None,) * len(x.shape) if keep else None)]
        gone = set(_axes(attributes, axes, len(x.shape)))
        kept = [1 if k in gone else d for k, d in enumerate(x.shape) if keep or k not in gone]
        return [shapes.tensor(x.dtype, kept)]

    return infer


def _reference(function: Callable[..., Any]) -> Callable[..., Array]:
    def reference(attributes: Attributes, x: Array, axes: Array | None = None) -> Array:
        listed = None if axes is None else [int(a) for a in axes.ravel()]
        along = tuple(_axes(attributes, listed, x.ndim))
        if not along and attributes["noop_with_empty_axes"]:
            return x
        return np.asarray(function(x, axis=along, keepdims=bool(attributes["keepdims"])), dtype=x.dtype)

    return reference


def _mean(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    count = math.prod(x.shape[a] for a in axis)
    if x.dtype.kind == "f":
        if not count:  # NumPy warns of it
            return np.asarray(x.sum(axis=axis, keepdims=keepdims) * math.nan)
        return np.asarray(x.mean(axis=axis, keepdims=keepdims))
    # Integers: the sum divided by the count, truncated toward zero.
    if not count:
        raise GraphError("the mean of no integers is undefined")
    return np.asarray(np.trunc(x.sum(axis=axis, keepdims=keepdims) / count))


def _extreme(function: Callable[..., Any], largest: bool) -> Callable[..., Array]:
    def reduce(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        # An empty set gives the value that every other one beats: infinite, or the end of the dtype's range.
        start: float
        if x.dtype.kind == "f":
            start = -math.inf if largest else math.inf
        elif x.dtype.kind == "b":
            start = not largest
        else:
            start = np.iinfo(x.dtype).min if largest else np.iinfo(x.dtype).max
        return np.asarray(function(x, axis=axis, keepdims=keepdims, initial=start))

    return reduce


def _lower(kernel: str) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx, 0)
        if reason:
            return reason
        x, y = given(ctx), ctx.output()
        value = ctx.constant(1)
        if value is None and ctx.input(1) is not None:
            return "axes are not constant"
        axes = _axes(ctx.attributes, None if value is None else [int(a) for a in value.ravel()], len(x.shape))
        if not axes:
            return copy_step(ctx, x, y)
        kept = [k for k in range(len(x.shape)) if k not in axes]
        places = kept if ctx.attributes["keepdims"] else list(range(len(kept)))
        return reduce_step(ctx, kernel, x, y, kept=kept, places=places, reduced=sorted(axes))

    return lower


_CASES = (
    Case(((3, 4, 5),), name="all"),
    Case(((3, 4, 5), np.array([1])), constants=(1,)),
    Case(((3, 4, 5), np.array([-1])), {"keepdims": 0}, constants=(1,), name="rows"),
    Case(((3, 4, 5, 2), np.array([0, 2])), {"keepdims": 0}, constants=(1,), name="every other"),
    Case(((2, 33, 17), np.array([0, 1])), constants=(1,), name="columns"),
    Case(((3, 4),), {"noop_with_empty_axes": 1}, name="nothing to do"),
    Case(((3, 4), np.array([], np.int64)), {"keepdims": 0}, constants=(1,), name="empty axes"),
    Case(((0, 4), np.array([1])), constants=(1,), name="no rows"),
)
_EMPTY = Case(((3, 0, 2), np.array([1])), constants=(1,), name="empty set")
_INTEGERS = Case((np.arange(-6, 6).reshape(3, 4), np.array([0])), constants=(1,), name="integers")


def _register(op: str, kernel: str, function: Callable[..., Any], *more: Case, kinds: str = "fiu") -> None:
    operator(
        op,
        infer=_infer(kinds),
        reference=_reference(function),
        attributes={"keepdims": 1, "noop_with_empty_axes": 0},
        arity=(1, 2),
        lower=_lower(kernel),
        cases=(*_CASES, *more),
        strided=True,
    )


_register("ReduceSum", "reduce_sum_f32", np.sum, _EMPTY, _INTEGERS)
_register("ReduceMean", "reduce_mean_f32", _mean)
_register("ReduceMax", "reduce_max_f32", _extreme(np.max, True), _EMPTY, _INTEGERS, kinds="fiub")
_register("ReduceMin", "reduce_min_f32", _extreme(np.min, False), _EMPTY, _INTEGERS, kinds="fiub")
