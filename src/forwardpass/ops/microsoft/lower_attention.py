"""Native MultiHeadAttention: its forms of Q, K, V and masks as those of the attention kernel."""

from __future__ import annotations

import math

import numpy as np

from .. import shapes
from ..lower import binary_step, copy_step, dtype_reason, given, scalar, window_of
from ..lower_attention import add_masks, attend, heads_of, present, put_mask
from ..lower_typed import kernel_type, pair_step
from ..registry import Lowering, Tensor

__all__ = ["lower_multi_head"]

_HIDDEN = -10000.0
"""What is added to the scores of padding, by default."""


def _part(x: Tensor, index: int) -> Tensor:
    """Part `index` of [batch, length, heads, parts, size] as [batch, heads, length, size]."""
    b, s, h, p, d = x.strides
    batch, length, heads, _, size = x.shape
    return Tensor(x.buffer, (batch, heads, length, size), (b, h, s, d), x.offset + index * p)


def _operands(ctx: Lowering, heads: int) -> list[Tensor]:
    query, key = given(ctx), ctx.input(1)
    if key is None:
        return [_part(query, k) for k in range(3)]
    if len(key.shape) == 5:
        return [heads_of(query, heads), _part(key, 0), _part(key, 1)]
    return [heads_of(query, heads), heads_of(key, heads), heads_of(given(ctx, 2), heads)]


def _biased(ctx: Lowering, operands: list[Tensor]) -> tuple[list[Tensor], str | None]:
    """The operands plus their parts of input bias."""
    bias = ctx.input(3)
    if bias is None:
        return operands, None
    made, at, reason = [], 0, None
    for x in operands:
        _, heads, _, size = x.shape
        part = Tensor(bias.buffer, (1, heads, 1, size), (0, size, 0, 1), bias.offset + at)
        made.append(ctx.temporary(x.shape))
        reason = reason or binary_step(ctx, "add_f32", x, part, made[-1])
        at += heads * size
    return made, reason


def _padding(ctx: Lowering, batch: int, total: int) -> tuple[Tensor | None, str | None]:
    """What input key_padding_mask adds to the scores."""
    if ctx.input(4) is None:
        return None, None
    mask, element = given(ctx, 4), kernel_type(ctx, 4)
    filtered = ctx.attributes["mask_filter_value"]
    hidden = _HIDDEN if filtered is None else float(filtered)
    if len(mask.shape) == 1:
        if mask.shape[0] != batch:
            return None, "the mask has starts and ends"
        places = np.arange(total, dtype=np.dtype(element))
        low = ctx.tensor(places)
        high = Tensor(mask.buffer, (batch, 1), (1, 1), mask.offset)
    else:
        low = scalar(ctx, 0, np.dtype(element))
        high = mask
    shape = (batch, total) if len(mask.shape) == 1 else mask.shape
    seen, made = ctx.temporary(shape, np.dtype(np.bool_)), ctx.temporary((*shape[:-1], total))
    reason = pair_step(ctx, "less_any", element, low, high, seen)
    if shape[-1] < total and not reason:  # the first keys are seen
        reason = copy_step(ctx, scalar(ctx, 0.0), made)
    starts = (0,) * (len(shape) - 1) + (total - shape[-1],)
    reason = reason or put_mask(ctx, seen, window_of(made, starts, shape), hidden)
    lead = (made.shape[0], 1, *(made.shape[1:-1] or (1,)))
    strides = (made.strides[0], 0, *(made.strides[1:-1] or (0,)))
    return Tensor(made.buffer, (*lead, total), (*strides, 1), made.offset), reason


def lower_multi_head(ctx: Lowering) -> str | None:
    """MultiHeadAttention."""
    reason = dtype_reason(ctx, 0, 1, 2, 3, 5, 6, 7)
    if reason or ctx.has_output(3):
        return reason or "the scores are wanted"
    (q, k, v), reason = _biased(ctx, _operands(ctx, ctx.attributes["num_heads"]))
    if reason or 0 in q.shape:
        return reason or "an input is empty"
    k, reason = present(ctx, ctx.input(6), k, 1)
    v, failed = present(ctx, ctx.input(7), v, 2)
    total, length = k.shape[2], q.shape[2]
    padding, wrong = _padding(ctx, q.shape[0], total)
    bias = ctx.input(5) if shapes.at(ctx.types, 5) is not None else None
    mask, unlike = add_masks(ctx, [m for m in (bias, padding) if m is not None])
    if reason or failed or wrong or unlike:
        return reason or failed or wrong or unlike
    backwards = bool(ctx.attributes["unidirectional"])
    if backwards and total < length:
        return "queries that come before all keys"
    scale = ctx.attributes["scale"] or 1 / math.sqrt(q.shape[3])
    return attend(ctx, q, k, v, heads_of(ctx.output(), q.shape[1]), scale=scale, mask=mask, place=total - length,
                  right=0 if backwards else -1)  # fmt: skip
