"""Names of classes, and scores as probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .graph import Array, Graph

__all__ = ["Classes", "class_names", "is_distribution", "labels_of", "labels_text", "probabilities", "top"]

KEY = "labels"
"""Of the metadata."""
_PASSED = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only move or rename the scores."""


class Classes(list["tuple[str, float]"]):
    """The most probable classes of a picture, best first: pairs of a label and its probability."""

    def __repr__(self) -> str:
        if not self:
            return "Classes([])"
        width = max(len(label) for label, _ in self)
        return "\n".join(f"{label.ljust(width)}  {share:.4f}" for label, share in self)


def labels_of(metadata: Mapping[str, str]) -> list[str] | None:
    """The names under `labels`, a JSON list or one name a line; None where there are none."""
    text = metadata.get(KEY, "")
    try:
        names = json.loads(text)
    except ValueError:
        names = text.splitlines()
    return [str(n) for n in names] if isinstance(names, list) and names else None


def labels_text(labels: Sequence[str] | Mapping[int, str]) -> str:
    """Labels as the metadata hold them.

    Parameters
    ----------
    labels
        In the order of the classes, or class number -> label.

    Raises
    ------
    InputError
        They are no list of text, or leave a class out.
    """
    expected = "a list of text, or class number -> text"
    if isinstance(labels, Mapping):
        missing = [k for k in range(len(labels)) if k not in labels]
        if missing:
            raise InputError(f"no label for class {missing[0]}", where="labels", expected=f"0 to {len(labels) - 1}")
        labels = [labels[k] for k in range(len(labels))]
    if isinstance(labels, (str, bytes)) or not all(isinstance(name, str) for name in labels):
        raise InputError("not labels", where="labels", expected=expected, got=type(labels).__name__)
    return json.dumps(list(labels), ensure_ascii=False)


def class_names(metadata: Mapping[str, str], count: int) -> list[str] | None:
    """The labels; None unless there are `count`."""
    names = labels_of(metadata)
    return names if names is not None and len(names) == count else None


def is_distribution(graph: Graph, output: str) -> bool:
    """Whether an output comes from a Softmax."""
    producers = graph.producers()
    node = producers.get(output)
    while node is not None and node.op in _PASSED:
        node = producers.get(node.inputs[0])
    return node is not None and node.op == "Softmax"


def probabilities(graph: Graph, output: str, scores: Array) -> Array:
    """The scores [N, classes] of an output as probabilities, in float64.

    Those of a Softmax are so already; one score is that of the second of two classes, by its Sigmoid; any others are
    logits, of which a softmax makes probabilities.
    """
    import numpy as np

    wide = scores.astype(np.float64)
    if wide.shape[-1] == 1:
        node = graph.producers().get(output)
        chance = wide if node is not None and node.op == "Sigmoid" else 1 / (1 + np.exp(-wide))
        return np.concatenate([1 - chance, chance], axis=-1)
    if is_distribution(graph, output):
        return wide
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def top(scores: Array, k: int) -> list[int]:
    """Indices of the `k` highest of `scores` [classes], highest first, equal ones in order, NaN last."""
    import numpy as np

    order: Any = np.argsort(-scores.astype(np.float64), kind="stable")
    return [int(i) for i in order[:k]]
