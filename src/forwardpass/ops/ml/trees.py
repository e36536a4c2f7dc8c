"""TreeEnsembleClassifier, TreeEnsembleRegressor: trees whose leaves are nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, TensorType
from ...records import record
from .. import shapes
from ..registry import Attributes, Constants, Types, operator
from . import DOMAIN
from .forest import Forest, Summary, Votes, aggregated, cached, check_trees, walked
from .parameters import as_rows, floats, labels_of, numbers, rows_of, words
from .scores import TRANSFORMS, regressed, second_class, transformed

_FLOAT = np.dtype(np.float32)
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF")
_LEAF = _MODES.index("LEAF")
_FUNCTIONS = ("SUM", "AVERAGE", "MIN", "MAX")
_NODES: dict[str, Any] = {
    f"nodes_{name}": None
    for name in (
        *("falsenodeids", "featureids", "hitrates", "hitrates_as_tensor", "missing_value_tracks_true", "modes"),
        *("nodeids", "treeids", "truenodeids", "values", "values_as_tensor"),
    )
}


@record(slots=True, eq=False)
class _Ensemble:
    """Trees and votes; which targets have any, and whether no weight is negative."""

    forest: Forest
    summary: Summary
    votes: Votes
    voted: list[int]
    positive: bool


class _Names:
    """The node of a tree id and node id, by number."""

    def __init__(self, trees: Array, nodes: Array) -> None:
        self.trees, self.nodes = np.unique(trees), np.unique(nodes)
        keys = self._keys(trees, nodes)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        if np.any(self.keys[1:] == self.keys[:-1]):
            raise GraphError("a tree has two nodes of one id")

    def _keys(self, trees: Array, nodes: Array) -> Array:
        """One number for both ids, -1 where one of them is unknown."""
        if not self.trees.size:
            return np.full(len(trees), -1)
        t = np.minimum(np.searchsorted(self.trees, trees), len(self.trees) - 1)
        n = np.minimum(np.searchsorted(self.nodes, nodes), len(self.nodes) - 1)
        return np.where((self.trees[t] == trees) & (self.nodes[n] == nodes), t * len(self.nodes) + n, -1)

    def find(self, trees: Array, nodes: Array, what: str) -> Array:
        """The index of every node."""
        keys = self._keys(trees, nodes)
        if not keys.size:
            return keys
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1) if self.keys.size else keys
        if not self.keys.size or np.any(self.keys[place] != keys):
            raise GraphError(f"{what} names a node that does not exist")
        return self.order[place]


def _columns(attributes: Attributes) -> dict[str, Array]:
    """The attributes of the nodes, all of one length."""
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    found = {name: numbers(attributes, f"nodes_{name}") for name in names}
    modes = words(attributes, "nodes_modes")
    unknown = set(modes) - set(_MODES)
    if unknown:
        expected = f"one of {', '.join(_MODES)}"
        raise GraphError("attribute 'nodes_modes' is wrong", expected=expected, got=repr(unknown.pop()))
    codes = {mode: k for k, mode in enumerate(_MODES)}
    found["modes"] = np.array([codes[m] for m in modes], np.int64)
    found["values"] = floats(attributes, "nodes_values")
    missing = numbers(attributes, "nodes_missing_value_tracks_true")
    found["missing"] = missing if missing.size else np.zeros(len(modes), np.int64)
    for name, column in found.items():
        if len(column) != len(modes):
            expected, got = f"{len(modes)} values as in 'nodes_modes'", str(len(column))
            raise GraphError(f"the nodes' {name} have the wrong length", expected=expected, got=got)
    if not modes:
        raise GraphError("a tree ensemble needs nodes")
    return found


def _forest(columns: dict[str, Array], names: _Names) -> tuple[Forest, Array]:
    """The trees, and the number of the leaf that each node is."""
    is_leaf = columns["modes"] == _LEAF
    inner = np.flatnonzero(~is_leaf)
    code = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    trees = columns["treeids"]
    branches = [names.find(trees[inner], columns[k][inner], "a branch") for k in ("truenodeids", "falsenodeids")]
    roots = np.sort(np.unique(trees, return_index=True)[1])  # in the order in which they are listed
    forest = Forest(
        code[roots],
        columns["featureids"][inner],
        columns["modes"][inner],
        columns["values"][inner],
        columns["missing"][inner] != 0,
        code[branches[0]],
        code[branches[1]],
        {},
    )
    check_trees(forest, int(is_leaf.sum()))
    return forest, ~code


def _ensemble(attributes: Attributes, side: str, targets: int) -> _Ensemble:
    columns = _columns(attributes)
    names = _Names(columns["treeids"], columns["nodeids"])
    forest, leaf = _forest(columns, names)
    trees, nodes, ids = (numbers(attributes, f"{side}_{k}") for k in ("treeids", "nodeids", "ids"))
    weights = floats(attributes, f"{side}_weights")
    if len({len(trees), len(nodes), len(ids), len(weights)}) != 1:
        raise GraphError(f"the attributes '{side}_...' differ in length")
    if ids.size and (ids.min() < 0 or ids.max() >= targets):
        raise GraphError(f"attribute '{side}_ids' is out of range", expected=f"0 to {targets - 1}")
    at = leaf[names.find(trees, nodes, "a vote")]
    if np.any(at < 0):
        raise GraphError("a node that is no leaf has a vote")
    order = np.argsort(at, kind="stable")
    count = int((columns["modes"] == _LEAF).sum())
    start = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=count))])
    votes = Votes(start, ids[order], weights[order])
    return _Ensemble(forest, forest.summary(), votes, np.unique(ids).tolist(), bool(np.all(weights >= 0)))


def _check_base(attributes: Attributes, targets: int, least: tuple[int, ...] = ()) -> None:
    count = len(floats(attributes, "base_values"))
    if count not in (0, targets, *least):
        raise GraphError("attribute 'base_values' has the wrong length", expected=str(targets), got=str(count))


def _targets(attributes: Attributes) -> int:
    if attributes["n_targets"] is not None:
        return shapes.integer(attributes, "n_targets")
    return int(numbers(attributes, "target_ids").max(initial=0)) + 1


def _infer_regressor(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, _ = rows_of(types)
    targets = _targets(attributes)
    if targets < 1:
        raise GraphError("attribute 'n_targets' is wrong", expected="at least 1", got=str(targets))
    shapes.choice(attributes, "aggregate_function", _FUNCTIONS)
    shapes.choice(attributes, "post_transform", TRANSFORMS)
    _check_base(attributes, targets)
    cached(attributes, _regression)
    return [TensorType(_FLOAT, (rows, targets))]


def _regression(attributes: Attributes) -> _Ensemble:
    return _ensemble(attributes, "target", _targets(attributes))


def _regress(attributes: Attributes, x: Array) -> Array:
    ensemble = cached(attributes, _regression)
    rows = as_rows(x)
    leaves = walked(ensemble.forest, ensemble.summary, rows)
    function = attributes["aggregate_function"]
    scores, _ = aggregated(leaves, ensemble.votes, _targets(attributes), function, rows.dtype)
    base = floats(attributes, "base_values")
    return regressed(scores + base.astype(rows.dtype) if base.size else scores, attributes["post_transform"])


operator(
    "TreeEnsembleRegressor",
    domain=DOMAIN,
    infer=_infer_regressor,
    reference=_regress,
    attributes={
        **_NODES,
        "aggregate_function": "SUM",
        "base_values": None,
        "base_values_as_tensor": None,
        "n_targets": None,
        "post_transform": "NONE",
        "target_ids": None,
        "target_nodeids": None,
        "target_treeids": None,
        "target_weights": None,
        "target_weights_as_tensor": None,
    },
)


def _labels(attributes: Attributes) -> Array:
    return labels_of(attributes, "classlabels_int64s", "classlabels_strings")


def _classification(attributes: Attributes) -> _Ensemble:
    return _ensemble(attributes, "class", len(_labels(attributes)))


def _infer_classifier(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows, _ = rows_of(types)
    labels = _labels(attributes)
    shapes.choice(attributes, "post_transform", TRANSFORMS)
    _check_base(attributes, len(labels), (1,) if len(labels) == 2 else ())
    cached(attributes, _classification)
    return [TensorType(labels.dtype, (rows,)), TensorType(_FLOAT, (rows, len(labels)))]


def _classify(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    ensemble, labels = cached(attributes, _classification), _labels(attributes)
    rows = as_rows(x)
    leaves = walked(ensemble.forest, ensemble.summary, rows)
    scores, present = aggregated(leaves, ensemble.votes, len(labels), "SUM", rows.dtype)
    base = floats(attributes, "base_values").astype(rows.dtype)
    if len(labels) == 2 and len(ensemble.voted) == 1 and len(base) < 2:
        return _of_two(attributes, labels, scores, ensemble, base)
    if len(base) == len(labels):
        scores, present = scores + base, np.ones_like(present)
    elif base.size:
        scores = scores + np.concatenate([base, [0]]).astype(scores.dtype)
    # A class that no leaf votes for does not win over one with a negative score.
    chosen = np.where(present, scores, -np.inf).argmax(1)
    return labels[chosen], transformed(scores, attributes["post_transform"])


def _of_two(
    attributes: Attributes, labels: Array, scores: Array, ensemble: _Ensemble, base: Array
) -> tuple[Array, Array]:
    """Leaves that vote for one of two classes only score the second one, as onnxruntime has it and exporters expect:
    a probability where no weight is negative."""
    voted, probability = ensemble.voted[0], ensemble.positive
    score = scores[:, voted]
    if voted == 0 and base.size:
        score = score + base[0]
    best = labels[(score > (0.5 if probability else 0)).astype(np.int64)]
    if voted == 1:
        return best, transformed(np.stack([np.zeros_like(score), score], 1), attributes["post_transform"])
    return best, second_class(score, attributes["post_transform"], probability=probability)


operator(
    "TreeEnsembleClassifier",
    domain=DOMAIN,
    infer=_infer_classifier,
    reference=_classify,
    attributes={
        **_NODES,
        "base_values": None,
        "base_values_as_tensor": None,
        "class_ids": None,
        "class_nodeids": None,
        "class_treeids": None,
        "class_weights": None,
        "class_weights_as_tensor": None,
        "classlabels_int64s": None,
        "classlabels_strings": None,
        "post_transform": "NONE",
    },
)
