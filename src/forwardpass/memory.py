"""Where values live: buffers, when they are alive, and their places in one arena."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .graph import Array
from .records import record

__all__ = ["ALIGNMENT", "Buffer", "aligned_empty", "dense", "is_dense", "place"]

ALIGNMENT = 64
"""Bytes; the size of a cache line."""

Kind = Literal["arena", "input", "output", "constant"]


@record(slots=True, eq=False)
class Buffer:
    """A block of memory that one or more values occupy.

    Attributes
    ----------
    kind
        `arena` is placed by `place`; `input` and `output` are the caller's; a `constant` has `array`.
    size
        Elements, a border included.
    index
        Of the input or output.
    offset
        Bytes from the arena's start.
    first, last
        The first and last step that touch it; the planner fills them in.
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

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def touch(self, step: int) -> None:
        """Note that a step reads or writes the buffer."""
        if self.first < 0:
            self.first = step
        self.last = max(self.last, step)


def place(buffers: Sequence[Buffer]) -> int:
    """Give every arena buffer an offset such that no two that are alive together overlap; return the arena's bytes.

    Greedy by size: the largest buffer first, each at the lowest gap that fits among those already placed whose
    lifetimes meet its own (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
    """
    placed: list[Buffer] = []
    total = 0
    for b in sorted((b for b in buffers if b.kind == "arena"), key=_lines, reverse=True):
        size = _lines(b) * ALIGNMENT
        offset = 0
        for other in placed:  # by offset
            if other.last < b.first or b.last < other.first:
                continue
            if other.offset - offset >= size:
                break
            offset = max(offset, other.offset + _lines(other) * ALIGNMENT)
        b.offset = offset
        total = max(total, offset + size)
        placed.append(b)
        placed.sort(key=lambda p: p.offset)
    return total


def _lines(buffer: Buffer) -> int:
    """The cache lines that it takes."""
    return -(-buffer.nbytes // ALIGNMENT)


def is_dense(array: Array) -> bool:
    """Whether an array is in C order, without gaps, and aligned as its elements."""
    return bool(array.flags.c_contiguous and array.flags.aligned)


def dense(array: Array) -> Array:
    """The array, or a copy that `is_dense`."""
    return array if is_dense(array) else np.require(array, requirements=["C", "A"])


def aligned_empty(shape: tuple[int, ...]) -> Array:
    """An uninitialised float32 array that starts at a cache line."""
    size = math.prod(shape)
    raw = np.empty(size * 4 + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + size * 4].view(np.float32).reshape(shape)
