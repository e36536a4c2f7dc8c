"""How convolutions and linear layers become products on matrix tiles: `split_f32`, then `brgemm_split_f32`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

from ..graph import Array
from ..records import record
from ..tracked import call
from .lower import Convolution
from .lower_linear import MOST_KEPT, chunk_length, cut_by_bytes, epilogue, vector
from .registry import Lowering, Tensor
from .split_cost import BLOCK, PANEL, RESIDENT_BYTES, ROWS, pays, pools_faster, positions_of, splits_beside
from .split_groups import blocks_of, starts, with_zeros
from .split_made import is_made
from .split_steps import steps_of

__all__ = ["Products", "conv_on_tiles", "linear_on_tiles", "product_step", "reading"]

_WORDS = 16
"""Pairs of bfloat16 numbers of a block."""
_WHOLE_TILES = 96
"""Of a panel's weights: as many are summed at once."""
_CHUNK_TILES = 72
"""The most that are summed from zero where there are more: 72 KiB, so that the operand of some pixels stays in L2."""
PART_BYTES = 3 << 18
"""Of a part of a split operand of several terms, whose products meet all weights: more does not stay in L2 then."""
PART_BYTES_ONCE = 5 << 17
"""The same of one term, whose products wait longer for what is not in L2. A quarter where no more are weights, which
then stay there too."""
PART_WEIGHTS = 0.5
"""Of the weights' bytes up to which an image's split operand is not cut in parts, which read all weights each."""
_L1_BYTES = 24 * 1024
"""Of it that stay in L1 beside a step's weights."""
_MOST_PARTS = 16
"""Parts that a batch is cut into for that."""
_STREAMED_BYTES = 8 << 20
"""Of a result of the graph from which on it goes past the caches: half as many take the same time either way."""
_WAITS = 1 << 16
"""Weights of a layer for which a single row waits longer than another step takes."""


