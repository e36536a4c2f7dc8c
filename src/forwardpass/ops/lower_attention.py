"""How attention becomes steps: K and V packed into panels, then one kernel for scores, softmax and product with V."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array
from ..records import record
from ..tracked import call
from .lower import (
    binary_step,
    broadcast_strides,
    copy_step,
    dtype_reason,
    given,
    scalar,
    transposed,
    where_step,
    window_of,
)
from .lower_linear import tile_rows
from .lower_typed import cast_step, index_operand, kernel_type
from .registry import Lowering, Tensor
from .shapes import at

__all__ = ["Lengths", "add_masks", "attend", "float_mask", "heads_of", "lower_attention", "present", "put_mask"]

_BLOCK = 256
_SCORES = 28 * 256
_MOST_ROWS = 56
_TILE = 16
"""Rows of a matrix tile, with which attention on tiles takes its queries."""
_MOST_HEAD = 16 * _BLOCK
"""As in csrc/kernels/attention.cpp."""
_FEW_ROWS = 4
_UNBOUNDED = 1 << 40
"""A window that ends nowhere."""
_NO_PAST = dict.fromkeys(
    ("past", "past_k_batch", "past_k_group", "past_k_row", "past_v_batch", "past_v_group", "past_v_row", "streams"), 0
)
"""Keys and values lie in one place; a plan may say otherwise later (kv_cache.py)."""


@record(frozen=True, slots=True)
class Lengths:
    """How many keys each batch has: element b of a dense tensor of integers of `nbytes` plus `more`, and at least
    `least`; all of them without a tensor. With `from_end` the last query of a batch is at its last key."""

    tensor: Tensor | None = None
    nbytes: int = 0
    more: int = 0
    least: int = 0
    from_end: bool = False


_ALL_KEYS = Lengths()


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[batch, length, heads * size] as [batch, heads, length, size] in the same memory."""
    if len(x.shape) == 4:
        return x
    batch, length, width = x.shape
    size = width // heads
    row, column = x.strides[1:]
    shape, strides = (batch, length, heads, size), (x.strides[0], row, size * column, column)
    return transposed(Tensor(x.buffer, shape, strides, x.offset), (0, 2, 1, 3))


