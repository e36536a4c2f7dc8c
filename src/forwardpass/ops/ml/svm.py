"""SVMClassifier, SVMRegressor."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..registry import REQUIRED, Attributes, Constants, Types, operator
from . import DOMAIN
from .parameters import as_rows, floats, labels_of, numbers, rows_of
from .scores import TRANSFORMS, regressed, second_class, transformed

_FLOAT = np.dtype(np.float32)
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_LEAST = 1e-7
"""Pairwise probabilities keep this distance from 0 and 1."""


def _check(attributes: Attributes, supports: int, features: Dim) -> None:
    """Support vectors, of the number of features."""
    shapes.choice(attributes, "kernel_type", _KERNELS)
    shapes.choice(attributes, "post_transform", TRANSFORMS)
    size = len(floats(attributes, "support_vectors"))
    if supports and (size % supports or (isinstance(features, int) and size != supports * features)):
        expected = f"{supports} times the number of features ({'?' if features is None else features})"
        raise GraphError("attribute 'support_vectors' has the wrong length", expected=expected, got=str(size))
    if len(floats(attributes, "kernel_params")) not in (0, 3):
        raise GraphError("attribute 'kernel_params' is wrong", expected="gamma, coef0 and degree")
    if not len(floats(attributes, "rho")):
        raise GraphError("attribute 'rho' is missing")


def _kernel(attributes: Attributes, x: Array, vectors: Array) -> Array:
    """The kernel of every row with every support vector, in float64."""
    x, vectors = x.astype(np.float64), vectors.astype(np.float64)
    kind = attributes["kernel_type"]
    gamma, offset, degree = floats(attributes, "kernel_params").tolist() or (0.0, 0.0, 0.0)
    if kind == "RBF":
        distance = (x * x).sum(1)[:, None] + (vectors * vectors).sum(1) - 2 * x @ vectors.T
        return np.asarray(np.exp(-gamma * np.maximum(distance, 0)))
    product = x @ vectors.T
    if kind == "LINEAR":
        return np.asarray(product)
    product = gamma * product + offset
    return np.asarray(product**degree if kind == "POLY" else np.tanh(product))


def _infer_regressor(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, features = rows_of(types)
    supports = shapes.integer(attributes, "n_supports")
    shapes.flag(attributes, "one_class")
    _check(attributes, supports, features)
    count = len(floats(attributes, "coefficients"))
    if count != (supports or features) and (supports or features is not None):
        raise GraphError("attribute 'coefficients' has the wrong length", expected=str(supports or features))
    return [TensorType(_FLOAT, (rows, 1))]


def _regress(attributes: Attributes, x: Array) -> Array:
    supports = int(attributes["n_supports"])
    coefficients, rho = floats(attributes, "coefficients").astype(np.float64), float(floats(attributes, "rho")[0])
    features = as_rows(x)
    if supports:
        vectors = floats(attributes, "support_vectors").reshape(supports, -1)
        scores = _kernel(attributes, features, vectors) @ coefficients + rho
    else:
        scores = features @ coefficients + rho
    if attributes["one_class"]:
        return np.where(scores > 0, 1, -1).astype(np.float32)[:, None]
    return regressed(scores[:, None], attributes["post_transform"])


operator(
    "SVMRegressor",
    domain=DOMAIN,
    infer=_infer_regressor,
    reference=_regress,
    attributes={
        "coefficients": None,
        "kernel_params": None,
        "kernel_type": "LINEAR",
        "n_supports": 0,
        "one_class": 0,
        "post_transform": "NONE",
        "rho": None,
        "support_vectors": None,
    },
)


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def _columns(attributes: Attributes, classes: int) -> int:
    """How many scores there are: one per class, or per pair of more than two classes."""
    pairwise = len(numbers(attributes, "vectors_per_class")) and not len(floats(attributes, "prob_a"))
    return len(_pairs(classes)) if pairwise and classes > 2 else classes


def _infer_classifier(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, features = rows_of(types)
    labels = labels_of(attributes, "classlabels_ints", "classlabels_strings")
    counts = numbers(attributes, "vectors_per_class")
    supports, pairs = int(counts.sum()), len(_pairs(len(labels)))
    _check(attributes, supports, features)
    if np.any(counts < 0) or len(counts) not in (0, len(labels)):
        raise GraphError("attribute 'vectors_per_class' is wrong", expected=f"{len(labels)} counts")
    given = len(floats(attributes, "coefficients"))
    if supports:
        wanted: Dim = supports * (len(labels) - 1)
    else:
        wanted = len(labels) * features if isinstance(features, int) else None
    if wanted is not None and given != wanted:
        raise GraphError("attribute 'coefficients' has the wrong length", expected=str(wanted), got=str(given))
    sizes = {name: len(floats(attributes, name)) for name in ("prob_a", "prob_b")}
    if supports and len(floats(attributes, "rho")) != pairs:
        raise GraphError("attribute 'rho' has the wrong length", expected=str(pairs))
    if len(set(sizes.values())) != 1 or (supports and sizes["prob_a"] not in (0, pairs)):
        expected = f"0 or {pairs} numbers each"
        raise GraphError("attributes 'prob_a' and 'prob_b' are wrong", expected=expected, got=str(sizes))
    return [TensorType(labels.dtype, (rows,)), TensorType(_FLOAT, (rows, _columns(attributes, len(labels))))]


def _decisions(attributes: Attributes, x: Array, classes: int) -> Array:
    """One score per pair of classes: positive where the first one wins."""
    counts = numbers(attributes, "vectors_per_class")
    ends = np.cumsum(counts)
    vectors = floats(attributes, "support_vectors").reshape(int(ends[-1]), -1)
    coefficients = floats(attributes, "coefficients").reshape(classes - 1, -1).astype(np.float64)
    kernel = _kernel(attributes, x, vectors)
    own = [slice(end - count, end) for end, count in zip(ends.tolist(), counts.tolist())]
    scores = [
        kernel[:, own[i]] @ coefficients[j - 1, own[i]] + kernel[:, own[j]] @ coefficients[i, own[j]]
        for i, j in _pairs(classes)
    ]
    return np.asarray(np.stack(scores, 1) + floats(attributes, "rho"))


def _votes(scores: Array, classes: int) -> Array:
    votes = np.zeros((len(scores), classes), np.int64)
    for k, (i, j) in enumerate(_pairs(classes)):
        won = scores[:, k] > 0
        votes[:, i] += won
        votes[:, j] += ~won
    return votes


def _probabilities(attributes: Attributes, scores: Array, classes: int) -> Array:
    """Platt's sigmoid per pair of classes, coupled to one distribution (Wu, Lin and Weng 2004, second method)."""
    a, b = floats(attributes, "prob_a"), floats(attributes, "prob_b")
    pairwise = np.clip(1 / (1 + np.exp(scores * a + b)), _LEAST, 1 - _LEAST)
    r = np.zeros((len(scores), classes, classes))
    for k, (i, j) in enumerate(_pairs(classes)):
        r[:, i, j] = pairwise[:, k]
        r[:, j, i] = 1 - pairwise[:, k]
    q = -r.transpose(0, 2, 1) * r
    diagonal = np.arange(classes)
    q[:, diagonal, diagonal] = (r * r).sum(1)
    return _coupled(q)


