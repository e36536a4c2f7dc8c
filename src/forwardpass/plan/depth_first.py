"""Which steps run together by blocks of image rows, so that what is between them stays in the L2 of a core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..memory import Buffer
from ..ops import Tensor
from ..ops.lower_linear import PRODUCTS
from ..records import field, record
from ..tracked import call, is_tracked
from .row_steps import RowStep, goes_by_rows, row_step

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["Chain", "chains"]

Border = tuple["Step", int]

_FAR = 40e3
_NEAR = 100e3
"""Bytes per microsecond that one core moves to and from L3, and L2."""
_CALL_US = 0.5
"""What a kernel spends around one range."""
_WINDOWS = 1 / 2
"""The part of L2 that the rows between the steps may take."""
_WEIGHTS = 1 / 4
"""The part of L2 that the weights may take."""
_LITTLE = 512 * 1024
"""Bytes that an image between two chains may take, if they are half of those of the largest inside or less. No part of
L2: a quarter of 2 MiB and all of 512 KiB were best."""
_LONGEST = 32
"""Steps of a chain: finding one takes time that grows with their square."""
_LEAVES = 3 / 4
"""A step whose operands take more of L2 finds nothing there of what the step before wrote. With several threads too:
what another one wrote comes from its core, and what came before in the run left less of L2."""


@record(slots=True, eq=False)
class Chain:
    """Steps that could run together.

    Attributes
    ----------
    members
        In the order of the plan, without those that zero borders.
    first, last
        Of all their steps, indexes in the plan.
    between
        What only they touch, with the step that zeroes its border and that step's index, if there is one.
    parts
        That the rows are cut into, one per thread.
    rows
        Of the last member's output per block; 0 where there is no room for any.
    saved, spent
        Microseconds that one thread does not wait for memory, and that it takes for the cuts.
    declined
        Why they run one after another; empty if they do not.
    """

    members: list[RowStep]
    first: int
    last: int
    between: dict[Buffer, Border | None]
    parts: int
    rows: int = 0
    blocks: int = 0
    saved: float = 0.0
    spent: float = 0.0
    declined: str = ""
    windows: list[Buffer] = field(default_factory=list)

    @property
    def images(self) -> int:
        return self.members[-1].images

    @property
    def height(self) -> int:
        """Rows of the last member's output."""
        return self.members[-1].height

    @property
    def nbytes(self) -> int:
        """Of the values between the members."""
        return sum(b.nbytes for b in self.between)

    def ends(self, row: int) -> tuple[list[int], dict[Buffer, int]]:
        """Per member, behind the last row that the rows of the result above `row` need; and the same of the values
        between them, counted through their borders."""
        wanted: dict[Buffer, int] = {}
        ends = [0] * len(self.members)
        for k in range(len(ends) - 1, -1, -1):
            m = self.members[k]
            end = row if k == len(ends) - 1 else _own_row(m, wanted.get(m.step.output.buffer, 0))
            ends[k] = end
            for b, read in m.images_read if end else ():
                if b in self.between:
                    wanted[b] = max(wanted.get(b, 0), read.end(end))
        return ends, wanted

    def starts(self, row: int) -> list[int]:
        """Per member, the first row that the rows of the result from `row` on need."""
        wanted: dict[Buffer, int] = {}
        starts = [0] * len(self.members)
        for k in range(len(starts) - 1, -1, -1):
            m = self.members[k]
            starts[k] = row if k == len(starts) - 1 else _own_row(m, wanted.get(m.step.output.buffer, 0))
            for b, read in m.images_read:
                if b in self.between:
                    begin = read.begin(starts[k])
                    wanted[b] = min(wanted.get(b, begin), begin)
        return starts

    def lowest(self, done: Sequence[int]) -> dict[Buffer, int]:
        """The first row of each value between them that is read or written after so many rows of each member."""
        found: dict[Buffer, int] = {}
        for m, row in zip(self.members, done):
            out = m.step.output.buffer
            if out in self.between:
                found[out] = min(found.get(out, row + m.border), row + m.border)
            for b, read in m.images_read:
                if b in self.between:
                    begin = read.begin(row)
                    found[b] = min(found.get(b, begin), begin)
        return found

    def advances(self, rows: int) -> tuple[list[int], dict[Buffer, int]]:
        """Per member, by how many rows so many of the result take it further: fewer at the ends of an image, never
        more. And the same of the values between them."""
        of_values: dict[Buffer, int] = {}
        advances = [0] * len(self.members)
        for k in range(len(advances) - 1, -1, -1):
            m = self.members[k]
            advances[k] = rows if k == len(advances) - 1 else of_values.get(m.step.output.buffer, 0)
            for b, read in m.images_read:
                if b in self.between:
                    of_values[b] = max(of_values.get(b, 0), advances[k] * read.stride)
        return advances, of_values

    def writer(self, value: Buffer) -> RowStep:
        """The member that writes a value between them."""
        return next(m for m in self.members if m.step.output.buffer is value)


