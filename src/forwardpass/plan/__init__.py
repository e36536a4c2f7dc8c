"""Graph + input shapes -> Plan: which kernel runs on which memory, in which parts, on which thread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _native
from .._call import Bound
from ..dtypes import name_of
from ..errors import InputError
from ..graph import Array, Graph, Node, TensorType
from ..memory import Buffer
from ..ops import Tensor
from ..ops.evaluate import infer_types
from ..records import field, record
from ..tracked import is_tracked, total
from .attention_words import words_in_attention
from .depth_first import Chain, chains
from .half_values import halve
from .kv_cache import copy_in_attention
from .mean_epilogue import mean_in_epilogues
from .partition import split
from .planner import NATIVE, Planner, Settings, Step
from .pool_epilogue import pool_in_epilogues
from .residuals import reuse_residuals
from .row_steps import cut_at_rows
from .row_windows import Loop, Slice, tape, touch
from .split_epilogue import split_in_epilogues
from .split_prologue import scale_in_prologues
from .sweeps import alternate

if TYPE_CHECKING:
    from ..explanation import Steps
    from ..profile import Profile

__all__ = ["Declined", "Plan", "Planned", "Settings", "Step", "make_plan"]

_GIL_FLOPS = 400_000
"""Operations above which a run is long enough for other Python threads to profit from a released GIL."""
_MOST_BYTES = 1 << 46
"""Of one value: more than any machine has, and far from where sums of sizes overflow 64 bits."""


class Declined(Exception):  # noqa: N818 - not an error: the caller then runs these nodes by their definitions
    """What of a graph has no native kernel.

    Attributes
    ----------
    graph
        The graph for the given shapes: what follows from them alone has become a constant.
    types
        Of all its values.
    reasons
        Per node why it cannot run natively. Empty where only inputs or constants that are graph outputs cannot.
    """

    def __init__(self, graph: Graph, types: Mapping[str, TensorType], reasons: dict[Node, str]) -> None:
        super().__init__("; ".join(f"{n.label}: {r}" for n, r in reasons.items()))
        self.graph, self.types, self.reasons = graph, types, reasons


class Planned:
    """How plans show themselves: as the table of their steps."""

    __slots__ = ()
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]

    def steps_report(self) -> Steps:
        """The steps: printable, and with `to_dataframe`."""
        from ..explanation import Steps

        return Steps(self)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self!r}\n\n{self.steps_report()}"

    def __repr__(self) -> str:
        ends = (", ".join(f"{k}: {t}" for k, t in types.items()) for types in (self.inputs, self.outputs))
        return f"<{type(self).__name__} {' -> '.join(ends)}>"

    def _repr_html_(self) -> str:
        return self.steps_report()._repr_html_()

    def to_dataframe(self) -> Any:
        """The steps as a `pandas.DataFrame`."""
        return self.steps_report().to_dataframe()


@record(slots=True, eq=False)
class Plan(Planned):
    """A graph made ready for fixed input shapes.

    Attributes
    ----------
    inputs, outputs
        Name -> type, shapes known.
    tape
        The steps, or parts of them, in the order in which they run.
    chains
        Steps that run together by blocks of rows, or could.
    arena_bytes
        Memory for intermediate values, per call that runs at the same time.
    threads
        Members of the team that one call uses.
    arenas
        The memory that it shares with other plans; None where it has its own.
    """

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    steps: list[Step]
    tape: list[Slice]
    buffers: list[Buffer]
    arena_bytes: int
    threads: int
    isa: str
    chains: list[Chain] = field(default_factory=list)
    arenas: _native.Arenas | None = None
    _bound: Bound | None = None

    __repr__ = Planned.__repr__  # instead of a record's

    @property
    def flops(self) -> int:
        return total(s.flops for s in self.steps)

    @property
    def bound(self) -> Bound:
        """What a call runs. It is made, with its first arena, when it is first asked for.

        Raises
        ------
        InputError
            There is not enough memory.
        """
        if self._bound is None:
            self._bound = bind(self, finish(self, build(self)), self.flops, self._nodes())
        return self._bound

    def fault(self, entry: int) -> InputError:
        """The error of an entry of the tape that met an index out of range in its data."""
        return _fault(self._nodes(), entry)

    def _nodes(self) -> list[Node]:
        return [self.steps[s.index].node for s in self.tape]

    @property
    def program(self) -> _native.Program:
        """The native tape."""
        return self.bound.owner

    def constants(self) -> dict[int, Array]:
        """Packed weights and other constants that the steps read, by their id."""
        arrays = [v for s in self.steps for v in s.params.values() if isinstance(v, np.ndarray)]
        tensors = [t for s in self.steps for t in s.inputs if t is not None]
        arrays += [t.buffer.array for t in tensors if t.buffer.array is not None]
        return {id(a): a for a in arrays}

    def run(
        self, inputs: list[Array], *, into: list[Array] | None = None, profile: Profile | None = None
    ) -> list[Array]:
        """Run on checked arrays. Returns the outputs: new ones, or those given."""
        outputs = self._new_outputs() if into is None else into
        if profile is None:
            self.bound.run(inputs, outputs)
        else:
            profile.record(self, inputs, outputs)
        return outputs

    def _new_outputs(self) -> list[Array]:
        try:
            return self.bound.new_outputs()
        except MemoryError:
            shapes = ", ".join(f"{k}: {t}" for k, t in self.outputs.items())
            raise InputError("not enough memory for the outputs", where=shapes) from None


def _fault(nodes: list[Node], entry: int) -> InputError:
    """`Plan.fault`, for who must not keep the plan: in a cycle its memory would wait for the garbage collector."""
    node = nodes[entry]
    what = "integer division by zero" if node.op in ("Div", "Mod") else "an index in the data is out of range"
    return InputError(what, where=node.label)


def bind(plan: Plan, program: _native.Program, flops: int, nodes: list[Node]) -> Bound:
    """A program with what a call has to know of its plan."""
    inputs, outputs = ([(t.dtype, t.sizes) for t in ts.values()] for ts in (plan.inputs, plan.outputs))
    return Bound(program, inputs, outputs, flops > _GIL_FLOPS, partial(_fault, nodes))


def make_plan(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    settings: Settings,
    packed: dict[Any, Array],
    arenas: _native.Arenas | None = None,
    types: Mapping[str, TensorType] | None = None,
    declared: Mapping[str, TensorType] | None = None,
) -> Plan:
    """Plan an optimised graph.

    Parameters
    ----------
    graph
        After the passes. Must not change afterwards.
    shapes
        The shape of every input.
    packed
        The model's packed weights; new ones are added.
    arenas
        Memory for intermediate values, shared with other plans that run by turns.
    types
        Of all values for these shapes, where they are known.
    declared
        What the model says of its values, whatever a call brings.

    Raises
    ------
    Declined
        Some nodes have no native kernel.
    GraphError
        The shapes do not fit the graph.
    InputError
        They need more memory than there can be.
    """
    plan = draft(graph, shapes, settings, packed, types, declared)
    plan.arenas = arenas
    plan.arena_bytes = place(plan.buffers, plan.threads)
    return plan


def place(buffers: Sequence[Buffer], threads: int = 1) -> int:
    """Give those that belong into the arena their places; return the arena's bytes. csrc/core/place.hpp says how."""
    inside = in_arena(buffers)
    offsets, total_bytes = _native.place([(b.nbytes, b.first, b.last, b.part) for b in inside], threads)
    for b, offset in zip(inside, offsets):
        b.offset = offset
    return total_bytes


