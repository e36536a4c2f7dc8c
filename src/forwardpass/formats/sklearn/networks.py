"""Multi-layer perceptrons."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scope import Scope, step

__all__: list[str] = []

_ACTIVATIONS = {"identity": "", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp"}


def _layers(scope: Scope, estimator: Any, x: str) -> str:
    """The values before the last activation."""
    last = len(estimator.coefs_) - 1
    for k, (kernel, bias) in enumerate(zip(estimator.coefs_, estimator.intercepts_)):
        x = scope.affine(x, kernel, bias)
        op = _ACTIVATIONS[estimator.activation]
        if k < last and op:
            x = scope.node(op, x)
    return x


@step("MLPRegressor")
def regressor(scope: Scope, estimator: Any, x: str, columns: int) -> dict[str, str]:
    y = _layers(scope, estimator, x)
    op = _ACTIVATIONS[estimator.out_activation_]
    y = scope.node(op, y) if op else y
    return {"output": scope.node("Squeeze", y, np.array([1], np.int64)) if estimator.n_outputs_ == 1 else y}


@step("MLPClassifier")
def classifier(scope: Scope, estimator: Any, x: str, columns: int) -> dict[str, str]:
    y = _layers(scope, estimator, x)
    if estimator.out_activation_ == "softmax":
        probabilities = scope.node("Softmax", y, axis=1)
        places = scope.node("ArgMax", probabilities, axis=1, keepdims=0)
        return {"label": scope.classes(estimator.classes_, places), "probabilities": probabilities}
    each = scope.node("Sigmoid", y)
    above = scope.node("Cast", scope.node("Greater", each, np.float64(0.5)), to=7)
    if estimator.n_outputs_ > 1:  # several labels at once: one column for each
        return {"label": above, "probabilities": each}
    places = scope.node("Squeeze", above, np.array([1], np.int64))
    return {"label": scope.classes(estimator.classes_, places), "probabilities": scope.two_classes(each)}
