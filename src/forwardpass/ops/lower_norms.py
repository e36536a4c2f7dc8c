"""Lowerings of normalisations to the kernel that normalises dense rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import DTYPES
from . import shapes
from .lower import GRAIN, binary_step, copy_step, dtype_reason, given, reduce_step, scalar, transposed, window_of
from .lower_typed import Lower, cast_step, kernel_type, pair_step
from .registry import Lowering, Tensor

__all__ = [
    "lower_embed",
    "lower_group",
    "lower_instance",
    "lower_layer",
    "lower_lp",
    "lower_lrn",
    "lower_mean_variance",
    "lower_skip",
    "normalize_last",
]

# The `norm` of NormalizeParams.
_EPSILON_IN_ROOT, _EPSILON_BESIDE_ROOT, _ROOT_OF_SUM, _SUM_OF_MAGNITUDES = range(4)
_COST = 8
"""Operations per element, roughly."""


def _rows_step(
    ctx: Lowering,
    x: Tensor,
    y: Tensor,
    rows: int,
    length: int,
    *,
    kernel: str = "normalize_f32",
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    **fields: Any,
) -> None:
    """One kernel over dense rows. `fields` are those of NormalizeParams that are not the usual ones."""
    params = {
        "blocks": 1, "inner": length, "centred": 1, "norm": _EPSILON_IN_ROOT, "epsilon": 0.0,
        "groups": 1, "group_stride": 0, "block_stride": 0, "inner_stride": 0,
        "image": 0, "made_batch": 0, "made_block": 0, **fields,
    }  # fmt: skip
    ctx.step(kernel, params, [x, scale, shift], y, units=rows, grain=max(1, GRAIN // max(length, 1)),
             flops=_COST * rows * length)  # fmt: skip


def _spread(ctx: Lowering, index: int, shape: tuple[int, ...]) -> tuple[Tensor | None, str | None]:
    """An input broadcast to a shape, dense: itself where it has that shape but for leading ones."""
    if ctx.input(index) is None:
        return None, None
    tensor = given(ctx, index)
    if math.prod(tensor.shape) == math.prod(shape):
        return tensor, None
    lead = max(len(tensor.shape) - len(shape), 0)  # dimensions of size 1
    value = ctx.constant(index)
    if value is not None:
        inner = value.reshape(value.shape[lead:])
        key = ("spread", ctx.node.inputs[index], shape)
        return ctx.tensor(ctx.packed(key, lambda: np.ascontiguousarray(np.broadcast_to(inner, shape)))), None
    tensor = Tensor(tensor.buffer, tensor.shape[lead:], tensor.strides[lead:], tensor.offset)
    copy = ctx.temporary(shape)
    return copy, copy_step(ctx, tensor, copy)


def normalize_last(
    ctx: Lowering,
    x: Tensor,
    y: Tensor,
    axis: int,
    *,
    scale: int,
    shift: int | None = None,
    centred: bool = True,
    epsilon: float,
) -> str | None:
    """Normalise the dimensions from `axis` on, and scale and shift by the inputs of these numbers, which broadcast."""
    rows, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    affine = [k for k in (scale, shift) if k is not None and ctx.input(k) is not None]
    # Where one of them differs from row to row, both are spread over all rows.
    every = any(math.prod(given(ctx, k).shape[: -(len(x.shape) - axis)]) > 1 for k in affine)
    full = x.shape if every else x.shape[axis:]
    tensors: list[Tensor | None] = []
    for k in (scale, shift):
        tensor, reason = _spread(ctx, k, full) if k is not None else (None, None)
        if reason:
            return reason
        tensors.append(tensor)
    repeat: dict[str, Any] = {"groups": max(rows, 1), "group_stride": length} if every else {}
    _rows_step(ctx, x, y, rows, length, scale=tensors[0], shift=tensors[1], inner_stride=1, centred=int(centred),
               epsilon=float(epsilon), **repeat)  # fmt: skip
    return None


def _saved(ctx: Lowering, x: Tensor, axis: int, epsilon: float, places: dict[str, int], *, centred: bool) -> str | None:
    """The means and the inverse deviations of rows, where anybody reads these outputs."""
    rows, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    for name, index in places.items():
        if not ctx.has_output(index):
            continue
        if ctx.outputs[index].dtype != np.float32:
            return f"dtype {ctx.outputs[index].dtype.name} has no native kernel"
        y = ctx.output(index)
        if name == "mean":
            kept = range(axis)
            reason = reduce_step(
                ctx, "reduce_mean_f32", x, y, kept=kept, places=kept, reduced=range(axis, len(x.shape))
            )
            if reason:
                return reason
        else:
            _rows_step(ctx, x, y, rows, length, kernel="inverse_deviation_f32", centred=int(centred),
                       epsilon=float(epsilon))  # fmt: skip
    return None


def _stash_reason(ctx: Lowering) -> str | None:
    wide = DTYPES[int(ctx.attributes["stash_type"])] == np.float64
    return "stash_type float64 has no native kernel" if wide else None


def lower_layer(*, centred: bool, shift: int | None = None, saved: dict[str, int] | None = None) -> Lower:
    """LayerNormalization and its form without a mean; `saved` says which outputs are means and inverse deviations."""

    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx) or _stash_reason(ctx)
        if reason:
            return reason
        x, epsilon = given(ctx), ctx.attributes["epsilon"]
        axis = shapes.axis_of(ctx.attributes["axis"], len(x.shape))
        reason = _saved(ctx, x, axis, epsilon, saved or {}, centred=centred)
        return reason or normalize_last(
            ctx, x, ctx.output(), axis, scale=1, shift=shift, centred=centred, epsilon=epsilon
        )

    return lower


def lower_instance(ctx: Lowering) -> str | None:
    """Every channel of every image is a row."""
    reason = dtype_reason(ctx)
    if reason:
        return reason
    x = given(ctx)
    batch, channels = x.shape[:2]
    _rows_step(ctx, x, ctx.output(), batch * channels, math.prod(x.shape[2:]), scale=given(ctx, 1),
               shift=given(ctx, 2), epsilon=float(ctx.attributes["epsilon"]), groups=max(channels, 1),
               group_stride=1)  # fmt: skip
    return None


def lower_group(ctx: Lowering) -> str | None:
    """Every group of channels of every image is a row, of one block per channel."""
    reason = dtype_reason(ctx) or _stash_reason(ctx)
    if reason:
        return reason
    x, groups = given(ctx), int(ctx.attributes["num_groups"])
    batch, channels = x.shape[:2]
    width, inner = channels // groups, math.prod(x.shape[2:])
    inside: dict[str, Any] = {"blocks": width, "inner": inner, "block_stride": 1}
    if inner == 1:
        inside = {"blocks": 1, "inner": width, "inner_stride": 1}
    _rows_step(ctx, x, ctx.output(), batch * groups, width * inner, scale=given(ctx, 1), shift=given(ctx, 2),
               epsilon=float(ctx.attributes["epsilon"]), groups=groups, group_stride=width, **inside)  # fmt: skip
    return None


def _over_axes(ctx: Lowering, axes: Sequence[int], **fields: Any) -> str | None:
    """Rows along any axes: where these are not the last ones in memory, by way of a copy in which they are."""
    x, y = given(ctx), ctx.output()
    kept = [k for k in range(len(x.shape)) if k not in axes]
    order = [*kept, *axes]
    rows, length = math.prod(x.shape[k] for k in kept), math.prod(x.shape[k] for k in axes)
    real = [k for k in order if x.shape[k] != 1]
    if real == sorted(real):
        _rows_step(ctx, x, y, rows, length, **fields)
        return None
    turned = ctx.temporary(tuple(x.shape[k] for k in order))
    reason = copy_step(ctx, transposed(x, order), turned)
    _rows_step(ctx, turned, turned, rows, length, **fields)
    return reason or copy_step(ctx, turned, transposed(y, order))


def lower_lp(ctx: Lowering) -> str | None:
    """LpNormalization."""
    axis = shapes.axis_of(ctx.attributes["axis"], len(given(ctx).shape))
    norm = _SUM_OF_MAGNITUDES if ctx.attributes["p"] == 1 else _ROOT_OF_SUM
    return dtype_reason(ctx) or _over_axes(ctx, [axis], centred=0, norm=norm)


def lower_mean_variance(epsilon: float) -> Lower:
    """MeanVarianceNormalization; `epsilon` is added to the deviation."""

    def lower(ctx: Lowering) -> str | None:
        axes = sorted(set(shapes.axes_of(ctx.attributes["axes"], len(given(ctx).shape))))
        return dtype_reason(ctx) or _over_axes(ctx, axes, norm=_EPSILON_BESIDE_ROOT, epsilon=epsilon)

    return lower


def lower_lrn(ctx: Lowering) -> str | None:
    """LRN."""
    reason = dtype_reason(ctx)
    if reason:
        return reason
    x, size = given(ctx), int(ctx.attributes["size"])
    channels, inner = x.shape[1], math.prod(x.shape[2:])
    params = {
        "channels": channels, "inner": inner, "before": min((size - 1) // 2, channels),
        "after": min(size // 2, channels), "alpha": ctx.attributes["alpha"] / size,
        "beta": float(ctx.attributes["beta"]), "bias": float(ctx.attributes["bias"]),
    }  # fmt: skip
    ctx.step("lrn_f32", params, [x], ctx.output(), units=x.shape[0] * inner, grain=GRAIN, flops=40 * x.size)
    return None


def lower_skip(*, centred: bool, shift: int | None, bias: int) -> Lower:
    """The normalisation of a sum, which is the fourth output: SkipLayerNormalization and its form without a mean."""

    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx)
        if reason:
            return reason
        x, y, epsilon = given(ctx), ctx.output(), ctx.attributes["epsilon"]
        total, axis = ctx.output(3) if ctx.has_output(3) else y, len(x.shape) - 1
        reason = binary_step(ctx, "add_f32", x, given(ctx, 1), total)
        if not reason and ctx.input(bias) is not None:
            reason = binary_step(ctx, "add_f32", total, given(ctx, bias), total)
        # The sum may lie in the memory of the first output, which is written last.
        reason = reason or _saved(ctx, total, axis, epsilon, {"mean": 1, "inverse": 2}, centred=centred)
        return reason or normalize_last(ctx, total, y, axis, scale=2, shift=shift, centred=centred, epsilon=epsilon)

    return lower


def _add_rows(ctx: Lowering, table: int, ids: int, total: Tensor, *, first: bool = False) -> str | None:
    """Put rows of an embedding into `total`, or add them to it."""
    element, indices, source = kernel_type(ctx, ids), given(ctx, ids), given(ctx, table)
    if element not in ("int32", "int64"):
        return "indices are neither int32 nor int64"
    rows = total if first else ctx.temporary((*indices.shape, source.shape[1]))
    block = source.shape[1] * rows.buffer.itemsize
    params = {"size": source.shape[0], "count": max(indices.size, 1), "block": block,
              "index_bytes": np.dtype(element).itemsize}  # fmt: skip
    ctx.step("gather_any", params, [source, indices], rows, units=indices.size if block else 0, flops=rows.size)
    return None if first else binary_step(ctx, "add_f32", total, rows, total)


def _mask_lengths(ctx: Lowering) -> str | None:
    """The second output of EmbedLayerNormalization: how many elements of every row of the mask are 1."""
    y = ctx.output(1)
    if ctx.input(7) is None:
        return copy_step(ctx, scalar(ctx, 0, np.dtype(np.int32)), y)
    mask, element = given(ctx, 7), kernel_type(ctx, 7)
    one = scalar(ctx, 1, np.dtype(element))
    equal, count = ctx.temporary(mask.shape, np.dtype(np.bool_)), ctx.temporary(mask.shape, np.dtype(np.int32))
    reason = pair_step(ctx, "equal_any", element, mask, one, equal)
    reason = reason or cast_step(ctx, equal, count, "bool", "int32")
    return reason or reduce_step(ctx, "reduce_sum_int", count, y, kept=[0], places=[0], reduced=[1], element="int32")


def lower_embed(ctx: Lowering) -> str | None:
    """EmbedLayerNormalization: the sum of rows of two or three tables, normalised."""
    reason = dtype_reason(ctx, 2, 3, 4, 5, 6)
    if reason or ctx.outputs[0].dtype != np.float32:
        return reason or "the output has no native kernel"
    y, positions = ctx.output(), given(ctx, 3)
    total = ctx.output(2) if ctx.has_output(2) else y
    batch, length, hidden = y.shape
    reason = _add_rows(ctx, 2, 0, total, first=True)
    if not reason and ctx.input(8) is not None:
        reason = _add_rows(ctx, 3, 8, total)
    elif not reason:
        if length > positions.shape[0]:
            return "more places than position_embedding has"
        reason = binary_step(ctx, "add_f32", total, window_of(positions, (0, 0), (length, hidden)), total)
    if not reason and ctx.input(1) is not None:
        reason = _add_rows(ctx, 4, 1, total)
    if not reason and ctx.has_output(1):
        reason = _mask_lengths(ctx)
    _rows_step(ctx, total, y, batch * length, hidden, scale=given(ctx, 5), shift=given(ctx, 6), inner_stride=1,
               epsilon=float(ctx.attributes["epsilon"]))  # fmt: skip
    return reason
