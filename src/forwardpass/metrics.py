"""How good predictions are: errors, cross-entropies and accuracies, with the numbers that Keras gives.

Each metric is a function `(y_true, y_pred) -> one number per row`, float64; the mean over the rows is the measure.

>>> import numpy as np
>>> from forwardpass import metrics
>>> metrics.mean_absolute_error(np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]])).mean()
0.25
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .dtypes import DTYPES, decode, from_foreign, name_of
from .errors import InputError, suggest
from .graph import Array
from .inputs import as_ndarray

if TYPE_CHECKING:
    from .run import Model

__all__ = [
    "METRICS",
    "Measures",
    "Metric",
    "accuracy",
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "evaluate",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "top_k",
]

Metric: TypeAlias = "Callable[[Array, Array], Array]"

_EPSILON = 1e-7
"""Keras' own: probabilities are kept so far from 0 and 1."""


class Measures(dict[str, float]):
    """Name of a metric -> its mean over all rows."""

    def __repr__(self) -> str:
        if not self:
            return "Measures({})"
        width = max(map(len, self))
        return "\n".join(f"{name.ljust(width)}  {value:.6g}" for name, value in self.items())


# ---- errors


def mean_squared_error(y_true: Array, y_pred: Array) -> Array:
    """The mean of `(y_true - y_pred)^2` over the elements of each row."""
    y, p = _alike("mean_squared_error", y_true, y_pred)
    return _row_means((y - p) ** 2)


def mean_absolute_error(y_true: Array, y_pred: Array) -> Array:
    """The mean of `|y_true - y_pred|` over the elements of each row."""
    y, p = _alike("mean_absolute_error", y_true, y_pred)
    return _row_means(np.abs(y - p))


# ---- cross-entropies


