"""Operators that move, choose, cast or make values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...errors import UnsupportedError
from .call import Call, operator

__all__: list[str] = []

_END = np.iinfo(np.int64).max


def _axis(c: Call, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise c.error("there is no such axis", expected=f"-{rank} to {rank - 1}", got=str(axis))
    return axis % rank


def _cut(c: Call, x: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> str:
    return c.node("Slice", x, *(c.ints(list(v)) for v in (starts, ends, axes, steps)))


@operator("RESHAPE", moves=True)
def reshape(c: Call) -> str:
    """The shape is constant, or computed from that of the batch; then the file says what is known of the result."""
    declared, options = c.target.shape, c.node_of_file.options
    if not c.has(1):
        sizes = options.integers(0) if options else []
    elif c.tensor(1).data is not None:
        sizes = c.integers(1)
    elif declared and all(isinstance(d, int) for d in declared[1:]):
        sizes = [-1 if d is None else int(d) for d in declared]
    else:
        return c.node("Reshape", c.x(0), c.int64(1), allowzero=1)
    x = c.x(0)
    before = c.shape(x)[1:]
    if sizes[:1] == [-1] and 0 not in sizes and all(isinstance(d, int) for d in before):
        # A batch of any size is kept, an empty one too.
        rows = math.prod(d for d in before if isinstance(d, int))
        sizes = [0 if rows == math.prod(sizes[1:]) else -1, *sizes[1:]]
    return c.node("Reshape", x, c.ints(sizes), allowzero=int(0 in sizes[1:]))


@operator("SQUEEZE", moves=True)
def squeeze(c: Call) -> str:
    axes = c.node_of_file.options.integers(0) if c.node_of_file.options else []
    return c.node("Squeeze", c.x(0), *([c.ints(axes)] if axes else []))


@operator("EXPAND_DIMS", moves=True)
def expand_dims(c: Call) -> str:
    return c.node("Unsqueeze", c.x(0), c.ints(c.integers(1)))


@operator("TRANSPOSE", moves=True)
def transpose(c: Call) -> str:
    return c.node("Transpose", c.x(0), perm=c.integers(1))


@operator("CONCATENATION", moves=True)
def concatenate(c: Call) -> str:
    y = c.node("Concat", *c.all(), axis=c.option(0))
    return y if c.moving else c.activated(y, 1)


@operator("PACK", moves=True)
def pack(c: Call) -> str:
    axis = c.option(1)
    return c.node("Concat", *(c.node("Unsqueeze", x, c.ints([axis])) for x in c.all()), axis=axis)


@operator("UNPACK", moves=True)
def unpack(c: Call) -> list[str]:
    axis, count = c.option(1), len(c.node_of_file.outputs)
    parts = c.nodes("Split", [c.x(0)], count, axis=axis, num_outputs=count)
    return [c.node("Squeeze", p, c.ints([axis])) for p in parts]


@operator("SPLIT", moves=True)
def split(c: Call) -> list[str]:
    (axis,), count = c.integers(0), len(c.node_of_file.outputs)
    return c.nodes("Split", [c.x(1)], count, axis=axis, num_outputs=count)


@operator("SPLIT_V", moves=True)
def split_sizes(c: Call) -> list[str]:
    (axis,) = c.integers(2)
    return c.nodes("Split", [c.x(0), c.int64(1)], len(c.node_of_file.outputs), axis=axis)


@operator("SLICE", moves=True)
def cut(c: Call) -> str:
    starts, sizes = c.integers(1), c.integers(2)
    ends = [_END if n < 0 else s + n for s, n in zip(starts, sizes)]
    return _cut(c, c.x(0), starts, ends, range(len(starts)), [1] * len(starts))


def _range(
    c: Call, x: str, axis: int, first: int | None, last: int | None, step: int, one: bool
) -> tuple[int, int, int]:
    """Start, end and step of a Slice; None is an open end, and `one` asks for the first place alone."""
    sizes = c.shape(x)
    size = sizes[axis] if axis < len(sizes) else None
    if one:
        assert first is not None
        return first, _END if first == -1 else first + 1, 1
    if not step:
        raise c.error("a step is zero")
    if isinstance(size, int):
        # ONNX moves a start before the beginning to the beginning, so that steps back from there would see a value.
        start, stop, step = slice(first, last, step).indices(size)
        return start, stop if stop >= 0 else -_END, step if start != -1 else 1
    ends = (0, _END) if step > 0 else (_END, -_END)
    return ends[0] if first is None else first, ends[1] if last is None else last, step


@operator("STRIDED_SLICE", moves=True)
def strided(c: Call) -> str:
    """As NumPy's slices; masks say which ends are open, which axes are new and which are dropped."""
    begin_mask, end_mask, ellipsis, new, drop = (c.option(k) for k in range(5))
    begin, end, step = c.integers(1), c.integers(2), c.integers(3)
    if not len(begin) == len(end) == len(step):
        raise c.error("the lengths differ", got=f"{len(begin)}, {len(end)} and {len(step)}")
    x = c.x(0)
    rank, axis, place = c.rank(x), 0, 0
    spans: list[tuple[int, int, int, int]] = []
    added, dropped = [], []
    real = len(begin) - (ellipsis & (2 ** len(begin) - 1)).bit_count() - (new & (2 ** len(begin) - 1)).bit_count()
    for k in range(len(begin)):
        bit = 1 << k
        if ellipsis & bit:
            axis, place = axis + rank - real, place + rank - real
        elif new & bit:
            added.append(place)
            place += 1
        else:
            one = bool(drop & bit)
            first = begin[k] if one or not begin_mask & bit else None
            last = end[k] if not (one or end_mask & bit) else None
            start, stop, stride = _range(c, x, axis, first, last, step[k], one)
            spans.append((start, stop, axis, stride))
            dropped += [place] if one else []
            axis, place = axis + 1, place + 1
    if axis > rank:
        raise c.error("too many places", expected=f"at most {rank}", got=str(len(begin)))
    y = _cut(c, x, *zip(*spans)) if spans else x
    y = c.node("Unsqueeze", y, c.ints(added)) if added else y
    return c.node("Squeeze", y, c.ints(dropped)) if dropped else y


