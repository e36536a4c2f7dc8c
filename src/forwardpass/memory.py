"""Where values live: buffers, when they are alive, and aligned arrays."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from .graph import Array
from .records import record

__all__ = ["ALIGNMENT", "Blocks", "Buffer", "aligned_empty", "dense", "is_dense", "is_repeated"]

ALIGNMENT = 64
"""Bytes; the size of a cache line."""

_LARGE_BYTES = 4 << 20
"""From here on NumPy asks the system for huge pages."""
_HUGE_PAGE = 2 << 20
_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 256 << 20
"""Bytes. What is not used of a block takes no memory, but for the rest of a page."""

Kind = Literal["arena", "input", "output", "constant"]


@record(slots=True, eq=False)
class Buffer:
    """A block of memory that one or more values occupy.

    Attributes
    ----------
    kind
        `arena` gets a place from the plan; `input` and `output` are the caller's; a `constant` has `array`.
    size
        Elements, a border included.
    index
        Of the input or output.
    offset
        Bytes from the arena's start.
    first, last
        The first and last step that touch it; the planner fills them in.
    part
        The only thread that touches it; -1 for a value that threads share.
    """

    kind: Kind
    size: int
    name: str
    index: int = 0
    array: Array | None = None
    itemsize: int = 4
    offset: int = 0
    first: int = -1
    last: int = -1
    part: int = -1

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def touch(self, step: int) -> None:
        """Note that a step reads or writes the buffer."""
        if self.first < 0:
            self.first = step
        self.last = max(self.last, step)


def is_dense(array: Array) -> bool:
    """Whether an array is in C order, without gaps, and aligned as its elements."""
    return bool(array.flags.c_contiguous and array.flags.aligned)


def dense(array: Array) -> Array:
    """The array, or a copy that `is_dense`."""
    return array if is_dense(array) else np.require(array, requirements=["C", "A"])


def is_repeated(array: Array) -> bool:
    """Whether several elements of an array are one number in memory, and no others are there."""
    return array.size > 1 and not any(array.strides)


class Blocks:
    """Arrays like those of `aligned_empty`, many to a block: to make one takes longer than to pack the weights of a
    small layer. A large network's blocks are of huge pages: its weights are read once per call, and each page of them
    needs its address translated; and to make 512 small pages takes three times as long as to make a huge one.

    Parameters
    ----------
    expected
        Bytes of all arrays together, roughly.
    """

    def __init__(self, expected: int) -> None:
        # Rows are filled up to whole vectors: an eighth more.
        self._block, self._page = expected + expected // 8, ALIGNMENT
        if expected >= _LARGE_BYTES:  # Winograd's method has more weights, and matrix tiles more bytes for each
            self._block, self._page = min(max(expected + expected // 2, _LEAST_BLOCK), _MOST_BLOCK), _HUGE_PAGE
        self._left: list[Array] = []  # of each block

    def empty(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array that starts at a cache line."""
        size = math.prod(shape)
        step = -(-size * 4 // ALIGNMENT) * ALIGNMENT // 4
        k = 0
        while k < len(self._left) and step > self._left[k].size:
            k += 1
        if k == len(self._left):
            pages = -(-max(self._block, step * 4) // self._page)
            self._left.append(_aligned(pages * self._page, self._page).view(np.float32))
        left = self._left[k]
        self._left[k] = left[step:]
        return left[:size].reshape(shape)

    def unused(self) -> list[Array]:
        """What has memory and is in no array: the ends of huge pages that arrays begin on."""
        ends = [-left.__array_interface__["data"][0] % _HUGE_PAGE // 4 for left in self._left]
        return [left[:end] for left, end in zip(self._left, ends)] if self._page == _HUGE_PAGE else []


def aligned_empty(shape: tuple[int, ...]) -> Array:
    """An uninitialised float32 array that starts at a cache line."""
    return _aligned(math.prod(shape) * 4, ALIGNMENT).view(np.float32).reshape(shape)


def _aligned(nbytes: int, alignment: int) -> Array:
    raw = np.empty(nbytes + alignment, np.uint8)
    start = -raw.__array_interface__["data"][0] % alignment
    return raw[start:][:nbytes]
