"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .binary import divide
from .lower import collapse, copy_step, dtype_reason, given, reduce_step, space, unary_step
from .lower_typed import Lower, kernel_type
from .numeric import BOOL, FLOATS, WIDE_INTEGERS, DTypes, rounded_once, typed
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator


def _axes(attributes: Attributes, given_axes: list[int] | None, rank: int) -> list[int]:
    """The axes to reduce: all where none are given, unless noop_with_empty_axes says none."""
    if given_axes:
        return shapes.axes_of(given_axes, rank)
    return [] if attributes["noop_with_empty_axes"] else list(range(rank))


def _infer(allowed: DTypes) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = typed(types, 0, "data", allowed)
        keep = shapes.flag(attributes, "keepdims")
        shapes.flag(attributes, "noop_with_empty_axes")
        axes = shapes.value_of(types, constants, 1, "axes")
        if x.shape is None:
            return [TensorType(x.dtype, None)]
        if axes is None and shapes.at(types, 1) is not None:
            count = shapes.length_of(types, 1)  # none of them may stand for all
            rank = len(x.shape)
            return [shapes.unknown(x.dtype, rank if keep else rank - count if count else None)]
        gone = set(_axes(attributes, axes, len(x.shape)))
        kept = [1 if k in gone else d for k, d in enumerate(x.shape) if keep or k not in gone]
        return [shapes.tensor(x.dtype, kept)]

    return infer


def _reference(function: Callable[..., Any]) -> Callable[..., Array]:
    def reference(attributes: Attributes, x: Array, axes: Array | None = None) -> Array:
        listed = None if axes is None else [int(a) for a in axes.ravel()]
        along = tuple(_axes(attributes, listed, x.ndim))
        return np.asarray(function(x, axis=along, keepdims=bool(attributes["keepdims"])), dtype=x.dtype)

    return rounded_once(reference)