def _own_row(m: RowStep, row: int) -> int:
    """A row of a value, counted through its border, as one of the member that writes it."""
    return min(max(row - m.border, 0), m.height)


def chains(steps: Sequence[Step], parts: int, l2: int) -> list[Chain]:
    """The chains of a plan, those that are declined too.

    Parameters
    ----------
    parts
        Threads that each take some of the rows.
    l2
        Bytes of the second cache of a core.
    """
    if sum(map(goes_by_rows, steps)) < 2 or call(max, 0, 0, *(s.output.buffer.nbytes for s in steps)) <= l2 * _WINDOWS:
        return []
    uses = _uses(steps)
    found: list[Chain] = []
    start, last = 0, _last_far(steps, l2)
    rows = [row_step(s, k) for k, s in enumerate(steps[: last + _LONGEST])]
    while start <= last:
        choices = _choices(steps, rows, start, uses, parts, l2)
        chain = _best(choices, l2) if choices else None
        start = start + 1 if chain is None else chain.last + 1
        if chain is not None and chain.saved:
            found.append(chain)
    return found


def _last_far(steps: Sequence[Step], l2: int) -> int:
    """The last step that finds nothing in L2 and may be of a chain, if sizes are known: later chains save nothing."""
    for k in range(len(steps) - 1, -1, -1):
        if not goes_by_rows(steps[k]) or _weights(steps[k]) > l2 * _WEIGHTS:
            continue
        nbytes = steps[k].nbytes
        if is_tracked(nbytes):
            return len(steps) - 1
        if nbytes > l2 * _LEAVES:
            return k
    return -1


def _best(choices: Sequence[Chain], l2: int) -> Chain:
    """The longest that there is room for; the longest of all where that saves nothing, or there is room for none."""
    for chain in reversed(choices):
        _estimate(chain, l2)
        if chain.rows or not chain.saved:
            break
    return chain if chain.rows else choices[-1]


@record(slots=True, eq=False)
class _Use:
    """Which steps touch a buffer, and whether all of them see images with the same rows in it."""

    first: int
    last: int
    strides: tuple[int, ...]
    by_rows: bool


def _uses(steps: Sequence[Step]) -> dict[Buffer, _Use]:
    found: dict[Buffer, _Use] = {}
    for k, s in enumerate(steps):
        for t in filter(None, [*s.inputs, s.output]):
            b, strides = t.buffer, t.strides[:2]
            use = found.get(b)
            if use is None:
                use = found[b] = _Use(k, k, strides, b.kind == "arena" and _is_image(t))
            use.last = k
            use.by_rows &= use.strides == strides and len(t.shape) == 4 and t.strides[3] == 1
    return found


def _is_image(t: Tensor) -> bool:
    """Whether the buffer is images, one after another, each of rows, one after another."""
    if len(t.shape) != 4 or t.strides[3] != 1 or 0 in t.shape:
        return False
    image, row = t.strides[:2]
    return bool(row and image % row == 0 and t.buffer.size == t.shape[0] * image and t.shape[1] * row <= image)


def _choices(
    steps: Sequence[Step], rows: Sequence[RowStep | None], start: int, uses: dict[Buffer, _Use], parts: int, l2: int
) -> list[Chain]:
    """The chains that begin at a step, shortest first, up to the one after which little crosses to the next step."""
    members: list[RowStep] = []
    borders: dict[Buffer, Border] = {}
    found: list[Chain] = []
    weights = 0
    for k in range(start, min(len(steps), start + _LONGEST)):
        s, m = steps[k], rows[k]
        if s.kernel == "halo_f32":
            borders[s.output.buffer] = s, k
            continue
        weights += _weights(s)
        if m is None or weights > l2 * _WEIGHTS or (members and m.images != members[0].images):
            break
        members.append(m)
        between = _between(members, borders, uses, start)
        result = s.output.buffer
        if between is not None:
            found.append(Chain(list(members), start, k, between, min(parts, m.images * m.height)))
            little = call(_little, parts, m.images, *(b.nbytes for b in between))
            if uses[result].last <= k or result.nbytes <= little:
                break
        if s.kernel == "depthwise_f32" and len(s.inputs) > 1:
            break  # two threads would write the same means, of rows that both need
    return found