def in_arena(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Those that have a place in the arena."""
    return [b for b in buffers if b.kind == "arena"]


def draft(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    settings: Settings,
    packed: dict[Any, Array],
    types: Mapping[str, TensorType] | None = None,
    declared: Mapping[str, TensorType] | None = None,
) -> Plan:
    """A plan whose buffers have no places yet; as `make_plan`."""
    inputs = {k: TensorType(t.dtype, shapes[k]) for k, t in graph.inputs.items() if not t.container}
    _check_sizes(inputs)
    if types is None:
        known: dict[str, Array] = {}
        types = infer_types(graph, inputs, values=known)
        graph = _without(graph, known)
    _check_sizes(types)
    planner = Planner(graph, types, settings, packed, declared or {})
    try:
        reasons = planner.lower_all()
        ends = [*graph.inputs, *graph.outputs]
        if reasons or any(types[v].dtype not in NATIVE or types[v].container for v in ends):
            raise Declined(graph, types, reasons)
        planner.copy_plain_outputs()
        return _scheduled(planner, inputs)
    except MemoryError:
        shown = ", ".join(f"{k}: {t}" for k, t in inputs.items())
        raise InputError("not enough memory to plan for these shapes", where=planner.node.label, got=shown) from None
    finally:
        planner.settle()


def _scheduled(planner: Planner, inputs: dict[str, TensorType]) -> Plan:
    """Decide when and where the steps run, and on which thread."""
    settings = planner.settings
    steps = copy_in_attention(planner.steps)
    steps = mean_in_epilogues(pool_in_epilogues(steps, planner), planner)
    steps = words_in_attention(halve(scale_in_prologues(steps), planner), planner)
    steps = split_in_epilogues(steps)
    threads = split(steps, settings.threads)
    alternate(steps, threads, settings.l2)
    found = chains(steps, threads, settings.l2) if settings.l2 else []
    taken = [c for c in found if not c.declined]
    if any(is_tracked(d) for c in taken for m in c.members for d in m.step.output.shape[1:]):
        raise ValueError("the windows of a chain are those of the size of its images")
    for c in taken:
        cut_at_rows(c.members, planner)
    reuse_residuals(steps, taken)
    entries = tape(steps, taken, threads)
    touch(steps, taken)
    buffers = [b for b in planner.storage.buffers if b.first >= 0] + [b for c in taken for b in c.windows]
    outputs = {o: planner.values[o] for o in planner.graph.outputs}
    return Plan(inputs, outputs, steps, entries, buffers, 0, threads, settings.isa, found)


def _without(graph: Graph, known: Mapping[str, Array]) -> Graph:
    """The graph with `known` values as constants, and without the nodes that nobody needs then."""
    if not known:
        return graph
    nodes = [n for n in graph.nodes if not all(o in known for o in n.outputs if o)]
    # Of another plan's values of these names, none may be taken for them: these are dense, and so never cached.
    dense = {k: v if is_tracked(v) else np.require(v, requirements=["C", "A"]) for k, v in known.items()}
    made = Graph(graph.inputs, graph.outputs, nodes, {**graph.constants, **dense}, name=graph.name)
    made.prune()
    return made


def _check_sizes(types: Mapping[str, TensorType]) -> None:
    for name, t in types.items():
        if t.shape and t.dtype.itemsize * math.prod(d for d in t.shape if isinstance(d, int) and d) > _MOST_BYTES:
            raise InputError("too large", where=f"value {name!r}", expected=f"<= {_MOST_BYTES} bytes", got=str(t))


def build(plan: Plan) -> _native.Program:
    """The native tape of a plan, which has no memory yet."""
    program = _native.Program(plan.threads, plan.arenas)
    for add, tensors in ((program.add_input, plan.inputs), (program.add_output, plan.outputs)):
        for name, t in tensors.items():
            add(name, name_of(t.dtype), t.sizes)
    made: dict[int, int] = {}
    loops: dict[Loop, tuple[int, list[tuple[int, list[int]]]]] = {}
    for k, s in enumerate(plan.tape):
        operands = [None if t is None else _operand(t) for t in s.inputs]
        like = made.setdefault(id(s.params), k)
        if like == k:
            program.add_step(plan.isa, s.kernel, s.params, operands, _operand(s.output), s.ranges, s.barrier)
        else:
            program.add_slice(like, operands, _operand(s.output), s.ranges, s.barrier)
        if plan.steps[s.index].backwards:
            program.alternate(k, plan.steps[s.index].backwards)
        if s.loop is not None:
            sizes = [0 if t is None else t.buffer.itemsize for t in [*s.inputs, s.output]]
            shifts = s.shift, [move * size for move, size in zip(s.moves, sizes)]
            loops.setdefault(s.loop, (k, []))[1].append(shifts)
    for loop, (first, each) in loops.items():
        program.add_loop(first, loop.begin, loop.count, each)
    return program


def finish(plan: Plan, program: _native.Program) -> _native.Program:
    """The tape, with memory for its intermediate values."""
    try:
        program.finish(plan.arena_bytes)
    except MemoryError:
        shapes = ", ".join(f"{k}: {t}" for k, t in plan.inputs.items())
        got = f"{plan.arena_bytes} bytes for intermediate values"
        raise InputError("not enough memory", where=shapes, got=got) from None
    return program


def _operand(t: Tensor) -> tuple[Any, ...]:
    b: Buffer = t.buffer
    offset = t.offset * b.itemsize
    if b.kind == "constant":
        return (b.array, offset)
    return (b.kind, b.index, offset + b.offset if b.kind == "arena" else offset)