@record(slots=True, eq=False)
class Products:
    """The products of windows of images with weights, one image after another.

    Attributes
    ----------
    x
        The images [batch, height, width, channels].
    pads
        Zeros around them: top, left, bottom, right.
    taps
        (row, column) in the padded image of the pixels of a window, in the order of the weights' rows.
    steps
        Rows and columns between windows.
    out, residual
        [batch, rows, columns, outputs].
    key, b
        The weights' name for `packed`, and what makes them: [taps, channels, outputs].
    chunk
        The length of the sums that FMA would make.
    whole
        `out` of all images and rows, where these are some of them.
    pixel, valid
        Words of a pixel of the operand, and a bit for each number of a block that is one, where pixels of few channels
        share a block: else 0.
    groups
        Of channels, and of outputs: each is the sum over its group alone.
    """

    x: Tensor
    pads: tuple[int, int, int, int]
    taps: list[tuple[int, int]]
    steps: tuple[int, int]
    out: Tensor
    residual: Tensor | None
    key: tuple[Any, ...]
    b: Callable[[], Array]
    chunk: int
    whole: Tensor | None = None
    pixel: int = 0
    valid: int = 0
    groups: int = 1

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the border."""
        top, left, bottom, right = self.pads
        return self.x.shape[1] + top + bottom, self.x.shape[2] + left + right

    @property
    def blocks(self) -> int:
        """Of the channels of a pixel."""
        return -(-self.x.shape[3] // BLOCK)

    @property
    def deep(self) -> int:
        """Blocks of channels that two panels multiply."""
        return blocks_of(self.groups, self.x.shape[3], self.out.shape[3])[0]

    def words(self, terms: int) -> int:
        """Of the split operand."""
        height, width = self.padded
        return self.x.shape[0] * self.blocks * terms * height * width * _WORDS

    def weights(self, terms: int) -> int:
        """Bytes of the split weights."""
        return len(self.taps) * self.deep * terms * _WORDS * 4 * -(-self.out.shape[3] // PANEL) * PANEL

    def images(self, first: int, count: int) -> Products:
        """The products of some images alone."""
        return self._part(_slice(self.x, 0, first, count), self.pads, 0, first, count)

    def rows(self, first: int, end: int) -> Products:
        """The products of some rows of windows alone."""
        top, left, _, right = self.pads
        start = first * self.steps[0] - top
        stop = (end - 1) * self.steps[0] + self.taps[-1][0] + 1 - top
        begin, last = (min(max(y, 0), self.x.shape[1]) for y in (start, stop))
        x = _slice(self.x, 1, begin, last - begin)
        return self._part(x, (begin - start, left, stop - last, right), 1, first, end - first)

    def _part(self, x: Tensor, pads: tuple[int, int, int, int], axis: int, first: int, count: int) -> Products:
        residual = None if self.residual is None else _slice(self.residual, axis, first, count)
        out = _slice(self.out, axis, first, count)
        p = Products(x, pads, self.taps, self.steps, out, residual, self.key, self.b, self.chunk, self.whole)
        p.groups = self.groups
        return p

    def pays(self, terms: int, *, made: bool = False) -> bool:
        """Whether tiles of so many terms are faster than FMA, where other steps have `made` the operand or have not.
        It depends on one image alone, never on the batch."""
        if not terms or not self.out.shape[3]:
            return False
        image = (*self.padded, self.x.shape[3], *self.out.shape[1:])
        even = self.steps[0] == self.steps[1]
        groups = (self.groups, self.deep) if self.groups > 1 else (1, 0)
        return bool(call(pays, terms, len(self.taps), even, made, *image, *groups))


def conv_on_tiles(ctx: Lowering, c: Convolution) -> bool:
    """nhwc.Conv with two spatial dimensions and constant weights on tiles, where that pays."""
    x, out, pads = c.x, c.out, c.pads
    groups = int(ctx.attributes["group"])
    if not ctx.terms or 0 in out.shape or (groups > 1 and c.w.shape[2] == 1):
        return False
    kh, kw, per_group, n = c.w.shape
    channels = groups * per_group
    sh, sw = ctx.attributes["strides"] or (1, 1)
    dh, dw = ctx.attributes["dilations"] or (1, 1)
    pooled = ctx.attributes["pooled"] and (kh, kw, sh, sw, dh, dw) == (3, 3, 1, 1, 1, 1)

    def pools() -> bool:
        return bool(pooled and groups == 1 and call(pools_faster, ctx.terms, *out.shape[1:3], channels, n))

    made = is_made(ctx, x)
    if not made and groups == 1 and _rows_on_tiles(ctx, c, pools):
        return True
    if kh == kw == 1 and not any(pads):  # only the pixels that are read
        shape4 = (x.shape[0], *out.shape[1:3], channels)
        x = Tensor(x.buffer, shape4, (x.strides[0], x.strides[1] * sh, x.strides[2] * sw, 1), x.offset)
        sh = sw = 1
    taps = [(i * dh, j * dw) for i in range(kh) for j in range(kw)]
    key = (ctx.node.inputs[1], "tiles", groups)
    p = Products(
        x, pads, taps, (sh, sw), out, c.residual, key,
        lambda: with_zeros(c.w.reshape(kh * kw, per_group, n), groups, channels), c.chunk, groups=groups,
    )  # fmt: skip
    return p.pays(ctx.terms, made=made) and not pools() and _lowered(ctx, p)


def _rows_on_tiles(ctx: Lowering, c: Convolution, unless: Callable[[], bool]) -> bool:
    """As `conv_on_tiles`, with rows of windows for pixels, where they have fewer blocks of channels. `unless` is
    asked last."""
    x, out, pads = c.x, c.out, c.pads
    kh, kw, channels, n = c.w.shape
    sh, sw = ctx.attributes["strides"] or (1, 1)
    dh, dw = ctx.attributes["dilations"] or (1, 1)
    fewer = dw == 1 and -(-kw * channels // BLOCK) < kw * -(-channels // BLOCK)
    if not fewer or x.strides[2] != channels:
        return False
    shape = (kh, kw * channels, n)
    p = Products(
        _window_rows(x, pads, kw, sw, out.shape[2]), (0, 0, 0, 0), [(i * dh, 0) for i in range(kh)], (sh, 1),
        out, c.residual, (ctx.node.inputs[1], "tiles of rows"), lambda: c.w.reshape(shape), c.chunk,
    )  # fmt: skip
    if not p.pays(ctx.terms) or unless():
        return False
    p.x = _window_rows(ctx.padded(x, pads), pads, kw, sw, out.shape[2])
    return _lowered(ctx, p)


def _window_rows(x: Tensor, pads: tuple[int, int, int, int], kw: int, step: int, count: int) -> Tensor:
    """An image with a border in memory as one whose pixels are the rows of windows, which overlap: few channels then
    fill a block."""
    top, left, bottom, _ = pads
    shape = (x.shape[0], x.shape[1] + top + bottom, count, kw * x.shape[3])
    offset = x.offset - top * x.strides[1] - left * x.strides[2]
    return Tensor(x.buffer, shape, (x.strides[0], x.strides[1], x.strides[2] * step, 1), offset)


def linear_on_tiles(ctx: Lowering, x: Tensor, out: Tensor, residual: Tensor | None) -> bool:
    """A linear layer, where that pays."""
    weights = ctx.constant(1)
    tensors = [t for t in (x, out, residual) if t is not None]
    if not ctx.terms or weights is None or 0 in x.shape or not all(t.contiguous for t in tensors):
        return False
    k, n = weights.shape
    rows_are_batch = len(x.shape) <= 2
    if rows_are_batch and not _pays_for_one_row(ctx.terms, k, n):
        return False
    batch = 1 if rows_are_batch else x.shape[0]
    rows = math.prod(x.shape[:-1]) // batch
    width = call(_width, rows)
    image, made = (_as_images(t, batch, rows, width) for t in (x, out))
    added = None if residual is None else _as_images(residual, batch, rows, width)
    key = (ctx.node.inputs[1], "tiles")
    p = Products(image, (0, 0, 0, 0), [(0, 0)], (1, 1), made, added, key, lambda: weights[None], chunk_length(k, n))
    return (rows_are_batch or p.pays(ctx.terms)) and _lowered(ctx, p)


@lru_cache(maxsize=MOST_KEPT)
def _width(rows: int) -> int:
    """The largest number up to 64 that divides some rows."""
    return next(d for d in range(min(rows, 64), 0, -1) if rows % d == 0)


def _pays_for_one_row(terms: int, k: int, n: int) -> bool:
    """Whether a layer whose only other dimension is the batch goes to tiles. A single row waits for its weights, of
    which only one term is smaller than the float32 number; and a small layer has no time for another step."""
    return terms == 1 and k * n >= _WAITS


def _as_images(t: Tensor, batch: int, rows: int, width: int) -> Tensor:
    """Contiguous rows as images, with which threads can begin anywhere."""
    n = t.shape[-1]
    shape = (batch, rows // width, width, n)
    return Tensor(t.buffer, shape, (rows * n, width * n, n, 1), t.offset)


def _lowered(ctx: Lowering, p: Products) -> bool:
    parts = [p] if is_made(ctx, p.x) else _parts(p, ctx.terms, ctx.threads)
    # A tile reads whole: behind the last pixel as many as it has rows, in steps of the window's.
    behind = ROWS * p.steps[1] * ctx.terms * _WORDS
    split = ctx.temporary((call(max, 0, *(part.words(ctx.terms) for part in parts)) + behind,))
    for part in parts:
        part.whole = p.out
        _part(ctx, part, split)
    return True


def _parts(p: Products, terms: int, threads: int) -> list[Products]:
    """Images, or rows of one, whose split operand stays in L2 until it is multiplied; or one that is small beside the
    weights."""
    batch, oh = p.out.shape[:2]
    images, together, rows = call(_counts, terms, batch, p.words(terms), oh, p.weights(terms), threads)
    if rows > 1:
        return [p.rows(begin, end) for begin, end in pairwise(oh * i // rows for i in range(rows + 1))]
    cuts = [*(i * together for i in range(images)), batch]
    return [p] if images == 1 else [p.images(begin, end - begin) for begin, end in pairwise(cuts)]


def _counts(terms: int, batch: int, words: int, oh: int, weights: int, threads: int) -> tuple[int, int, int]:
    """Of a split operand: parts of images, images of each but the last, and parts of rows."""
    part = PART_BYTES if terms > 1 else PART_BYTES_ONCE if weights > PART_BYTES_ONCE else PART_BYTES_ONCE // 4
    image, most = words // batch, part // 4 * threads
    together = max(1, most // image, -(-batch // _MOST_PARTS))
    whole = batch > 1 or 4 * image <= PART_WEIGHTS * weights
    return -(-batch // together), together, 1 if whole else min(-(-image // most), _MOST_PARTS, oh)


def _part(ctx: Lowering, p: Products, split: Tensor) -> None:
    """The steps for some images of the batch, or some rows of one."""
    x, terms = p.x, ctx.terms
    batch, channels = x.shape[0], x.shape[3]
    height, width = p.padded
    top, left, bottom, right = p.pads
    fields: dict[str, Any] = {
        "terms": terms, "batch": batch, "h": x.shape[1], "w": x.shape[2], "c": channels,
        "in_batch": x.strides[0], "in_row": x.strides[1], "in_col": x.strides[2],
        "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right, "border_only": 0, "pixels": 0,
    }  # fmt: skip
    ctx.step("split_f32", fields, [x], split, units=batch * height, flops=4 * terms * x.size)
    product_step(ctx, p, split, *reading(p, terms, ctx.threads, (height, width), p.steps))


def product_step(ctx: Lowering, p: Products, split: Tensor, reads: dict[str, Any], units: int) -> None:
    """The products of an operand that is there, which they find as `reading` says."""
    out, residual, terms = p.out, p.residual, ctx.terms
    batch, n = out.shape[0], out.shape[3]
    bias = ctx.constant(2)
    r = residual.strides if residual is not None else (0, 0, 0)
    # Of the whole image: in how many parts it is split depends on the batch and the threads, and bits must not.
    oh, ow = (p.whole or out).shape[1:3]
    rows, count, _, tile_m = call(positions_of, oh, ow, p.padded[1], p.steps[0] == p.steps[1])
    floats = bool(call(splits_beside, terms, p.weights(terms), n, p.blocks, rows * -(-count // tile_m)))
    params: dict[str, Any] = {
        "terms": terms, "batch": batch, "n": n, "width": out.shape[2], **reads,
        "c_batch": out.strides[0], "c_row": out.strides[1], "c_col": out.strides[2],
        "r_batch": r[0], "r_row": r[1], "r_col": r[2], "r_block": 0,
        "taps": len(p.taps), "chunk": p.chunk,
        "b": ctx.packed((*p.key, 0 if floats else terms), lambda: ctx.pack_split(p.b(), floats=floats)),
        "floats": int(floats), "group_in": p.x.shape[3] // p.groups, "group_out": n // p.groups,
        "bias": None if bias is None else vector(ctx, bias, n),
        "streams": call(_streams, out.buffer.nbytes) if out.buffer.kind == "output" else 0,
        "makes": 0, "made_batch": 0, "made_block": 0, "made_row": 0, **epilogue(ctx),
    }  # fmt: skip
    flops = 2 * out.size * len(p.taps) * (p.valid.bit_count() or p.x.shape[3] // p.groups)
    grain = 2 if (floats or p.groups > 1) and reads["split_n"] else 1
    ctx.step("brgemm_split_f32", params, [split, residual], out, units=units, grain=grain, flops=flops, products=p)


def reading(
    p: Products, terms: int, threads: int, size: tuple[int, int], steps: tuple[int, int]
) -> tuple[dict[str, Any], int]:
    """The fields of BrgemmSplitParams that follow from where the operand lies, and the units of the step: in images of
    a size with their border, in which windows are so many rows and columns apart."""
    height, width = size
    pixel = p.pixel or terms * _WORDS
    batch, oh, ow, n = p.out.shape
    rows, count, span, tile_m = call(positions_of, oh, ow, width, steps[0] == steps[1])
    # Of one term weights are half of float32's, and a thread finds more of what it made itself along rows.
    read = (4 * p.words(terms), p.weights(terms) if terms > 1 else 0)
    split_n, units = call(cut_by_bytes, batch * rows * -(-count // tile_m), -(-n // PANEL), threads, *read)
    n_steps = p.deep * len(p.taps)
    chunk_steps = _chunk_steps(n_steps, terms)
    channels, first = p.x.shape[3], None
    table = [height, width, channels, tuple(p.taps), pixel, p.valid]
    if p.groups > 1:
        first = starts(p.groups, channels, n, height * width * pixel)
        table[2], table[5] = p.deep * BLOCK, (1 << BLOCK) - 1
    fields = {
        "oh": rows, "ow": count, "span": span, "tile_m": tile_m,
        "a_batch": p.blocks * height * width * pixel, "a_row": steps[0] * width * pixel, "a_col": steps[1] * pixel,
        "n_steps": n_steps, "steps": call(steps_of, *table), "starts": first,
        "chunk_steps": chunk_steps, "split_n": split_n,
        "block": _together(p, terms, steps, (rows, count, tile_m), chunk_steps),
    }  # fmt: skip
    return fields, units


def _streams(nbytes: int) -> int:
    return int(nbytes >= _STREAMED_BYTES)


def _chunk_steps(steps: int, terms: int) -> int:
    """Steps that are summed from zero: as many as two panels of weights stay in L2 with, evenly. A function of the
    layer alone."""
    tiles = steps * terms
    chunks = -(-tiles // _CHUNK_TILES) if tiles > _WHOLE_TILES else 1
    return -(-steps // chunks)


def _together(
    p: Products, terms: int, steps: tuple[int, int], positions: tuple[int, int, int], chunk_steps: int
) -> int:
    """Tiles of pixels that all panels are multiplied with before the next ones: two where those stay in L1 and the
    weights in L2, so that rows of the output are written whole; else as many as stay in L2 while the weights stream
    past, in parts of even size."""
    rows, count, tile_m = positions
    step = terms * _WORDS * 4
    taps = len(p.taps)
    most = RESIDENT_BYTES if terms > 1 else RESIDENT_BYTES // 8  # a product of one term waits for its weights
    if p.weights(terms) <= most and 2 * tile_m * taps * p.blocks * step <= _L1_BYTES:
        return 2
    own = steps[0] * steps[1] * step * (-(-chunk_steps // taps) if p.groups == 1 else p.blocks)
    return call(_stay, rows * -(-count // tile_m), tile_m * own)  # type: ignore[no-any-return]


def _stay(tiles: int, own: int) -> int:
    """Tiles of `own` bytes that stay in L2, an even number, in parts of even size."""
    most = max(2, RESIDENT_BYTES // own)
    return max(2, -(-tiles // -(-tiles // most)) + 1 & ~1)


def _slice(t: Tensor, axis: int, first: int, count: int) -> Tensor:
    shape = (*t.shape[:axis], count, *t.shape[axis + 1 :])
    return Tensor(t.buffer, shape, t.strides, t.offset + first * t.strides[axis])
