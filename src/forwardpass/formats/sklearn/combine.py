"""Estimators that are made of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .scope import Columns, Result, Scope, step

__all__ = ["parts"]


def parts(estimator: Any) -> Iterator[Any]:
    """The estimator and all that it is made of."""
    if isinstance(estimator, str) or estimator is None:
        return
    yield estimator
    kind = type(estimator).__name__
    if kind == "Pipeline":
        inner = [s for _, s in estimator.steps]
    elif kind == "ColumnTransformer":
        inner = [t for _, t, _ in getattr(estimator, "transformers_", ())]
    elif kind == "FeatureUnion":
        inner = [t for _, t in estimator.transformer_list]
    else:
        return
    for part in inner:
        yield from parts(part)


@step("Pipeline")
def pipeline(scope: Scope, estimator: Any, x: str, columns: int) -> Result:
    result: Result = (x, columns)
    for _, inner in estimator.steps:
        if inner is None or inner == "passthrough":
            continue
        if isinstance(result, dict):
            raise scope.refuse("a step after a predictor")
        result = scope.step(inner, *result)
    return result


@step("ColumnTransformer")
def column_transformer(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    made: list[Columns] = []
    for _, inner, chosen in estimator.transformers_:
        places = _places(scope, estimator, chosen, columns)
        if inner is None or (isinstance(inner, str) and inner == "drop") or not len(places):
            continue
        part = scope.node("Gather", x, places, axis=1)
        made.append((part, len(places)) if isinstance(inner, str) else _columns(scope, inner, part, len(places)))
    return _joined(scope, made)


@step("FeatureUnion")
def feature_union(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    made = []
    for name, inner in estimator.transformer_list:
        if isinstance(inner, str) and inner == "drop":
            continue
        y, width = (x, columns) if isinstance(inner, str) else _columns(scope, inner, x, columns)
        weight = (estimator.transformer_weights or {}).get(name, 1)
        made.append((y if weight == 1 else scope.node("Mul", y, np.float64(weight)), width))
    return _joined(scope, made)


def _columns(scope: Scope, estimator: Any, x: str, columns: int) -> Columns:
    result = scope.step(estimator, x, columns)
    if isinstance(result, dict):
        raise scope.refuse("a predictor among transformers", type(estimator).__name__)
    return result


def _joined(scope: Scope, made: list[Columns]) -> Columns:
    if not made:
        raise scope.refuse("no columns are left")
    width = sum(w for _, w in made)
    return (made[0][0] if len(made) == 1 else scope.node("Concat", *(v for v, _ in made), axis=1)), width


def _places(scope: Scope, estimator: Any, chosen: Any, columns: int) -> Any:
    """The columns as numbers."""
    if isinstance(chosen, slice) and all(v is None or isinstance(v, int) for v in (chosen.start, chosen.stop)):
        return np.arange(columns)[chosen]
    listed = np.atleast_1d(np.asarray(chosen))
    if listed.size == 0:
        return np.zeros(0, np.int64)
    if listed.dtype.kind == "b":
        return np.flatnonzero(listed)
    if listed.dtype.kind in "iu":
        return np.arange(columns)[listed]
    names = list(getattr(estimator, "feature_names_in_", ()))
    if not all(n in names for n in listed):
        raise scope.refuse("columns that are not known", chosen)
    return np.array([names.index(n) for n in listed], np.int64)
