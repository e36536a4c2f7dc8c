"""Fitted estimators of scikit-learn as graphs, read from their attributes. scikit-learn itself is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError, UnsupportedError
from ...graph import Graph, TensorType
from . import linear, networks, transforms  # noqa: F401  they fill the table
from .combine import parts
from .scope import STEPS, Scope

__all__ = ["graph_of"]


def graph_of(estimator: Any) -> Graph:
    """The graph of a fitted estimator: `X` to `output`, or to `label` and, where there are any, `probabilities`.

    Raises
    ------
    InputError
        It is no estimator, or not fitted.
    UnsupportedError
        Kinds of estimators that are not known here, all at once.
    """
    name = type(estimator).__name__
    if not hasattr(estimator, "get_params"):
        raise InputError("not an estimator", expected="a fitted estimator of scikit-learn", got=name)
    unknown = sorted({kind_of(p) for p in parts(estimator)} - STEPS.keys())
    if unknown:
        raise UnsupportedError(
            "estimators that are not known here", where=name, expected=", ".join(sorted(STEPS)), got=", ".join(unknown)
        )
    features = _features(estimator)
    scope = Scope(Graph({"X": TensorType(np.dtype(np.float32), ("N", features))}, [], name=name), estimator)
    try:
        result = scope.step(estimator, "X", features)
    except AttributeError as e:
        raise InputError("the estimator is not fitted", where=name, got=str(e)) from e
    outputs = result if isinstance(result, dict) else {"output": result[0]}
    for label, value in outputs.items():
        scope.name(value, label)
    scope.graph.metadata["producer"] = "scikit-learn"
    scope.graph.prune()
    scope.graph.verify()
    return scope.graph


def kind_of(estimator: Any) -> str:
    """The kind of an estimator: its class, if it is one of scikit-learn's own."""
    kind = type(estimator)
    own = kind.__module__.partition(".")[0] == "sklearn"
    return kind.__name__ if own else f"{kind.__module__}.{kind.__name__}"


def _features(estimator: Any) -> int:
    """The number of columns of the input."""
    try:
        return int(estimator.n_features_in_)
    except AttributeError as e:
        raise InputError("the estimator is not fitted", where=type(estimator).__name__, got=str(e)) from e
