"""Plans made once for sizes whose origin is tracked, and filled in for other sizes: no planning at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _native
from .._call import Bound
from ..errors import Error
from ..graph import Array, Graph, TensorType
from ..memory import Buffer
from ..tracked import Trace, Tracked, is_tracked, plain
from . import Declined, Plan, Settings, bind, build, draft, finish, in_arena, place
from .depth_first import Chain
from .planner import Step
from .replaced import replace
from .row_windows import Slice

__all__ = ["Template", "make_template"]

_FAILURES = (Error, ArithmeticError, MemoryError, ValueError)
Shapes = Sequence[tuple[int, ...]]


def make_template(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    settings: Settings,
    packed: dict[Any, Array],
    arenas: _native.Arenas | None,
    declared: Mapping[str, TensorType] | None = None,
) -> Template | None:
    """A template that fits the given shapes, and others for which planning goes the same way; None where there is
    nothing to fill in, or planning needs to know the sizes. Arguments are those of `make_plan`."""
    trace = Trace()
    pattern, tracked = _sizes(graph.inputs, shapes, trace)
    if tracked is None:
        return None
    try:
        with np.errstate(all="ignore"):  # of definitions that work on shapes
            return Template(draft(graph, tracked, settings, packed, declared=declared), trace, pattern, arenas)
    except (*_FAILURES, Declined, AttributeError, TypeError, LookupError):
        return None  # something takes a size for more than a number, or the planner would fail too


def _sizes(
    inputs: Mapping[str, TensorType], shapes: Mapping[str, tuple[int, ...]], trace: Trace
) -> tuple[str, dict[str, tuple[int, ...]] | None]:
    """What the sizes are called, and shapes of them; those that the model leaves open are tracked."""
    named: dict[str, Any] = {}
    tracked: dict[str, tuple[int, ...]] = {}
    patterns: list[str] = []
    for k, (name, t) in enumerate(inputs.items()):
        if t.container:
            return "", None
        declared = t.shape or (None,) * len(shapes[name])
        made: list[Any] = []
        names: list[str] = []
        for axis, (size, dim) in enumerate(zip(shapes[name], declared)):
            found: Any = trace.size(f"s{k}_{axis}", size)
            names.append(f"s{k}_{axis}")
            known = dim if isinstance(dim, int) else named.setdefault(dim, found) if isinstance(dim, str) else found
            if found != known:
                return "", None
            made.append(known)
        tracked[name] = tuple(made)
        patterns.append(_tuple(names))
    if not any(is_tracked(d) for shape in tracked.values() for d in shape):
        return "", None
    return _tuple(patterns), tracked


def _tuple(items: Sequence[str]) -> str:
    """The source of a tuple, of one item too."""
    return f"({''.join(f'{i}, ' for i in items)})"


class Template:
    """A plan with tracked numbers, and what fills them in.

    Parameters
    ----------
    plan
        As `draft` made it from tracked sizes.
    trace
        What happened to them.
    pattern
        Their names, as a tuple of one tuple per input.
    arenas
        For the programs.

    Attributes
    ----------
    least, most
        The fewest and the most elements of all inputs for which it was found to fit, for who asks several.
    """

    def __init__(self, plan: Plan, trace: Trace, pattern: str, arenas: _native.Arenas | None) -> None:
        self.plan, self.arenas = plan, arenas
        self.least = self.most = 0
        self._places: dict[str, int] = {}
        self._wanted: list[Tracked] = []
        self._ranks = [len(t.sizes) for t in plan.inputs.values()]
        # The numbers of this program are replaced before one runs, but for those that are the same in all.
        first = replace(plan, plain)
        self.native = _native.Template(build(first))
        for output, types in enumerate((plan.inputs, plan.outputs)):
            for k, t in enumerate(types.values()):
                for axis, value in self._numbers(t.sizes):
                    self.native.add_size(bool(output), k, axis, value)
        pieces = {b: k for k, b in enumerate(in_arena(plan.buffers))}
        for b in pieces:
            self.native.add_piece(plain(b.nbytes), self._value(b.nbytes), b.first, b.last, b.part)
        self._add_params(plan.tape)
        for k, entry in enumerate(plan.tape):
            self._add(k, entry, pieces)
        loops = dict.fromkeys(entry.loop for entry in plan.tape if entry.loop is not None)
        for k, loop in enumerate(loops):
            begin, count = loop.begin, loop.count
            self.native.add_loop(k, plain(begin), self._value(begin), plain(count), self._value(count))
        self.flops, self.nodes = plan.flops, [plan.steps[s.index].node for s in plan.tape]
        self._value(self.flops)
        self._trace, self._pattern = trace, pattern
        self._values = trace.function(pattern, self._wanted)
        self._shown: tuple[list[str], Callable[..., Any]] | None = None

    def __call__(self, shapes: Shapes) -> Plan | None:
        """The plan for shapes of the inputs, if planning would go the same way for them."""
        if [len(s) for s in shapes] != self._ranks:
            return None
        try:
            with np.errstate(all="ignore"):  # of definitions that work on shapes
                values = self._values(shapes)
            return None if values is None else Filled(self, values)
        except _FAILURES:
            return None  # the planner meets the same, and says what it is

    def at(self, value: Any, values: Sequence[Any]) -> Any:
        """A number of the plan, given the values of the wanted ones."""
        return values[self._places[value.name]] if is_tracked(value) else value

    def types(self, types: Mapping[str, TensorType], values: Sequence[Any]) -> dict[str, TensorType]:
        """Those with their sizes filled in."""
        return {k: TensorType(t.dtype, tuple(self.at(d, values) for d in t.sizes)) for k, t in types.items()}

    def _value(self, number: Any) -> int:
        """The place of a number among those wanted; -1 if it is the same for all sizes."""
        if not is_tracked(number):
            return -1
        found = self._places.get(number.name)
        if found is None:
            found = self._places[number.name] = len(self._wanted)
            self._wanted.append(number)
        return found

    def _numbers(self, numbers: Sequence[Any]) -> list[tuple[int, int]]:
        """Which of them are tracked, and their places."""
        return [(k, self._value(number)) for k, number in enumerate(numbers) if is_tracked(number)]

    def _add_params(self, tape: Sequence[Slice]) -> None:
        """What is to be replaced in the parameters, which slices of a step share."""
        for k, params in {id(entry.params): (k, entry.params) for k, entry in enumerate(tape)}.values():
            for name, given in params.items():
                numbers = given if isinstance(given, tuple) else (given,)
                for index, value in self._numbers(numbers):
                    self.native.add_field(k, name, index, value)

    def _add(self, k: int, step: Slice, pieces: Mapping[Buffer, int]) -> None:
        """What is to be replaced in an entry of the tape, but its parameters."""
        for operand, t in [*enumerate(step.inputs), (-1, step.output)]:
            if t is None:
                continue
            b: Buffer = t.buffer
            offset = t.offset * b.itemsize
            if b.kind != "constant":
                self.native.add_operand(k, operand, plain(offset), self._value(offset), pieces.get(b, -1), False)
            elif is_tracked(offset):
                raise TypeError("an offset into a constant depends on a size")
            elif is_tracked(b.array):
                self.native.add_operand(k, operand, offset, self._value(b.array), -1, True)
        if is_tracked(step.barrier):
            self.native.add_barrier(k, self._value(step.barrier))
        for thread, (begin, end) in enumerate(step.ranges):
            if is_tracked(begin) or is_tracked(end):
                self.native.add_range(k, thread, plain(begin), self._value(begin), plain(end), self._value(end))

    def whole(self, shapes: Shapes) -> Plan:
        """The plan with its steps, for shapes that fit."""
        if self._shown is None:
            every: dict[str, Tracked] = {}
            replace(self.plan, lambda value: every.setdefault(value.name, value) if is_tracked(value) else value)
            self._shown = list(every), self._trace.function(self._pattern, every.values())
        names, function = self._shown
        known = dict(zip(names, function(shapes)))
        made = replace(self.plan, lambda value: known[value.name] if is_tracked(value) else value)
        made.arena_bytes = place(made.buffers, made.threads)
        return made


class Filled(Plan):
    """A plan from a template. Its steps are only made for who wants to see them."""

    __slots__ = ("_flops", "_program", "_seen", "_template")

    def __init__(self, template: Template, values: Sequence[Any]) -> None:
        self._template, plan = template, template.plan
        self.inputs, self.outputs = template.types(plan.inputs, values), template.types(plan.outputs, values)
        self._flops = template.at(template.flops, values)
        self.threads, self.isa, self.arenas = plan.threads, plan.isa, template.arenas
        self._program, self.arena_bytes = template.native.make(values, template.arenas)
        self._bound: Bound | None = None
        self._seen: Plan | None = None

    @property
    def bound(self) -> Bound:
        if self._bound is None:
            program, template = finish(self, self._program), self._template
            self._bound = bind(self, program, self._flops, template.nodes)
        return self._bound

    def _whole(self) -> Plan:
        if self._seen is None:
            self._seen = self._template.whole([t.sizes for t in self.inputs.values()])
        return self._seen

    @property
    def steps(self) -> list[Step]:  # type: ignore[override]
        return self._whole().steps

    @property
    def tape(self) -> list[Slice]:  # type: ignore[override]
        return self._whole().tape

    @property
    def buffers(self) -> list[Buffer]:  # type: ignore[override]
        return self._whole().buffers

    @property
    def chains(self) -> list[Chain]:  # type: ignore[override]
        return self._whole().chains
