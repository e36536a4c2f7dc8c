"""Weights as kernels want them: packed once per model, large ones by another thread while the plan is made, or all of a
small model when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .. import _native
from ..dtypes import nearest_bfloat16
from ..formats.files import file_of, forget
from ..graph import Array, Graph
from ..memory import Blocks, dense, is_dense
from ..tracked import is_tracked
from .storage import contiguous_strides

__all__ = ["Packer"]

_BACKGROUND_BYTES = 1 << 16
"""Of packed weights, from which on to pack them takes longer than to tell another thread."""
_LARGE_BYTES = 32 << 20
"""Of constants, from which on a process shall not hold them twice, not even while they are packed."""
_TOGETHER_BYTES = 1 << 20
"""Of panels that are packed before the next ones are: they stay in L2."""


class Packer:
    """Packs the weights of a graph. What it is given is read until `settle`, and then let go of.

    Parameters
    ----------
    graph
        Whose constants the weights are.
    terms
        bfloat16 terms of weights on matrix tiles.
    packed
        The model's packed weights; `settle` adds the new ones.
    """

    def __init__(self, graph: Graph, isa: str, panel: int, terms: int, threads: int, packed: dict[Any, Array]) -> None:
        self._isa, self.panel, self.terms, self.threads = isa, panel, terms, threads
        self._packed = packed
        self._fresh: dict[Any, Array] = {}  # which a kernel may still be writing
        self._background: _native.Background | None = None
        self._later: list[Callable[[], None]] = []  # of a small model: between them the planner would leave the caches
        self._queued = 0  # of what the other thread packs
        self._sources: list[tuple[int, Array]] = []  # of packed weights, which wait for so many of those
        self._source: Array | None = None  # the largest one, of so many bytes
        self._source_bytes = 0
        nbytes = sum(c.nbytes for c in graph.constants.values() if not is_tracked(c))
        self._blocks, self._large = Blocks(nbytes), nbytes >= _LARGE_BYTES

    def once(self, key: Any, sources: Iterable[Array], make: Callable[[], Array]) -> Array:
        """What `packed` has under a key, or what is made of some constants now."""
        found = self._packed.get(key)
        if found is None:
            found = self._fresh.get(key)
        if found is None:
            found = self._fresh[key] = make()
            self._let_go(sources)
        return found

    def _let_go(self, sources: Iterable[Array]) -> None:
        """Forget what has been packed, where a file has it, as soon as the other thread has packed it too; of a small
        model when all is: a call of the system for each costs as much as the packing."""
        for source in sources:
            if source.nbytes > self._source_bytes:
                self._source, self._source_bytes = source, source.nbytes
            if self._large:
                self._sources.append((self._queued, source))
        if self._sources:
            self._forget(0)

    def _forget(self, count: int) -> None:
        """Forget the sources of what is packed, when the other thread has packed so many."""
        done = self._background.wait_for(count) if self._background is not None else 0
        while self._sources and self._sources[0][0] <= done:
            forget(self._sources.pop(0)[1])

    def _wait(self) -> None:
        for pack in self._later:
            pack()
        self._later.clear()
        while self._sources:
            self._forget(self._sources[0][0])
        if self._background is not None:
            self._background.wait()
            self._queued = 0

    def settle(self) -> None:
        """Wait for the weights that are being packed, and give them to the model."""
        file = None if self._large or self._background is None else file_of(self._source)
        if file is not None and self._background is not None:
            # Beside the last packing, which may read some pages of it again.
            self._background.forget(np.frombuffer(file, np.uint8))
        self._wait()
        for array in self._blocks.unused():
            _native.forget(array)
        if file is None:
            forget(self._source, whole_file=True)
        self._packed.update(self._fresh)

    def _packer(self, out: Array) -> _native.Background | None:
        """Who fills `out`, by `settle` at the latest: for large ones a thread of their own, if there may be."""
        if self.threads == 1 or out.nbytes < _BACKGROUND_BYTES:
            return None
        self._queued += 1
        self._background = self._background or _native.Background()
        return self._background

    def _now_or_later(self, pack: Callable[[], None]) -> None:
        """Pack now what is let go of afterwards."""
        if self._large:
            pack()
        else:
            self._later.append(pack)

    def _pack(self, kernel: str, fields: dict[str, Any], source: Array, out: Array, panels: int) -> None:
        packer = self._packer(out)
        pack = partial((packer or _native).run_kernel, self._isa, kernel, fields, [source], out, 0, panels)
        if packer is None:
            self._now_or_later(pack)
        else:
            pack()

    def pack_b(self, b: Array) -> Array:
        return self._panels(b, self._blocks.empty)

    def _panels(self, b: Array, empty: Callable[[tuple[int, ...]], Array]) -> Array:
        if b.shape[0] == 1 and b.nbytes >= _BACKGROUND_BYTES and b.flags.aligned:
            return self._large_panels(b if b.ndim == 4 else b[None], empty)
        if b.ndim == 4:
            b = b.reshape(b.shape[0], b.shape[1] * b.shape[2], b.shape[3])
        batch, k, n = b.shape
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
                self._let_go([source])
        return out

    def pack_half(self, b: Array) -> Array:
        panels = self._panels(b, lambda shape: np.empty(shape, np.float32))
        self._wait()
        words = self._blocks.empty((-(-panels.size // 2),))
        out: Array = words.view(np.uint16)[: panels.size].reshape(panels.shape)
        out[...] = nearest_bfloat16(panels)
        return out

    def pack_split(self, b: Array, *, floats: bool = False) -> Array:
        taps, k, n = b.shape
        panels = -(-n // 16)
        strides = (s // b.itemsize for s in b.strides)  # weights are read as they lie
        terms, words = (0, 2) if floats else (self.terms, self.terms)
        out = self._blocks.empty((panels, -(-k // 32), taps, words, 16, 16))
        fields = {"terms": terms, "taps": taps, "k": k, "n": n, **dict(zip(("in_tap", "in_k", "in_n"), strides))}
        self._pack("pack_split_f32", fields, b, out, panels)
        return out

    def pack_winograd(self, w: Array, rows: int, cols: int, columns: int) -> Array:
        _, _, channels, n = w.shape
        taps = (rows + 2) * (cols + 2)
        out = self._blocks.empty((-(-n // columns), taps, columns // self.panel, channels, self.panel))
        for i in range(len(out)):
            source = w[..., i * columns : (i + 1) * columns]
            packer = self._packer(out)
            pack = partial(_native.winograd_weights, rows, cols, source, out[i : i + 1], packer)
            if packer is None:
                self._now_or_later(pack)
            else:
                pack()
            if w.strides[3] == max(w.strides):
                self._let_go([source])
        return out


def _as_it_lies(array: Array) -> tuple[Array, Sequence[int]]:
    """Its elements in the order of memory, where they are dense, and the steps between them along each of its axes:
    weights that are transposed need not be copied."""
    if is_dense(array):
        return array, contiguous_strides(array.shape)
    order = sorted(range(array.ndim), key=lambda axis: array.strides[axis], reverse=True)
    source = dense(array.transpose(order))
    steps = contiguous_strides(source.shape)
    return source, [steps[order.index(axis)] for axis in range(array.ndim)]
