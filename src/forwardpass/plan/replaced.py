"""A plan once more, with other numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph import TensorType
from ..memory import Buffer
from ..ops import Tensor
from . import Plan
from .depth_first import Chain
from .planner import Step
from .row_steps import RowStep
from .row_windows import Loop, Slice

__all__ = ["replace"]


def replace(plan: Plan, at: Callable[[Any], Any]) -> Plan:
    """A plan of its own, with `at(number)` for each number. Its buffers have no places yet."""
    made = _Replaced(at)
    steps = [made.step(s) for s in plan.steps]
    made.params.update((id(old.params), new.params) for old, new in zip(plan.steps, steps))
    tape = [made.entry(s) for s in plan.tape]
    buffers = [made.buffer(b) for b in plan.buffers]
    chains = [made.chain(c, steps) for c in plan.chains]
    inputs, outputs = made.types(plan.inputs), made.types(plan.outputs)
    return Plan(inputs, outputs, steps, tape, buffers, 0, plan.threads, plan.isa, chains, plan.arenas)


class _Replaced:
    """The parts of one plan; what several of them share, they share again.

    Attributes
    ----------
    params
        The new ones, by the id of the old ones. Those of a window's copies have no numbers that change.
    """

    def __init__(self, at: Callable[[Any], Any]) -> None:
        self._at = at
        self._buffers: dict[Buffer, Buffer] = {}
        self._loops: dict[Loop | None, Loop | None] = {None: None}
        self.params: dict[int, dict[str, Any]] = {}

    def _many(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(map(self._at, values))

    def types(self, given: Mapping[str, TensorType]) -> dict[str, TensorType]:
        return {k: TensorType(t.dtype, self._many(t.sizes)) for k, t in given.items()}

    def buffer(self, b: Buffer) -> Buffer:
        if b not in self._buffers:
            size, array = self._many((b.size, b.array))
            self._buffers[b] = Buffer(b.kind, size, b.name, b.index, array, b.itemsize, 0, b.first, b.last, b.part)
        return self._buffers[b]

    def _tensor(self, t: Tensor) -> Tensor:
        return Tensor(self.buffer(t.buffer), self._many(t.shape), self._many(t.strides), self._at(t.offset))

    def _tensors(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [None if t is None else self._tensor(t) for t in tensors]

    def _ranges(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(self._at(begin), self._at(end)) for begin, end in ranges]

    def step(self, s: Step) -> Step:
        params = {k: self._many(v) if isinstance(v, tuple) else self._at(v) for k, v in s.params.items()}
        inputs, output, ranges = self._tensors(s.inputs), self._tensor(s.output), self._ranges(s.ranges)
        units, grain, flops = self._many((s.units, s.grain, s.flops))
        return Step(s.kernel, params, inputs, output, units, grain, flops, s.node, ranges, s.backwards)

    def _loop(self, loop: Loop | None) -> Loop | None:
        if loop is not None and loop not in self._loops:
            self._loops[loop] = Loop(*self._many((loop.begin, loop.count)))
        return self._loops[loop]

    def entry(self, s: Slice) -> Slice:
        params = self.params.get(id(s.params), s.params)
        inputs, output = self._tensors(s.inputs), self._tensor(s.output)
        ranges, barrier = self._ranges(s.ranges), self._at(s.barrier)
        return Slice(s.index, s.kernel, params, inputs, output, ranges, barrier, self._loop(s.loop), s.shift, s.moves)

    def chain(self, c: Chain, steps: Sequence[Step]) -> Chain:
        members = [
            RowStep(steps[m.index], m.index, self._at(m.images), m.height, m.units, m.border, m.reads, m.images_read)
            for m in c.members
        ]
        between = {self.buffer(b): border for b, border in c.between.items()}
        parts, rows, blocks, saved, spent = self._many((c.parts, c.rows, c.blocks, c.saved, c.spent))
        windows = [self.buffer(b) for b in c.windows]
        return Chain(members, c.first, c.last, between, parts, rows, blocks, saved, spent, c.declined, windows)
