"""What convolutions and pools share: numbers per spatial axis, and images without a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter

__all__ = ["batched", "each", "unbatched"]


def each(value: Any, rank: int) -> list[int]:
    """One number for each spatial axis."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * rank if len(values) == 1 else values


def batched(e: Emitter, x: Any, rank: int) -> tuple[Any, bool]:
    """The images with a batch axis, and whether there was none."""
    alone = e.rank_of(x) == rank + 1
    return (e.node("Unsqueeze", x, np.array([0], np.int64)) if alone else x), alone


def unbatched(e: Emitter, y: Ref, alone: bool) -> Ref:
    return e.node("Squeeze", y, np.array([0], np.int64)) if alone else y
