"""Which memory each value of a graph gets: in place, under another name, with a border, or its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..graph import Array, Graph, Node, TensorType
from ..memory import Buffer
from ..ops import Operator, Tensor, find
from ..ops.symbolic import as_tracked
from ..tracked import is_tracked, plain

__all__ = ["Storage", "contiguous_strides"]

Pads = tuple[int, int, int, int]


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a C-contiguous array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


class Storage:
    """The tensors of one plan.

    Attributes
    ----------
    tensors
        Value -> where it lives, for values that have been defined so far.
    halos
        Value -> the border (top, left, bottom, right) that is kept around it for convolutions.
    buffers
        All buffers made.
    used
        Values that some node or the caller reads.
    """

    def __init__(self, graph: Graph, types: Mapping[str, TensorType]) -> None:
        self.graph, self.types = graph, types
        self.tensors: dict[str, Tensor] = {}
        self.halos: dict[str, Pads] = {}
        self.buffers: list[Buffer] = []
        self.consumers = graph.consumers()
        self.used = self.consumers.keys() | set(graph.outputs)
        self._aliased: set[Buffer] = set()
        for index, name in enumerate(graph.inputs):
            if not types[name].is_known:  # no kernel reads it
                continue
            self.tensors[name] = self._dense(name, "input", index)
        self._outputs = self._output_buffers()
        self._parts = self._parts_of_wholes()

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.types[name].sizes

    def _buffer(self, kind: Any, size: int, name: str, index: int = 0, itemsize: int = 4) -> Buffer:
        if name in self.types:
            itemsize = self.types[name].dtype.itemsize
        buffer = Buffer(kind, size, name, index, None, itemsize)
        self.buffers.append(buffer)
        return buffer

    def _dense(self, name: str, kind: str, index: int = 0) -> Tensor:
        shape = self._shape(name)
        size = math.prod(shape)
        return Tensor(self._buffer(kind, size, name, index), shape, contiguous_strides(shape))

    def _output_buffers(self) -> dict[str, Buffer]:
        """Value -> the caller's buffer, for outputs and for the values that outputs are views of."""
        producers = self.graph.producers()
        found: dict[str, Buffer] = {}
        for index, name in enumerate(self.graph.outputs):
            size = math.prod(self._known(name))
            buffer = self._buffer("output", size, name, index)
            while name not in found:
                found[name] = buffer
                node = producers.get(name)
                if node is None or not find(node).view or node.inputs[0] not in producers:
                    break
                name = node.inputs[0]
        return found

    def _known(self, name: str) -> tuple[int, ...]:
        shape = self.types[name].shape if name in self.types else None
        return tuple(d if isinstance(d, int) else 0 for d in shape or ())

    def tensor(self, name: str) -> Tensor:
        """Where a value lives; constants get their place when they are first asked for."""
        found = self.tensors.get(name)
        if found is None:
            array = self.graph.constants[name]
            if is_tracked(array) or array.dtype.hasobject:  # of tracked sizes
                array = as_tracked(array, self.types[name].dtype)
            found = self.tensors[name] = self.constant(array, name, self._shape(name))
        return found

    def constant(self, array: Array, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor over an array. It is made dense where a step reads it: weights that get packed never are. The shape
        is that of the array, which one that is tracked does not know."""
        shape = array.shape if shape is None else shape
        itemsize = plain(array).itemsize
        buffer = Buffer("constant", math.prod(shape), name, 0, array, itemsize)
        self.buffers.append(buffer)
        return Tensor(buffer, shape, contiguous_strides(shape))

    def define(self, node: Node, op: Operator) -> None:
        """Decide where the outputs of a node live. Its inputs are defined."""
        for name in node.outputs:
            if not name or name in self.tensors:
                continue
            if name in self._outputs:
                shape = self._shape(name)
                self.tensors[name] = Tensor(self._outputs[name], shape, contiguous_strides(shape))
                continue
            if name in self._parts:
                self.tensors[name] = self._part(name)
                continue
            if self._define_bordered(name, op):
                continue
            reused = self._in_place(node, op) if name == node.outputs[0] else None
            self.tensors[name] = reused or self._dense(name, "arena")

    def _define_bordered(self, name: str, op: Operator) -> bool:
        pads = self._wanted_border(name, op)
        if pads is None:
            return False
        self.halos[name] = pads
        self.tensors[name] = self.bordered(self._shape(name), pads, name)
        return True

    def _parts_of_wholes(self) -> dict[str, tuple[Node, int]]:
        """Value -> the Concat along the last axis that it is written into, and where: those values whose producer and
        readers can all live with the gaps between the pixels."""
        producers = self.graph.producers()
        found: dict[str, tuple[Node, int]] = {}
        wholes = [n for n in self.graph.nodes if n.qualified == "Concat"]
        joined = Counter(name for n in wholes for name in n.inputs)
        for node in wholes:
            if not node.outputs[0] or node.outputs[0] in self._outputs:
                continue
            axis, rank, start = node.attributes["axis"], len(self._known(node.outputs[0])), 0
            for name in node.inputs if rank > 1 and axis in (-1, rank - 1) else ():
                if len(self._known(name)) != rank:
                    break  # a shape that depends on data: there will be no plan
                # A value lives in one place.
                if joined[name] == 1 and name in producers and self._may_have_gaps(name, producers[name]):
                    found[name] = node, start
                start += self._known(name)[-1]
        return found

    def _may_have_gaps(self, name: str, producer: Node) -> bool:
        readers = self.consumers[name]
        if name in self._outputs or name != producer.outputs[0] or self.types[name].dtype != np.float32:
            return False
        if not all(find(n).strided and not find(n).view for n in (producer, *readers)):
            return False
        # A convolution that pads would rather have its border.
        return not any(n.qualified == "nhwc.Conv" and any(n.attributes.get("pads", ())) for n in readers)

    def _part(self, name: str) -> Tensor:
        """Where a part of a whole lives. The first part of it defines the whole."""
        node, start = self._parts[name]
        whole = node.outputs[0]
        if whole not in self.tensors:
            if whole in self._parts:
                self.tensors[whole] = self._part(whole)
            elif not self._define_bordered(whole, find(node)):
                self.tensors[whole] = self._dense(whole, "arena")
        place = self.tensors[whole]
        return Tensor(place.buffer, self._shape(name), place.strides, place.offset + start)

    def stand_in(self, node: Node) -> None:
        """Define the outputs of a node that has no kernel, so that those after it can be looked at too."""
        for name in node.outputs:
            if name and name not in self.tensors:
                shape = self._known(name)
                buffer = self._buffer("arena", 0, name)
                self.tensors[name] = Tensor(buffer, shape, contiguous_strides(shape))

    def _in_place(self, node: Node, op: Operator) -> Tensor | None:
        """The input's tensor, where the output may overwrite it: nobody else reads it, and it is dense and ours."""
        if not op.elementwise:
            return None
        source = self.tensors.get(node.inputs[0])
        if source is None or source.buffer.kind != "arena" or source.buffer in self._aliased:
            return None
        if len(self.consumers[node.inputs[0]]) != 1 or not source.contiguous:
            return None
        if source.buffer.itemsize != self.types[node.outputs[0]].dtype.itemsize:
            return None
        return source if source.shape == self._shape(node.outputs[0]) else None

    def view(self, node: Node, source: Tensor) -> Tensor | None:
        """Define a view's output as its input's memory. Returns the tensor to copy to where that cannot be."""
        name = node.outputs[0]
        shape = self._shape(name)
        target = self._outputs.get(name)
        if source.contiguous and (target is None or source.buffer is target):
            self._aliased.add(source.buffer)
            self.tensors[name] = Tensor(source.buffer, shape, contiguous_strides(shape), source.offset)
            return None
        made = Tensor(target, shape, contiguous_strides(shape)) if target is not None else self._dense(name, "arena")
        self.tensors[name] = made
        return Tensor(made.buffer, source.shape, contiguous_strides(source.shape), made.offset)

    def _wanted_border(self, name: str, op: Operator) -> Pads | None:
        """The border that the convolutions reading a value need, where producer and all readers can live with it."""
        pads = [0, 0, 0, 0]
        if not op.strided or len(self.types[name].shape or ()) != 4:
            return None
        for reader in self.consumers.get(name, ()):
            if not find(reader).strided:
                return None
            if reader.domain == "nhwc" and reader.op == "Conv" and reader.inputs[0] == name:
                if reader.attributes.get("channels_first"):
                    return None
                wanted = reader.attributes.get("pads")
                if wanted and any(wanted):
                    pads = [max(a, b) for a, b in zip(pads, wanted)]
        if not any(pads):
            return None
        return (pads[0], pads[1], pads[2], pads[3])

    def bordered(self, shape: tuple[int, ...], pads: Pads, name: str) -> Tensor:
        """New memory for an NHWC image with a border around it."""
        n, h, w, c = shape
        top, left, bottom, right = pads
        row = (w + left + right) * c
        image = (h + top + bottom) * row
        buffer = self._buffer("arena", n * image, name)
        return Tensor(buffer, shape, (image, row, c, 1), top * row + left * c)

    def temporary(self, shape: tuple[int, ...], name: str, itemsize: int = 4) -> Tensor:
        """New dense memory."""
        size = math.prod(shape)
        return Tensor(self._buffer("arena", size, name, itemsize=itemsize), shape, contiguous_strides(shape))

    def plain_outputs(self) -> list[tuple[str, Tensor, Tensor]]:
        """(name, source, output) of the outputs that no step has written: inputs, constants, and views of them."""
        plain = []
        by_index = {b.index: b for b in self.buffers if b.kind == "output"}
        for index, name in enumerate(self.graph.outputs):
            source = self.tensor(name)
            target = by_index[index]
            if source.buffer is not target:
                plain.append((name, source, Tensor(target, source.shape, contiguous_strides(source.shape))))
        return plain
