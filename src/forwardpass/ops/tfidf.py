"""TfIdfVectorizer: counts of n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .registry import REQUIRED, Attributes, Constants, Types, operator


def _grams(attributes: Attributes) -> list[tuple[Any, ...]]:
    """The n-grams of the pool, shortest first, as the n-th of ngram_counts begins those of n + 1 items."""
    pool, starts = attributes["pool_strings"] or attributes["pool_int64s"], attributes["ngram_counts"]
    grams: list[tuple[Any, ...]] = []
    for n, start, end in zip(range(1, len(starts) + 1), starts, [*starts[1:], len(pool)]):
        if not 0 <= start <= end <= len(pool) or (end - start) % n:
            raise GraphError(
                "attribute 'ngram_counts' is wrong", expected=f"where {n}-grams begin in the pool", got=str(starts)
            )
        grams += [tuple(pool[k : k + n]) for k in range(start, end, n)]
    return grams


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    given = [k for k in ("pool_strings", "pool_int64s") if attributes[k]]
    if len(given) != 1:
        raise GraphError("a TfIdfVectorizer has one pool", expected="pool_strings or pool_int64s", got=str(given))
    x = shapes.required(types, 0, "X", "O" if given == ["pool_strings"] else "i")
    shape = shapes.rank_of(x, "X", 1, 2)
    shapes.choice(attributes, "mode", ("TF", "IDF", "TFIDF"))
    low, high = shapes.integer(attributes, "min_gram_length"), shapes.integer(attributes, "max_gram_length")
    if not 1 <= low <= high:
        raise GraphError("attribute 'min_gram_length' is wrong", expected=f"1 to {high}", got=str(low))
    if shapes.integer(attributes, "max_skip_count") < 0:
        raise GraphError("attribute 'max_skip_count' is negative")
    shapes.integers(attributes, "ngram_counts", least=0)
    grams = _grams(attributes)
    columns = shapes.integers(attributes, "ngram_indexes", len(grams), least=0)
    weights = attributes["weights"]
    if weights is not None and len(weights) != len(grams):
        raise GraphError("attribute 'weights' is wrong", expected=f"{len(grams)} numbers", got=str(len(weights)))
    width: Dim = max(columns, default=-1) + 1
    return [shapes.tensor(np.dtype(np.float32), None if shape is None else (*shape[:-1], width))]


def _counts(rows: Array, grams: list[tuple[Any, ...]], lengths: range, skips: int) -> Array:
    """How often each n-gram is in each row: [rows, n-grams].

    The n-grams are a tree: an edge leads from a node with an item to the next one. All windows of a row descend
    at once, an item at a time.
    """
    words = {w: k for k, w in enumerate(dict.fromkeys(w for g in grams for w in g))}
    tokens = np.array([words.get(w, len(words)) for w in rows.ravel().tolist()], np.int64).reshape(rows.shape)
    base = len(words) + 1
    edges: dict[int, int] = {}
    ends: dict[int, int] = {}
    for k, gram in enumerate(grams):
        node = 0
        for w in gram:
            node = edges.setdefault(node * base + words[w], len(edges) + 1)
        ends[node] = k  # of equal n-grams the last one counts
    keys = np.array(sorted(edges), np.int64)
    targets = np.array([edges[k] for k in keys.tolist()], np.int64)
    final = np.array([ends.get(node, -1) for node in range(len(edges) + 1)])
    counts = np.zeros((len(rows), len(grams)), np.int64)
    for n in lengths:
        for step in range(1, 2 if n == 1 else skips + 2):
            starts = tokens.shape[1] - step * (n - 1)
            if starts <= 0 or not len(keys):
                break
            nodes = np.zeros((len(rows), starts), np.int64)
            for k in range(n):
                wanted = nodes * base + tokens[:, k * step : k * step + starts]
                place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                nodes = np.where((nodes >= 0) & (keys[place] == wanted), targets[place], -1)
            row, column = np.nonzero((nodes > 0) & (final[nodes] >= 0))
            np.add.at(counts, (row, final[nodes[row, column]]), 1)
    return counts


def _tfidf(attributes: Attributes, x: Array) -> Array:
    grams, columns = _grams(attributes), attributes["ngram_indexes"]
    lengths = range(attributes["min_gram_length"], attributes["max_gram_length"] + 1)
    counts = _counts(np.atleast_2d(x), grams, lengths, attributes["max_skip_count"])
    if attributes["mode"] == "IDF":
        counts = np.minimum(counts, 1)
    scaled = counts.astype(np.float32)
    if attributes["weights"] is not None and attributes["mode"] != "TF":
        scaled *= np.asarray(attributes["weights"], np.float32)
    result = np.zeros((len(scaled), max(columns, default=-1) + 1), np.float32)
    np.add.at(result.T, columns, scaled.T)
    return result.reshape(*x.shape[:-1], result.shape[1])


operator(
    "TfIdfVectorizer",
    infer=_infer,
    reference=_tfidf,
    attributes={
        "mode": REQUIRED,
        "min_gram_length": REQUIRED,
        "max_gram_length": REQUIRED,
        "max_skip_count": REQUIRED,
        "ngram_counts": REQUIRED,
        "ngram_indexes": REQUIRED,
        "pool_strings": None,
        "pool_int64s": None,
        "weights": None,
    },
)
