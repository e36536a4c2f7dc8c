"""fused.Attention: what a pass makes of softmax(scale Q K^T + mask) V written out in smaller operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower import dtype_reason, given, transposed
from .lower_attention import attend, float_mask
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator

_NAMES = ("q", "k", "v")
_RANK = 4


def _order(attributes: Attributes, letter: str, rank: int) -> list[int]:
    """The permutation of an operand, which has this rank after a part was taken of it."""
    given = attributes[f"{letter}_perm"]
    if given and sorted(given) != list(range(rank)):
        raise GraphError(f"attribute '{letter}_perm' is wrong", expected=f"a permutation of {rank}", got=str(given))
    return list(given or range(rank))


def _shape(attributes: Attributes, letter: str, found: TensorType) -> tuple[Dim, ...] | None:
    """[..., length, size] of an operand."""
    shape = found.shape
    if shape is None:
        return None
    taken = attributes[f"{letter}_take"]
    if taken:
        axis, index = taken
        size = shape[axis]
        if isinstance(size, int) and not 0 <= index < size:
            raise GraphError(f"attribute '{letter}_take' is out of range", expected=f"< {size}", got=str(index))
        shape = shape[:axis] + shape[axis + 1 :]
    if len(shape) < 2:
        raise GraphError(f"operand {letter} has too few dimensions", expected="2 or more", got=str(found))
    return tuple(shape[k] for k in _order(attributes, letter, len(shape)))


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    found = [shapes.required(types, i, name, "f") for i, name in enumerate("QKV")]
    dtype = shapes.same_dtype(found, tuple("QKV"))
    q, k, v = (_shape(attributes, letter, t) for letter, t in zip(_NAMES, found))
    if q is None or k is None or v is None:
        return [TensorType(dtype, None)]
    shapes.unify(q[-1], k[-1], "the sizes of the heads of Q and K")
    shapes.unify(k[-2], v[-2], "the lengths of K and V")
    lead = [list(s[:-2]) for s in (q, k, v)]
    for other in lead[1:]:  # a head of K and V serves several of Q
        a, b = (lead[0] or [None])[-1], (other or [None])[-1]
        if isinstance(a, int) and isinstance(b, int) and 1 < b < a and a % b == 0:
            other[-1] = a
    parts = [TensorType(dtype, tuple(part)) for part in lead]
    mask = shapes.at(types, 3)
    if mask is not None:
        if mask.shape is None:
            return [TensorType(dtype, None)]
        parts.append(TensorType(dtype, tuple(mask.shape[:-2])))
    result = shapes.broadcast_all(parts)
    if result is None:
        return [TensorType(dtype, None)]
    whole = (*result, q[-2], v[-1])
    return [shapes.tensor(dtype, tuple(whole[k] for k in _order(attributes, "out", len(whole))))]


def _operand(attributes: Attributes, letter: str, x: Array) -> Array:
    taken = attributes[f"{letter}_take"]
    if taken:
        x = np.take(x, taken[1], axis=taken[0])
    return np.transpose(x, _order(attributes, letter, x.ndim))


def _attention(attributes: Attributes, *given: Array | None) -> Array:
    q, k, v = (_operand(attributes, letter, x) for letter, x in zip(_NAMES, given) if x is not None)
    mask = given[3] if len(given) > 3 else None
    heads = q.shape[-3] if q.ndim > 2 else 1
    k, v = (
        np.repeat(x, heads // x.shape[-3], -3) if x.ndim > 2 and 1 < x.shape[-3] < heads else x for x in (k, v)
    )  # fmt: skip
    scores = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(attributes["scale"])
    if attributes["softcap"]:
        cap = q.dtype.type(attributes["softcap"])
        scores = cap * np.tanh(scores / cap)
    if mask is not None:
        scores = scores + mask
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    empty = np.isneginf(top)
    powers = np.exp(scores - np.where(empty, 0, top))
    total = powers.sum(axis=-1, keepdims=True)
    blank = np.nan if attributes["empty_nan"] else 0.0
    weights = np.where(empty, q.dtype.type(blank), powers / np.where(total == 0, 1, total))
    y = np.matmul(weights, v)
    return np.ascontiguousarray(y.transpose(_order(attributes, "out", y.ndim)))


def _view(ctx: Lowering, letter: str, x: Tensor) -> Tensor:
    """An operand as [batch, heads, length, size] in its own memory."""
    taken = ctx.attributes[f"{letter}_take"]
    if taken:
        axis, index = taken
        shape, strides = (s[:axis] + s[axis + 1 :] for s in (x.shape, x.strides))
        x = Tensor(x.buffer, shape, strides, x.offset + index * x.strides[axis])
    return _four(transposed(x, _order(ctx.attributes, letter, len(x.shape))))


def _four(x: Tensor) -> Tensor:
    lead = _RANK - len(x.shape)
    return Tensor(x.buffer, (1,) * lead + x.shape, (0,) * lead + x.strides, x.offset)


def _lower(ctx: Lowering) -> str | None:
    reason = dtype_reason(ctx, 0, 1, 2)
    out = ctx.output()
    if reason or len(out.shape) > _RANK or 0 in out.shape:
        return reason or ("the output is empty" if 0 in out.shape else "more than 4 dimensions")
    if any(len(given(ctx, i).shape) - bool(ctx.attributes[f"{n}_take"]) > _RANK for i, n in enumerate(_NAMES)):
        return "more than 4 dimensions"
    q, k, v = (_view(ctx, letter, given(ctx, i)) for i, letter in enumerate(_NAMES))
    order = _order(ctx.attributes, "out", len(out.shape))
    whole = _four(transposed(out, [order.index(k) for k in range(len(order))]))
    if whole.shape[:3] != q.shape[:3] or v.shape[:3] != k.shape[:3]:
        return "the mask or the values have more batches or heads than the queries"
    mask: Tensor | None = None
    if ctx.input(3) is not None:
        mask, reason = float_mask(ctx, 3)
        if len(mask.shape) > _RANK:
            return "a mask of more than 4 dimensions"
    return reason or attend(
        ctx, q, k, v, whole, scale=ctx.attributes["scale"], mask=mask, softcap=ctx.attributes["softcap"],
        empty_nan=bool(ctx.attributes["empty_nan"]),
    )  # fmt: skip


_HEADS = {"q_perm": [0, 2, 1, 3], "k_perm": [0, 2, 1, 3], "v_perm": [0, 2, 1, 3], "out_perm": [0, 2, 1, 3]}
_PACKED = (2, 5, 3, 4, 8)

operator(
    "Attention",
    domain="fused",
    infer=_infer,
    reference=_attention,
    lower=_lower,
    attributes={
        "scale": 1.0,
        "softcap": 0.0,
        "empty_nan": 1,
        "q_perm": (),
        "k_perm": (),
        "v_perm": (),
        "out_perm": (),
        "q_take": (),
        "k_take": (),
        "v_take": (),
    },
    arity=(3, 4),
    cases=(
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 6)), {"scale": 0.3}, name="4-D"),
        Case(((3, 8), (5, 8), (5, 6)), name="one head"),
        Case(((2, 3, 4, 8), (2, 5, 4, 8), (2, 5, 4, 6)), _HEADS, name="heads inside"),
        Case(
            (_PACKED, _PACKED, _PACKED),
            {f"{n}_{w}": a for k, n in enumerate(_NAMES) for w, a in (("take", [2, k]), ("perm", [0, 2, 1, 3]))},
            name="packed",
        ),
        Case(((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6)), name="groups"),
        Case(((2, 4, 3, 8), (2, 4, 8, 5), (2, 4, 5, 6)), {"k_perm": [0, 1, 3, 2]}, name="keys across"),
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 6), (2, 1, 1, 5)), name="mask"),
        Case(((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 6), (3, 1)), {"softcap": 1.5}, name="soft cap"),
        Case(
            ((1, 1, 2, 8), (1, 1, 5, 8), (1, 1, 5, 6), np.array([[0] * 5, [-np.inf] * 5], np.float32)),
            {"empty_nan": 0},
            name="nothing seen",
        ),
    ),
)


def attributes_of(operand: str, perm: Any, take: Any) -> dict[str, Any]:
    """The attributes that say how an operand lies in memory."""
    found: dict[str, Any] = {}
    if perm and list(perm) != sorted(perm):
        found[f"{operand}_perm"] = list(perm)
    if take:
        found[f"{operand}_take"] = list(take)
    return found
