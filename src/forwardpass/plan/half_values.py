"""Images that live as bfloat16 numbers: with one term per number, a value that only products on matrix tiles,
depthwise convolutions and pools between them read is kept as their operand, and never as float32 numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Array
from ..memory import Buffer
from ..ops import Tensor
from ..ops.lower_split import reading
from ..ops.split_cost import BLOCK, ROWS
from ..ops.split_made import BETWEEN
from ..records import record
from .mean_epilogue import is_mean_of
from .planner import Planner, Step
from .split_epilogue import INSTEAD, WORDS

__all__ = ["halve"]

_SIDES = (("h", "pad_top"), ("w", "pad_left"))
_CHEAP = (None, "relu", "clip")
"""Activations that depthwise_bf16 has."""

_POOLS = frozenset({"max_pool_f32", "average_pool_f32"})
_PADS = ("pad_top", "pad_left", "pad_bottom", "pad_right")

Pads = tuple[int, int, int, int]


@record(slots=True, eq=False)
class _Value:
    """An image that several steps may write in parts, and those that read it.

    Attributes
    ----------
    image
        Where it would live as float32 numbers.
    writers, readers
        Indexes of steps; of the readers with the number of the input.
    pads
        The border that the readers need: top, left, bottom, right.
    step
        The longest between two windows of a row.
    memory
        Where it lives.
    """

    image: Tensor
    writers: list[int]
    readers: list[tuple[int, int]]
    pads: Pads = (0, 0, 0, 0)
    step: int = 1
    memory: Buffer | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns with the border."""
        top, left, bottom, right = self.pads
        return self.image.shape[1] + top + bottom, self.image.shape[2] + left + right

    @property
    def blocks(self) -> int:
        return -(-self.image.shape[3] // BLOCK)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Words from one image, block and row to the next."""
        height, width = self.size
        row = width * WORDS
        return self.blocks * height * row, height * row, row

    def place(self, t: Tensor) -> tuple[int, int]:
        """The image and the row that a part of the value begins with."""
        offset, (batch, line) = t.offset - self.image.offset, self.image.strides[:2]
        return offset // batch, offset % batch // line

    def block(self, t: Tensor) -> int:
        """The first block of channels of a part of the value."""
        return (t.offset - self.image.offset) % self.image.strides[2] // BLOCK

    def at(self, image: int, row: int, col: int) -> int:
        """Words from the start of the memory to a pixel's first block; the border has negative rows and columns."""
        batch, _, line = self.strides
        return image * batch + (row + self.pads[0]) * line + (col + self.pads[1]) * WORDS

    def tensor(self, image: int = 0, row: int = 0, col: int = 0) -> Tensor:
        """The operand from a pixel on."""
        assert self.memory is not None
        return Tensor(self.memory, (self.memory.size,), (1,), self.at(image, row, col))


def halve(steps: Sequence[Step], ctx: Planner) -> list[Step]:
    """The steps of a plan, with values in bfloat16 where a network's precision is that. Which values does not depend on
    the batch, nor on threads: where a residual is rounded, its sum has other bits."""
    if ctx.terms != 1:
        return list(steps)
    values = _values(steps)
    _settle(steps, values)
    for v in values.values():
        _measure(steps, v)
        words = v.image.shape[0] * v.strides[0] + ROWS * v.step * WORDS  # a tile reads whole, behind the last pixel
        v.memory = ctx.storage.temporary((words,), f"{v.image.buffer.name}.half").buffer
    left = _without_splits(steps, values)
    for v in values.values():
        for k, _ in v.readers:
            _READ[steps[k].kernel](steps, k, v, ctx)
        for k in v.writers:
            _WRITE[steps[k].kernel](steps[k], v)
    borders = {min(v.writers): _border(v, steps[min(v.writers)]) for v in values.values() if any(v.pads)}
    made: list[Step] = []
    for k, s in left:
        made += [borders[k], s] if k in borders else [s]
    return made


def _values(steps: Sequence[Step]) -> dict[Buffer, _Value]:
    """Those that their writers could write, and their readers read."""
    writers: dict[Buffer, list[int]] = {}
    readers: dict[Buffer, list[tuple[int, int]]] = {}
    for k, s in enumerate(steps):
        if s.kernel != "halo_f32":
            writers.setdefault(s.output.buffer, []).append(k)
        for index, t in enumerate(s.inputs):
            if t is not None:
                readers.setdefault(t.buffer, []).append((k, index))
    found = {}
    for buffer, written in writers.items():
        if buffer.kind != "arena" or buffer not in readers or steps[written[0]].kernel not in _WRITE:
            continue
        image = _written(steps, written)
        if image is None or not image.size:
            continue
        v = _Value(image, written, readers[buffer])
        if all(k > written[-1] and _reads(steps, k, index, v) for k, index in v.readers):
            found[buffer] = v
    return found


def _written(steps: Sequence[Step], written: Sequence[int]) -> Tensor | None:
    """The image that some steps write together, if each of them could write bfloat16 numbers: one node's, or the parts
    of a concatenation along the channels, of whole blocks."""
    nodes: dict[int, list[int]] = {}
    for k in written:
        nodes.setdefault(id(steps[k].node), []).append(k)
    parts = [_made_by_one(steps, own) for own in nodes.values()]
    images = sorted((t for t in parts if t is not None), key=lambda t: t.offset)
    if len(images) < len(parts):
        return None
    first, channels = images[0], 0
    for t in images:
        aligned = t.offset == first.offset + channels and channels % BLOCK == 0
        if not aligned or t.strides != first.strides or t.shape[:3] != first.shape[:3]:
            return None
        channels += t.shape[3]
    return Tensor(first.buffer, (*first.shape[:3], channels), first.strides, first.offset)


def _made_by_one(steps: Sequence[Step], written: Sequence[int]) -> Tensor | None:
    """The image that the steps of one node write, if they could write bfloat16 numbers."""
    first = steps[written[0]]
    if len(first.output.shape) != 4 or any(steps[k].kernel not in _WRITE for k in written):
        return None
    if first.kernel != "brgemm_split_f32":
        # What writes the means of its rows too has another input.
        plain = len(written) == 1 and len(first.inputs) == 1 and _plain_window(first)
        return first.output if plain else None
    for k in written:
        p = steps[k].params
        if steps[k].products is None or p["makes"] or p["n_steps"] > p["chunk_steps"]:
            return None
    if first.node.qualified != "nhwc.Conv" or first.products is None:
        return None
    whole: Tensor | None = first.products.whole
    return whole


def _plain_window(s: Step) -> bool:
    """Whether depthwise_bf16 or a pool in bfloat16 can do what a step does."""
    p = s.params
    if p["dilation_h"] != 1 or p["dilation_w"] != 1:
        return False
    if s.kernel in _POOLS:
        inside = ((p[f"o{d}"] - 1) * p[f"stride_{d}"] < p[f"i{d}"] + p[pad] for d, pad in _SIDES)
        return all(inside) and all(p[pad] < p[f"k{d}"] for d, pad in _SIDES)
    square = p["kh"] == p["kw"] and p["kh"] in (3, 5) and p["stride_h"] == p["stride_w"] and p["stride_h"] in (1, 2)
    return square and p["activation"] in _CHEAP


def _reads(steps: Sequence[Step], k: int, index: int, v: _Value) -> bool:
    """Whether a step could read bfloat16 numbers of a value."""
    s = steps[k]
    x = s.inputs[index]
    assert x is not None
    if s.kernel == "split_f32":
        product = steps[k + 1] if k + 1 < len(steps) else s
        p = product.products
        if s.params["pixels"] or len(s.inputs) > 1:
            return False
        return p is not None and product.node.qualified == "nhwc.Conv" and p.x.buffer is x.buffer and _fits(p.x, v)
    if s.kernel == "brgemm_split_f32":
        return index == 1 and s.node.qualified == "nhwc.Conv" and s.params["terms"] == 1 and _fits(x, v, exact=True)
    if s.kernel == "reduce_mean_f32":
        return is_mean_of(v.image, s) and s.output.strides[-1] == 1
    if s.kernel in BETWEEN and index == 0:
        same = x.shape == v.image.shape and x.strides == v.image.strides
        return same and _plain_window(s) and (s.kernel == "depthwise_f32" or x.offset == v.image.offset)
    return False


def _fits(x: Tensor, v: _Value, *, exact: bool = False) -> bool:
    """Whether a tensor is some images or rows of a value, maybe not all pixels of a row or column."""
    if len(x.shape) != 4 or x.shape[3] != v.image.shape[3] or x.strides[0] != v.image.strides[0]:
        return False
    ratios = [(a % b, a // b) for a, b in zip(x.strides[1:], v.image.strides[1:])]
    whole = all(rest == 0 for rest, _ in ratios) and ratios[2] == (0, 1)
    if exact and (x.strides != v.image.strides or x.shape[2] != v.image.shape[2]):
        return False
    return whole and (x.offset - v.image.offset) % v.image.strides[1] == 0


def _settle(steps: Sequence[Step], values: dict[Buffer, _Value]) -> None:
    """Leave out what a step between would read in one form and write in the other."""
    while True:
        wrong = set()
        for s in steps:
            if s.kernel in BETWEEN and s.inputs[0] is not None:
                ends = s.inputs[0].buffer, s.output.buffer
                if (ends[0] in values) != (ends[1] in values):
                    wrong |= values.keys() & set(ends)
        if not wrong:
            return
        for b in wrong:
            del values[b]


def _measure(steps: Sequence[Step], v: _Value) -> None:
    """What border the readers need, and how far a tile reads."""
    top = left = bottom = right = 0
    _, height, width, _ = v.image.shape
    for k, _ in v.readers:
        s = steps[k]
        if s.kernel == "split_f32":
            p = steps[k + 1].products
            assert p is not None
            rows, cols = _ratios(p.x, v)
            _, row = v.place(p.x)
            ends = row - p.pads[0], -p.pads[1]
            last = ends[0] + (p.padded[0] - 1) * rows + 1, ends[1] + (p.padded[1] - 1) * cols + 1
            v.step = max(v.step, p.steps[1] * cols)
        elif s.kernel == "depthwise_f32":
            q = s.params
            ends = _first_tap(s)
            last = tuple(e + (q[f"o{d}"] - 1) * q[f"stride_{d}"] + q[f"k{d}"] for e, d in zip(ends, "hw"))
        else:
            continue
        top, left = max(top, -ends[0]), max(left, -ends[1])
        bottom, right = max(bottom, last[0] - height), max(right, last[1] - width)
    v.pads = (top, left, bottom, right)


def _ratios(x: Tensor, v: _Value) -> tuple[int, int]:
    """Rows and columns of the value between those of what is read."""
    return x.strides[1] // v.image.strides[1], x.strides[2] // v.image.strides[2]


def _first_tap(s: Step) -> tuple[int, int]:
    """Row and column of the first tap of a depthwise convolution, whose border lies before them."""
    top, left = (s.node.attributes.get("pads") or (0, 0))[:2]
    return -top, -left


def _without_splits(steps: Sequence[Step], values: dict[Buffer, _Value]) -> list[tuple[int, Step]]:
    """The steps with their indexes, without those whose results nobody needs."""
    left = []
    for k, s in enumerate(steps):
        read = s.inputs[0].buffer if s.inputs and s.inputs[0] is not None else None
        gone = (s.kernel == "split_f32" and read in values) or (s.kernel == "halo_f32" and s.output.buffer in values)
        if not gone:
            left.append((k, s))
    return left


def _border(v: _Value, writer: Step) -> Step:
    """A step that zeroes the border around a value."""
    batch, h, w, c = v.image.shape
    fields = {
        "terms": 1, "batch": batch, "h": h, "w": w, "c": c, "in_batch": 0, "in_row": 0, "in_col": 0,
        **dict(zip(_PADS, v.pads)), "border_only": 1, "pixels": 0,
    }  # fmt: skip
    assert v.memory is not None
    output = Tensor(v.memory, (v.memory.size,), (1,))
    return Step("split_f32", fields, [], output, batch * v.size[0], 1, 0, writer.node)


def _read_operand(steps: Sequence[Step], k: int, v: _Value, ctx: Planner) -> None:
    """The step behind a split reads the value itself."""
    product = steps[k + 1]
    p = product.products
    assert p is not None
    rows, cols = _ratios(p.x, v)
    fields, product.units = reading(p, 1, ctx.threads, v.size, (p.steps[0] * rows, p.steps[1] * cols))
    fields["a_batch"] = v.strides[0]
    product.params = {**product.params, **fields}
    image, row = v.place(p.x)
    product.inputs[0] = v.tensor(image, row - p.pads[0], -p.pads[1])


def _read_residual(steps: Sequence[Step], k: int, v: _Value, ctx: Planner) -> None:
    s = steps[k]
    r = s.inputs[1]
    assert r is not None
    batch, block, row = v.strides
    s.params = {**s.params, "r_batch": batch, "r_row": row, "r_col": WORDS, "r_block": block}
    s.inputs = [s.inputs[0], v.tensor(*v.place(r))]


def _shifted(t: Tensor, words: int) -> Tensor:
    return Tensor(t.buffer, t.shape, t.strides, t.offset + words)


def _write_operand(s: Step, v: _Value) -> None:
    batch, block, row = v.strides
    s.params = {**s.params, "makes": INSTEAD, "made_batch": batch, "made_block": block, "made_row": row}
    s.output = _shifted(v.tensor(*v.place(s.output)), v.block(s.output) * block)
    s.grain = 2 if s.params["split_n"] else s.grain


def _read_between(steps: Sequence[Step], k: int, v: _Value, ctx: Planner) -> None:
    s = steps[k]
    p = s.params
    batch, block, row = v.strides
    kept: tuple[str, ...]
    fields: dict[str, Any] = {
        "batch": v.image.shape[0],
        "blocks": v.blocks,
        "in_batch": batch,
        "in_block": block,
        "in_row": row,
    }
    if s.kernel in _POOLS:
        kept = ("ih", "iw", "oh", "ow", "kh", "kw", "stride_h", "stride_w", *_PADS, "count_include_pad")
        s.inputs = [v.tensor()]
    else:
        kept = ("oh", "ow", "activation")
        key = s.node.inputs[1]
        weights = ctx.packed(("depthwise bf16", key), lambda: _in_blocks(p["weights"]))
        bias = None if p["bias"] is None else _in_blocks(p["bias"])
        fields |= {"k": p["kh"], "stride": p["stride_h"], "weights": weights, "bias": bias}
        fields |= {name: p[name] for name in ("alpha", "beta") if name in p}
        s.inputs = [v.tensor(0, *_first_tap(s))]
    s.params = {**{name: p[name] for name in kept}, **fields}


def _in_blocks(a: Array) -> Array:
    """[..., channels] -> [blocks, ..., 32], filled up with zeros."""
    c = a.shape[-1]
    blocks = -(-c // BLOCK)
    whole = np.zeros((*a.shape[:-1], blocks * BLOCK), np.float32)
    whole[..., :c] = a
    return np.ascontiguousarray(np.moveaxis(whole.reshape(*a.shape[:-1], blocks, BLOCK), -2, 0))


def _write_between(s: Step, v: _Value) -> None:
    batch, block, row = v.strides
    s.params = {**s.params, "out_batch": batch, "out_block": block, "out_row": row}
    blocks = -(-s.output.shape[3] // BLOCK)
    s.output = _shifted(v.tensor(), v.block(s.output) * block)
    s.kernel = BETWEEN[s.kernel]
    s.units = v.image.shape[0] * blocks * v.image.shape[1]
    s.grain = 1


def _read_mean(steps: Sequence[Step], k: int, v: _Value, ctx: Planner) -> None:
    s = steps[k]
    images, height, width, channels = v.image.shape
    batch, block, row = v.strides
    s.params = {
        "batch": images, "blocks": v.blocks, "h": height, "w": width, "c": channels,
        "in_batch": batch, "in_block": block, "in_row": row, "out_batch": s.output.strides[0],
    }  # fmt: skip
    s.kernel, s.inputs, s.units, s.grain = "mean_bf16", [v.tensor()], images * v.blocks, 1


_READ: dict[str, Callable[[Sequence[Step], int, _Value, Planner], None]] = {
    "split_f32": _read_operand, "brgemm_split_f32": _read_residual,
    "depthwise_f32": _read_between, "max_pool_f32": _read_between, "average_pool_f32": _read_between,
    "reduce_mean_f32": _read_mean,
}  # fmt: skip
_WRITE: dict[str, Callable[[Step, _Value], None]] = {
    "brgemm_split_f32": _write_operand,
    "depthwise_f32": _write_between, "max_pool_f32": _write_between, "average_pool_f32": _write_between,
}  # fmt: skip
