"""The arena: no two buffers that are alive together overlap, and it is not larger than it has to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forwardpass.memory import ALIGNMENT, Buffer
from forwardpass.plan import place

SPANS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=30)
PARTS = st.lists(st.integers(-1, 3), min_size=30, max_size=30)


def rounded(buffer: Buffer) -> int:
    return -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT


def buffers_of(spans: list[tuple[int, int, int]]) -> list[Buffer]:
    return [
        Buffer("arena", size, f"b{k}", first=first, last=first + more) for k, (size, first, more) in enumerate(spans)
    ]


@given(SPANS, PARTS, st.integers(1, 4))
def test_live_buffers_do_not_overlap(spans: list[tuple[int, int, int]], parts: list[int], threads: int) -> None:
    buffers = buffers_of(spans)
    for buffer, part in zip(buffers, parts):
        buffer.part = min(part, threads - 1)
    total = place(buffers, threads)
    for k, a in enumerate(buffers):
        assert a.offset % ALIGNMENT == 0
        assert 0 <= a.offset <= a.offset + a.nbytes <= total
        for b in buffers[:k]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


@given(SPANS)
def test_size_is_between_the_bounds(spans: list[tuple[int, int, int]]) -> None:
    buffers = buffers_of(spans)
    total = place(buffers)
    alive = [sum(rounded(b) for b in buffers if b.first <= step <= b.last) for step in range(30)]
    assert max(alive, default=0) <= total <= sum(map(rounded, buffers))


@given(st.lists(st.integers(1, 16), min_size=2, max_size=20))
def test_a_chain_takes_two_places(sizes: list[int]) -> None:
    """Values that the next step reads and nobody else, each a cache line or less."""
    assert place(buffers_of([(size, k, 1) for k, size in enumerate(sizes)])) == 2 * ALIGNMENT


def middle(buffer: Buffer) -> int:
    return buffer.offset + buffer.nbytes // 2


def test_threads_meet_at_one_address() -> None:
    """What one thread wrote in a buffer, no other one writes in the next that lies there."""
    sizes = [64, 8, 32, 4, 16]
    shared = buffers_of([(1024 * size, 10 * k, 9) for k, size in enumerate(sizes)])
    first, second = (Buffer("arena", 1024, f"rows{part}", first=50, last=59, part=part) for part in (0, 1))
    place([*shared, first, second], 2)
    assert len({middle(b) for b in shared}) == 1
    assert first.offset + first.nbytes == second.offset == middle(shared[0])


def test_threads_do_not_take_much_more_memory() -> None:
    """One after another, below and above the address: that would be twice as much. Below and around it: half more."""
    rows = [Buffer("arena", 1024, f"rows{part}", first=part, last=part, part=part) for part in (0, 1)]
    assert place(rows, 2) == 4096
    for size, want in ((1 << 16, 3 << 17), (1 << 20, 1 << 22)):
        first = Buffer("arena", size, "rows0", first=0, last=0, part=0)
        assert place([first, Buffer("arena", size, "shared", first=1, last=1)], 2) == want


def test_other_buffers_have_no_place() -> None:
    own = Buffer("arena", 10, "a", first=0, last=1)
    others = [Buffer(kind, 1 << 20, kind, first=0, last=1) for kind in ("input", "output", "constant")]
    assert place([*others, own]) == ALIGNMENT
    assert all(b.offset == 0 for b in others)
