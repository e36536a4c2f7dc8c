"""The `Lowering` that operators see: it collects their steps, and decides where values live and who keeps a border."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import _native
from .dtypes import name_of, nearest_bfloat16
from .formats.files import forget
from .graph import Array, Graph, Node, TensorType
from .memory import Blocks, Buffer, dense, is_dense
from .ops import Operator, Tensor, find
from .ops.lower import copy_step
from .ops.registry import FLOAT
from .ops.symbolic import elements_of
from .records import field, record
from .storage import Storage, contiguous_strides
from .tracked import call, is_tracked

__all__ = ["NATIVE", "Planner", "Settings", "Step"]

NATIVE = frozenset(
    np.dtype(name)
    for name in (
        "float32", "float64", "float16", "bool",
        "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    )
)  # fmt: skip
"""Element types that values of a plan may have. Which of them a kernel takes, its operator's `lower` says."""


_ABSENT = TensorType(FLOAT, None)
_TERMS = {"float32": 3, "fast": 2, "bfloat16": 1}
"""Precision -> bfloat16 terms that operands on tiles are split in."""
_HALF_WEIGHTS = frozenset(p for p, terms in _TERMS.items() if terms == 1)
"""Those that take bfloat16 weights without tiles too."""

_BACKGROUND_BYTES = 1 << 18
"""Of packed weights, from which on to pack them takes longer than to tell another thread."""
_TOGETHER_BYTES = 1 << 20
"""Of panels that are packed before the next ones are: they stay in L2."""


