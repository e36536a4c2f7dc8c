"""The tape of a plan: whole steps, and chains of steps by blocks of rows, in windows that hold some rows of what is
between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..memory import Buffer
from ..ops import Tensor
from ..ops.lower import MAX_RANK
from ..records import record
from ..tracked import call, is_tracked
from .depth_first import Chain
from .row_steps import RowStep

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["Loop", "Slice", "tape", "touch", "whole"]

_NONE = (0,) * (MAX_RANK - 1)
_ONE = (1, *_NONE)


@record(slots=True, eq=False)
class Loop:
    """Entries of the tape, one after another, that run by turns for `count` images from image `begin` on, or for
    `count` blocks of rows of the only image."""

    begin: int
    count: int


@record(slots=True, eq=False)
class Slice:
    """An entry of the tape: a step, or a part of one.

    Attributes
    ----------
    index
        Of the step in the plan.
    ranges
        Of the kernel, one per thread.
    barrier
        All threads wait after it, and after all turns of its loop.
    loop
        Says for which images or blocks it runs. The rest of the entry is what it does for image 0, or for the first.
    shift
        Units between the ranges of two images or blocks.
    moves
        Elements between the places of two, of the inputs and then of the output.
    """

    index: int
    kernel: str
    params: dict[str, Any]
    inputs: Sequence[Tensor | None]
    output: Tensor
    ranges: list[tuple[int, int]]
    barrier: bool = False
    loop: Loop | None = None
    shift: int = 0
    moves: tuple[int, ...] = ()


def whole(step: Step, index: int) -> Slice:
    """A step in one piece."""
    return Slice(index, step.kernel, step.params, step.inputs, step.output, step.ranges)


def tape(steps: Sequence[Step], found: Sequence[Chain], threads: int) -> list[Slice]:
    """All steps in an order in which every value is written before it is read, chains by blocks of rows."""
    at = {c.first: c for c in found}
    runs: list[tuple[list[Slice], int]] = []
    index = 0
    while index < len(steps):
        chain = at.get(index)
        if chain is None:
            runs.append(([whole(steps[index], index)], 1 if threads == 1 else steps[index].threads))
            index += 1
        else:
            runs.append((slices(chain, threads), chain.parts))
            index = chain.last + 1
    working = 1  # threads, since they last waited for each other
    for (run, own), (after, following) in pairwise(runs) if threads > 1 else ():
        working = call(max, working, own)
        if _apart(run[-1], after[0]):
            run[-1].barrier = call(_begin, own, following)
        else:
            # Where only the first thread works before and after, nobody waits; the end of the job is a barrier already.
            run[-1].barrier = call(_waits, working, following)
            working = 1
    return [s for run, _ in runs for s in run]


def _apart(one: Slice, other: Slice) -> bool:
    """Whether neither has anything to do with what the other one writes: an image and its border."""
    return one.output.buffer is other.output.buffer and "halo_f32" in (one.kernel, other.kernel)


def _begin(working: int, following: int) -> bool:
    """Whether some threads begin with a step while the first one may be steps behind, in memory that is used again."""
    return working == 1 and following > 1


def _waits(working: int, following: int) -> bool:
    return working > 1 or following > 1


def touch(steps: Sequence[Step], found: Sequence[Chain]) -> None:
    """Note which steps touch which buffer: those of a chain run by turns. What is between them lives in their windows
    alone."""
    chain_of = {k: c for c in found for k in range(c.first, c.last + 1)}
    replaced = {b for c in found for b in c.between}
    for k, s in enumerate(steps):
        chain = chain_of.get(k)
        for t in [*s.inputs, s.output]:
            if t is not None and t.buffer not in replaced:
                t.buffer.touch(k if chain is None else chain.first)
                t.buffer.touch(k if chain is None else chain.last)
    for c in found:
        for w in c.windows:
            w.touch(c.first)
            w.touch(c.last)


def slices(chain: Chain, threads: int) -> list[Slice]:
    """The chain's part of the tape. Each thread takes some rows of the result and what they need, in windows of its
    own: no thread reads what another one writes."""
    made: list[Slice] = []
    total = chain.images * chain.height
    spans: list[list[tuple[int, int]]] = [[] for _ in chain.members]
    for part in range(chain.parts):
        first = total * part // chain.parts if part else 0
        rows = _Part(chain, part, threads, first, total * (part + 1) // chain.parts)
        made += rows.slices()
        chain.windows += [w.memory for w in rows.windows.values()]
        for span, m, begin, end in zip(spans, chain.members, rows.begins, rows.ends):
            span.append((begin * m.units, end * m.units))
    for span, m in zip(spans, chain.members):
        m.step.ranges = span + [(0, 0)] * (threads - chain.parts)
    return made


class _Window:
    """Some rows of a value, for one thread. They lie as in the value: a kernel finds row r of image 0 where it would be
    if the value began so many rows before the window, and of image i if it began i images before that."""

    def __init__(self, chain: Chain, value: Buffer, part: int) -> None:
        self.value = value
        writer = chain.writer(value)
        border = chain.between[value]
        out = writer.step.output
        self.image, self.row = out.strides[:2]
        self.pads = {} if border is None else border[0].params
        self.top = self.pads.get("pad_top", 0)
        self.bottom = self.top + out.shape[1]
        self.index = writer.index if border is None else border[1]
        name = f"{value.name}.rows" if chain.parts == 1 else f"{value.name}.rows{part}"
        self.memory = Buffer("arena", 0, name, part=part)
        self.base = 0  # the row at its start
        self.end = 0  # behind the last row that is there
        self.rows = 0  # that it has room for
        self.copy = {"rank": 1, "shape": (self.image, *_NONE), "in_stride": _ONE, "out_stride": _ONE}
        self.zeros = {"rank": 1, "shape": (self.image, *_NONE), "out_stride": _ONE, "value": 0.0}

    def at(self) -> int:
        """Where the value would begin."""
        return -self.base * self.row

    def dense(self) -> Tensor:
        """The value as if it were all there."""
        return Tensor(self.memory, (self.image,), (1,), self.at())

    def forget(self, lowest: int) -> tuple[Tensor, Tensor, int] | None:
        """Make room: drop the rows above `lowest`. Returns what is to be copied where, and how many rows, unless
        nothing is, or the rows would overlap those that they replace."""
        if lowest == self.end:
            self.base = lowest
        elif 0 < self.end - lowest <= lowest - self.base:
            source, self.base = self.dense(), lowest
            return source, self.dense(), self.end - lowest
        return None


def _even(rows: int, most: int) -> int:
    """Rows of a block, where so many are cut into as few blocks as there can be."""
    return -(-rows // -(-rows // most))


_Operands = tuple[list[tuple["Tensor | None", "_Window | None"]], int, tuple[int, ...]]


class _Part:
    """The rows that one thread computes.

    Attributes
    ----------
    first, last
        Of the result, counted through all images.
    only
        Whether there is one image: what would run by turns for images does so for its blocks.
    advances, of_values
        `Chain.advances` of those blocks.
    begins, ends
        Per member, its first row and the one behind its last, counted through all images.
    """

    def __init__(self, chain: Chain, part: int, threads: int, first: int, last: int) -> None:
        self.chain, self.part, self.threads, self.first, self.last = chain, part, threads, first, last
        self.windows = {b: _Window(chain, b, part) for b in chain.between}
        self.only = not is_tracked(chain.images) and chain.images == 1
        self.advances, self.of_values = chain.advances(_even(last - first, chain.rows) if self.only else chain.rows)
        self.operands = [self._operands(m, advance) for m, advance in zip(chain.members, self.advances)]
        self.made: list[Slice] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.loop: Loop | None = None

    def slices(self) -> list[Slice]:
        """What of an image a thread takes does not follow from the number of images by a formula: that number may be
        tracked, and then this is a condition."""
        first, last, height = self.first, self.last, self.chain.height
        above = int(first % height)
        if above:  # the rest of an image that another thread begins
            end = int(min(height, above + last - first))
            self._images(first // height, 1, above, end)
            first += end - above
        count = (last - first) // height
        if count > 0:
            self._images(first // height, count, 0, height)
        left = int((last - first) % height)
        if left:
            self._images(last // height, 1, 0, left)
        borders = []
        for w in self.windows.values():
            w.memory.size = w.rows * w.row
            if w.pads.get("pad_left") or w.pads.get("pad_right"):
                fields = {**w.pads, "batch": 1, "h": w.rows, "pad_top": 0, "pad_bottom": 0}
                output = Tensor(w.memory, (w.memory.size,), (1,))
                borders.append(Slice(w.index, "halo_f32", fields, [], output, self._ranges(0, w.rows)))
        return borders + self.made

    def _images(self, image: int, count: int, begin: int, end: int) -> None:
        """The same rows of the result for each of some images."""
        members = self.chain.members
        self.begins = self.begins or [image * m.height + row for m, row in zip(members, self.chain.starts(begin))]
        self.ends = [(image + count - 1) * m.height + row for m, row in zip(members, self.chain.ends(end)[0])]
        self.loop = None if self.only else Loop(image, count)
        self._image(begin, end)

    def _operands(self, m: RowStep, advance: int) -> _Operands:
        """Of a member: its operands, each with its window, if it has one; how far its range moves from block to block
        of the only image, or else from image to image; and how far they do."""
        pairs = [(t, None if t is None else self.windows.get(t.buffer)) for t in [*m.step.inputs, m.step.output]]
        if self.only:
            return pairs, advance * m.units, tuple(0 if w is None else -self._moved(w) for _, w in pairs)
        # The range goes on to the next image, and a window is where it was.
        return pairs, m.height * m.units, tuple(0 if w is None else -w.image for _, w in pairs)

    def _moved(self, w: _Window) -> int:
        """Elements by which a block takes a window further."""
        return self.of_values[w.value] * w.row

    def _image(self, begin: int, end: int) -> None:
        """Some rows of the result, block by block. Of the only image those that do the same are entries of one loop."""
        rows = _even(end - begin, self.chain.rows)
        done = self.chain.starts(begin)
        for value, row in self.chain.lowest(done).items():
            self.windows[value].base = self.windows[value].end = row
        row = begin
        while row < end:
            first, before = len(self.made), self._state(done)
            row = min(row + rows, end)
            self._block(done, row)
            more = self._more(before, done, row, (end - row) // rows) if self.only else 0
            if more:
                loop = Loop(0, 1 + more)
                for s in self.made[first:]:
                    s.loop = loop
                row += more * rows
                done = [d + more * a for d, a in zip(done, self.advances)]
                for w in self.windows.values():
                    w.base += more * self.of_values[w.value]
                    w.end += more * self.of_values[w.value]

    def _block(self, done: list[int], row: int) -> None:
        """What the rows of the result above `row` need, and is not done."""
        ends, wanted = self.chain.ends(row)
        self._make_room(self.chain.lowest(done), wanted)
        for k, m in enumerate(self.chain.members):
            if done[k] < ends[k]:
                self._rows(m, self.operands[k], done[k], ends[k])
                done[k] = ends[k]

    def _state(self, done: Sequence[int]) -> list[int]:
        return [*done, *(row for w in self.windows.values() for row in (w.base, w.end))]

    def _more(self, before: Sequence[int], done: Sequence[int], row: int, most: int) -> int:
        """How many blocks do what the last one did, each so many rows further. Given the state before that one. No
        block takes a row further than `advances`, so what is that much further at the last of them was so at each."""
        values = [self.of_values[w.value] for w in self.windows.values()]
        advances = [*self.advances, *(a for a in values for _ in range(2))]
        if any(now - was != a for now, was, a in zip(self._state(done), before, advances)):
            return 0
        if any(w.end - a < w.top for w, a in zip(self.windows.values(), values)):
            return 0
        for more in range(most, 0, -1):
            ends, wanted = self.chain.ends(row + more * self.advances[-1])
            lowest = self.chain.lowest([d + (more - 1) * a for d, a in zip(done, self.advances)])
            if all(e == d + more * a for e, d, a in zip(ends, done, self.advances)) and all(
                lowest[w.value] == w.base + more * a and wanted[w.value] == w.end + more * a <= w.bottom
                for w, a in zip(self.windows.values(), values)
            ):
                return more
        return 0

    def _make_room(self, lowest: dict[Buffer, int], wanted: dict[Buffer, int]) -> None:
        """Let the windows begin with the first row that is still needed, and zero what of the border comes next."""
        for value, w in self.windows.items():
            moved = w.forget(lowest[value])
            if moved is not None:
                source, target, rows = moved
                ranges = self._ranges(w.base * w.row, (w.base + rows) * w.row)
                shift = self._moved(w) if self.only else 0
                self._add(w.index, "copy_f32", w.copy, [source], target, ranges, shift, (-shift, -shift))
            end = max(w.end, wanted.get(value, 0))
            w.rows = max(w.rows, end - w.base)
            for low, high in ((0, w.top), (w.bottom, end)):
                low, high = max(low, w.end), min(high, end)
                if low < high:
                    ranges = self._ranges(low * w.row, high * w.row)
                    self._add(w.index, "fill_f32", w.zeros, [], w.dense(), ranges, 0, (0,))
            w.end = end

    def _rows(self, m: RowStep, operands: _Operands, begin: int, end: int) -> None:
        pairs, shift, moves = operands
        *inputs, output = [
            t if t is None or w is None else Tensor(w.memory, t.shape, t.strides, t.offset - w.base * w.row)
            for t, w in pairs
        ]
        assert output is not None
        ranges = self._ranges(begin * m.units, end * m.units)
        self._add(m.index, m.step.kernel, m.step.params, inputs, output, ranges, shift, moves)

    def _add(
        self,
        index: int,
        kernel: str,
        params: dict[str, Any],
        inputs: Sequence[Tensor | None],
        output: Tensor,
        ranges: list[tuple[int, int]],
        shift: int,
        moves: tuple[int, ...],
    ) -> None:
        self.made.append(Slice(index, kernel, params, inputs, output, ranges, False, self.loop, shift, moves))

    def _ranges(self, begin: int, end: int) -> list[tuple[int, int]]:
        made = [(0, 0)] * self.threads
        made[self.part] = begin, end
        return made
