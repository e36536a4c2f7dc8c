"""TreeEnsemble: trees whose leaves are lists of their own."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ...graph import Array, TensorType
from .. import shapes
from ..registry import REQUIRED, Attributes, Constants, Types, operator
from . import DOMAIN
from .forest import MEMBER, Forest, Summary, Votes, aggregated, cached, check_trees, walked
from .parameters import numbers, rows_of
from .scores import TRANSFORMS, regressed

_FUNCTIONS = ("AVERAGE", "SUM", "MIN", "MAX")


def _array(attributes: Attributes, name: str, count: int) -> Array:
    """An attribute that is a tensor of a value per node or leaf."""
    value = attributes[name]
    if not isinstance(value, np.ndarray) or value.size != count:
        got = str(value.size) if isinstance(value, np.ndarray) else type(value).__name__
        raise GraphError(f"attribute {name!r} is wrong", expected=f"an array of {count} values", got=got)
    return value.ravel()


def _column(attributes: Attributes, name: str, count: int) -> Array:
    value = numbers(attributes, name)
    if len(value) != count:
        raise GraphError(f"attribute {name!r} has the wrong length", expected=str(count), got=str(len(value)))
    return value


def _members(attributes: Attributes, modes: Array) -> dict[int, Array]:
    """The sets of the nodes that look for members, which are listed one after the other with NaN behind each."""
    nodes = np.flatnonzero(modes == MEMBER)
    if not nodes.size:
        return {}
    values = attributes["membership_values"]
    if not isinstance(values, np.ndarray):
        raise GraphError("attribute 'membership_values' is missing")
    flat = values.ravel()
    sets = np.split(flat, np.flatnonzero(np.isnan(flat)))
    found = [part[~np.isnan(part)] for part in sets]
    if len(found) == len(nodes) + 1 and not found[-1].size:
        found.pop()
    if len(found) != len(nodes):
        raise GraphError("attribute 'membership_values' is wrong", expected=f"{len(nodes)} sets", got=str(len(found)))
    return dict(zip(nodes.tolist(), found))


def _codes(attributes: Attributes, side: str, count: int) -> Array:
    """The branches of the nodes: a node, or ~ of a leaf."""
    to = _column(attributes, f"nodes_{side}nodeids", count)
    if np.any(to < 0):
        raise GraphError(f"attribute 'nodes_{side}nodeids' is wrong", expected="no negative ids")
    return np.where(_column(attributes, f"nodes_{side}leafs", count) != 0, ~to, to)


def _trees(attributes: Attributes) -> tuple[Forest, Summary, Votes]:
    features = numbers(attributes, "nodes_featureids")
    count = len(features)
    modes = _array(attributes, "nodes_modes", count).astype(np.int64)
    if np.any((modes < 0) | (modes > MEMBER)):
        raise GraphError("attribute 'nodes_modes' is wrong", expected=f"0 to {MEMBER}")
    tracks = np.zeros(count, np.int64)
    if numbers(attributes, "nodes_missing_value_tracks_true").size:
        tracks = _column(attributes, "nodes_missing_value_tracks_true", count)
    targets = numbers(attributes, "leaf_targetids")
    if targets.size and (targets.min() < 0 or targets.max() >= attributes["n_targets"]):
        raise GraphError("attribute 'leaf_targetids' is out of range", expected=f"below {attributes['n_targets']}")
    forest = Forest(
        numbers(attributes, "tree_roots"),
        features,
        modes,
        _array(attributes, "nodes_splits", count),
        tracks != 0,
        _codes(attributes, "true", count),
        _codes(attributes, "false", count),
        _members(attributes, modes),
    )
    if np.any(forest.roots < 0):
        raise GraphError("attribute 'tree_roots' is wrong", expected="no negative ids")
    check_trees(forest, len(targets))
    votes = Votes(np.arange(len(targets) + 1), targets, _array(attributes, "leaf_weights", len(targets)))
    return forest, forest.summary(), votes


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, _ = rows_of(types, "f")
    for name, high in (("aggregate_function", len(_FUNCTIONS)), ("post_transform", len(TRANSFORMS))):
        if not 0 <= shapes.integer(attributes, name) < high:
            raise GraphError(f"attribute {name!r} is wrong", expected=f"0 to {high - 1}", got=str(attributes[name]))
    targets = shapes.integer(attributes, "n_targets")
    if targets < 1:
        raise GraphError("attribute 'n_targets' is wrong", expected="at least 1", got=str(targets))
    cached(attributes, _trees)
    return [TensorType(shapes.required(types, 0, "X").dtype, (rows, targets))]


def _reference(attributes: Attributes, x: Array) -> Array:
    forest, summary, votes = cached(attributes, _trees)
    rows = x.reshape(-1, x.shape[-1])
    wide = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    function = _FUNCTIONS[attributes["aggregate_function"]]
    scores, _ = aggregated(walked(forest, summary, rows), votes, int(attributes["n_targets"]), function, wide)
    transform = TRANSFORMS[attributes["post_transform"]]
    return (scores if transform == "NONE" else regressed(scores, transform)).astype(x.dtype)


operator(
    "TreeEnsemble",
    domain=DOMAIN,
    infer=_infer,
    reference=_reference,
    attributes={
        "aggregate_function": 1,
        "leaf_targetids": REQUIRED,
        "leaf_weights": REQUIRED,
        "membership_values": None,
        "n_targets": 1,
        "nodes_falseleafs": REQUIRED,
        "nodes_falsenodeids": REQUIRED,
        "nodes_featureids": REQUIRED,
        "nodes_hitrates": None,
        "nodes_missing_value_tracks_true": None,
        "nodes_modes": REQUIRED,
        "nodes_splits": REQUIRED,
        "nodes_trueleafs": REQUIRED,
        "nodes_truenodeids": REQUIRED,
        "post_transform": 0,
        "tree_roots": REQUIRED,
    },
)