def _little(parts: int, images: int, *between: int) -> float:
    """Bytes of an image after which a chain may end."""
    return min(_LITTLE * max(parts, images), max(between, default=0) / 2)


def _between(
    members: Sequence[RowStep], borders: dict[Buffer, Border], uses: dict[Buffer, _Use], start: int
) -> dict[Buffer, Border | None] | None:
    """The values between the members; None where the last is not the only one whose output others see, or reads
    something of them as a whole."""
    result = members[-1].step.output.buffer
    if result in borders:
        return None
    end = members[-1].index
    found: dict[Buffer, Border | None] = {}
    for m in members:
        b = m.step.output.buffer
        use = uses[b]
        if m is not members[-1] and b is result:
            return None
        if b is not result:
            if use.first < start or use.last > end or not use.by_rows:
                return None
            found[b] = borders.get(b)
    if not set(borders) <= set(found):
        return None
    for m in members:
        for t, read in zip(m.step.inputs, m.reads):
            if t is not None and (t.buffer is result or (read is None and t.buffer in found)):
                return None
    return found


def _weights(s: Step) -> int:
    """Bytes of a layer's weights."""
    found = s.params.get("b", s.params.get("weights"))
    if found is None and s.kernel in PRODUCTS:  # they are made in the run
        return 4 * int(s.params.get("b_group", 0))
    return 0 if found is None else int(found.nbytes)


def _estimate(chain: Chain, l2: int) -> None:
    """Choose the rows of a block, and weigh what they save against what they cost."""
    sizes: list[int] = []
    for m in chain.members:
        inputs = {t.buffer: None for t in m.step.inputs if t is not None and t.buffer in chain.between}
        if inputs:  # of the others nothing is saved
            sizes += m.step.nbytes, sum(b.nbytes for b in inputs)
    chain.saved = call(_saved, l2, chain.parts, *sizes)
    if not chain.saved:
        return
    room = int(l2 * _WINDOWS)
    one, two = (sum(_sizes(chain, rows).values()) for rows in (1, 2))
    if one > room:
        chain.declined = f"one row takes {one} bytes of L2, of which there are {room}"
        return
    most = min(chain.height, 1 + (room - one) // max(two - one, 1))
    chain.blocks = -(-chain.height // most)
    chain.rows = -(-chain.height // chain.blocks)
    moved = sum(_kept(chain).values()) * (chain.blocks - 1)
    passes = -(-chain.images // chain.parts)
    slices = passes * chain.blocks * len(chain.members)
    chain.spent = slices * _CALL_US + passes * moved * 2 / _NEAR
    if chain.blocks == 1 and passes == 1:
        chain.declined = "there is room for all rows"
    elif chain.saved <= chain.spent:
        chain.declined = "it costs more than it saves"


def _saved(l2: int, parts: int, *sizes: int) -> float:
    """Microseconds, of the bytes of all operands of each member, and of those that are between the members."""
    far = sum(inputs for whole, inputs in zip(sizes[::2], sizes[1::2]) if whole > l2 * _LEAVES)
    # Each line is written once and read once.
    return 2 * far / parts * (1 / _FAR - 1 / _NEAR)


def _sizes(chain: Chain, rows: int) -> dict[Buffer, int]:
    """Bytes of the windows for so many rows of the result, in the middle of an image."""
    middle = max(0, chain.height // 2 - rows)
    done, _ = chain.ends(middle)
    low = chain.lowest(done)
    _, wanted = chain.ends(min(middle + rows, chain.height))
    return {b: _nbytes(chain, b, end - low.get(b, 0)) for b, end in wanted.items()}


def _kept(chain: Chain) -> dict[Buffer, int]:
    """Bytes of rows that two blocks need."""
    done, wanted = chain.ends(max(1, chain.height // 2))
    low = chain.lowest(done)
    return {b: _nbytes(chain, b, end - low.get(b, end)) for b, end in wanted.items()}


def _nbytes(chain: Chain, value: Buffer, rows: int) -> int:
    """Bytes of so many rows of a value, border included."""
    return 4 * max(rows, 0) * chain.writer(value).step.output.strides[1]
