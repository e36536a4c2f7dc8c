"""Class names from a model's metadata, and the classes with the highest scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["class_names", "top"]


def class_names(metadata: Mapping[str, str], count: int) -> list[str] | None:
    """The class names under `labels`, a JSON list or one name a line; None unless there are `count`."""
    text = metadata.get("labels", "")
    try:
        names = json.loads(text)
    except ValueError:
        names = text.splitlines()
    if not isinstance(names, list) or len(names) != count:
        return None
    return [str(n) for n in names]


def top(scores: Array, k: int) -> list[int]:
    """Indices of the `k` highest of `scores` [classes], highest first, equal ones in order, NaN last."""
    import numpy as np

    order = np.argsort(-scores.astype(np.float64), kind="stable")
    return [int(i) for i in order[:k]]
