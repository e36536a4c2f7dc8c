"""Graph + input shapes -> Plan: which kernel runs on which memory, in which parts, on which thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native
from ._call import Bound
from .errors import InputError
from .graph import Array, Graph, Node, TensorType
from .memory import Buffer, aligned_empty, place
from .ops import Operator, Tensor, find
from .ops.evaluate import infer_types
from .ops.lower import copy_step
from .partition import split
from .records import field, record
from .storage import Storage

if TYPE_CHECKING:
    from .profile import Profile

__all__ = ["Declined", "Plan", "Settings", "Step", "make_plan"]

_GIL_FLOPS = 400_000
"""Operations above which a run is long enough for other Python threads to profit from a released GIL."""
_MOST_BYTES = 1 << 46
"""Of one value: more than any machine has, and far from where sums of sizes overflow 64 bits."""


@record(frozen=True, slots=True)
class Settings:
    """What a model was loaded with."""

    isa: str
    panel: int
    tile_m: tuple[int, ...]
    threads: int
    precision: str


@record(slots=True, eq=False)
class Step:
    """One kernel call of a plan."""

    kernel: str
    params: dict[str, Any]
    inputs: list[Tensor | None]
    output: Tensor
    units: int
    grain: int
    flops: int
    node: Node
    ranges: list[tuple[int, int]] = field(default_factory=list)
    barrier: bool = True

    @property
    def threads(self) -> int:
        """Threads that have work in it."""
        return sum(begin < end for begin, end in self.ranges)

    @property
    def nbytes(self) -> int:
        """Bytes of its operands, packed weights included."""
        tensors = sum(4 * t.size for t in [*self.inputs, self.output] if t is not None)
        return tensors + sum(v.nbytes for v in self.params.values() if isinstance(v, np.ndarray))


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


@record(slots=True, eq=False)
class Plan:
    """A graph made ready for fixed input shapes.

    Attributes
    ----------
    inputs, outputs
        Name -> type, shapes known.
    arena_bytes
        Memory for intermediate values, per call that runs at the same time.
    threads
        Members of the team that one call uses.
    """

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    steps: list[Step]
    buffers: list[Buffer]
    arena_bytes: int
    threads: int
    isa: str
    _bound: Bound | None = None

    @property
    def flops(self) -> int:
        return sum(s.flops for s in self.steps)

    @property
    def bound(self) -> Bound:
        """What a call runs. It is made, with its first arena, when it is first asked for.

        Raises
        ------
        InputError
            There is not enough memory.
        """
        if self._bound is None:
            inputs, outputs = ([t.sizes for t in types.values()] for types in (self.inputs, self.outputs))
            self._bound = Bound(_build(self), inputs, outputs, self.flops > _GIL_FLOPS)
        return self._bound

    @property
    def program(self) -> Any:
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
        outputs = [np.empty(t.sizes, t.dtype) for t in self.outputs.values()] if into is None else into
        if profile is None:
            self.bound.run(inputs, outputs)
        else:
            profile.record(self, inputs, outputs)
        return outputs


def make_plan(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], settings: Settings, packed: dict[Any, Array]
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

    Raises
    ------
    Declined
        Some nodes have no native kernel.
    GraphError
        The shapes do not fit the graph.
    InputError
        They need more memory than there can be.
    """
    inputs = {k: TensorType(t.dtype, shapes[k]) for k, t in graph.inputs.items()}
    _check_sizes(inputs)
    known: dict[str, Array] = {}
    types = infer_types(graph, inputs, values=known)
    _check_sizes(types)
    graph = _without(graph, known)
    planner = _Planner(graph, types, settings, packed)
    reasons = planner.lower_all()
    if reasons or any(types[o].dtype != np.float32 for o in graph.outputs):
        raise Declined(graph, types, reasons)
    planner.copy_plain_outputs()
    steps = planner.steps
    threads = split(steps, settings.threads)
    for k, s in enumerate(steps):
        for t in [*s.inputs, s.output]:
            if t is not None:
                t.buffer.touch(k)
    buffers = planner.storage.buffers
    arena_bytes = place([b for b in buffers if b.first >= 0])
    outputs = {o: types[o] for o in graph.outputs}
    return Plan(inputs, outputs, steps, buffers, arena_bytes, threads, settings.isa)


def _without(graph: Graph, known: Mapping[str, Array]) -> Graph:
    """The graph with `known` values as constants, and without the nodes that nobody needs then."""
    if not known:
        return graph
    nodes = [n for n in graph.nodes if not all(o in known for o in n.outputs if o)]
    made = Graph(graph.inputs, graph.outputs, nodes, {**graph.constants, **known}, name=graph.name)
    made.prune()
    return made


def _check_sizes(types: Mapping[str, TensorType]) -> None:
    for name, t in types.items():
        if t.shape and t.dtype.itemsize * math.prod(d for d in t.shape if isinstance(d, int) and d) > _MOST_BYTES:
            raise InputError("too large", where=f"value {name!r}", expected=f"<= {_MOST_BYTES} bytes", got=str(t))


def _build(plan: Plan) -> Any:
    program = _native.Program(plan.threads)
    for add, tensors in ((program.add_input, plan.inputs), (program.add_output, plan.outputs)):
        for name, t in tensors.items():
            add(name, t.sizes, t.nbytes)
    for s in plan.steps:
        operands = [None if t is None else _operand(t) for t in s.inputs]
        program.add_step(plan.isa, s.kernel, s.params, operands, _operand(s.output), s.ranges, s.barrier)
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


