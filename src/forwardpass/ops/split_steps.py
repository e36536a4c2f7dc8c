"""Which block of pixels, and what of it, each step of a product on matrix tiles multiplies."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..graph import Array
from .lower_linear import MOST_KEPT
from .split_cost import BLOCK

__all__ = ["steps_of"]


@lru_cache(maxsize=MOST_KEPT)
def steps_of(
    height: int, width: int, channels: int, taps: tuple[tuple[int, int], ...], pixel: int, valid: int
) -> Array:
    """The `steps` of BrgemmSplitParams; `valid` says what is in a block, if not its channels are."""
    table = _blocks(channels, len(taps), valid).copy()
    table[..., 0] *= height * width * pixel
    if taps != ((0, 0),):
        table[..., 0] += np.array([(i * width + j) * pixel for i, j in taps])
    found: Array = table.reshape(-1, 2)
    found.flags.writeable = False  # many plans share it
    return found


@lru_cache(maxsize=MOST_KEPT)
def _blocks(channels: int, taps: int, valid: int) -> Array:
    """`steps_of` where blocks are one apart, [block][tap]."""
    blocks = -(-channels // BLOCK)
    table: Array = np.full((blocks, taps, 2), valid or (1 << BLOCK) - 1, np.int64)
    table[..., 0] = np.arange(blocks)[:, None]
    if not valid:
        table[-1:, :, 1] = (1 << channels - (blocks - 1) * BLOCK) - 1
    return table
