"""The `Lowering` that operators see: it collects their steps, and decides where values live and who keeps a border."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..dtypes import name_of
from ..graph import Array, Graph, Node, TensorType
from ..memory import Buffer, dense, is_dense
from ..ops import Operator, Tensor, find
from ..ops.lower import copy_step
from ..ops.registry import FLOAT
from ..ops.symbolic import elements_of
from ..records import field, record
from ..tracked import call, is_tracked
from .packing import Packer
from .storage import Storage

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
    products: Any = None
    """Those of matrix tiles: an ops.lower_split.Products."""

    @property
    def threads(self) -> int:
        """Threads that have work in it."""
        return call(_working, *(end for ends in self.ranges for end in ends))  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of its operands, packed weights included."""
        nbytes: int = self.output.buffer.itemsize * self.output.size
        for t in self.inputs:
            if t is not None:
                nbytes += t.buffer.itemsize * t.size
        for v in self.params.values():
            if type(v) is np.ndarray:
                nbytes += v.nbytes
        return nbytes


def _working(*ends: int) -> int:
    return sum(begin < end for begin, end in zip(ends[::2], ends[1::2]))


class _OutputLeftOutError(Exception):
    """A lowering asks for an output that the node does not have."""

    reason = "an output that its kernels write is left out"


class Planner(Packer):
    """Lowers the nodes one after another. It is the `Lowering` that they see."""

    def __init__(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        settings: Settings,
        packed: dict[Any, Array],
        declared: Mapping[str, TensorType],
    ) -> None:
        terms = _TERMS.get(settings.precision, 0) if settings.tiles else 0
        super().__init__(graph, settings.isa, settings.panel, terms, settings.threads, packed)
        self._declared = declared
        self.graph, self.values, self.settings = graph, types, settings
        self._unknown = {name for name, t in types.items() if not t.is_known}
        self.storage = Storage(graph, types)
        self.steps: list[Step] = []
        self.tile_panels = settings.tile_panels
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
        for value in (*node.inputs, *node.outputs) if self._unknown else ():
            if value in self._unknown:
                what = "is no tensor" if self.values[value].container else "has a shape that depends on data"
                return f"{value!r} {what}"
        typed = op.typed or op.view
        for o in node.outputs:
            dtype = self.values[o].dtype if o else FLOAT
            if dtype != FLOAT and not (typed and dtype in NATIVE):
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
        for name, source, target in self.storage.plain_outputs():
            self.node = Node("Identity", [name], [name])  # what tables say of the step
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
        constants = self.graph.constants
        return self.once(key, (constants[name] for name in self.node.inputs if name in constants), make)

    def _dense(self, constant: Buffer) -> Array:
        """The array of a constant's buffer in C order; a copy of one of the graph's is shared by all plans."""
        array = constant.array
        assert array is not None
        if is_tracked(array):
            return array
        if is_dense(array) or array is not self.graph.constants.get(constant.name):
            return dense(array)
        return self.packed(("dense", constant.name), lambda: dense(array))

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
        products: Any = None,
    ) -> None:
        for t in inputs:
            if t is not None and t.buffer.array is not None:
                t.buffer.array = self._dense(t.buffer)
        self.steps.append(Step(kernel, params, [*inputs], output, units, grain, flops, self.node, products=products))