class _Planner:
    """Lowers the nodes one after another. It is the `Lowering` that they see."""

    def __init__(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        settings: Settings,
        packed: dict[Any, Array],
    ) -> None:
        self.graph, self.values, self.settings = graph, types, settings
        self.storage = Storage(graph, types)
        self.steps: list[Step] = []
        self._packed = packed
        self.panel, self.tile_m, self.threads = settings.panel, settings.tile_m, settings.threads
        self.node: Node = Node("", [], [])
        self.attributes: dict[str, Any] = {}
        self.types: list[TensorType | None] = []

    def lower_all(self) -> dict[Node, str]:
        """Emit the steps of all nodes. Returns the nodes that cannot run natively, with reasons."""
        reasons: dict[Node, str] = {}
        for node in self.graph.nodes:
            reason = self._unsupported_types(node) or self._lower(node, find(node))
            if reason:
                reasons[node] = reason
                self.storage.stand_in(node)
        return reasons

    def _unsupported_types(self, node: Node) -> str | None:
        for value in filter(None, (*node.inputs, *node.outputs)):
            if not self.values[value].is_known:
                return f"the shape of {value!r} depends on data"
        for o in filter(None, node.outputs):
            if self.values[o].dtype != np.float32:
                return f"{o!r} is {self.values[o].dtype.name}"
        used = [o for o in node.outputs[1:] if o and o in self.storage.used]
        return f"its output {used[0]!r} has no native kernel" if used else None

    def _lower(self, node: Node, op: Operator) -> str | None:
        self.node = node
        self.attributes = op.bind(node)
        self.types = [self.values.get(i) if i else None for i in node.inputs]
        if op.view:
            return self._view(node)
        if op.lower is None:
            return f"{node.qualified} has no native kernel"
        self.storage.define(node, op)
        reason = op.lower(self)
        if reason is None:
            self._border(node.outputs[0])
        return reason

    def _view(self, node: Node) -> str | None:
        """An output that is its input's memory under another shape."""
        source = self.input(0)
        if source is None or (self.types[0] is not None and self.types[0].dtype != np.float32):
            return "the input is not float32"
        dense = self.storage.view(node, source)
        return None if dense is None else copy_step(self, source, dense)

    def _border(self, name: str) -> None:
        """Zero the border that the plan keeps around an image for the convolutions that read it."""
        pads = self.storage.halos.get(name)
        if pads is None:
            return
        image = self.storage.tensors[name]
        start = image.offset - pads[0] * image.strides[1] - pads[1] * image.strides[2]
        self._halo_step(Tensor(image.buffer, image.shape, image.strides, start), pads)

    def _halo_step(self, image: Tensor, pads: tuple[int, int, int, int]) -> None:
        n, h, w, c = image.shape
        fields = {
            "batch": n, "h": h, "w": w, "c": c, "out_batch": image.strides[0],
            "pad_top": pads[0], "pad_left": pads[1], "pad_bottom": pads[2], "pad_right": pads[3],
        }  # fmt: skip
        self.step("halo_f32", fields, [], image, units=n)

    def copy_plain_outputs(self) -> None:
        """Outputs of the graph that are an input, a constant or a view of one."""
        for source, target in self.storage.plain_outputs():
            reason = copy_step(self, source, target)
            assert reason is None, reason

    # ---- the Lowering protocol

    def input(self, index: int) -> Tensor | None:
        name = self.node.inputs[index] if index < len(self.node.inputs) else ""
        return self.storage.tensor(name) if name else None

    def constant(self, index: int) -> Array | None:
        name = self.node.inputs[index] if index < len(self.node.inputs) else ""
        return self.graph.constants.get(name)

    def output(self, index: int = 0) -> Tensor:
        return self.storage.tensors[self.node.outputs[index]]

    def output_type(self, index: int = 0) -> TensorType:
        return self.values[self.node.outputs[index]]

    def tensor(self, array: Array) -> Tensor:
        return self.storage.constant(array, f"{self.node.outputs[0]}.constant")

    def temporary(self, shape: tuple[int, ...]) -> Tensor:
        return self.storage.temporary(shape, f"{self.node.outputs[0]}.temporary")

    def padded(self, image: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
        if not any(pads):
            return image
        kept = self.storage.halos.get(self.node.inputs[0])
        if kept is not None and all(k >= p for k, p in zip(kept, pads)):
            return image
        copy = self.storage.bordered(image.shape, pads, f"{self.node.inputs[0]}.padded")
        start = copy.offset - pads[0] * copy.strides[1] - pads[1] * copy.strides[2]
        self._halo_step(Tensor(copy.buffer, copy.shape, copy.strides, start), pads)
        reason = copy_step(self, image, copy)
        assert reason is None, reason
        return copy

    def packed(self, key: tuple[Any, ...], make: Callable[[], Array]) -> Array:
        found = self._packed.get(key)
        if found is None:
            found = self._packed[key] = make()
        return found

    def pack_b(self, b: Array) -> Array:
        b = np.require(b, np.float32, ["C", "A"])
        batch, k, n = b.shape
        panels = -(-n // self.panel)
        out = aligned_empty((batch, panels, k, self.panel))
        fields = {
            "batch": batch, "k": k, "n": n, "in_batch": k * n, "in_k": n, "in_n": 1,
            "out_batch": panels * k * self.panel,
        }  # fmt: skip
        _native.run_kernel(self.settings.isa, "pack_b_f32", fields, [b], out, 0, batch * panels)
        return out

    def step(
        self,
        kernel: str,
        params: dict[str, Any],
        inputs: Sequence[Tensor | None],
        output: Tensor,
        *,
        units: int,
        grain: int = 1,
        flops: int = 0,
    ) -> None:
        self.steps.append(Step(kernel, params, list(inputs), output, units, grain, flops, self.node))