def _mean(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    count = math.prod(x.shape[a] for a in axis)
    if x.dtype.kind == "f":
        if not count:  # NumPy warns of it
            return np.asarray(x.sum(axis=axis, keepdims=keepdims) * math.nan)
        return np.asarray(x.mean(axis=axis, keepdims=keepdims))
    # Integers: the sum divided by the count, truncated toward zero.
    if not count:
        raise GraphError("the mean of no integers is undefined")
    total = np.asarray(x.sum(axis=axis, keepdims=keepdims))
    return divide(total, np.asarray(count).astype(total.dtype))


def _prod(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.prod(x, axis=axis, keepdims=keepdims))


def _sum_of(term: Callable[[Any], Any]) -> Callable[..., Array]:
    def reduce(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        return np.asarray(np.sum(term(x), axis=axis, keepdims=keepdims))

    return reduce


def _in_floats(function: Callable[..., Any]) -> Callable[..., Array]:
    """Integers through float64: the logarithm or root of what would wrap makes no sense."""

    def reduce(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        return np.asarray(function(x if x.dtype.kind == "f" else x.astype(np.float64), axis, keepdims))

    return reduce


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    # The largest value goes to 0, so that exp cannot overflow; an infinite one stays what it is.
    top = x.max(axis=axis, keepdims=True, initial=-math.inf)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return np.asarray(total if keepdims else total.squeeze(axis), dtype=x.dtype)


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


def _fixed_axes(ctx: Lowering) -> list[int] | None:
    """The axes to reduce, ascending; None where they come from a call."""
    value = ctx.constant(1)
    if value is None and ctx.input(1) is not None:
        return None
    listed = None if value is None else [int(a) for a in value.ravel()]
    return sorted(_axes(ctx.attributes, listed, len(given(ctx).shape)))


def _lower(kernel: str, then: str = "", typed_kernel: str = "") -> Lower:
    """One kernel, for integers `typed_kernel` (and for bools, if it takes any type), and on its result a row of
    unary.def."""
    selects = kernel in ("reduce_sum_f32", "reduce_mean_f32", "reduce_prod_f32", "reduce_max_f32", "reduce_min_f32")

    def lower(ctx: Lowering) -> str | None:
        element = kernel_type(ctx, 0)
        whole = bool(typed_kernel) and ("int" in element or (element == "bool" and typed_kernel.endswith("_any")))
        reason = None if whole else dtype_reason(ctx, 0)
        axes = _fixed_axes(ctx)
        if reason or axes is None:
            return reason or "axes are not constant"
        x, y = given(ctx), ctx.output()
        if typed_kernel == "reduce_mean_int" and whole and not x.size:
            return "the mean of no integers is undefined"
        if not axes and selects and not then:
            return copy_step(ctx, x, y)
        kept = [k for k in range(len(x.shape)) if k not in axes]
        places = kept if ctx.attributes["keepdims"] else list(range(len(kept)))
        reason = reduce_step(
            ctx, typed_kernel if whole else kernel, x, y, kept=kept, places=places, reduced=axes,
            element=element if whole else "",
        )  # fmt: skip
        return reason or (unary_step(ctx, then, 0.0, 0.0, y, y, cost=8) if then else None)

    return lower


def _log_sum_exp_step(ctx: Lowering, x: Tensor, y: Tensor, axes: list[int], places: list[int]) -> str | None:
    """Over axes that are one in memory; y has the other ones at `places`."""
    kept = [k for k in range(len(x.shape)) if k not in axes]
    inner = collapse([x.shape[k] for k in axes], [x.strides[k] for k in axes])
    outer = space(("in_stride", "out_stride"), [x.shape[k] for k in kept], [x.strides[k] for k in kept],
                  [y.strides[k] for k in places])  # fmt: skip
    if inner is None or outer is None:
        return "more dimensions than a kernel takes"
    params = {"length": inner[0][0], "in_axis": inner[1][0][0], "out_axis": 0, **outer}
    ctx.step("log_sum_exp_f32", params, [x], y, units=y.size, flops=16 * x.size)
    return None


def _lower_log_sum_exp(ctx: Lowering) -> str | None:
    reason, axes = dtype_reason(ctx, 0), _fixed_axes(ctx)
    if reason or axes is None:
        return reason or "axes are not constant"
    x, every = given(ctx), range(len(given(ctx).shape))
    while True:
        inner = collapse([x.shape[k] for k in axes], [x.strides[k] for k in axes])
        if inner is not None and len(inner[0]) == 1:
            break
        # One axis after the other, which then has size 1: the logarithm of a sum of sums.
        last = max(k for k in axes if x.shape[k] != 1)
        part = ctx.temporary(tuple(1 if k == last else d for k, d in enumerate(x.shape)))
        reason = _log_sum_exp_step(ctx, x, part, [last], [k for k in every if k != last])
        if reason:
            return reason
        x = part
    kept = [k for k in every if k not in axes]
    return _log_sum_exp_step(ctx, x, ctx.output(), axes, kept if ctx.attributes["keepdims"] else list(range(len(kept))))


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
_LARGE = Case(
    (np.array([[1000, 1001, -1000], [-np.inf, 0, 1], [-np.inf] * 3, [np.inf, 0, -np.inf]], np.float32), np.array([1])),
    constants=(1,),
    name="large values",
)
_TERMS = np.linspace(0.25, 3, 60, dtype=np.float32).reshape(3, 4, 5)
_POSITIVE = (
    Case((_TERMS,), name="all"),
    Case((_TERMS, np.array([1])), constants=(1,)),
    Case((_TERMS, np.array([-1])), {"keepdims": 0}, constants=(1,), name="rows"),
    Case((_TERMS, np.array([0, 2])), {"keepdims": 0}, constants=(1,), name="every other"),
    Case((np.zeros((2, 3), np.float32), np.array([1])), constants=(1,), name="zeros"),
    Case(((0, 4), np.array([1])), constants=(1,), name="no rows"),
)


_ALL = FLOATS | WIDE_INTEGERS
_ORDERED: DTypes = _ALL | BOOL | {np.dtype(np.int8), np.dtype(np.uint8)}


def _register(op: str, function: Callable[..., Any], *cases: Case, lower: Lower, allowed: DTypes = _ALL) -> None:
    operator(
        op,
        infer=_infer(allowed),
        reference=_reference(function),
        attributes={"keepdims": 1, "noop_with_empty_axes": 0},
        arity=(1, 2),
        lower=lower,
        cases=cases,
        strided=True,
        typed=True,
    )


_BOOLS = Case((np.array([[True, False], [False, False]]), np.array([1])), constants=(1,), name="bools")
_BYTES = Case((np.arange(200, 212, dtype=np.uint8).reshape(3, 4), np.array([0])), constants=(1,), name="bytes")
_WRAPPED = Case(
    (np.array([[2**30, 2**30, -3], [2**31 - 1, 1, -7]], np.int32), np.array([1])), constants=(1,), name="int32"
)
_INT32 = Case((np.arange(-6, 6, dtype=np.int32).reshape(3, 4), np.array([1])), constants=(1,), name="int32")
_WHOLE = (_INTEGERS, _WRAPPED)

_register("ReduceSum", np.sum, *_CASES, _EMPTY, *_WHOLE, lower=_lower("reduce_sum_f32", "", "reduce_sum_int"))
_register("ReduceMean", _mean, *_CASES, *_WHOLE, lower=_lower("reduce_mean_f32", "", "reduce_mean_int"))
_register("ReduceMax", _extreme(np.max, True), *_CASES, _EMPTY, *_WHOLE, _BOOLS, _BYTES, allowed=_ORDERED,
          lower=_lower("reduce_max_f32", "", "reduce_max_any"))  # fmt: skip
_register("ReduceMin", _extreme(np.min, False), *_CASES, _EMPTY, *_WHOLE, _BOOLS, _BYTES, allowed=_ORDERED,
          lower=_lower("reduce_min_f32", "", "reduce_min_any"))  # fmt: skip
_register(
    "ReduceProd", _prod, *_CASES, _EMPTY, _INTEGERS, _INT32, lower=_lower("reduce_prod_f32", "", "reduce_prod_int")
)
_register(
    "ReduceL1", _sum_of(np.abs), *_CASES, _EMPTY, _INTEGERS, _INT32, lower=_lower("reduce_l1_f32", "", "reduce_l1_int")
)
_register("ReduceSumSquare", _sum_of(np.square), *_CASES, _EMPTY, _INTEGERS,
          lower=_lower("reduce_sum_square_f32", "", "reduce_sum_square_int"))  # fmt: skip
_register("ReduceL2", _in_floats(lambda *of: np.sqrt(_sum_of(np.square)(*of))), *_CASES, _EMPTY,
          lower=_lower("reduce_sum_square_f32", "sqrt"))  # fmt: skip
_register("ReduceLogSumExp", _in_floats(_log_sum_exp), *_CASES, _EMPTY, _LARGE, lower=_lower_log_sum_exp)
# Only here have the cases to be positive. Before opset 28 the logarithms took integers.
_register("ReduceLogSum", _in_floats(lambda *of: np.log(_sum_of(np.positive)(*of))), *_POSITIVE, _EMPTY,
          lower=_lower("reduce_sum_f32", "log"))  # fmt: skip