def binary_crossentropy(y_true: Array, y_pred: Array, *, from_logits: bool = False) -> Array:
    """The mean of -(y log p + (1 - y) log(1 - p)) over the elements of each row.

    Parameters
    ----------
    y_true
        0 or 1, or anything between.
    y_pred
        Probabilities, or with `from_logits` the values of which a sigmoid makes them.
    """
    y, p = _alike("binary_crossentropy", y_true, y_pred)
    if from_logits:
        return _row_means(np.maximum(p, 0) - p * y + np.log1p(np.exp(-np.abs(p))))
    p = _clipped(np.asarray(y_pred)).reshape(p.shape)
    return _row_means(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def categorical_crossentropy(y_true: Array, y_pred: Array, *, from_logits: bool = False) -> Array:
    """-sum(y log p) of each row, for one-hot rows or other shares of classes `y_true`, of the shape of `y_pred`."""
    y, p = _alike("categorical_crossentropy", y_true, y_pred)
    _classes("categorical_crossentropy", p)
    if from_logits:
        return _row_means(-(y * _log_softmax(p)).sum(axis=-1))
    given = np.asarray(y_pred)
    given = given / given.sum(axis=-1, keepdims=True)
    return _row_means(-(y * np.log(_clipped(given))).sum(axis=-1))


def sparse_categorical_crossentropy(y_true: Array, y_pred: Array, *, from_logits: bool = False) -> Array:
    """-log p of the right class of each row, whose number `y_true` is."""
    name = "sparse_categorical_crossentropy"
    classes = _numbers(name, y_true, y_pred)
    logs = _log_softmax(np.asarray(y_pred, np.float64)) if from_logits else np.log(_clipped(np.asarray(y_pred)))
    return _row_means(-np.take_along_axis(logs, classes[..., np.newaxis], axis=-1)[..., 0])


# ---- accuracies


def binary_accuracy(y_true: Array, y_pred: Array) -> Array:
    """The share of elements of each row that are 1 where p > 0.5, and 0 elsewhere."""
    y, p = _alike("binary_accuracy", y_true, y_pred)
    return _row_means(y == (p > 0.5))


def categorical_accuracy(y_true: Array, y_pred: Array) -> Array:
    """Whether the most probable class of each row is that of the one-hot row `y_true`."""
    y, p = _alike("categorical_accuracy", y_true, y_pred)
    _classes("categorical_accuracy", p)
    return _row_means(y.argmax(axis=-1) == p.argmax(axis=-1))


def sparse_categorical_accuracy(y_true: Array, y_pred: Array) -> Array:
    """Whether the most probable class of each row is `y_true`, its number."""
    classes = _numbers("sparse_categorical_accuracy", y_true, y_pred)
    return _row_means(classes == np.asarray(y_pred).argmax(axis=-1))


def accuracy(y_true: Array, y_pred: Array) -> Array:
    """Binary, categorical or sparse accuracy, as the shapes say: one score a row, one-hot rows, or numbers."""
    y, p = np.asarray(y_true), np.asarray(y_pred)
    if p.ndim < 2 or p.shape[-1] == 1:
        return binary_accuracy(y, p)
    return categorical_accuracy(y, p) if y.shape == p.shape else sparse_categorical_accuracy(y, p)


def top_k(k: int = 5) -> Metric:
    """A metric: whether the right class, a number or a one-hot row, is among the `k` most probable ones.

    Classes that are as probable as the k-th one count.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError("wrong number of classes", where="top_k", expected="a positive integer", got=repr(k))

    def metric(y_true: Array, y_pred: Array) -> Array:
        y, p = _numeric("top_k", y_true), np.asarray(y_pred)
        classes = y.argmax(axis=-1) if y.shape == p.shape and y.ndim > 1 else _numbers("top_k", y, p)
        own = np.take_along_axis(p, classes[..., np.newaxis], axis=-1)
        return _row_means(((p > own).sum(axis=-1) < k) & np.isfinite(own[..., 0]))

    metric.__name__ = f"top_{k}"
    return metric


METRICS: dict[str, Metric] = {
    "mean_squared_error": mean_squared_error,
    "mse": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "mae": mean_absolute_error,
    "binary_crossentropy": binary_crossentropy,
    "categorical_crossentropy": categorical_crossentropy,
    "sparse_categorical_crossentropy": sparse_categorical_crossentropy,
    "accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    "categorical_accuracy": categorical_accuracy,
    "sparse_categorical_accuracy": sparse_categorical_accuracy,
    "top_5": top_k(5),
}
"""Name -> metric."""


# ---- parts


def _row_means(values: Array) -> Array:
    values = np.asarray(values, np.float64)
    return values.reshape(len(values), -1).mean(axis=1) if values.ndim else values


def _alike(name: str, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Both in float64 and of the shape of the predictions, of which a last dimension of 1 may be missing."""
    y, p = _numeric(name, y_true), np.asarray(y_pred)
    if y.shape != p.shape:
        fits = (*y.shape, 1) == p.shape or y.shape == (*p.shape, 1)
        if not fits:
            raise InputError("the answers do not fit", where=name, expected=str(list(p.shape)), got=str(list(y.shape)))
        y = y.reshape(p.shape)
    return y.astype(np.float64), p.astype(np.float64)


def _numeric(name: str, y_true: Array) -> Array:
    """The answers as numbers that NumPy calculates with."""
    y = from_foreign(np.asarray(y_true))
    y = decode(y) if y.dtype in DTYPES.values() else y
    if y.dtype.kind not in "biuf":
        raise InputError("the answers are no numbers", where=name, expected="numbers", got=name_of(y.dtype))
    return y


def _classes(name: str, p: Array) -> None:
    if p.ndim < 2:
        raise InputError("no classes", where=name, expected="predictions [N, classes]", got=str(list(p.shape)))


def _numbers(name: str, y_true: Array, y_pred: Array) -> Array:
    """Class numbers of the shape of the predictions without their last dimension."""
    y, p = _numeric(name, y_true), np.asarray(y_pred)
    _classes(name, p)
    if y.shape == (*p.shape[:-1], 1):
        y = y[..., 0]
    if y.shape != p.shape[:-1]:
        raise InputError(
            "the answers do not fit", where=name, expected=f"class numbers {list(p.shape[:-1])}", got=str(list(y.shape))
        )
    with np.errstate(invalid="ignore"):  # what is not finite is no class number, which the next lines say
        whole = y.astype(np.int64)
    if y.size and not ((whole == y).all() and whole.min() >= 0 and whole.max() < p.shape[-1]):
        raise InputError(
            "no class numbers", where=name, expected=f"0 to {p.shape[-1] - 1}", got=f"{y.min()} to {y.max()}"
        )
    return whole


def _clipped(p: Array) -> Array:
    """Probabilities away from 0 and 1, in their own precision as Keras does it, then in float64."""
    dtype = np.result_type(p.dtype, np.float32) if p.dtype.kind == "f" else np.dtype(np.float64)
    epsilon = dtype.type(_EPSILON)
    return np.asarray(np.clip(p.astype(dtype), epsilon, dtype.type(1) - epsilon), np.float64)


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


# ---- models


def evaluate(
    model: Model, x: Any, y: Any, metrics: Iterable[str | Metric], batch_size: int = 32, progress: bool = False
) -> Measures:
    """`Model.evaluate`."""
    wanted = _named([metrics] if isinstance(metrics, str) or callable(metrics) else metrics)
    outputs = model.predict(x, batch_size=batch_size, progress=progress)
    found = dict(zip(model.outputs, [outputs] if isinstance(outputs, np.ndarray) else outputs))
    answers = y if isinstance(y, Mapping) else {next(iter(found)): y}
    if not isinstance(y, Mapping) and len(found) > 1:
        expected = f"output name -> answers, of {', '.join(found)}"
        raise InputError("several outputs", where="y", expected=expected, got=type(y).__name__)
    measures = Measures()
    for output, right in answers.items():
        if output not in found:
            hint = suggest(output, found)
            raise InputError("unknown output", where="y", expected=", ".join(found), got=str(output), hint=hint)
        given = as_ndarray("y", right, "y")
        if not given.ndim or len(given) != len(found[output]) or not len(given):
            rows = f"{len(found[output])} rows" if len(found[output]) else "1 row or more"
            raise InputError("the answers do not fit", where="y", expected=rows, got=str(list(given.shape)))
        for name, metric in wanted.items():
            values = np.asarray(metric(given, found[output]), np.float64)
            measures[name if len(answers) == 1 else f"{output}_{name}"] = float(values.mean())
    return measures


def _named(metrics: Iterable[str | Metric]) -> dict[str, Metric]:
    """Name -> metric. Further functions of one name, such as lambdas, are name_1, name_2, ... as Keras has it."""
    found: dict[str, Metric] = {}
    if not isinstance(metrics, Iterable):
        raise InputError("no metrics", where="metrics", expected="names or functions", got=repr(metrics))
    for metric in metrics:
        if not callable(metric) and not (isinstance(metric, str) and metric in METRICS):
            hint = suggest(metric, METRICS)
            expected = f"a function, or one of {', '.join(METRICS)}"
            raise InputError("unknown metric", where="metrics", expected=expected, got=repr(metric), hint=hint)
        function = METRICS[metric] if isinstance(metric, str) else metric
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", str(metric))
        names = chain([name], (f"{name}_{k}" for k in count(1)))
        found[next(n for n in names if found.get(n, function) is function)] = function
    if not found:
        raise InputError("no metrics", where="metrics", expected="one or more")
    return found
