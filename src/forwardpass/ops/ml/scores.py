"""From the scores of a classical model to what it puts out: the transforms, and the second class of two."""

from __future__ import annotations

import numpy as np

from ...graph import Array

__all__ = ["TRANSFORMS", "regressed", "second_class", "transformed"]

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def _logistic(x: Array) -> Array:
    half = 1 / (1 + np.exp(-np.abs(x)))
    return np.asarray(np.where(x < 0, 1 - half, half))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def _softmax_zero(x: Array) -> Array:
    """A softmax over the scores that are not 0; those stay 0."""
    some = np.abs(x) > 1e-7
    e = np.where(some, np.exp(x - x.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    return np.asarray(np.where(total == 0, 0.5, e / np.where(total == 0, 1, total)))


def _probit(x: Array) -> Array:
    """The quantile of the normal distribution by Winitzki's formula for the inverse of erf, which every
    implementation has in place of the exact one: an error of up to 2e-3."""
    centred = 2 * x - 1
    log = np.log((1 - centred) * (1 + centred))
    v = 2 / (np.pi * 0.147) + 0.5 * log
    root = np.sqrt(np.sqrt(v * v - log / 0.147) - v)
    return np.asarray(np.sqrt(2) * np.sign(centred) * root)


_FUNCTIONS = {"SOFTMAX": _softmax, "LOGISTIC": _logistic, "SOFTMAX_ZERO": _softmax_zero, "PROBIT": _probit}


def transformed(scores: Array, transform: str) -> Array:
    """Scores [rows, classes] after the transform, float32."""
    function = _FUNCTIONS.get(transform)
    return (scores if function is None or not scores.size else function(scores)).astype(np.float32)


def regressed(scores: Array, transform: str) -> Array:
    """Scores of regression targets. The text leaves open what the transforms of distributions mean for a single
    target; as in onnxruntime they leave it as it is."""
    if scores.shape[1] == 1 and transform != "PROBIT":
        return scores.astype(np.float32)
    return transformed(scores, transform)


def second_class(score: Array, transform: str, *, probability: bool) -> Array:
    """Both scores of a model of two classes that has only one: [rows, 2].

    Parameters
    ----------
    score
        Of the second class.
    probability
        The other one is 1 - score, not -score.
    """
    if transform == "LOGISTIC":
        both = np.stack([_logistic(-score), _logistic(score)], 1)
    else:
        both = np.stack([1 - score if probability else -score, score], 1)
        if transform == "PROBIT":
            other = _probit(score)
            both = np.stack([-other, other], 1)
    return both.astype(np.float32)
