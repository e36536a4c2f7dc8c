"""What lowerings share: strided iteration spaces for kernels, and the steps that several operators emit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Array
from ..records import record
from ..tracked import integer
from .registry import FLOAT, Lowering, Tensor

__all__ = [
    "COPIES",
    "GRAIN",
    "MAX_RANK",
    "TOO_MANY",
    "Convolution",
    "binary_step",
    "broadcast_strides",
    "collapse",
    "copy_step",
    "dims",
    "dtype_reason",
    "given",
    "reduce_step",
    "same_place",
    "scalar",
    "scale_shift_step",
    "space",
    "transposed",
    "unary_step",
    "where_step",
    "window_of",
]

MAX_RANK = 6
"""kMaxRank of csrc/core/kernel.hpp."""
TOO_MANY = f"more than {MAX_RANK} dimensions that cannot be merged"
"""Why a step is declined where `space` finds none."""
COPIES = {1: "copy_x8", 2: "copy_x16", 4: "copy_f32", 8: "copy_x64"}
"""Bytes of an element -> the kernel that copies such elements, whatever they mean."""
GRAIN = 64
"""Elements at which the range of an element-wise kernel may be cut: whole vectors on every ISA, and whole
cache lines, so that two threads seldom write the same one."""


@record(slots=True, eq=False)
class Convolution:
    """What an nhwc.Conv of two spatial dimensions reads and writes.

    Attributes
    ----------
    x
        The images [batch, height, width, channels].
    w
        The weights [rows, columns, channels of a group, outputs].
    out, residual
        [batch, rows, columns, outputs]; the second is added to the first.
    pads
        Zeros around the images: top, left, bottom, right.
    chunk
        The length of the sums of FMA.
    """

    x: Tensor
    w: Array
    out: Tensor
    residual: Tensor | None
    pads: tuple[int, int, int, int]
    chunk: int


def dims(values: Iterable[int]) -> tuple[int, ...]:
    """A DIMS field of a parameter block: the values, filled up to `MAX_RANK`."""
    found = tuple(map(integer, values))
    return found + (0,) * (MAX_RANK - len(found))


def collapse(shape: Sequence[int], *strides: Sequence[int]) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    """The same iteration in C order with as few dimensions as possible.

    Dimensions of size 1 go, and neighbours become one where a single stride does for every operand. A space
    without elements becomes (0,), one without dimensions (1,).

    Returns
    -------
    tuple or None
        The shape and the strides per operand; None where more than `MAX_RANK` dimensions are left.
    """
    if 0 in shape:
        return (0,), [(1,) for _ in strides]
    merged: list[list[int]] = []  # per dimension, innermost first: the stride of every operand, then the size
    for *steps, size in [*zip(*strides, shape)][::-1]:
        if size == 1:
            continue
        if merged:
            inner = merged[-1]
            for outer, stride in zip(steps, inner):
                if outer != stride * inner[-1]:
                    break
            else:
                inner[-1] *= size
                continue
        merged.append([*steps, size])
    if not merged:
        return (1,), [(1,) for _ in strides]
    if len(merged) > MAX_RANK:
        return None
    *steps_of, sizes = zip(*merged[::-1])
    return sizes, steps_of


def space(names: Sequence[str], shape: Sequence[int], *strides: Sequence[int]) -> dict[str, Any] | None:
    """The fields `rank`, `shape` and one of `names` per operand, collapsed; None as `collapse`."""
    found = collapse(shape, *strides)
    if found is None:
        return None
    small, steps = found
    fields: dict[str, Any] = {"rank": len(small), "shape": dims(small)}
    fields.update((name, dims(step)) for name, step in zip(names, steps))
    return fields


def broadcast_strides(tensor: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    """The strides with which the tensor is read as if it had `shape`: 0 along broadcast dimensions."""
    lead = len(shape) - len(tensor.shape)
    own = zip(tensor.shape, tensor.strides, shape[lead:])
    return (0,) * lead + tuple(0 if size == 1 and full != 1 else stride for size, stride, full in own)


def transposed(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """The same memory with its dimensions in another order."""
    shape = tuple(tensor.shape[p] for p in order)
    return Tensor(tensor.buffer, shape, tuple(tensor.strides[p] for p in order), tensor.offset)


def window_of(
    tensor: Tensor, starts: Sequence[int], shape: Sequence[int], steps: Sequence[int] | None = None
) -> Tensor:
    """A box of the tensor, as slicing gives it."""
    steps = steps or (1,) * len(shape)
    # A box without elements starts nowhere: moving the offset could point behind the buffer.
    moved = 0 if 0 in shape else sum(a * s for a, s in zip(starts, tensor.strides))
    strides = tuple(s * step for s, step in zip(tensor.strides, steps))
    return Tensor(tensor.buffer, tuple(shape), strides, tensor.offset + moved)


def same_place(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same elements of the same memory."""
    return a.buffer is b.buffer and a.offset == b.offset and a.shape == b.shape and a.strides == b.strides


def given(ctx: Lowering, index: int = 0) -> Tensor:
    """The tensor of an input that `bind` has found to be there."""
    found = ctx.input(index)
    assert found is not None
    return found


