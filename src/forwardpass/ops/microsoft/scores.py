"""Scaled dot-product attention over heads, and what may be seen by whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim
from .. import shapes
from ..registry import Attributes, Types

__all__ = ["attend", "check_attention_bias", "check_heads", "join", "length_after", "padding_mask", "split"]


def check_heads(attributes: Attributes, name: str, hidden: Dim, what: str) -> tuple[int, Dim]:
    """The number of heads that an attribute says, and the size of one."""
    heads = shapes.integer(attributes, name)
    if heads < 1:
        raise GraphError(f"attribute {name!r} is wrong", expected="at least 1", got=str(heads))
    if not isinstance(hidden, int):
        return heads, None
    if hidden % heads:
        raise GraphError(f"{what} is no multiple of {name!r}", expected=f"a multiple of {heads}", got=str(hidden))
    return heads, hidden // heads


def check_attention_bias(types: Types, index: int, batch: Dim, heads: int, length: Dim, total: Dim) -> None:
    """Raise GraphError unless the input is absent or of shape [batch or 1, heads or 1, length, total]."""
    if shapes.at(types, index) is None:
        return
    found = shapes.rank_of(shapes.required(types, index, "attention_bias", "f"), "attention_bias", 4, 4)
    if found is not None:
        for given, wanted, name in zip(found, (batch, heads, length, total), ("batch", "heads", "length", "total")):
            if given != 1 or name in ("length", "total"):
                shapes.unify(wanted, given, f"the {name} of the attention and of input attention_bias")


def length_after(past: Dim, new: Dim) -> Dim:
    """The sum of two lengths."""
    if past == 0:
        return new
    return past + new if isinstance(past, int) and isinstance(new, int) else None


def split(x: Array, heads: int) -> Array:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    return np.asarray(x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3))


def join(x: Array) -> Array:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def padding_mask(mask: Array, batch: int, total: int, filtered: float) -> Array:
    """What a padding mask adds to the scores: 0, or `filtered` where a key is hidden.

    Parameters
    ----------
    mask
        0 and 1 in shape [batch, keys] or [batch, length, keys]; or per sequence the end of its keys [batch],
        or their ends and then their starts [2 * batch]. Where fewer keys than `total` are named, those are the
        last ones; the ones before are seen.

    Returns
    -------
    Array [batch, 1, length or 1, total]
    """
    if mask.ndim == 1:
        if mask.size not in (batch, 2 * batch):
            raise GraphError("input mask has the wrong length", expected=f"{batch} or {2 * batch}", got=str(mask.size))
        place = np.arange(total)
        seen = place < mask[:batch, None]
        if mask.size == 2 * batch:
            seen &= place >= mask[batch:, None]
    else:
        seen = mask > 0
        if seen.shape[-1] < total:
            widths = [(0, 0)] * (seen.ndim - 1) + [(total - seen.shape[-1], 0)]
            seen = np.pad(seen, widths, constant_values=True)
    added = np.where(seen, np.float32(0), np.float32(filtered))
    return np.asarray(added[:, None] if added.ndim == 3 else added[:, None, None])


def attend(
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    *,
    added: Any = None,
    hidden: Array | None = None,
    softcap: float = 0.0,
    sink: Array | None = None,
) -> tuple[Array, Array, Array]:
    """softmax(q k^T * scale + added) v, computed in float32 at least.

    Parameters
    ----------
    q, k, v : [batch, heads, length, size]
    added
        What broadcasts to the scores [batch, heads, length, keys].
    hidden
        Booleans that broadcast to them: keys that do not count at all.
    softcap
        Where it is not 0, scores become softcap * tanh(scores / softcap) before anything is added.
    sink
        One score per head that only enlarges the denominator.

    Returns
    -------
    tuple
        The result [batch, heads, length, size of v] in the dtype of q, the scores, and their softmax.
    """
    working = np.float64 if q.dtype == np.float64 else np.float32
    scores = np.matmul(q.astype(working) * working(scale), k.astype(working).swapaxes(-1, -2))
    if softcap:
        scores = working(softcap) * np.tanh(scores / working(softcap))
    if added is not None:
        scores = scores + added.astype(working)
    if hidden is not None:
        scores = np.where(hidden, working(-np.inf), scores)
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    extra: Any = 0
    if sink is not None:
        column = sink.astype(working).reshape(-1, 1, 1)
        top = np.maximum(top, column)
        extra = np.exp(column - top)
    top = np.where(np.isneginf(top), 0, top)  # nothing is seen: exp gives zeros, not NaN
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True) + extra
    weights = weights / np.where(total == 0, 1, total)
    return np.matmul(weights, v.astype(working)).astype(q.dtype), scores, weights
