"""Operators that cut, repeat or reorder parts of values: Split, Tile, ReverseSequence, CenterCropPad."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .layout import blank
from .lower import copy_step, given, scalar, window_of
from .lower_scatter import lower_reverse_sequence
from .lower_typed import move_reason
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


_MOST = 1024
"""The outputs of a Split whose number is not known: a node has as many as it names."""


def _even(size: int, count: int) -> list[int]:
    """A size in `count` equal parts; where it cannot be, the last ones are smaller."""
    part = -(-size // count)
    return [min(part, max(0, size - k * part)) for k in range(count)]


def _parts(attributes: Attributes, size: Dim, split: list[int] | None, given: TensorType | None) -> list[Dim]:
    """The sizes of the outputs of Split."""
    count = None if attributes["num_outputs"] is None else shapes.integer(attributes, "num_outputs")
    if (given is None) == (count is None):
        got = "neither" if count is None else "both"
        raise GraphError("the parts are not said once", expected="input split or attribute 'num_outputs'", got=got)
    if split is not None:
        if any(s < 0 for s in split):
            raise GraphError("input split is wrong", expected="sizes of at least 0", got=str(split))
        shapes.unify(size, sum(split), "the dimension to split and the sum of input split")
        return list(split)
    if given is not None:
        (length,) = shapes.rank_of(given, "split", 1, 1) or (None,)
        count = length if isinstance(length, int) else _MOST
    assert count is not None
    if count < 1:
        raise GraphError("the number of parts is wrong", expected="at least 1", got=str(count))
    if given is None and isinstance(size, int):
        return list(_even(size, count))
    return [size if count == 1 else None] * count


def _infer_split(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    split = shapes.value_of(types, constants, 1, "split")
    axis = shapes.integer(attributes, "axis")
    shape = shapes.rank_of(x, "input", 1)
    if shape is None:
        return [TensorType(x.dtype, None)] * len(_parts(attributes, None, split, shapes.at(types, 1)))
    axis = shapes.axis_of(axis, len(shape))
    parts = _parts(attributes, shape[axis], split, shapes.at(types, 1))
    return [shapes.tensor(x.dtype, (*shape[:axis], part, *shape[axis + 1 :])) for part in parts]


def _split(attributes: Attributes, x: Array, split: Array | None = None) -> tuple[Array, ...]:
    axis = shapes.axis_of(attributes["axis"], x.ndim)
    sizes = _even(x.shape[axis], attributes["num_outputs"]) if split is None else [int(s) for s in split.ravel()]
    ends = np.cumsum(sizes, dtype=np.int64)[:-1]
    return tuple(np.ascontiguousarray(part) for part in np.split(x, ends, axis=axis))


def _lower_split(ctx: Lowering) -> str | None:
    reason = move_reason(ctx)
    if reason or (ctx.constant(1) is None and ctx.input(1) is not None):
        return reason or "the sizes are not constant"
    x, start = given(ctx), 0
    axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
    for k, found in enumerate(ctx.outputs):
        shape = list(x.shape)
        if found.shape is None:  # nobody wants this one, and nothing says where the next one begins
            return "an output is left out"
        shape[axis] = found.sizes[axis]
        starts = [start if d == axis else 0 for d in range(len(shape))]
        start += shape[axis]
        reason = copy_step(ctx, window_of(x, starts, shape), ctx.output(k)) if ctx.has_output(k) else None
        if reason:
            return reason
    return None


operator(
    "Split",
    infer=_infer_split,
    reference=_split,
    attributes={"axis": 0, "num_outputs": None},
    arity=(1, 2),
    lower=_lower_split,
    strided=True,
    typed=True,
    cases=(
        Case(((6, 4),), {"num_outputs": 3}),
        Case(((2, 7, 3),), {"axis": 1, "num_outputs": 3}, name="uneven"),
        Case(((2, 5), _ints(1, 0, 4)), {"axis": -1}, constants=(1,), name="sizes"),
        Case(((2, 6, 4, 5), _ints(2, 4)), {"axis": 1}, constants=(1,), name="channels"),
        Case(((4, 3), _ints(1, 3)), name="sizes from a call"),
        Case(((0, 3),), {"num_outputs": 2}, name="empty"),
        Case((np.arange(6),), {"num_outputs": 2}, name="integers"),
        Case(((3, 4),), {"num_outputs": 1}, name="one"),
    ),
    narrow=True,
)


def _infer_tile(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    shapes.required(types, 1, "repeats", "iu")
    repeats = shapes.value_of(types, constants, 1, "repeats")
    if repeats is not None and any(r < 0 for r in repeats):
        raise GraphError("input repeats is wrong", expected="integers of at least 0", got=str(repeats))
    if x.shape is None:
        return [TensorType(x.dtype, None if repeats is None else (None,) * len(repeats))]
    if repeats is None:
        return [TensorType(x.dtype, (None,) * len(x.shape))]
    if len(repeats) != len(x.shape):
        raise GraphError("input repeats has the wrong length", expected=str(len(x.shape)), got=str(len(repeats)))
    return [shapes.tensor(x.dtype, [shapes.product((d, r)) for d, r in zip(x.shape, repeats)])]


def _lower_tile(ctx: Lowering) -> str | None:
    reason = move_reason(ctx)
    if reason or ctx.constant(1) is None:
        return reason or "the repeats are not constant"
    x, y = given(ctx), ctx.output()
    # Every dimension of the output is two: which repeat, and which element of the input.
    pairs = [(full // max(size, 1), size) for full, size in zip(y.shape, x.shape)]
    shape = tuple(d for pair in pairs for d in pair)
    source = tuple(s for stride in x.strides for s in (0, stride))
    target = tuple(s for (_, size), stride in zip(pairs, y.strides) for s in (size * stride, stride))
    return copy_step(ctx, Tensor(x.buffer, shape, source, x.offset), Tensor(y.buffer, shape, target, y.offset))


operator(
    "Tile",
    infer=_infer_tile,
    reference=lambda attributes, x, repeats: np.tile(x, [int(r) for r in repeats.ravel()]),
    arity=(2, 2),
    lower=_lower_tile,
    strided=True,
    typed=True,
    cases=(
        Case(((2, 3), _ints(2, 2)), constants=(1,)),
        Case(((2, 1, 3), _ints(1, 4, 1)), constants=(1,), name="one dimension"),
        Case(((3,), _ints(1)), constants=(1,), name="nothing to do"),
        Case(((2, 3), _ints(0, 2)), constants=(1,), name="no times"),
        Case(((2, 3), _ints(3, 1)), name="repeats from a call"),
        Case((np.arange(3), _ints(2)), constants=(1,), name="integers"),
    ),
    narrow=True,
)


def _infer_reverse_sequence(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    given = shapes.required(types, 1, "sequence_lens", "iu")
    batch, time = shapes.flag(attributes, "batch_axis"), shapes.flag(attributes, "time_axis")
    if batch == time:
        raise GraphError("attributes 'batch_axis' and 'time_axis' are equal", expected="0 and 1", got=str(int(batch)))
    shape = shapes.rank_of(x, "input", 2)
    lengths = shapes.value_of(types, constants, 1, "sequence_lens")
    if shape is None:
        return [TensorType(x.dtype, None)]
    out = list(shape)
    if given.shape:
        out[batch] = shapes.unify(shape[batch], given.shape[0], "the batch and the length of input sequence_lens")
    most = shape[time]
    if lengths and (min(lengths) < 0 or (isinstance(most, int) and max(lengths) > most)):
        raise GraphError(
            "input sequence_lens is out of range",
            expected=f"0 to {shapes.describe((most,))[1:-1]}",
            got=f"{min(lengths)} to {max(lengths)}",
        )
    return [shapes.tensor(x.dtype, out)]


def _reverse_sequence(attributes: Attributes, x: Array, sequence_lens: Array) -> Array:
    batch_first = x if attributes["batch_axis"] == 0 else x.swapaxes(0, 1)
    steps = np.arange(batch_first.shape[1])
    lengths = sequence_lens.astype(np.int64).reshape(-1, 1)
    places = np.where(steps < lengths, lengths - 1 - steps, steps)
    y = batch_first[np.arange(len(lengths))[:, None], places]
    return np.ascontiguousarray(y if attributes["batch_axis"] == 0 else y.swapaxes(0, 1))


operator(
    "ReverseSequence",
    infer=_infer_reverse_sequence,
    reference=_reverse_sequence,
    lower=lower_reverse_sequence,
    typed=True,
    attributes={"batch_axis": 1, "time_axis": 0},
    arity=(2, 2),
    cases=(
        Case(((4, 3), _ints(4, 1, 2))),
        Case(((3, 4, 2), _ints(2, 3, 4)), {"batch_axis": 0, "time_axis": 1}, constants=(1,), name="batch first"),
        Case(((4, 2, 3), _ints(1, 4)), name="more dimensions"),
    ),
    narrow=True,
)


def _crop_axes(attributes: Attributes, rank: int) -> list[int]:
    if attributes["axes"] is None:
        return list(range(rank))
    return shapes.axes_of(shapes.integers(attributes, "axes"), rank)


def _infer_center_crop_pad(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input_data")
    shapes.required(types, 1, "shape", "iu")
    wanted = shapes.value_of(types, constants, 1, "shape")
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    axes = _crop_axes(attributes, len(x.shape))
    if wanted is not None and len(wanted) != len(axes):
        raise GraphError("input shape has the wrong length", expected=str(len(axes)), got=str(len(wanted)))
    out = list(x.shape)
    for k, axis in enumerate(axes):
        out[axis] = None if wanted is None else wanted[k]
    return [shapes.tensor(x.dtype, out)]


def _center_crop_pad(attributes: Attributes, x: Array, shape: Array) -> Array:
    sizes = list(x.shape)
    for axis, size in zip(_crop_axes(attributes, x.ndim), shape.ravel()):
        sizes[axis] = int(size)
    y = np.full(sizes, blank(x.dtype), x.dtype)
    cut = [_centred(old, new) for old, new in zip(x.shape, sizes)]
    y[tuple(slice(to, to + kept) for kept, _, to in cut)] = x[tuple(slice(at, at + kept) for kept, at, _ in cut)]
    return y


def _centred(old: int, new: int) -> tuple[int, int, int]:
    """The elements of an axis that stay, where they start, and where they come to lie."""
    return min(old, new), max(0, old - new) // 2, max(0, new - old) // 2


def _lower_center_crop_pad(ctx: Lowering) -> str | None:
    if ctx.constant(1) is None:
        return "the shape is not constant"
    if reason := move_reason(ctx):
        return reason
    x, y, dtype = given(ctx), ctx.output(), ctx.outputs[0].dtype
    cut = [_centred(old, new) for old, new in zip(x.shape, y.shape)]
    kept = [k for k, _, _ in cut]
    reason = None
    if any(to for _, _, to in cut) or any(k < n for k, n in zip(kept, y.shape)):
        reason = copy_step(ctx, scalar(ctx, 0, dtype), y)
    source, target = window_of(x, [at for _, at, _ in cut], kept), window_of(y, [to for _, _, to in cut], kept)
    return reason or copy_step(ctx, source, target)


operator(
    "CenterCropPad",
    infer=_infer_center_crop_pad,
    reference=_center_crop_pad,
    lower=_lower_center_crop_pad,
    typed=True,
    strided=True,
    attributes={"axes": None},
    arity=(2, 2),
    cases=(
        Case(((5, 8), _ints(2, 5)), constants=(1,), name="crop"),
        Case(((5, 2), _ints(8, 5)), constants=(1,), name="pad"),
        Case(((5, 8, 3), _ints(7, 3)), {"axes": [-1, 1]}, constants=(1,), name="axes"),
        Case(((3, 4), _ints(4, 1)), name="shape from a call"),
        Case((np.arange(20, dtype=np.uint8).reshape(5, 4), _ints(2, 7)), constants=(1,), name="bytes"),
        Case(((0, 4), _ints(3, 3)), constants=(1,), name="from nothing"),
    ),
    narrow=True,
)