def _coupled(q: Array) -> Array:
    """The distributions p that minimise p'Qp, by the iteration of the paper, which stops as its authors' does."""
    classes = q.shape[1]
    p = np.full(q.shape[:2], 1 / classes)
    open_ = np.arange(len(q))
    for _ in range(max(100, classes)):
        product = np.einsum("nij,nj->ni", q[open_], p[open_])
        energy = (p[open_] * product).sum(1)
        still = np.abs(product - energy[:, None]).max(1) >= 0.005 / classes
        open_, product, energy = open_[still], product[still], energy[still]
        if not open_.size:
            break
        rows, found = q[open_], p[open_]
        for t in range(classes):
            step = (energy - product[:, t]) / rows[:, t, t]
            found[:, t] += step
            energy = (energy + step * (step * rows[:, t, t] + 2 * product[:, t])) / (1 + step) ** 2
            product = (product + step[:, None] * rows[:, t]) / (1 + step)[:, None]
            found /= (1 + step)[:, None]
        p[open_] = found
    return p


def _classify(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    labels = labels_of(attributes, "classlabels_ints", "classlabels_strings")
    classes, features, transform = len(labels), as_rows(x), attributes["post_transform"]
    coefficients = floats(attributes, "coefficients")
    if not numbers(attributes, "vectors_per_class").sum():
        scores = features @ coefficients.reshape(classes, -1).T + floats(attributes, "rho")[0]
        return labels[scores.argmax(1)], transformed(scores, transform)
    scores = _decisions(attributes, features, classes)
    best = labels[_votes(scores, classes).argmax(1)]  # whatever the probabilities say
    if len(floats(attributes, "prob_a")):
        return best, transformed(_probabilities(attributes, scores, classes), transform)
    if classes == 2:
        return best, second_class(scores[:, 0], transform, probability=transform != "NONE")
    return best, transformed(scores, transform)


operator(
    "SVMClassifier",
    domain=DOMAIN,
    infer=_infer_classifier,
    reference=_classify,
    attributes={
        "classlabels_ints": None,
        "classlabels_strings": None,
        "coefficients": REQUIRED,
        "kernel_params": None,
        "kernel_type": "LINEAR",
        "post_transform": "NONE",
        "prob_a": None,
        "prob_b": None,
        "rho": None,
        "support_vectors": None,
        "vectors_per_class": None,
    },
)
