"""How matrix products become `brgemm_f32` steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16, decode, nearest_bfloat16
from ..graph import Array, TensorType
from ..tracked import call
from .activations import ACTIVATIONS
from .lower import collapse, dtype_reason, given
from .registry import Lowering, Tensor

__all__ = [
    "MAX_CHUNK",
    "MOST_KEPT",
    "PRODUCTS",
    "chunk_length",
    "cut_by_bytes",
    "cut_of",
    "entries",
    "epilogue",
    "lower_linear",
    "lower_matmul",
    "packed_weights",
    "rows_of",
    "sum_length",
    "tile_rows",
]

PRODUCTS = frozenset({"brgemm_f32", "brgemm_bf16"})
"""The kernels of float32 products, whose weights are float32 or bfloat16."""
MAX_CHUNK = 256
"""The longest run of products that is summed before a new sum starts."""

_HALF_ROWS = 16
_HALF_BYTES = 2 << 20
"""Most rows, and least bytes as float32, of products whose weights are kept as bfloat16."""
_MIN_CHUNK = 64
_LATENCY = 4.0
"""Cycles of an FMA."""
_TILE_CYCLES = 100.0
"""Cycles around the inner loop of a tile."""
_L1_BYTES = 40 * 1024
"""What of L1 a chunk of B may fill beside A and C."""
_L1_WAYS = 8
_L1_WAY_BYTES = 4096
"""Rows that begin a multiple of the latter apart meet in one set of L1, which keeps so many lines, or more."""
_STREAM_BYTES = 320 * 1024
"""Of all weights of a product, up to which the kernel goes through them for each tile of rows."""
_LANES = 16
_CHAINS = 8
_WIDE = 5
"""Panels of B per tile of rows up to which threads may share few tiles: each of them then reads all of B."""
_HEAVIER = 2
"""Times the bytes of their operand from which weights are cut among threads."""
_EVEN_PANELS = 16
"""Per thread, so that shares of them are about even."""
MOST_KEPT = 256
"""Of the answers to questions that all layers of a size ask."""


def chunk_length(k: int, n: int) -> int:
    """The length of the sums that a reduction of K products is cut into: a function of the layer alone, and the same
    on every ISA.

    Sums of at most `MAX_CHUNK` products keep a tile of A and a panel of B in L1, and round less than one long sum.
    A narrow layer (few columns) is cut finer, so that even a single row has about eight independent chains of
    additions to hide the latency of one.
    """
    columns = -(-max(n, 1) // _LANES)
    chunks = -(-k // MAX_CHUNK)
    if columns < _CHAINS // 2 + 1:
        parallel = _CHAINS // columns
        chunks = max(chunks, min(parallel * -(-k // (parallel * MAX_CHUNK)), k // _MIN_CHUNK))
    length = -(-k // max(chunks, 1))
    return max(1, min(MAX_CHUNK, -(-length // 8) * 8))


def sum_length(k: int, most: int = MAX_CHUNK) -> int:
    """The same for a convolution, which has many rows: its sums are as long as the caches like them, and of even
    length."""
    chunks = max(1, -(-k // most))
    length = -(-k // chunks)
    return max(1, min(most, -(-length // 8) * 8))


def entries(segments: list[tuple[int, int]], length: int) -> tuple[Array, Array]:
    """Cut the reduction into chunks.

    Parameters
    ----------
    segments
        (offset into A, length) of the runs of A that are dense in memory, in the order of K.
    length
        Products per chunk.

    Returns
    -------
    entries
        [(offset into A, length, first row of B)], int64.
    chunks
        The first entry of every chunk, and the number of entries at the end, int64.
    """
    return _entries(tuple(segments), length)


@lru_cache(maxsize=MOST_KEPT)
def _entries(segments: tuple[tuple[int, int], ...], length: int) -> tuple[Array, Array]:
    made: list[tuple[int, int, int]] = []
    chunks = [0]
    k = 0
    room = length
    for offset, size in segments:
        at = 0
        while at < size:
            part = min(size - at, room)
            made.append((offset + at, part, k))
            at += part
            k += part
            room -= part
            if room == 0:
                chunks.append(len(made))
                room = length
    if chunks[-1] != len(made):
        chunks.append(len(made))
    if len(chunks) == 1:  # K = 0: one empty chunk, so that the epilogue still runs
        chunks.append(0)
    table, starts = np.array(made, np.int64).reshape(-1, 3), np.array(chunks, np.int64)
    table.flags.writeable = starts.flags.writeable = False  # many plans share them
    return table, starts


def tile_rows(ctx: Lowering, pixels: int, k: int, n: int, length: int, pitch: int) -> int:
    """Rows of the register tiles for rows of `pixels` pixels that begin `pitch` numbers apart: those that should take
    the fewest cycles. The choice does not change the result."""
    return call(_tile_rows, ctx.panel, ctx.tile_panels, pixels, -(-n // ctx.panel), k, length, pitch)  # type: ignore[no-any-return]


@lru_cache(maxsize=MOST_KEPT)
def _tile_rows(
    panel: int, tile_panels: tuple[int, ...], pixels: int, panels: int, k: int, length: int, pitch: int
) -> int:
    best, fewest = 1, math.inf
    most = min(pixels, _L1_WAYS * (_L1_WAY_BYTES // math.gcd(4 * pitch, _L1_WAY_BYTES)))
    for rows, (whole, row, least, around) in enumerate(_tile_cycles(panel, tile_panels, panels, k, length), 1):
        count, last = divmod(pixels, rows)
        cycles = count * whole + (max(last * row, least) + around if last else 0.0)
        if cycles < fewest:
            best, fewest = rows, cycles
        if rows >= most:
            break
    return best


@lru_cache(maxsize=MOST_KEPT)
def _tile_cycles(
    panel: int, tile_panels: tuple[int, ...], panels: int, k: int, length: int
) -> list[tuple[float, float, float, float]]:
    """Of tiles of 1, 2, ... rows, as wide as `tile_panels` says, beside all panels: the cycles of a whole one;
    of what is left for fewer rows the cycles of each row, the least of all, and those around. A panel counts as one
    vector.

    A step along K takes half a cycle per FMA, but no less than the latency of one; loads run beside the FMAs and cost
    little, unless a chunk of the panels is too large for L1. Where every tile meets all weights, and these come from
    L2, a step takes a cycle per panel at least. Every tile costs its prologue and epilogue.
    """
    made: list[tuple[float, float, float, float]] = []
    weights = 4 * panels * panel * k
    streams = k <= MAX_CHUNK and _L1_BYTES < weights <= _STREAM_BYTES
    before = groups = 0
    wide = row = least = around = 0.0
    for rows, most in enumerate(tile_panels, 1):
        if most != before:
            before, groups = most, max(-(-panels // most), 1)
            wide = max(panels, 1) / groups
            loads = 0.25 * wide if wide * panel * length * 4 > _L1_BYTES else 0.0
            row, least = groups * wide / 2 * k, groups * max(_LATENCY, wide if streams else 0.0) * k
            around = groups * (loads * k + _TILE_CYCLES * -(-k // length))
        made.append((max(rows * row, least) + around + groups * 0.03 * (rows + wide) * k, row, least, around))
    return made


def rows_of(shape: tuple[int, ...], *strides: tuple[int, ...] | None) -> tuple[list[int], list[list[int]]] | None:
    """Merge the leading dimensions of operands of equal shape to three (batch, oh, ow), or None where their strides
    do not allow it. Absent operands have strides None and get zeros."""
    found = collapse(shape, *(s if s is not None else (0,) * len(shape) for s in strides))
    if found is None or len(found[0]) > 3:
        return None
    sizes, merged = found
    fill = 3 - len(sizes)
    return [1] * fill + list(sizes), [[0] * fill + list(m) for m in merged]


def epilogue(ctx: Lowering) -> dict[str, Any]:
    """The fields of a parameter block that describe the node's activation."""
    name = ctx.attributes.get("activation", "")
    if not name:
        return {"activation": None}
    return {
        "activation": ACTIVATIONS[name].row,
        "alpha": float(ctx.attributes.get("alpha", 0.0)),
        "beta": float(ctx.attributes.get("beta", 0.0)),
    }


