"""Groups of channels on matrix tiles: two panels multiply the blocks of channels that their groups have a part of, with
zeros for weights of other groups."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..graph import Array
from .lower_linear import MOST_KEPT
from .split_cost import BLOCK, PANEL

__all__ = ["blocks_of", "starts", "with_zeros"]


@lru_cache(maxsize=MOST_KEPT)
def blocks_of(groups: int, channels: int, outputs: int) -> tuple[int, tuple[int, ...]]:
    """How many blocks of channels two panels multiply, and the first of them for each two."""
    if groups == 1:
        return -(-channels // BLOCK), (0,)
    into, out = channels // groups, outputs // groups
    found = []
    for column in range(0, outputs, 2 * PANEL):
        last = min(column + 2 * PANEL, outputs) - 1
        found.append((column // out * into // BLOCK, ((last // out + 1) * into - 1) // BLOCK + 1))
    count = max(end - begin for begin, end in found)
    blocks = -(-channels // BLOCK)
    return count, tuple(min(begin, blocks - count) for begin, _ in found)


def starts(groups: int, channels: int, outputs: int, block: int) -> Array:
    """`starts` of BrgemmSplitParams, where blocks of channels are so many words apart."""
    _, first = blocks_of(groups, channels, outputs)
    return np.array([(b * block, b * BLOCK) for b in first], np.int64)


def with_zeros(w: Array, groups: int, channels: int) -> Array:
    """Weights [taps, channels of a group, outputs] as those of all channels that two panels multiply."""
    if groups == 1:
        return w
    taps, into, outputs = w.shape
    count, first = blocks_of(groups, channels, outputs)
    column = np.arange(outputs)
    row = column // (outputs // groups) * into - BLOCK * np.array(first)[column // (2 * PANEL)]
    made = np.zeros((taps, count * BLOCK, outputs), np.float32)
    made[:, row + np.arange(into)[:, None], column] = w
    return made