def _pads(c: Call) -> str:
    pairs = c.array(1)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise c.error("the paddings are wrong", expected="[rank, 2]", got=str(list(pairs.shape)))
    return c.ints(np.concatenate([pairs[:, 0], pairs[:, 1]]))


@operator("PAD")
def pad(c: Call) -> str:
    return c.node("Pad", c.x(0), _pads(c))


@operator("PADV2")
def pad_value(c: Call) -> str:
    return c.node("Pad", c.x(0), _pads(c), c.node("Reshape", c.x(2), c.ints([])))


def _sizes(c: Call, x: str, count: int) -> list[int]:
    """The sizes behind the first axis, of which `count` are split or joined with it."""
    sizes = [d for d in c.shape(x)[1:] if isinstance(d, int)]
    if len(sizes) != c.rank(x) - 1 or len(sizes) < count:
        raise UnsupportedError("the sizes must be known", where=c.where, got=str(c.emitter.type(x)))
    return sizes


@operator("SPACE_TO_BATCH_ND")
def space_to_batch(c: Call) -> str:
    """Every block-th place becomes a sample of its own, which makes a dilated convolution of a plain one."""
    block, pairs = c.integers(1), c.array(2).reshape(-1, 2)
    m, rank = len(block), c.rank(c.x(0))
    pads = np.zeros((2, rank), np.int64)
    pads[:, 1 : m + 1] = pairs[:m].T
    x = c.node("Pad", c.x(0), c.ints(pads.reshape(-1)))
    sizes = _sizes(c, x, m)
    if min(block, default=0) < 1 or any(s % b for s, b in zip(sizes, block)):
        raise c.error("the blocks do not fit", expected=f"divisors of {sizes[:m]}", got=str(block))
    parts = [n for s, b in zip(sizes, block) for n in (s // b, b)]
    x = c.node("Reshape", x, c.ints([-1, *parts, *sizes[m:]]))
    order = [*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, rank + m)]
    outer = [s // b for s, b in zip(sizes, block)]
    return c.node("Reshape", c.node("Transpose", x, perm=order), c.ints([-1, *outer, *sizes[m:]]))


@operator("BATCH_TO_SPACE_ND")
def batch_to_space(c: Call) -> str:
    """The way back."""
    x, block, crops = c.x(0), c.integers(1), c.array(2).reshape(-1, 2)
    m, rank = len(block), c.rank(x)
    sizes = _sizes(c, x, m)
    if min(block, default=0) < 1 or len(crops) != m:
        raise c.error("the blocks are wrong", expected=f"{len(crops)} sizes of at least 1", got=str(block))
    x = c.node("Reshape", x, c.ints([*block, -1, *sizes]))
    order = [m, *(n for k in range(m) for n in (m + 1 + k, k)), *range(2 * m + 1, rank + m)]
    whole = [s * b for s, b in zip(sizes, block)]
    x = c.node("Reshape", c.node("Transpose", x, perm=order), c.ints([-1, *whole, *sizes[m:]]))
    ends = [w - int(last) for w, last in zip(whole, crops[:, 1])]
    return _cut(c, x, crops[:, 0].tolist(), ends, range(1, m + 1), [1] * m)


@operator("MIRROR_PAD", moves=True)
def mirror(c: Call) -> str:
    if c.option(0, form="b"):
        raise UnsupportedError("mirrored padding that repeats the edge", where=c.where)
    return c.node("Pad", c.x(0), _pads(c), mode="reflect")


@operator("GATHER")
def gather(c: Call) -> str:
    if c.option(1):
        raise UnsupportedError("places for each batch", where=c.where)
    return c.node("Gather", c.x(0), c.values.stored(c.index(1)), axis=c.option(0))


@operator("EMBEDDING_LOOKUP")
def lookup(c: Call) -> str:
    return c.node("Gather", c.x(1), c.values.stored(c.index(0)), axis=0)


@operator("GATHER_ND")
def gather_nd(c: Call) -> str:
    return c.node("GatherND", c.x(0), c.int64(1))


@operator("ONE_HOT")
def one_hot(c: Call) -> str:
    values = c.node("Concat", *(c.node("Reshape", c.x(k), c.ints([1])) for k in (3, 2)), axis=0)
    return c.node("OneHot", c.x(0), c.ints(c.integers(1)), values, axis=c.option(0))


@operator("TILE", moves=True)
def tile(c: Call) -> str:
    return c.node("Tile", c.x(0), c.int64(1))


@operator("BROADCAST_TO", moves=True)
def broadcast(c: Call) -> str:
    return c.node("Expand", c.x(0), c.int64(1))


@operator("FILL")
def fill(c: Call) -> str:
    return c.node("Expand", c.x(1), c.int64(0))


@operator("ZEROS_LIKE")
def zeros(c: Call) -> str:
    x = c.x(0)
    return c.node("Expand", c.constant(0, c.emitter.type(x).dtype), c.node("Shape", x))


@operator("RANGE")
def arange(c: Call) -> str:
    return c.node("Range", *(c.node("Reshape", c.x(k), c.ints([])) for k in range(3)))


@operator("REVERSE_V2", moves=True)
def reverse(c: Call) -> str:
    axes = c.integers(1)
    return _cut(c, c.x(0), [-1] * len(axes), [-_END] * len(axes), axes, [-1] * len(axes))


@operator("SHAPE")
def shape(c: Call) -> str:
    return c.cast(c.node("Shape", c.x(0)), c.target.dtype)


@operator("CAST", "DEQUANTIZE", "QUANTIZE")
def cast(c: Call) -> str:
    """Between quantised types nothing is to do: inputs are real numbers here, and outputs are rounded behind."""
    target = c.target
    x = c.x(0)
    return x if target.quantized and c.emitter.type(x).dtype.kind == "f" else c.cast(x, target.dtype)
