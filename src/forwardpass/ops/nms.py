"""NonMaxSuppression: of boxes that overlap, the best ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, TensorType
from . import shapes
from .registry import Attributes, Case, Constants, Types, operator


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    boxes, scores = shapes.required(types, 0, "boxes", "f"), shapes.required(types, 1, "scores", "f")
    shapes.flag(attributes, "center_point_box")
    b, s = shapes.rank_of(boxes, "boxes", 3, 3), shapes.rank_of(scores, "scores", 3, 3)
    if b is not None:
        shapes.unify(4, b[2], "the coordinates of a box and the last dimension of input boxes")
    if b is not None and s is not None:
        shapes.unify(b[0], s[0], "the batches of inputs boxes and scores")
        shapes.unify(b[1], s[2], "the numbers of boxes in inputs boxes and scores")
    for k, (name, kinds) in enumerate(
        (("max_output_boxes_per_class", "iu"), ("iou_threshold", "f"), ("score_threshold", "f")), 2
    ):
        if shapes.at(types, k) is not None:
            shapes.rank_of(shapes.required(types, k, name, kinds), name, 0, 1)
    return [TensorType(np.dtype(np.int64), (None, 3))]


def _corners(boxes: Array, centered: bool) -> tuple[Array, Array]:
    """The low and the high corner of boxes [..., 4], each [..., 2]."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centered:
        return first - second / 2, first + second / 2
    return np.minimum(first, second), np.maximum(first, second)


def _overlaps(low: Array, high: Array, chosen: int, others: Array) -> Array:
    """The intersection over the union of a box with others; 0 for boxes without area."""
    size = np.minimum(high[chosen], high[others]) - np.maximum(low[chosen], low[others])
    common = np.where((size > 0).all(axis=-1), size.prod(axis=-1), 0)
    areas = (high - low).prod(axis=-1)
    union = areas[chosen] + areas[others] - common
    solid = (areas[chosen] > 0) & (areas[others] > 0) & (union > 0)
    return np.where(solid, common / np.where(solid, union, 1), 0)


def _selected(low: Array, high: Array, scores: Array, most: int, threshold: float, least: float | None) -> list[int]:
    """The boxes of one class, best first; of equal scores the first box comes first."""
    order = np.argsort(-scores, kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        kept.append(int(order[0]))
        order = order[1:]
        order = order[~(_overlaps(low, high, kept[-1], order) > threshold)]
    return kept


def _reference(
    attributes: Attributes,
    boxes: Array,
    scores: Array,
    max_output_boxes_per_class: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
) -> Array:
    most = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.reshape(()))
    # NumPy's own scalars, so that float32 is compared with float32.
    threshold: Any = 0.0 if iou_threshold is None else iou_threshold.reshape(())[()]
    least: Any = None if score_threshold is None else score_threshold.reshape(())[()]
    found = []
    for image in range(scores.shape[0]):
        low, high = _corners(boxes[image], bool(attributes["center_point_box"]))
        for kind in range(scores.shape[1]):
            kept = _selected(low, high, scores[image, kind], most, threshold, least)
            found += [(image, kind, k) for k in kept]
    return np.array(found, np.int64).reshape(-1, 3)


_BOXES = np.array(
    [[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [1, 0.9, 0, -0.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]]],
    np.float32,
)
_SCORES = np.array([[[0.9, 0.75, 0.6, 0.95, 0.5, 0.3], [0.1, 0.2, 0.2, 0.2, 0.9, 0.9]]], np.float32)

operator(
    "NonMaxSuppression",
    infer=_infer,
    reference=_reference,
    attributes={"center_point_box": 0},
    arity=(2, 5),
    cases=(
        Case((_BOXES, _SCORES, np.array([3]), np.array([0.5], np.float32), np.array([0.25], np.float32))),
        Case((_BOXES, _SCORES, np.array([6]), np.array([0.3], np.float32), np.array([0.0], np.float32)), name="all"),
        Case(
            (_BOXES, _SCORES, np.array([4]), np.array([0.5], np.float32), np.array([0.4], np.float32)),
            {"center_point_box": 1},
            name="centers",
        ),
    ),
)
