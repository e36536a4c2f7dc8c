"""Operators that move values without changing them: Transpose, Concat, Pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import STRING, name_of
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower import GRAIN, MAX_RANK, TOO_MANY, copy_step, dims, dtype_reason, given, scalar, transposed, window_of
from .lower_typed import move_reason
from .registry import REQUIRED, Attributes, Case, Constants, Lowering, Tensor, Types, operator

__all__ = ["blank", "permutation"]


def blank(dtype: np.dtype[Any]) -> Array:
    """What padding puts where nothing else is said: 0, False or the empty string."""
    return np.full((), "", STRING) if dtype == STRING else np.zeros((), dtype)


def permutation(attributes: Attributes, rank: int) -> list[int]:
    """The order of a Transpose's dimensions; reversed where the attribute is absent."""
    if attributes["perm"] is None:
        return list(range(rank))[::-1]
    order = shapes.integers(attributes, "perm", rank)
    if sorted(order) != list(range(rank)):
        raise GraphError("attribute 'perm' is wrong", expected=f"a permutation of 0 to {rank - 1}", got=str(order))
    return order


def _infer_transpose(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    return [shapes.tensor(x.dtype, [x.shape[p] for p in permutation(attributes, len(x.shape))])]


def _lower_transpose(ctx: Lowering) -> str | None:
    x = given(ctx)
    return move_reason(ctx) or copy_step(ctx, transposed(x, permutation(ctx.attributes, len(x.shape))), ctx.output())


operator(
    "Transpose",
    infer=_infer_transpose,
    reference=lambda attributes, x: x.transpose(permutation(attributes, x.ndim)).copy(),
    attributes={"perm": None},
    lower=_lower_transpose,
    typed=True,
    narrow=True,
    cases=(
        Case(((3, 5),)),
        Case(((2, 3, 4, 5),), {"perm": [0, 2, 3, 1]}, name="to channels last"),
        Case(((2, 4, 5, 3),), {"perm": [0, 3, 1, 2]}, name="to channels first"),
        Case(((2, 3, 17),), {"perm": [0, 1, 2]}, name="nothing"),
        Case(((33, 17),), {"perm": [1, 0]}, name="matrix"),
        Case(((2, 0, 3),), {"perm": [2, 0, 1]}, name="empty"),
        Case((np.arange(6).reshape(2, 3),), name="integers"),
        Case(((2, 2, 2, 2, 2, 2),), {"perm": [5, 3, 1, 4, 2, 0]}, name="six dimensions"),
    ),
    strided=True,
)


def _infer_concat(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, [str(k) for k in range(len(types))])
    axis = shapes.integer(attributes, "axis")
    known = [t.shape for t in types if t is not None and t.shape is not None]
    if not known:
        return [TensorType(dtype, None)]
    rank = len(known[0])
    axis = shapes.axis_of(axis, rank)
    out: list[Dim] = list(known[0])
    for index, found in enumerate(types):
        shape = shapes.rank_of(found, str(index), rank, rank) if found is not None else None
        for k, d in enumerate(shape or ()):
            if k != axis:
                out[k] = shapes.unify(out[k], d, f"dimension {k} of the inputs of a concatenation along {axis}")
    parts = [s[axis] for s in known]
    unknown = len(known) < len(types) or not all(isinstance(d, int) for d in parts)
    out[axis] = None if unknown else sum(d for d in parts if isinstance(d, int))
    if len(types) == 1:
        out[axis] = parts[0]
    return [shapes.tensor(dtype, out)]


def _lower_concat(ctx: Lowering) -> str | None:
    reason = move_reason(ctx)
    if reason:
        return reason
    y = ctx.output()
    axis = shapes.axis_of(ctx.attributes["axis"], len(y.shape))
    start = 0
    for k in range(len(ctx.types)):
        x = given(ctx, k)
        starts = [0] * len(y.shape)
        starts[axis] = start
        reason = copy_step(ctx, x, window_of(y, starts, x.shape))
        if reason:
            return reason
        start += x.shape[axis]
    return None


operator(
    "Concat",
    infer=_infer_concat,
    reference=lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    attributes={"axis": REQUIRED},
    arity=(1, None),
    lower=_lower_concat,
    typed=True,
    narrow=True,
    cases=(
        Case(((2, 3), (2, 4)), {"axis": 1}),
        Case(((2, 3, 4), (1, 3, 4), (3, 3, 4)), {"axis": 0}, name="first axis"),
        Case(((2, 3, 4, 5), (2, 3, 4, 17)), {"axis": -1}, name="channels"),
        Case(((2, 3, 4), (2, 1, 4)), {"axis": -2}, name="middle"),
        Case(((2, 3),), {"axis": 1}, name="one"),
        Case(((2, 0), (2, 3)), {"axis": 1}, name="empty part"),
        Case(((0, 2), (0, 3)), {"axis": 1}, name="empty"),
        Case((np.arange(3), np.arange(4)), {"axis": 0}, name="integers"),
    ),
    strided=True,
)

PAD_MODES = ("constant", "reflect", "edge", "wrap")


def pad_indices(size: int, before: int, after: int, mode: str) -> Array:
    """Which element of a dimension every element of the padded one is; -1 for the constant.

    Negative pads crop. Where pads of both kinds meet, cropping comes first.

    Raises
    ------
    GraphError
        Nothing is left to crop, or a mode other than constant has nothing to repeat.
    """
    start, stop = max(0, -before), size - max(0, -after)
    if stop < start:
        raise GraphError("negative pads crop more than there is", expected=f"at most {size}", got=str(-before - after))
    kept = np.arange(start, stop, dtype=np.int64)
    widths = (max(0, before), max(0, after))
    if mode == "constant":
        return np.pad(kept, widths, constant_values=-1)
    if not kept.size and any(widths):
        raise GraphError(f"a dimension of size 0 cannot be padded in mode {mode!r}")
    modes: Any = mode
    return np.pad(kept, widths, mode=modes)


def _pad_widths(rank: int, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """The pads before and after of every dimension."""
    along = list(range(rank)) if axes is None else shapes.axes_of(axes, rank)
    if len(pads) != 2 * len(along):
        raise GraphError("input pads has the wrong length", expected=str(2 * len(along)), got=str(len(pads)))
    widths = [(0, 0)] * rank
    for k, axis in enumerate(along):
        widths[axis] = (pads[k], pads[k + len(along)])
    return widths


def _infer_pad(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    shapes.required(types, 1, "pads", "iu")
    mode = shapes.choice(attributes, "mode", PAD_MODES)
    value = shapes.at(types, 2)
    if value is not None and value.dtype != x.dtype:
        raise GraphError(
            "input constant_value has the wrong dtype", expected=name_of(x.dtype), got=name_of(value.dtype)
        )
    pads = shapes.value_of(types, constants, 1, "pads")
    axes = shapes.value_of(types, constants, 3, "axes")
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    if pads is None or (axes is None and shapes.at(types, 3) is not None):
        return [TensorType(x.dtype, (None,) * len(x.shape))]
    out: list[Dim] = []
    for d, (before, after) in zip(x.shape, _pad_widths(len(x.shape), pads, axes)):
        if not isinstance(d, int):
            out.append(d if before == after == 0 else None)
            continue
        if max(0, -before) + max(0, -after) > d or (mode != "constant" and d == 0 and max(before, after) > 0):
            pad_indices(d, min(before, 1), min(after, 1), mode)  # raises, saying which
        out.append(d + before + after)
    return [shapes.tensor(x.dtype, out)]


def _pad(
    attributes: Attributes,
    x: Array,
    pads: Array,
    constant_value: Array | None = None,
    axes: Array | None = None,
) -> Array:
    listed = None if axes is None else [int(a) for a in axes.ravel()]
    y, inside = x, np.ones((1,) * x.ndim, bool)
    for axis, (before, after) in enumerate(_pad_widths(x.ndim, [int(p) for p in pads.ravel()], listed)):
        index = pad_indices(x.shape[axis], before, after, attributes["mode"])
        filled = np.concatenate([y, np.zeros_like(y, shape=(*y.shape[:axis], 1, *y.shape[axis + 1 :]))], axis=axis)
        y = np.take(filled, index, axis=axis)
        inside = inside & (index >= 0).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    value = blank(x.dtype) if constant_value is None else constant_value.reshape(())
    return np.where(inside, y, value)


def _lower_constant_pad(ctx: Lowering) -> str | None:
    """Elements of any dtype, or around them a value that only a call knows: a fill and a copy."""
    reason = move_reason(ctx)
    if reason:
        return reason
    pads, axes = ctx.constant(1), ctx.constant(3)
    if pads is None or (axes is None and ctx.input(3) is not None):
        return "pads or axes are not constant"
    if ctx.attributes["mode"] != "constant":
        return f"mode {ctx.attributes['mode']} has no kernel for this dtype"
    x, y = given(ctx), ctx.output()
    listed = None if axes is None else [int(a) for a in axes.ravel()]
    widths = _pad_widths(len(x.shape), [int(p) for p in pads.ravel()], listed)
    dtype, value = ctx.outputs[0].dtype, ctx.input(2)
    if value is None:
        value = scalar(ctx, 0, dtype)
    if any(b > 0 or a > 0 for b, a in widths):
        reason = copy_step(ctx, Tensor(value.buffer, (), (), value.offset), y)
    kept = [d + min(b, 0) + min(a, 0) for d, (b, a) in zip(x.shape, widths)]
    source = window_of(x, [max(0, -b) for b, _ in widths], kept)
    return reason or copy_step(ctx, source, window_of(y, [max(0, b) for b, _ in widths], kept))


def _lower_pad(ctx: Lowering) -> str | None:
    if dtype_reason(ctx, 0) or (ctx.input(2) is not None and ctx.constant(2) is None):
        return _lower_constant_pad(ctx)
    x, y = given(ctx), ctx.output()
    fixed = [ctx.constant(k) for k in (1, 2, 3)]
    if any(v is None and ctx.input(k) is not None for k, v in enumerate(fixed, 1)):
        return "pads, axes or the constant value are not constant"
    pads, value, axes = fixed
    assert pads is not None
    widths = _pad_widths(
        len(x.shape), [int(p) for p in pads.ravel()], None if axes is None else [int(a) for a in axes.ravel()]
    )
    merged = _merge_unpadded(x, y, widths)
    if len(merged) > MAX_RANK:
        return TOO_MANY
    tables = [pad_indices(size, *width, ctx.attributes["mode"]) for size, _, _, width in merged]
    params: dict[str, Any] = {
        "rank": len(merged),
        "shape": dims(len(t) for t in tables),
        "in_stride": dims(m[1] for m in merged),
        "out_stride": dims(m[2] for m in merged),
        "index": np.concatenate(tables),
        "value": 0.0 if value is None else float(value.reshape(())),
    }
    ctx.step("pad_f32", params, [x], y, units=y.size, grain=GRAIN, flops=y.size)
    return None


def _merge_unpadded(
    x: Tensor, y: Tensor, widths: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int, tuple[int, int]]]:
    """Per dimension: size, strides of input and output, pads. Neighbours without pads may become one."""
    merged: list[tuple[int, int, int, tuple[int, int]]] = []
    for size, sx, sy, width in zip(x.shape, x.strides, y.strides, widths):
        if width == (0, 0) and size == 1:
            continue
        if merged and width == merged[-1][3] == (0, 0) and merged[-1][1:3] == (sx * size, sy * size):
            merged[-1] = (merged[-1][0] * size, sx, sy, width)
        else:
            merged.append((size, sx, sy, width))
    return merged or [(1, 1, 1, (0, 0))]


def _pads(*values: int) -> Array:
    return np.array(values, np.int64)


operator(
    "Pad",
    infer=_infer_pad,
    reference=_pad,
    attributes={"mode": "constant"},
    arity=(2, 4),
    lower=_lower_pad,
    typed=True,
    narrow=True,
    cases=(
        Case(((2, 3), _pads(1, 0, 2, 1)), constants=(1,)),
        Case(((2, 3), _pads(0, 2, 0, 1), np.float32(1.5)), constants=(1, 2), name="value"),
        Case(((1, 4, 5, 3), _pads(1, 2, 0, 3), None, _pads(1, 2)), constants=(1, 3), name="axes"),
        Case(((1, 4, 5, 3), _pads(1, 2), None, _pads(-2)), {"mode": "edge"}, constants=(1, 3), name="edge"),
        Case(((3, 4), _pads(2, 3, 1, 0)), {"mode": "reflect"}, constants=(1,), name="reflect"),
        Case(((3, 4), _pads(2, 5, 4, 1)), {"mode": "wrap"}, constants=(1,), name="wrap"),
        Case(((4, 5), _pads(-1, 2, 1, -2)), constants=(1,), name="crop"),
        Case(((2, 3, 4), _pads(0, 0, 0, 0, 0, 0)), constants=(1,), name="nothing"),
        Case(((0, 3), _pads(1, 0, 1, 0)), constants=(1,), name="empty"),
        Case((np.arange(3), _pads(1, 1), np.int64(7)), constants=(1, 2), name="integers"),
    ),
    strided=True,
)
