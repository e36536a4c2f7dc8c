"""Losses over classes."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .normalization import log_softmax
from .numeric import FLOATS, DTypes, rounded_once, typed
from .registry import Attributes, Case, Constants, Types, operator

_LABELS: DTypes = frozenset({np.dtype(np.int32), np.dtype(np.int64)})
_ATTRIBUTES = {"ignore_index": None, "reduction": "mean"}


def _infer(attributes: Attributes, types: Types, names: tuple[str, str, str]) -> tuple[TensorType, TensorType]:
    """The types of the scores and of the loss."""
    x = typed(types, 0, names[0], FLOATS)
    target = typed(types, 1, names[1], _LABELS)
    shape = shapes.rank_of(x, names[0], 2)
    reduction = shapes.choice(attributes, "reduction", ("none", "sum", "mean"))
    if attributes["ignore_index"] is not None:
        shapes.integer(attributes, "ignore_index")
    samples = target.shape
    if shape is not None:
        rank = len(shape) - 1
        labels = shapes.rank_of(target, names[1], rank, rank) or (None,) * rank
        what = f"the dimensions of {names[0]} without the classes and those of {names[1]}"
        samples = tuple(shapes.unify(a, b, what) for a, b in zip((shape[0], *shape[2:]), labels))
    if shapes.at(types, 2) is not None:
        weight = typed(types, 2, names[2], FLOATS)
        shapes.same_dtype((x, weight), (names[0], names[2]))
        vector = shapes.rank_of(weight, names[2], 1, 1)
        if shape is not None and vector is not None:
            shapes.unify(shape[1], vector[0], f"the classes of {names[0]} and the length of input {names[2]}")
    return x, shapes.tensor(x.dtype, samples if reduction == "none" else ())


def _loss(attributes: Attributes, log_prob: Array, target: Array, weight: Array | None) -> Array:
    ignore = attributes["ignore_index"]
    ignored = np.zeros(target.shape, bool) if ignore is None else target == ignore
    classes = log_prob.shape[1]
    bad = target[~ignored & ((target < 0) | (target >= classes))]
    if bad.size:
        raise GraphError("a label names no class", expected=f"0 to {classes - 1}", got=str(bad[0]))
    index = np.where(ignored, 0, target)
    each = np.ones(target.shape, log_prob.dtype) if weight is None else weight[index]
    each = np.where(ignored, log_prob.dtype.type(0), each)
    chosen = np.take_along_axis(log_prob, np.expand_dims(index, 1), axis=1).squeeze(1)
    # Not by the weight of 0: an ignored class may have a probability of 0, whose logarithm is infinite.
    loss = np.where(ignored, log_prob.dtype.type(0), -chosen * each)
    if attributes["reduction"] == "none":
        return np.asarray(loss)
    total = loss.sum()
    return np.asarray(total if attributes["reduction"] == "sum" else total / each.sum(), dtype=log_prob.dtype)


def _infer_likelihood(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    return [_infer(attributes, types, ("input", "target", "weight"))[1]]


def _likelihood(attributes: Attributes, x: Array, target: Array, weight: Array | None = None) -> Array:
    return _loss(attributes, x, target, weight)


_CLASSES = np.array([2, 0, 4], np.int64)
_GRID = np.array([[[0, 1], [2, 2]], [[1, 0], [0, 2]]], np.int64)
_CASES = (
    Case(((3, 5), _CLASSES)),
    Case(((3, 5), _CLASSES), {"reduction": "sum"}, name="sum"),
    Case(((3, 5), _CLASSES, (5,)), {"reduction": "none"}, name="weights"),
    Case(((2, 3, 2, 2), _GRID, (3,)), {"ignore_index": 2}, name="ignored"),
    Case(((2, 3, 2, 2), _GRID), {"reduction": "none", "ignore_index": 1}, name="ignored without weights"),
)

operator(
    "NegativeLogLikelihoodLoss",
    infer=_infer_likelihood,
    reference=rounded_once(_likelihood),
    attributes=_ATTRIBUTES,
    arity=(2, 3),
    cases=_CASES,
)


def _infer_cross_entropy(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, loss = _infer(attributes, types, ("scores", "labels", "weights"))
    return [loss, shapes.tensor(x.dtype, x.shape)]


def _cross_entropy(attributes: Attributes, x: Array, target: Array, weight: Array | None = None) -> tuple[Array, Array]:
    log_prob = log_softmax(x, 1)
    return _loss(attributes, log_prob, target, weight), log_prob


operator(
    "SoftmaxCrossEntropyLoss",
    infer=_infer_cross_entropy,
    reference=rounded_once(_cross_entropy),
    attributes=_ATTRIBUTES,
    arity=(2, 3),
    cases=_CASES,
)