@record(frozen=True, slots=True)
class Settings:
    """What a model was loaded with."""

    isa: str
    panel: int
    tile_panels: tuple[int, ...]
    threads: int
    precision: str
    tiles: bool = False
    l2: int = 0
    """Bytes of a core's second cache, for steps by blocks of rows; 0 for none of these."""


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
    backwards: int = 0
    """Units at a time, from the end, in every second run; 0 for none that goes backwards."""

    @property
    def threads(self) -> int:
        """Threads that have work in it."""
        return call(_working, *(end for ends in self.ranges for end in ends))  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of its operands, packed weights included."""
        tensors: int = sum(t.buffer.itemsize * t.size for t in [*self.inputs, self.output] if t is not None)
        return tensors + sum(v.nbytes for v in self.params.values() if isinstance(v, np.ndarray))


def _as_it_lies(array: Array) -> tuple[Array, Sequence[int]]:
    """Its elements in the order of memory, where they are dense, and the steps between them along each of its axes:
    weights that are transposed need not be copied."""
    if is_dense(array):
        return array, contiguous_strides(array.shape)
    order = sorted(range(array.ndim), key=lambda axis: array.strides[axis], reverse=True)
    source = dense(array.transpose(order))
    steps = contiguous_strides(source.shape)
    return source, [steps[order.index(axis)] for axis in range(array.ndim)]


def _working(*ends: int) -> int:
    return sum(begin < end for begin, end in zip(ends[::2], ends[1::2]))


class _OutputLeftOutError(Exception):
    """A lowering asks for an output that the node does not have."""

    reason = "an output that its kernels write is left out"


class Planner:
    """Lowers the nodes one after another. It is the `Lowering` that they see."""

    def __init__(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        settings: Settings,
        packed: dict[Any, Array],
        declared: Mapping[str, TensorType],
    ) -> None:
        self._declared = declared
        self.graph, self.values, self.settings = graph, types, settings
        self.storage = Storage(graph, types)
        self.steps: list[Step] = []
        self._packed = packed
        self._fresh: dict[Any, Array] = {}  # which a kernel may still be writing
        self._background: _native.Background | None = None
        self._queued = 0  # of what the other thread packs
        self._sources: list[tuple[int, Array]] = []  # of packed weights, which wait for so many of those
        self._mapped: Array | None = None  # one of those that a file has
        self._blocks = Blocks(sum(c.nbytes for c in graph.constants.values() if not is_tracked(c)))
        self.panel, self.tile_panels, self.threads = settings.panel, settings.tile_panels, settings.threads
        self.terms = _TERMS.get(settings.precision, 0) if settings.tiles else 0
        self.approximate = settings.precision in ("fast", "bfloat16")
        self.half_weights = settings.precision in _HALF_WEIGHTS
        self.node: Node = Node("", [], [])
        self.attributes: dict[str, Any] = {}
        self.types: list[TensorType | None] = []

    def lower_all(self) -> dict[Node, str]:
        """Emit the steps of all nodes. Returns the nodes that cannot run natively, with reasons."""
        reasons: dict[Node, str] = {}
        for node in self.graph.nodes:
            op = find(node)
            reason = self._unsupported_types(node, op) or self._lower(node, op)
            if reason:
                reasons[node] = reason
                self.storage.stand_in(node)
        return reasons

    def _unsupported_types(self, node: Node, op: Operator) -> str | None:
        for value in (*node.inputs, *node.outputs):
            if value and not self.values[value].is_known:
                what = "is no tensor" if self.values[value].container else "has a shape that depends on data"
                return f"{value!r} {what}"
        typed = op.typed or op.view
        for o in node.outputs:
            dtype = self.values[o].dtype if o else FLOAT
            if dtype not in NATIVE or not (typed or dtype == FLOAT):
                return f"{o!r} is {name_of(dtype)}"
        if op.typed:
            return None
        used = [o for o in node.outputs[1:] if o and o in self.storage.used]
        return f"its output {used[0]!r} has no native kernel" if used else None

    @property
    def outputs(self) -> list[TensorType]:
        return [self.values[o] if o else _ABSENT for o in self.node.outputs]

    def _lower(self, node: Node, op: Operator) -> str | None:
        self.node = node
        self.attributes = {**op.attributes, **node.attributes}  # which the shape rule has checked
        self.types = [self.values.get(i) if i else None for i in node.inputs]
        if op.view:
            return self._view(node) if node.outputs[0] else _OutputLeftOutError.reason
        if op.lower is None:
            return f"{node.qualified} has no native kernel"
        self.storage.define(node, op)
        try:
            reason = op.lower(self)
        except _OutputLeftOutError as left_out:
            return left_out.reason
        if reason is None and node.outputs[0]:
            self._border(node.outputs[0])
        return reason

    def _view(self, node: Node) -> str | None:
        """An output that is its input's memory under another shape."""
        source = self.input(0)
        if source is None or (self.types[0] is not None and self.types[0].dtype not in NATIVE):
            return "the input has a dtype that no kernel takes"
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
        self.step("halo_f32", fields, [], image, units=n * h)

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
        found: Array | None = elements_of(self.graph.constants.get(name))
        return found

    def declared(self, index: int) -> TensorType | None:
        return self._declared.get(self.node.inputs[index]) if index < len(self.node.inputs) else None

    def output(self, index: int = 0) -> Tensor:
        if not self.node.outputs[index]:
            raise _OutputLeftOutError
        return self.storage.tensors[self.node.outputs[index]]

    def has_output(self, index: int) -> bool:
        return index < len(self.node.outputs) and self.node.outputs[index] in self.storage.used

    def tensor(self, array: Array, shape: tuple[int, ...] | None = None) -> Tensor:
        return self.storage.constant(array, f"{self.node.outputs[0]}.constant", shape)

    def temporary(self, shape: tuple[int, ...], dtype: np.dtype[Any] = FLOAT) -> Tensor:
        return self.storage.temporary(shape, f"{self.node.outputs[0]}.temporary", dtype.itemsize)

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
            found = self._fresh.get(key)
        if found is None:
            found = self._fresh[key] = make()
            constants = self.graph.constants
            self._let_go(*(constants[name] for name in self.node.inputs if name in constants))
        return found

    def _let_go(self, *sources: Array) -> None:
        """Forget what has been packed, where a file has it, as soon as the other thread has packed it too."""
        self._sources += [(self._queued, source) for source in sources]
        self._forget(0)

    def _forget(self, count: int) -> None:
        """Forget the sources of what is packed, when the other thread has packed so many."""
        done = self._background.wait_for(count) if self._background is not None else 0
        while self._sources and self._sources[0][0] <= done:
            source = self._sources.pop(0)[1]
            if forget(source):
                self._mapped = source

    def settle(self) -> None:
        """Wait for the weights that are being packed, and give them to the model."""
        while self._sources:
            self._forget(self._sources[0][0])
        if self._background is not None:
            self._background.wait()
            self._queued = 0
        for array in self._blocks.unused():
            _native.forget(array)
        if self._mapped is not None:
            forget(self._mapped, whole_file=True)
            self._mapped = None
        self._packed.update(self._fresh)

    def _packer(self, out: Array) -> _native.Background | None:
        """Who fills `out`, by `settle` at the latest: for large ones a thread of their own, if there may be."""
        if self.threads == 1 or out.nbytes < _BACKGROUND_BYTES:
            return None
        self._queued += 1
        self._background = self._background or _native.Background()
        return self._background

    def _pack(self, kernel: str, fields: dict[str, Any], source: Array, out: Array, panels: int) -> None:
        run = (self._packer(out) or _native).run_kernel
        run(self.settings.isa, kernel, fields, [source], out, 0, panels)

    def _dense(self, constant: Buffer) -> Array:
        """The array of a constant's buffer in C order; a copy of one of the graph's is shared by all plans."""
        array = constant.array
        assert array is not None
        if is_tracked(array):
            return array
        if is_dense(array) or array is not self.graph.constants.get(constant.name):
            return dense(array)
        return self.packed(("dense", constant.name), lambda: dense(array))

    def pack_b(self, b: Array) -> Array:
        return self._panels(b, self._blocks.empty)

    def _panels(self, b: Array, empty: Callable[[tuple[int, ...]], Array]) -> Array:
        if b.shape[0] == 1 and b.nbytes >= _BACKGROUND_BYTES and b.flags.aligned:
            return self._large_panels(b if b.ndim == 4 else b[None], empty)
        batch, k, n = b.shape[0], math.prod(b.shape[1:-1]), b.shape[-1]
        b = b.reshape(batch, k, n)
        panels = -(-n // self.panel)
        out = empty((batch, panels, k, self.panel))
        source, strides = _as_it_lies(b)
        fields = {
            "batch": batch, "k": k, "n": n, "in_batch": strides[0], "in_k": strides[1], "in_n": strides[2],
            "out_batch": panels * k * self.panel,
        }  # fmt: skip
        self._pack("pack_b_f32", fields, source, out, batch * panels)
        return out

    def _large_panels(self, b: Array, empty: Callable[[tuple[int, ...]], Array]) -> Array:
        """Of B [1, parts, K, N], some panels after others, part by part: no copy is made of the parts, and what has
        been read need not wait for the rest."""
        _, parts, k, n = b.shape
        width, whole = self.panel, n // self.panel
        out = empty((1, -(-n // width), parts * k, width))
        together = max(1, _TOGETHER_BYTES // (out[0, 0].nbytes or 1))
        ends = [*range(0, whole, together), whole, *([whole + 1] if n % width else [])]
        in_k, in_n = (s // b.itemsize for s in b.strides[2:])
        fields = {"k": k, "in_batch": width * in_n, "in_k": in_k, "in_n": in_n, "out_batch": parts * k * width}
        for first, end in pairwise(ends):
            source = b[0, :, :, first * width : end * width]
            fields = {**fields, "batch": end - first, "n": min(width, n - first * width)}
            for part in range(parts):
                self._pack("pack_b_f32", fields, source[part], out[0, first:end, part * k :], end - first)
            if b.strides[3] == max(b.strides):
                self._let_go(source)
        return out

    def pack_half(self, b: Array) -> Array:
        panels = self._panels(b, lambda shape: np.empty(shape, np.float32))
        self.settle()
        words = self._blocks.empty((-(-panels.size // 2),))
        out: Array = words.view(np.uint16)[: panels.size].reshape(panels.shape)
        out[...] = nearest_bfloat16(panels)
        return out

    def pack_split(self, b: Array) -> Array:
        taps, k, n = b.shape
        panels = -(-n // 16)
        strides = (s // b.itemsize for s in b.strides)  # weights are read as they lie
        out = self._blocks.empty((panels, -(-k // 32), taps, self.terms, 16, 16))
        fields = {"terms": self.terms, "taps": taps, "k": k, "n": n, **dict(zip(("in_tap", "in_k", "in_n"), strides))}
        self._pack("pack_split_f32", fields, b, out, panels)
        return out

    def pack_winograd(self, w: Array, rows: int, cols: int, columns: int) -> Array:
        _, _, channels, n = w.shape
        taps = (rows + 2) * (cols + 2)
        out = self._blocks.empty((-(-n // columns), taps, columns // self.panel, channels, self.panel))
        for i in range(len(out)):
            source = w[..., i * columns : (i + 1) * columns]
            _native.winograd_weights(rows, cols, source, out[i : i + 1], self._packer(out))
            if w.strides[3] == max(w.strides):
                self._let_go(source)
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
        for t in inputs:
            if t is not None and t.buffer.array is not None:
                t.buffer.array = self._dense(t.buffer)
        self.steps.append(Step(kernel, params, list(inputs), output, units, grain, flops, self.node))
