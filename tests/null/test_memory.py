"""Buffers, and memory that is aligned."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.memory import ALIGNMENT, Blocks, Buffer, aligned_empty


def test_touch() -> None:
    b = Buffer("arena", 1, "a")
    assert (b.first, b.last) == (-1, -1)
    for step in (3, 5, 4):
        b.touch(step)
    assert (b.first, b.last) == (3, 5)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 4), (1000,)])
def test_aligned_empty(shape: tuple[int, ...]) -> None:
    array = aligned_empty(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert array.__array_interface__["data"][0] % ALIGNMENT == 0 or array.size == 0
    array[...] = 1


@pytest.mark.parametrize(("expected", "large"), [(64 << 10, 1), (64 << 20, 1000)])
def test_blocks_give_aligned_arrays_that_do_not_overlap(expected: int, large: int) -> None:
    shapes = [(3, 5), (large, 1000), (2, 7, 16), (0,), (1,), (large, 5000), (900, large), *[(large, 999)] * 5]
    for blocks, most in ((Blocks(expected), 1), (Blocks(0), len(shapes))):
        arrays = [blocks.empty(s) for s in shapes]
        for k, a in enumerate(arrays):
            assert a.shape == shapes[k]
            assert a.__array_interface__["data"][0] % ALIGNMENT == 0
            a[...] = k
        assert all((a == k).all() for k, a in enumerate(arrays))
        owners = {id(_owner(a)) for a in arrays}
        assert (len(owners) == 1) == (most == 1), "all share a block, if it is known how much there will be"


def test_a_block_starts_at_a_huge_page_and_is_followed_by_another() -> None:
    blocks = Blocks(4 << 20)
    first = blocks.empty((3, 5))
    assert first.__array_interface__["data"][0] % (2 << 20) == 0
    second = blocks.empty((9 << 20,))  # more than a block of what was expected
    assert _owner(first) is not _owner(second)
    first[...], second[...] = 1, 2
    assert (first == 1).all()


def test_what_is_unused_are_the_ends_of_huge_pages() -> None:
    blocks = Blocks(4 << 20)
    assert blocks.unused() == []
    arrays = [blocks.empty((300_000,)), blocks.empty((9 << 20,)), blocks.empty((100,))]
    for k, a in enumerate(arrays):
        a[...] = k
    unused = blocks.unused()
    assert len(unused) == 2
    for rest in unused:
        assert (rest.__array_interface__["data"][0] + rest.nbytes) % (2 << 20) == 0
        rest[...] = 7
    assert all((a == k).all() for k, a in enumerate(arrays))
    assert Blocks(1 << 20).unused() == []


def test_small_arrays_fill_what_large_ones_left() -> None:
    blocks = Blocks(4 << 20)
    arrays = [blocks.empty((n,)) for n in (1000, 20 << 20, 2000)]
    assert _owner(arrays[0]) is _owner(arrays[2]) is not _owner(arrays[1])


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
