"""Sums, means, extremes and order along axes."""

# ruff: noqa: A002 - arguments have the names of ATen's schema

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten


def _axes(e: Emitter, value: Any, dim: Any) -> np.ndarray[Any, Any] | None:
    """The axes as an input; all of them where none is listed."""
    if dim is None or dim == []:
        return None
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return np.array([e.axis(value, d) for d in dims], np.int64)


def _reduce(e: Emitter, op: str, value: Any, dim: Any, keepdim: bool) -> Ref:
    return e.node(op, value, _axes(e, value, dim), keepdims=int(bool(keepdim)))


def _typed(e: Emitter, value: Any, dtype: Any) -> Any:
    return value if dtype is None else e.cast(value, dtype)


@aten("mean")
def mean(e: Emitter, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    return _reduce(e, "ReduceMean", _typed(e, self, dtype), dim, keepdim)


@aten("sum")
def sum_(e: Emitter, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    whole = dtype is None and e.dtype_of(self).kind in "iub"
    x = e.cast(self, np.dtype(np.int64)) if whole else _typed(e, self, dtype)
    return _reduce(e, "ReduceSum", x, dim, keepdim)


@aten("prod")
def prod(e: Emitter, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    whole = dtype is None and e.dtype_of(self).kind in "iub"
    x = e.cast(self, np.dtype(np.int64)) if whole else _typed(e, self, dtype)
    return _reduce(e, "ReduceProd", x, dim, keepdim)


@aten("amax", "amin")
def _extreme(e: Emitter, self: Any, dim: Any = None, keepdim: bool = False) -> Ref:
    return _reduce(e, "ReduceMax" if e.op == "amax" else "ReduceMin", self, dim, keepdim)


@aten("max", "min")
def _extreme_of_all(e: Emitter, self: Any) -> Ref:
    return _reduce(e, "ReduceMax" if e.op.startswith("max") else "ReduceMin", self, None, False)


@aten("max.dim", "min.dim")
def _extreme_with_place(e: Emitter, self: Any, dim: int, keepdim: bool = False) -> tuple[Ref, Ref]:
    kind = "Max" if e.op.startswith("max") else "Min"
    place = e.node(f"Arg{kind}", self, axis=e.axis(self, dim), keepdims=int(keepdim))
    return _reduce(e, f"Reduce{kind}", self, dim, keepdim), place


@aten("argmax", "argmin")
def _place(e: Emitter, self: Any, dim: int | None = None, keepdim: bool = False) -> Ref:
    op = "ArgMax" if e.op == "argmax" else "ArgMin"
    if dim is not None:
        return e.node(op, self, axis=e.axis(self, dim), keepdims=int(keepdim))
    if keepdim:
        raise e.refuse("a place among all elements that keeps the axes")
    return e.node(op, e.reshape(self, [-1]), axis=0, keepdims=0)


@aten("any", "all")
def _logical(e: Emitter, self: Any, dim: Any = None, keepdim: bool = False) -> Ref:
    op = "ReduceMax" if e.op.startswith("any") else "ReduceMin"
    return _reduce(e, op, e.cast(self, np.dtype(np.bool_)), dim, keepdim)


def _variance(e: Emitter, x: Any, dim: Any, correction: Any, keepdim: bool) -> tuple[Ref, Ref]:
    """The variance and the mean."""
    center = _reduce(e, "ReduceMean", x, dim, True)
    difference = e.node("Sub", x, center)
    shape = e.shape_of(x)
    axes = range(len(shape)) if _axes(e, x, dim) is None else [int(a) for a in _axes(e, x, dim)]  # type: ignore[union-attr]
    total = _reduce(e, "ReduceSum", e.node("Mul", difference, difference), dim, keepdim)
    count = int(np.prod([e.size_of(x, a) for a in axes], dtype=np.int64)) - (1 if correction is None else correction)
    if count <= 0:
        raise e.refuse("a variance of too few elements", count)
    result = e.node("Mul", total, e.cast(1.0 / count, e.dtype_of(x)))
    return result, center if keepdim else _reduce(e, "ReduceMean", x, dim, False)


def _correction(unbiased: Any, correction: Any) -> Any:
    return correction if unbiased is None else int(bool(unbiased))


@aten("var")
def var(
    e: Emitter, self: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
) -> Ref:
    return _variance(e, self, dim, _correction(unbiased, correction), keepdim)[0]


@aten("std")
def std(
    e: Emitter, self: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
) -> Ref:
    return e.node("Sqrt", _variance(e, self, dim, _correction(unbiased, correction), keepdim)[0])


@aten("var_mean")
def var_mean(
    e: Emitter, self: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
) -> tuple[Ref, Ref]:
    return _variance(e, self, dim, _correction(unbiased, correction), keepdim)


@aten("std_mean")
def std_mean(
    e: Emitter, self: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
) -> tuple[Ref, Ref]:
    variance, mean = _variance(e, self, dim, _correction(unbiased, correction), keepdim)
    return e.node("Sqrt", variance), mean


@aten("linalg_vector_norm", "norm")
def vector_norm(
    e: Emitter, self: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, p: Any = None
) -> Ref:
    order = ord if p is None else p
    ops = {1: "ReduceL1", 2: "ReduceL2"}
    if order not in ops:
        raise e.refuse("a norm of this order", order)
    return _reduce(e, ops[order], _typed(e, self, dtype), dim, keepdim)


@aten("logsumexp")
def logsumexp(e: Emitter, self: Any, dim: Any, keepdim: bool = False) -> Ref:
    return _reduce(e, "ReduceLogSumExp", self, dim, keepdim)


@aten("cumsum")
def cumsum(e: Emitter, self: Any, dim: int, dtype: Any = None) -> Ref:
    whole = dtype is None and e.dtype_of(self).kind in "iub"
    x = e.cast(self, np.dtype(np.int64)) if whole else _typed(e, self, dtype)
    return e.node("CumSum", x, np.array(e.axis(self, dim), np.int64))


@aten("topk")
def topk(
    e: Emitter,
    self: Any,
    k: Any,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
) -> list[Ref]:
    axis = e.axis(self, dim)
    return e.nodes_of("TopK", 2, self, e.vector(k), axis=axis, largest=int(largest), sorted=1)


@aten("sort")
def sort(e: Emitter, self: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> list[Ref]:
    axis = e.axis(self, dim)
    return e.nodes_of("TopK", 2, self, e.vector(e.size(self, axis)), axis=axis, largest=int(descending), sorted=1)
