"""LinearClassifier, LinearRegressor."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..registry import REQUIRED, Attributes, Constants, Types, operator
from . import DOMAIN
from .parameters import as_rows, floats, labels_of, rows_of
from .scores import TRANSFORMS, regressed, second_class, transformed

_FLOAT = np.dtype(np.float32)


def _check(attributes: Attributes, targets: int, features: Dim) -> None:
    count, given = len(floats(attributes, "coefficients")), len(floats(attributes, "intercepts"))
    if targets < 1 or count % targets or (isinstance(features, int) and count != targets * features):
        expected = f"{targets} times the number of features ({'?' if features is None else features})"
        raise GraphError("attribute 'coefficients' has the wrong length", expected=expected, got=str(count))
    if given not in (0, targets):
        raise GraphError("attribute 'intercepts' has the wrong length", expected=str(targets), got=str(given))


def _product(attributes: Attributes, x: Array, targets: int) -> Array:
    coefficients = floats(attributes, "coefficients").reshape(targets, -1)
    intercepts = floats(attributes, "intercepts")
    product = as_rows(x) @ coefficients.T
    return np.asarray(product + intercepts if intercepts.size else product)


def _targets(attributes: Attributes, labels: Array, features: Dim) -> int:
    """How many scores there are: one per class, or a single one for two classes."""
    intercepts, coefficients = floats(attributes, "intercepts"), floats(attributes, "coefficients")
    if len(intercepts):
        return len(intercepts)
    single = len(labels) == 2 and len(coefficients) == features
    return 1 if single else len(labels)


def _infer_classifier(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, features = rows_of(types)
    labels = labels_of(attributes, "classlabels_ints", "classlabels_strings")
    shapes.choice(attributes, "post_transform", TRANSFORMS)
    targets = _targets(attributes, labels, features)
    _check(attributes, targets, features)
    if targets != len(labels) and (targets, len(labels)) != (1, 2):
        raise GraphError("the numbers of classes and scores differ", expected=str(len(labels)), got=str(targets))
    return [TensorType(labels.dtype, (rows,)), TensorType(_FLOAT, (rows, len(labels)))]


def _classify(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    labels = labels_of(attributes, "classlabels_ints", "classlabels_strings")
    transform = attributes["post_transform"]
    scores = _product(attributes, x, _targets(attributes, labels, x.shape[-1]))
    if scores.shape[1] == 1 and len(labels) == 2:
        chosen = (scores[:, 0] > 0).astype(np.int64)
        return labels[chosen], second_class(scores[:, 0], transform, probability=True)
    return labels[scores.argmax(1)], transformed(scores, transform)


operator(
    "LinearClassifier",
    domain=DOMAIN,
    infer=_infer_classifier,
    reference=_classify,
    attributes={
        "coefficients": REQUIRED,
        "intercepts": None,
        "classlabels_ints": None,
        "classlabels_strings": None,
        "multi_class": 0,
        "post_transform": "NONE",
    },
)


def _infer_regressor(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, features = rows_of(types)
    targets = shapes.integer(attributes, "targets")
    shapes.choice(attributes, "post_transform", TRANSFORMS)
    _check(attributes, targets, features)
    return [TensorType(_FLOAT, (rows, targets))]


def _regress(attributes: Attributes, x: Array) -> Array:
    return regressed(_product(attributes, x, int(attributes["targets"])), attributes["post_transform"])


operator(
    "LinearRegressor",
    domain=DOMAIN,
    infer=_infer_regressor,
    reference=_regress,
    attributes={"coefficients": None, "intercepts": None, "targets": 1, "post_transform": "NONE"},
)
