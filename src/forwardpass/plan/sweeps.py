"""Which steps read their weights in the other direction in every second run.

Weights of a little more than the cache holds would leave it before they are read again, all of them. Read from the end,
those that were read last are still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ops.lower_linear import PRODUCTS

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["alternate"]

_LEAST, _MOST = 0.75, 2.75
"""Weights of the network, in sizes of L2: less stays there, and of more too little does."""
_LAYER_BYTES = 64 * 1024
"""Weights of a layer that are worth it."""
_PANELS = 8
"""Of weights at a time: the widest register tiles of one row, and enough for the fetches of the hardware."""


def alternate(steps: Sequence[Step], threads: int, l2: int) -> None:
    """Let the products of few rows, which wait for their weights, go backwards in every second run."""
    weights = {id(b): b.nbytes for s in steps for b in (s.params.get("b"),) if b is not None}
    if not _LEAST * l2 < sum(weights.values()) / threads < _MOST * l2:
        return
    for s in steps:
        if s.kernel in PRODUCTS and s.params["split_n"] and weights.get(id(s.params.get("b")), 0) >= _LAYER_BYTES:
            s.backwards = _PANELS
