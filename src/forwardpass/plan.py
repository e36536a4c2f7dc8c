"""Graph + input shapes -> Plan: which kernel runs on which memory, in which parts, on which thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _native
from .graph import Array, Graph, Node, TensorType
from .memory import Buffer, aligned_empty, place
from .ops import Operator, Tensor, find
from .ops.evaluate import infer_types
from .ops.lower import copy_step
from .partition import split
from .storage import Storage

__all__ = ["Declined", "Plan", "Settings", "Step", "make_plan"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a model was loaded with."""

    isa: str
    panel: int
    tile_m: int
    threads: int
    precision: str


@dataclass(slots=True, eq=False)
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
    """Nodes that have no native kernel, each with the reason."""

    def __init__(self, reasons: dict[Node, str]) -> None:
        super().__init__("; ".join(f"{n.label}: {r}" for n, r in reasons.items()))
        self.reasons = reasons


@dataclass(slots=True, eq=False)
class Plan:
    """A graph made ready for fixed input shapes.

    Attributes
    ----------
    program
        The native tape.
    inputs, outputs
        Name -> type, shapes known.
    arena_bytes
        Memory for intermediate values, per call that runs at the same time.
    threads
        Members of the team that one call uses.
    """

    program: Any
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    steps: list[Step]
    buffers: list[Buffer]
    arena_bytes: int
    threads: int
    flops: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights and other constants that the steps read, each counted once."""
        arrays: dict[int, int] = {}
        for s in self.steps:
            for v in s.params.values():
                if isinstance(v, np.ndarray):
                    arrays[id(v)] = v.nbytes
            for t in s.inputs:
                if t is not None and t.buffer.kind == "constant":
                    arrays[id(t.buffer.array)] = t.buffer.nbytes
        return sum(arrays.values())


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
    """
    inputs = {k: TensorType(t.dtype, shapes[k]) for k, t in graph.inputs.items()}
    known: dict[str, Array] = {}
    types = infer_types(graph, inputs, values=known)
    planner = _Planner(graph, types, settings, packed, known)
    reasons = planner.lower_all()
    if reasons:
        raise Declined(reasons)
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
    program = _build(steps, inputs, outputs, arena_bytes, threads, settings.isa)
    return Plan(program, inputs, outputs, steps, buffers, arena_bytes, threads, sum(s.flops for s in steps))


def _build(
    steps: Sequence[Step],
    inputs: Mapping[str, TensorType],
    outputs: Mapping[str, TensorType],
    arena_bytes: int,
    threads: int,
    isa: str,
) -> Any:
    program = _native.Program(threads)
    for add, tensors in ((program.add_input, inputs), (program.add_output, outputs)):
        for name, t in tensors.items():
            add(name, t.shape, 4 * int(np.prod(t.shape, dtype=np.int64)))
    for s in steps:
        operands = [None if t is None else _operand(t) for t in s.inputs]
        program.add_step(isa, s.kernel, s.params, operands, _operand(s.output), s.ranges, s.barrier)
    program.finish(arena_bytes)
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
        known: Mapping[str, Array],
    ) -> None:
        self.graph, self.values, self.settings = graph, types, settings
        self.storage = Storage(graph, types)
        self.steps: list[Step] = []
        self._packed = packed
        self._known = known  # shape arithmetic, computed from the shapes of this plan
        self.panel, self.tile_m, self.threads = settings.panel, settings.tile_m, settings.threads
        self.node: Node = Node("", [], [])
        self.attributes: dict[str, Any] = {}
        self.types: list[TensorType | None] = []

    def lower_all(self) -> dict[Node, str]:
        """Emit the steps of all nodes. Returns the nodes that cannot run natively, with reasons."""
        reasons: dict[Node, str] = {}
        for node in self.graph.nodes:
            if all(o in self._known for o in node.outputs if o) and not self._is_output(node):
                continue
            op = find(node)
            reason = self._unsupported_types(node) or self._lower(node, op)
            if reason:
                reasons[node] = reason
        return reasons

    def _is_output(self, node: Node) -> bool:
        return any(o in self.graph.outputs for o in node.outputs)

    def _unsupported_types(self, node: Node) -> str | None:
        for o in node.outputs:
            t = self.values.get(o) if o else None
            if o and (t is None or t.shape is None or any(not isinstance(d, int) for d in t.shape)):
                return f"the shape of {o!r} depends on data"
            if t is not None and t.dtype != np.float32:
                return f"{o!r} is {t.dtype.name}"
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
        if index >= len(self.node.inputs) or not self.node.inputs[index]:
            return None
        name = self.node.inputs[index]
        return self.storage.tensor(name, self._known.get(name))

    def constant(self, index: int) -> Array | None:
        if index >= len(self.node.inputs):
            return None
        name = self.node.inputs[index]
        found = self.graph.constants.get(name)
        return found if found is not None else self._known.get(name)

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
        b = np.ascontiguousarray(b, np.float32)
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
