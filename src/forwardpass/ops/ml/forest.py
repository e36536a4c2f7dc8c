"""Decision trees as arrays: their structure from the two forms that ONNX has, walking them, summing up their votes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import GraphError, InputError
from ...graph import Array
from ...records import record
from ..registry import Attributes

__all__ = ["MEMBER", "Forest", "Summary", "Votes", "aggregated", "cached", "check_trees", "walked"]

_COMPARE: tuple[Callable[[Array, Array], Array], ...] = (
    np.less_equal,
    np.less,
    np.greater_equal,
    np.greater,
    np.equal,
    np.not_equal,
)
MEMBER = 6
_CHUNK = 1 << 20
"""Most rows times trees that are walked at once."""


@record(slots=True, eq=False)
class Forest:
    """Trees.

    Attributes
    ----------
    roots
        One code per tree: the index of a node, or ~ of that of a leaf.
    feature, mode, threshold, missing
        Per node: what it compares, how, with what; whether NaN takes the true branch.
    yes, no
        Per node: the codes of its branches.
    members
        Node -> the values that it looks for, of nodes of mode `MEMBER`.
    """

    roots: Array
    feature: Array
    mode: Array
    threshold: Array
    missing: Array
    yes: Array
    no: Array
    members: dict[int, Array]

    def summary(self) -> Summary:
        """What walks ask of all nodes together."""
        used = np.unique(self.mode).tolist()
        return Summary(used, bool(self.missing.any()), int(self.feature.max(initial=-1)) + 1)


@record(frozen=True, slots=True)
class Summary:
    """The modes in use, whether any node lets NaN take the true branch, and how many features are compared."""

    modes: list[int]
    missing: bool
    features: int


@record(slots=True, eq=False)
class Votes:
    """What leaves say: leaf k has the entries `start[k]` to `start[k + 1]` of `target` and `weight`."""

    start: Array
    target: Array
    weight: Array


_cache: OrderedDict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = OrderedDict()


def cached(attributes: Attributes, make: Callable[[Attributes], Any]) -> Any:
    """What `make` gives for attributes; made once for the same lists and arrays, of a few nodes at a time."""
    values = tuple(attributes.values())
    key = tuple(id(v) for v in values)
    found = _cache.get(key)
    if found is None:
        # Holding the values keeps their addresses from being those of others.
        found = _cache[key] = (values, make(attributes))
        while len(_cache) > 16:
            _cache.popitem(last=False)
    return found[1]


def check_trees(forest: Forest, leaves: int) -> None:
    """Refuse branches that lead nowhere, and cycles.

    Raises
    ------
    GraphError
        No node may have two parents, nor a root one, so that every walk ends.
    """
    codes = np.concatenate([forest.yes, forest.no, forest.roots])
    if codes.size and (codes.max() >= len(forest.feature) or (~codes).max() >= leaves):
        raise GraphError("a branch of a tree leads to a node that does not exist")
    inner = codes[codes >= 0]
    if inner.size and np.bincount(inner).max() > 1:
        raise GraphError("a node of a tree has two parents", expected="a tree")
    if len(forest.feature) and forest.feature.min() < 0:
        raise GraphError("a node of a tree compares a negative feature", got=str(int(forest.feature.min())))


def _taken(forest: Forest, summary: Summary, node: Array, value: Array) -> Array:
    """Whether the true branch is taken."""
    result = np.zeros(len(node), np.bool_)
    for mode in summary.modes:
        here = slice(None) if len(summary.modes) == 1 else forest.mode[node] == mode
        if mode == MEMBER:
            result[here] = _is_member(forest, node[here], value[here])
        else:
            result[here] = _COMPARE[mode](value[here], forest.threshold[node[here]])
    if summary.missing:
        result |= forest.missing[node] & np.isnan(value)
    return result


def _is_member(forest: Forest, node: Array, value: Array) -> Array:
    result = np.zeros(len(node), np.bool_)
    for n in np.unique(node).tolist():
        here = node == n
        result[here] = np.isin(value[here], forest.members[n])
    return result


def walked(forest: Forest, summary: Summary, x: Array) -> Array:
    """The leaf that every row [rows, features] reaches in every tree: [rows, trees]."""
    if summary.features > x.shape[1]:
        expected = f"at least {summary.features} features"
        raise InputError("too few features", where="input X", expected=expected, got=str(x.shape[1]))
    trees = len(forest.roots)
    step = max(1, _CHUNK // max(trees, 1))
    parts = [_walked(forest, summary, x[k : k + step]) for k in range(0, len(x), step)]
    return np.concatenate(parts) if parts else np.empty((0, trees), np.int64)


def _walked(forest: Forest, summary: Summary, x: Array) -> Array:
    trees = len(forest.roots)
    code = np.tile(forest.roots, len(x))
    open_ = np.flatnonzero(code >= 0)
    node, row = code[open_], open_ // max(trees, 1)
    while open_.size:
        taken = _taken(forest, summary, node, x[row, forest.feature[node]])
        node = np.where(taken, forest.yes[node], forest.no[node])
        code[open_] = node
        inner = node >= 0
        open_, node, row = open_[inner], node[inner], row[inner]
    return ~code.reshape(len(x), trees)


def aggregated(leaves: Array, votes: Votes, targets: int, function: str, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The votes of leaves [rows, trees] per target: [rows, targets], 0 where there are none; and where there are some.

    Votes are added in the order of the trees, in `dtype`, so that what is equal stays equal.
    """
    rows, trees = leaves.shape
    flat = leaves.ravel()
    counts = votes.start[flat + 1] - votes.start[flat]
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(votes.start[flat] - (ends - counts), counts)
    row = np.repeat(np.repeat(np.arange(rows), trees), counts)
    cell = row * targets + votes.target[places]
    weight = votes.weight[places].astype(dtype)
    present = np.zeros(rows * targets, np.bool_)
    present[cell] = True
    if function in ("MIN", "MAX"):
        scores = np.full(rows * targets, np.inf if function == "MIN" else -np.inf, dtype)
        (np.minimum if function == "MIN" else np.maximum).at(scores, cell, weight)
        scores[~present] = 0
    else:
        scores = np.zeros(rows * targets, dtype)
        np.add.at(scores, cell, weight)
        if function == "AVERAGE":
            scores /= dtype.type(max(trees, 1))
    return scores.reshape(rows, targets), present.reshape(rows, targets)