def brgemm_units(ctx: Lowering, sizes: list[int], tile_m: int, n: int) -> tuple[int, int]:
    """(split_n, units): along rows where they keep all threads busy, else along panels of B, which then also stay in
    one core's cache from call to call."""
    tiles = sizes[0] * sizes[1] * -(-sizes[2] // tile_m)
    found: tuple[int, int] = call(cut_of, tiles, -(-n // ctx.panel), ctx.threads)
    return found


def cut_of(tiles: int, panels: int, threads: int) -> tuple[int, int]:
    """As `brgemm_units`, for so many tiles of rows and panels of B."""
    if tiles >= 4 * threads or tiles >= panels:
        return 0, tiles
    # Along columns every thread reads all rows, of which the others wrote most.
    even = threads > 1 and tiles >= 2 * threads and tiles % threads == 0
    return (0, tiles) if even and panels <= _WIDE * tiles else (1, panels)


def cut_by_bytes(tiles: int, panels: int, threads: int, operand: int, weights: int) -> tuple[int, int]:
    """As `cut_of`, for products that wait for weights: each thread reads all of them, or all of their operand."""
    if threads > 1 and weights >= _HEAVIER * operand and panels >= _EVEN_PANELS * threads:
        return 1, panels
    return cut_of(tiles, panels, threads)


def packed_weights(
    ctx: Lowering, key: tuple[Any, ...], rows: int, count: int, b: Callable[[], Array]
) -> tuple[str, Array]:
    """(kernel, packed panels) of a product with constant weights.

    In `bfloat16` weights of few rows of products are kept as such numbers where L2 does not hold them: the product
    waits for them then. Elsewhere it would wait for their conversion; but where a call decides how many rows there are,
    many have the same numbers as few.
    """
    if ctx.half_weights and 4 * count >= _HALF_BYTES:
        if rows <= _HALF_ROWS:
            return "brgemm_bf16", ctx.packed((*key, "bfloat16"), lambda: ctx.pack_half(b()))
        if not _rows_are_fixed(ctx.declared(0)):
            return "brgemm_f32", ctx.packed((*key, "rounded"), lambda: ctx.pack_b(_rounded(b())))
    return "brgemm_f32", ctx.packed(key, lambda: ctx.pack_b(b()))


def _rounded(b: Array) -> Array:
    """float32 numbers that bfloat16 has."""
    return decode(nearest_bfloat16(b).view(BFLOAT16))


def _rows_are_fixed(declared: TensorType | None) -> bool:
    """Whether the model itself says how many rows of products one image or sequence has."""
    return declared is not None and declared.shape is not None and all(isinstance(d, int) for d in declared.shape[1:-1])


def lower_linear(ctx: Lowering) -> str | None:
    """fused.Linear, and MatMul and Gemm where they have the same form."""
    if reason := dtype_reason(ctx):
        return reason
    x, w, out = given(ctx, 0), given(ctx, 1), ctx.output()
    residual = ctx.input(3) if len(ctx.node.inputs) > 3 else None
    bias = ctx.constant(2)
    if bias is None and ctx.input(2) is not None:
        return "the bias is not a constant"
    if residual is not None and residual.shape != out.shape:
        return "the residual is broadcast"
    from .lower_split import linear_on_tiles  # which takes the helpers of this module

    if linear_on_tiles(ctx, x, out, residual):
        return None
    k, n = w.shape
    rows = rows_of(x.shape[:-1], x.strides[:-1], out.strides[:-1], None if residual is None else residual.strides[:-1])
    if rows is None:
        return "the rows' strides do not merge to three dimensions"
    sizes, (xs, cs, rs) = rows
    length = chunk_length(k, n)
    tile_m = tile_rows(ctx, sizes[2], k, n, length, xs[2])
    split_n, units = brgemm_units(ctx, sizes, tile_m, n)
    table, chunks = entries([(0, k)] if k else [], length)
    weights = ctx.constant(1)
    params = {
        "batch": sizes[0], "oh": sizes[1], "ow": sizes[2], "groups": 1, "n": n, "k": k,
        "a_batch": xs[0], "a_row": xs[1], "a_col": xs[2],
        "c_batch": cs[0], "c_row": cs[1], "c_col": cs[2],
        "r_batch": rs[0], "r_row": rs[1], "r_col": rs[2],
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "bias": None if bias is None else vector(ctx, bias, n),
        "tile_m": tile_m, "split_n": split_n, **epilogue(ctx),
    }  # fmt: skip
    inputs: list[Tensor | None] = [x, residual]
    kernel = "brgemm_f32"
    if weights is not None:
        own = math.prod(x.shape[1:-1])  # rows of one image, as the batch must not decide
        kernel, params["b"] = packed_weights(ctx, ("b", ctx.node.inputs[1]), own, k * n, lambda: weights[None])
    else:
        inputs.append(pack_step(ctx, w, 1, k, n, (0, w.strides[0], w.strides[1])))
    ctx.step(kernel, params, inputs, out, units=units, flops=2 * math.prod(sizes) * n * k)
    return None


def lower_matmul(ctx: Lowering) -> str | None:
    """MatMul of any ranks: a batch of products where both operands have leading dimensions."""
    if reason := dtype_reason(ctx):
        return reason
    a, b, out = given(ctx, 0), given(ctx, 1), ctx.output()
    if len(a.shape) == 1 or len(b.shape) == 1:
        return "an operand is a vector"
    if len(b.shape) == 2:
        return lower_linear(ctx)
    lead = out.shape[:-2]
    strides = [_broadcast(t, lead) for t in (a, b)]
    merged = rows_of(lead, strides[0], strides[1], out.strides[:-2])
    if merged is None or merged[0][0] * merged[0][1] != 1:
        return "the batch dimensions do not merge to one"
    batch = merged[0][2]
    a_batch, b_batch, c_batch = (m[2] for m in merged[1])
    k, n = b.shape[-2:]
    m = a.shape[-2]
    panels = -(-n // ctx.panel)
    n_b = 1 if b_batch == 0 else batch
    packed = pack_step(ctx, b, n_b, k, n, (b_batch, b.strides[-2], b.strides[-1]))
    length = chunk_length(k, n)
    tile_m = tile_rows(ctx, m, k, n, length, a.strides[-2])
    table, chunks = entries([(0, k)] if k else [], length)
    params = {
        "batch": batch, "oh": 1, "ow": m, "groups": 1, "n": n, "k": k,
        "a_batch": a_batch, "a_col": a.strides[-2], "c_batch": c_batch, "c_col": out.strides[-2],
        "b_batch": panels * k * ctx.panel if n_b > 1 else 0,
        "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "tile_m": tile_m, "split_n": 0, "activation": None,
    }  # fmt: skip
    units = batch * -(-m // tile_m)
    ctx.step("brgemm_f32", params, [a, None, packed], out, units=units, flops=2 * batch * m * n * k)
    return None


def pack_step(ctx: Lowering, b: Tensor, batch: int, k: int, n: int, strides: tuple[int, int, int]) -> Tensor:
    """Pack a B that only a run knows."""
    panels = -(-n // ctx.panel)
    packed = ctx.temporary((batch, panels, k, ctx.panel))
    params = {
        "batch": batch, "k": k, "n": n, "in_batch": strides[0], "in_k": strides[1], "in_n": strides[2],
        "out_batch": panels * k * ctx.panel,
    }  # fmt: skip
    ctx.step("pack_b_f32", params, [b], packed, units=batch * panels, flops=batch * k * n)
    return packed


def _broadcast(t: Tensor, lead: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of the leading dimensions of t as those of an array broadcast to `lead`."""
    own = list(zip(t.shape[:-2], t.strides[:-2]))
    own = [(1, 0)] * (len(lead) - len(own)) + own
    return tuple(0 if size == 1 else stride for size, stride in own)


def vector(ctx: Lowering, value: Array, n: int) -> Array:
    """A constant as n contiguous float32 values."""

    def make() -> Array:
        made = np.empty(n, np.float32)
        made[:] = value if value.ndim == 1 else value.reshape(-1)
        return made

    return ctx.packed(("vector", ctx.node.inputs[2], n), make)
