"""Transformers: scalers, projections, polynomials."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scope import Columns, Scope, step


@step("StandardScaler")
def standard(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    center = estimator.mean_ if estimator.with_mean else None
    return _centered(scope, x, center, estimator.scale_ if estimator.with_std else None), columns


@step("RobustScaler")
def robust(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    center = estimator.center_ if estimator.with_centering else None
    return _centered(scope, x, center, estimator.scale_ if estimator.with_scaling else None), columns


@step("MaxAbsScaler")
def max_abs(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    return _centered(scope, x, None, estimator.scale_), columns


def _centered(scope: Scope, x: str, center: Any, scale: Any) -> str:
    if center is not None:
        x = scope.node("Sub", x, center)
    return x if scale is None else scope.node("Div", x, scale)


@step("MinMaxScaler")
def min_max(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    y = scope.node("Add", scope.node("Mul", x, estimator.scale_), estimator.min_)
    if estimator.clip:
        low, high = (np.float64(v) for v in estimator.feature_range)
        y = scope.node("Clip", y, low, high)
    return y, columns


@step("Normalizer")
def normalizer(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    axes = np.array([1], np.int64)
    if estimator.norm == "max":
        size = scope.node("ReduceMax", scope.node("Abs", x), axes, keepdims=1)
    else:
        size = scope.node({"l1": "ReduceL1", "l2": "ReduceL2"}[estimator.norm], x, axes, keepdims=1)
    # A row of zeros stays what it is.
    one = np.float64(1)
    return scope.node("Div", x, scope.node("Where", scope.node("Equal", size, np.float64(0)), one, size)), columns


@step("Binarizer")
def binarizer(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    above = scope.node("Greater", x, np.float64(estimator.threshold))
    return scope.node("Cast", above, to=1), columns


@step("PCA")
def pca(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    kernel = np.asarray(estimator.components_, np.float64).T
    y = scope.node("MatMul", scope.node("Sub", x, estimator.mean_), kernel)
    if estimator.whiten:
        scale = np.sqrt(np.asarray(estimator.explained_variance_, np.float64))
        least = np.finfo(scale.dtype).eps
        y = scope.node("Div", y, np.where(scale < least, least, scale))
    return y, kernel.shape[1]


@step("TruncatedSVD")
def svd(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    kernel = np.asarray(estimator.components_, np.float64).T
    return scope.node("MatMul", x, kernel), kernel.shape[1]


@step("PolynomialFeatures")
def polynomial(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    powers = np.asarray(estimator.powers_)
    degree = int(powers.sum(axis=1).max(initial=0))
    # The factors of every product, with a column of ones for those that are not there.
    factors = np.full((len(powers), max(degree, 1)), columns, np.int64)
    for k, row in enumerate(powers):
        used = np.repeat(np.arange(columns), row)
        factors[k, : len(used)] = used
    ones = scope.node("Add", scope.node("Mul", _columns(scope, x, [0]), np.float64(0)), np.float64(1))
    wide = scope.node("Concat", x, ones, axis=1)
    y = _columns(scope, wide, factors[:, 0])
    for k in range(1, factors.shape[1]):
        y = scope.node("Mul", y, _columns(scope, wide, factors[:, k]))
    return y, len(powers)


def _columns(scope: Scope, x: str, places: Any) -> str:
    return scope.node("Gather", x, np.asarray(places, np.int64), axis=1)


@step("FunctionTransformer")
def function(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    if estimator.func is not None:
        raise scope.refuse("a function of Python", getattr(estimator.func, "__name__", estimator.func))
    return x, columns
