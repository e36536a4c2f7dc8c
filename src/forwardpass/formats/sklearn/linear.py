"""Linear models."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scope import Scope, step

__all__: list[str] = []


def _decision(scope: Scope, estimator: Any, x: str) -> tuple[str, int]:
    """Scores [N, rows of coef_], and their number."""
    coefficients = np.asarray(estimator.coef_, np.float64)
    rows = coefficients.reshape(-1, coefficients.shape[-1])
    return scope.affine(x, rows.T, estimator.intercept_), len(rows)


@step(
    *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LassoLars"),
    *("SGDRegressor", "LinearSVR", "HuberRegressor", "BayesianRidge", "ARDRegression", "PassiveAggressiveRegressor"),
    *("OrthogonalMatchingPursuit", "TheilSenRegressor", "MultiTaskLasso", "MultiTaskElasticNet"),
)
def regressor(scope: Scope, estimator: Any, x: str, columns: int) -> dict[str, str]:
    y, _ = _decision(scope, estimator, x)
    flat = np.ndim(estimator.coef_) == 1
    return {"output": scope.node("Squeeze", y, np.array([1], np.int64)) if flat else y}


def _label(scope: Scope, estimator: Any, scores: str, rows: int) -> str:
    if rows == 1:
        column = scope.node("Squeeze", scores, np.array([1], np.int64))
        places = scope.node("Cast", scope.node("Greater", column, np.float64(0)), to=7)
    else:
        places = scope.node("ArgMax", scores, axis=1, keepdims=0)
    return scope.classes(estimator.classes_, places)


@step(
    *("LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron", "PassiveAggressiveClassifier"),
    *("SGDClassifier", "LogisticRegression", "LogisticRegressionCV"),
)
def classifier(scope: Scope, estimator: Any, x: str, columns: int) -> dict[str, str]:
    if np.ndim(estimator.classes_) != 1:
        raise scope.refuse("several labels at once")
    scores, rows = _decision(scope, estimator, x)
    outputs = {"label": _label(scope, estimator, scores, rows)}
    probabilities = _probabilities(scope, estimator, scores, rows)
    if probabilities:
        outputs["probabilities"] = probabilities
    return outputs


def _probabilities(scope: Scope, estimator: Any, scores: str, rows: int) -> str:
    kind = type(estimator).__name__
    if kind.startswith("LogisticRegression"):
        # `multi_class` is an argument of older versions.
        scheme = getattr(estimator, "multi_class", "auto")
        alone = scheme == "ovr" or getattr(estimator, "solver", "") == "liblinear"
        if rows > 1 and not alone:
            return scope.node("Softmax", scores, axis=1)
        if rows == 1 and scheme == "multinomial":
            both = scope.node("Concat", scope.node("Neg", scores), scores, axis=1)
            return scope.node("Softmax", both, axis=1)
        return _one_against_rest(scope, scores, rows)
    if kind == "SGDClassifier" and estimator.loss == "log_loss":
        return _one_against_rest(scope, scores, rows)
    if kind == "SGDClassifier" and estimator.loss == "modified_huber" and rows == 1:
        clipped = scope.node("Clip", scores, np.float64(-1), np.float64(1))
        half = scope.node("Mul", scope.node("Add", clipped, np.float64(1)), np.float64(0.5))
        return scope.two_classes(half)
    return ""


def _one_against_rest(scope: Scope, scores: str, rows: int) -> str:
    each = scope.node("Sigmoid", scores)
    if rows == 1:
        return scope.two_classes(each)
    total = scope.node("ReduceSum", each, np.array([1], np.int64), keepdims=1)
    return scope.node("Div", each, total)