def _pack(ctx: Lowering, b: Tensor, *, keys_across: bool, halves: bool) -> Tensor:
    """K (`keys_across`) or V [batch, groups, keys, size] as panels: of keys, or of the elements of a head; of bfloat16
    pairs with `halves`."""
    batch, groups, keys, size = b.shape
    strides = (b.strides[2], b.strides[3])
    k, n = (size, keys) if keys_across else (keys, size)
    in_k, in_n = strides[::-1] if keys_across else strides
    panel = (-(-n // 16), -(-k // 32), 16, 16) if halves else (-(-n // ctx.panel), k, ctx.panel)
    packed = ctx.temporary((batch, groups, *panel))
    params = {"batch": batch, "groups": max(groups, 1), "k": k, "n": n, "in_batch": b.strides[0],
              "in_group": b.strides[1], "in_k": in_k, "in_n": in_n, "in_block": 0}  # fmt: skip
    kernel = "pack_heads_bf16" if halves else "pack_heads_f32"
    ctx.step(kernel, params, [b], packed, units=batch * groups * panel[0] if k else 0, flops=packed.size)
    return packed


def attend(
    ctx: Lowering,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    softcap: float = 0.0,
    place: int = 0,
    left: int = -1,
    right: int = -1,
    empty_nan: bool = False,
    lengths: Lengths = _ALL_KEYS,
    sinks: Array | None = None,
) -> str | None:
    """Emit attention for heads that lie anywhere in memory.

    Parameters
    ----------
    q, k, v, out
        [batch, heads, length, size]; a batch of 1 of k and v serves all of q, and their heads may be fewer.
    mask
        float32, broadcasts to [batch, heads, queries, keys]; added to the scaled scores.
    place
        Of the first query among the keys.
    left, right
        How many keys before and after its place a query sees; -1 for all.
    empty_nan
        Rows that see nothing are NaN; else zero, as the sum over no keys at all is.
    lengths
        Of the keys, where that depends on the batch.
    sinks
        A score per head that only adds to the sum of the softmax.
    """
    batch, heads, queries, size = q.shape
    groups, keys, value = k.shape[1], k.shape[2], v.shape[3]
    reason = _misfit(q, k, v, out)
    if mask is not None and not reason:
        mask, reason = _dense_mask(ctx, mask, keys)
    if reason:
        return reason
    in_place = _stay_in_place(q, k, v)
    on_tiles = ctx.terms == 1 and not in_place and size <= _BLOCK
    if not in_place:
        k, v = (_pack(ctx, t, keys_across=t is k, halves=on_tiles) for t in (k, v))
    rows = call(_rows, queries, keys, on_tiles)
    added = (0, 0, 0) if mask is None else broadcast_strides(mask, (batch, heads, queries, keys))[:3]
    params: dict[str, Any] = {
        "batch": batch, "heads": heads, "groups": groups, "queries": queries, "keys": keys, "head": size,
        "value": value, "q_batch": q.strides[0], "q_head": q.strides[1], "q_row": q.strides[2],
        "k_batch": k.strides[0] if k.shape[0] > 1 else 0, "k_group": k.strides[1],
        "v_batch": v.strides[0] if v.shape[0] > 1 else 0, "v_group": v.strides[1],
        "k_row": k.strides[2] if in_place else 0, "v_row": v.strides[2] if in_place else 0,
        "out_batch": out.strides[0], "out_head": out.strides[1], "out_row": out.strides[2],
        "mask_batch": added[0], "mask_head": added[1], "mask_row": added[2],
        "place": place, "left": _UNBOUNDED if left < 0 else left, "right": _UNBOUNDED if right < 0 else right,
        "scale": float(scale), "softcap": float(softcap), "empty_nan": int(empty_nan and keys > 0),
        "length_bytes": lengths.nbytes, "more": lengths.more, "least": lengths.least,
        "from_end": int(lengths.from_end), "sinks": sinks,
        "rows": rows,
        "tile_m": rows if on_tiles else tile_rows(ctx, rows, size, keys, _BLOCK, q.strides[2]),
        "q_block": 0, "out_block": 0,
        **_NO_PAST,
    }  # fmt: skip
    units = batch * heads * -(-queries // rows)
    flops = 2 * batch * heads * queries * keys * (size + value)
    kernel = "attention_bf16" if on_tiles else "attention_f32"
    ctx.step(kernel, params, [q, k, v, mask, lengths.tensor], out, units=units if value else 0, flops=flops)
    return None


def _misfit(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> str | None:
    """Why the kernel does not take heads that lie so."""
    batch, heads, _, size = q.shape
    groups = k.shape[1]
    if size > _MOST_HEAD:
        return f"heads of more than {_MOST_HEAD} elements"
    if any(t.strides[3] != 1 and t.shape[3] > 1 for t in (q, out)):
        return "the elements of a head do not follow each other"
    if k.shape[0] not in (1, batch) or v.shape[0] not in (1, batch) or not groups or heads % groups:
        return "batches or heads do not fit"
    return None


def _stay_in_place(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether keys and values are read where they lie: few queries use each of them once or little more, and packing
    them would cost more than it saves."""
    rows_apart = all(t.strides[2] > 0 and (t.strides[3] == 1 or t.shape[3] == 1) for t in (k, v))
    return q.shape[2] <= _FEW_ROWS and q.shape[3] <= _BLOCK and rows_apart


def _rows(queries: int, keys: int, on_tiles: bool) -> int:
    """Queries of a tile; whole matrix tiles, where there are some."""
    if on_tiles:
        return max(1, min(_TILE, queries))
    columns = max(16, min(_BLOCK, -(-keys // 16) * 16))
    return max(1, min(_MOST_ROWS, _SCORES // columns, queries))


def _dense_mask(ctx: Lowering, mask: Tensor, keys: int) -> tuple[Tensor, str | None]:
    """The mask with a number for every key, one after another."""
    if mask.shape and mask.shape[-1] == keys and (mask.strides[-1] == 1 or keys == 1):
        return mask, None
    copy = ctx.temporary((*mask.shape[:-1], keys))
    return copy, copy_step(ctx, mask, copy)


def float_mask(ctx: Lowering, index: int, hidden: float = -math.inf) -> tuple[Tensor, str | None]:
    """A mask input as what is added to the scores; of bools, 0 where they are true and `hidden` elsewhere."""
    mask, element = given(ctx, index), kernel_type(ctx, index)
    if element == "float32":
        return mask, None
    made = ctx.temporary(mask.shape)
    if element != "bool":
        return made, cast_step(ctx, mask, made, element, "float32") if element else "the mask has no native kernel"
    return made, put_mask(ctx, mask, made, hidden)


def put_mask(ctx: Lowering, seen: Tensor, made: Tensor, hidden: float) -> str | None:
    """made = 0 where `seen` (bools), else `hidden`."""
    return where_step(ctx, seen, scalar(ctx, 0.0), scalar(ctx, hidden), made)


def present(ctx: Lowering, past: Tensor | None, new: Tensor, output: int) -> tuple[Tensor, str | None]:
    """What is past and what is new, one after another; it is output `output` where that is wanted."""
    if past is None and not ctx.has_output(output):
        return new, None
    batch, groups, length, size = new.shape
    before = 0 if past is None else past.shape[2]
    shape = (batch, groups, before + length, size)
    made = ctx.output(output) if ctx.has_output(output) else ctx.temporary(shape)
    reason = copy_step(ctx, new, window_of(made, (0, 0, before, 0), new.shape))
    if past is not None and not reason:
        reason = copy_step(ctx, past, window_of(made, (0, 0, 0, 0), past.shape))
    return (new if past is None else made), reason


def _declined(ctx: Lowering) -> str | None:
    a = ctx.attributes
    if ctx.has_output(3):
        return "the scores are wanted"
    if a["softmax_precision"] not in (None, 1):
        return "softmax_precision has no native kernel"
    return dtype_reason(ctx, 0, 1, 2, 4, 5)


def lower_attention(ctx: Lowering) -> str | None:
    """ONNX's Attention."""
    reason = _declined(ctx)
    if reason:
        return reason
    a = ctx.attributes
    q = heads_of(given(ctx, 0), a["q_num_heads"])
    k, v = (heads_of(given(ctx, i), a["kv_num_heads"]) for i in (1, 2))
    if 0 in q.shape:
        return "an input is empty"
    past = ctx.input(4)
    k, reason = present(ctx, past, k, 1)
    v, failed = present(ctx, ctx.input(5), v, 2)
    mask: Tensor | None = None
    if ctx.input(3) is not None:
        mask, wrong = float_mask(ctx, 3)
        if not wrong and mask.shape[-1] != k.shape[2]:
            mask, wrong = _widened(ctx, mask, k.shape[2])
        reason = reason or wrong
    if reason or failed:
        return reason or failed
    lengths = _ALL_KEYS
    if at(ctx.types, 6) is not None:
        found = index_operand(ctx, index=6)
        if isinstance(found, str):
            return found
        lengths = Lengths(*found, from_end=True)
    scale = a["scale"] if a["scale"] is not None else 1 / math.sqrt(q.shape[3])
    right = a["right_window_size"]
    return attend(
        ctx, q, k, v, heads_of(ctx.output(), q.shape[1]), scale=scale, mask=mask, softcap=a["softcap"],
        place=0 if past is None else past.shape[2], left=a["left_window_size"],
        right=0 if a["is_causal"] else right, lengths=lengths,
    )  # fmt: skip


def _widened(ctx: Lowering, mask: Tensor, keys: int) -> tuple[Tensor, str | None]:
    """A mask that names fewer keys than there are: the others are hidden."""
    shape = (*mask.shape[:-1], keys)
    made = ctx.temporary(shape)
    reason = copy_step(ctx, scalar(ctx, -math.inf), made)
    return made, reason or copy_step(ctx, mask, window_of(made, (0,) * len(shape), mask.shape))


def add_masks(ctx: Lowering, masks: Sequence[Tensor]) -> tuple[Tensor | None, str | None]:
    """The sum of masks, which broadcast to each other."""
    if len(masks) < 2:
        return (masks[0] if masks else None), None
    a, b = masks
    made = ctx.temporary(np.broadcast_shapes(a.shape, b.shape))
    return made, binary_step(ctx, "add_f32", a, b, made)