def scalar(ctx: Lowering, value: Any, dtype: np.dtype[Any] = FLOAT) -> Tensor:
    """A constant without axes, which all plans share."""
    return ctx.tensor(ctx.packed(("scalar", value, dtype), lambda: np.full((), value, dtype)))


def dtype_reason(ctx: Lowering, *indexes: int) -> str | None:
    """Why these inputs (all if none are named) cannot run natively, None if they can."""
    for index in indexes or range(len(ctx.types)):
        found = ctx.types[index] if index < len(ctx.types) else None
        if found is not None and found.dtype != FLOAT:
            return f"dtype {found.dtype.name} has no native kernel"
    return None


def reduce_step(
    ctx: Lowering,
    kernel: str,
    x: Tensor,
    y: Tensor,
    *,
    kept: Sequence[int],
    places: Sequence[int],
    reduced: Sequence[int],
    element: str = "",
) -> str | None:
    """One reduction of the axes `reduced` of x, ascending; its axis `kept[i]` is the axis `places[i]` of y.

    A typed kernel gets the name of its element type.
    """
    outer = collapse([x.shape[k] for k in kept], [x.strides[k] for k in kept], [y.strides[p] for p in places])
    inner = collapse([x.shape[k] for k in reduced], [x.strides[k] for k in reduced])
    if outer is None or inner is None:
        return TOO_MANY
    params = {
        "kept_rank": len(outer[0]),
        "kept": dims(outer[0]),
        "kept_stride": dims(outer[1][0]),
        "out_stride": dims(outer[1][1]),
        "reduced_rank": len(inner[0]),
        "reduced": dims(inner[0]),
        "reduced_stride": dims(inner[1][0]),
    }
    if element:
        params["type"] = element
    ctx.step(kernel, params, [x], y, units=y.size, grain=GRAIN, flops=x.size)
    return None


def unary_step(
    ctx: Lowering, row: str, alpha: float, beta: float, src: Tensor, dst: Tensor, *, cost: int = 1
) -> str | None:
    """One activation kernel. `row` is its name in unary.def, `cost` the operations per element."""
    fields = space(("in_stride", "out_stride"), dst.shape, src.strides, dst.strides)
    if fields is None:
        return TOO_MANY
    fields.update(alpha=float(alpha), beta=float(beta))
    ctx.step(f"{row}_f32", fields, [src], dst, units=dst.size, grain=GRAIN, flops=cost * dst.size)
    return None


def binary_step(ctx: Lowering, kernel: str, a: Tensor, b: Tensor, dst: Tensor, *, cost: int = 1) -> str | None:
    """One kernel with two operands, broadcast to the output."""
    strides = (broadcast_strides(a, dst.shape), broadcast_strides(b, dst.shape), dst.strides)
    fields = space(("a_stride", "b_stride", "out_stride"), dst.shape, *strides)
    if fields is None:
        return TOO_MANY
    ctx.step(kernel, fields, [a, b], dst, units=dst.size, grain=GRAIN, flops=cost * dst.size)
    return None


def scale_shift_step(
    ctx: Lowering, x: Tensor, scale: Tensor, shift: Tensor, dst: Tensor, activation: Mapping[str, Any] | None = None
) -> str | None:
    """dst = activation(fma(x, scale, shift)), with the fields of an epilogue."""
    strides = [broadcast_strides(t, dst.shape) for t in (x, scale, shift)]
    fields = space(("in_stride", "scale_stride", "shift_stride", "out_stride"), dst.shape, *strides, dst.strides)
    if fields is None:
        return TOO_MANY
    fields.update({"activation": None, "alpha": 0.0, "beta": 0.0, **(activation or {})})
    ctx.step("scale_shift_f32", fields, [x, scale, shift], dst, units=dst.size, grain=GRAIN, flops=2 * dst.size)
    return None


def copy_step(ctx: Lowering, src: Tensor, dst: Tensor) -> str | None:
    """dst = src, which broadcasts. Nothing is emitted where both are the same memory already."""
    if same_place(src, dst):
        return None
    fields = space(("in_stride", "out_stride"), dst.shape, broadcast_strides(src, dst.shape), dst.strides)
    if fields is None:
        return TOO_MANY
    kernel = COPIES[dst.buffer.itemsize]
    ctx.step(kernel, fields, [src], dst, units=dst.size, grain=GRAIN, flops=math.prod(dst.shape))
    return None


def where_step(ctx: Lowering, condition: Tensor, a: Tensor, b: Tensor, dst: Tensor) -> str | None:
    """dst = a where the condition holds, else b, for elements of any meaning; all three broadcast."""
    strides = [broadcast_strides(t, dst.shape) for t in (condition, a, b)]
    fields = space(("condition_stride", "a_stride", "b_stride", "out_stride"), dst.shape, *strides, dst.strides)
    if fields is None:
        return TOO_MANY
    fields["itemsize"] = dst.buffer.itemsize
    ctx.step("where_any", fields, [condition, a, b], dst, units=dst.size, grain=GRAIN, flops=dst.size)
    return None
