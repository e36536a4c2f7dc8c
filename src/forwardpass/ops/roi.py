"""Pooling over regions of interest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .lower import dtype_reason, given
from .lower_typed import index_operand
from .numeric import widened
from .registry import REQUIRED, Attributes, Case, Constants, Lowering, Types, operator


def _infer_max_roi_pool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "rois"))
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 4, 4)
    rois = shapes.rank_of(shapes.required(types, 1, "rois"), "rois", 2, 2)
    pooled = shapes.integers(attributes, "pooled_shape", 2, least=1)
    shapes.number(attributes, "spatial_scale")
    if rois is not None:
        shapes.unify(5, rois[1], "5 and the second dimension of rois")
    if x is not None and 0 in x[2:]:
        raise GraphError("the image has no pixels", expected="at least one", got=shapes.describe(x))
    count, channels = (None if rois is None else rois[0]), (None if x is None else x[1])
    return [shapes.tensor(dtype, (count, channels, *pooled))]


def _bins(first: float, last: float, scale: float, count: int, size: int) -> list[slice]:
    """The pixels of every bin along an axis, by Caffe's rule: both ends of the region belong to it."""
    # Halves are rounded away from zero.
    low, high = (int(math.copysign(math.floor(abs(v * scale) + 0.5), v * scale)) for v in (first, last))
    step = max(high - low + 1, 1) / count
    found = []
    for k in range(count):
        start, stop = (min(max(v + low, 0), size) for v in (math.floor(k * step), math.ceil((k + 1) * step)))
        found.append(slice(start, stop))
    return found


def _max_of(x: Array, bins: list[slice], axis: int) -> Array:
    """The largest value of every bin along an axis, NaN where it has no pixels."""
    parts = []
    for b in bins:
        inside: Any = x[:, b] if axis == 1 else x[:, :, b]
        parts.append(inside.max(axis=axis) if b.stop > b.start else np.full(np.delete(x.shape, axis), np.nan, x.dtype))
    return np.stack(parts, axis=axis)


def _check_batch(indices: Array, images: int) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < images:
        raise GraphError("a region names no image", expected=f"0 to {images - 1}", got=str(indices.tolist()[:8]))


def _max_roi_pool(attributes: Attributes, x: Array, rois: Array) -> Array:
    (height, width), scale = attributes["pooled_shape"], attributes["spatial_scale"]
    batch = rois[:, 0].astype(np.int64)
    _check_batch(batch, x.shape[0])
    y = np.zeros((len(rois), x.shape[1], height, width), x.dtype)
    for k, (_, left, top, right, bottom) in enumerate(rois.astype(np.float64)):
        rows = _bins(top, bottom, scale, height, x.shape[2])
        columns = _bins(left, right, scale, width, x.shape[3])
        filled = np.outer([b.stop > b.start for b in rows], [b.stop > b.start for b in columns])
        y[k] = np.where(filled, _max_of(_max_of(x[batch[k]], rows, 1), columns, 2), 0)
    return y


operator(
    "MaxRoiPool",
    infer=_infer_max_roi_pool,
    reference=_max_roi_pool,
    attributes={"pooled_shape": REQUIRED, "spatial_scale": 1.0},
    arity=(2, 2),
    cases=(
        Case(
            ((2, 3, 8, 9), np.array([[0, 0, 1, 7, 6], [1, 3, 2, 4, 9], [1, 8, 8, 2, 2]], np.float32)),
            {"pooled_shape": [3, 2], "spatial_scale": 0.75},
            name="regions",
        ),
    ),
)


def _infer_roi_align(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types[:2], ("X", "rois"))
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 4, 4)
    rois = shapes.rank_of(shapes.required(types, 1, "rois"), "rois", 2, 2)
    batch = shapes.rank_of(shapes.required(types, 2, "batch_indices", "i"), "batch_indices", 1, 1)
    shapes.choice(attributes, "coordinate_transformation_mode", ("half_pixel", "output_half_pixel"))
    shapes.choice(attributes, "mode", ("avg", "max"))
    shapes.number(attributes, "spatial_scale")
    sizes = [shapes.integer(attributes, k) for k in ("output_height", "output_width")]
    if min(sizes) < 1 or shapes.integer(attributes, "sampling_ratio") < 0:
        raise GraphError("the output's size or sampling_ratio is wrong", expected="at least 1, at least 0")
    if x is not None and 0 in x[2:]:
        raise GraphError("the image has no pixels", expected="at least one", got=shapes.describe(x))
    count: Dim = None if rois is None else rois[0]
    if rois is not None:
        shapes.unify(4, rois[1], "4 and the second dimension of rois")
    if batch is not None:
        count = shapes.unify(count, batch[0], "the lengths of rois and batch_indices")
    return [shapes.tensor(dtype, (count, None if x is None else x[1], *sizes))]


class _Samples:
    """Where a region samples along one axis: two neighbours and their weights, [count * grid] each."""

    def __init__(self, start: Any, extent: Any, count: int, ratio: int, size: int) -> None:
        self.count = count
        self.grid = ratio or max(math.ceil(extent / count), 0)
        within = (np.arange(self.grid, dtype=start.dtype) + start.dtype.type(0.5)) / max(self.grid, 1)
        bins = np.arange(count, dtype=start.dtype)
        position = (start + (bins[:, None] + within) * (extent / count)).ravel()
        valid = (position >= -1) & (position <= size)
        position = np.clip(np.where(valid, position, 0), 0, size - 1)
        self.low = np.minimum(position.astype(np.intp), size - 1)
        self.high = np.minimum(self.low + 1, size - 1)
        part = position - self.low
        self.weights = ((1 - part) * valid, part * valid)

    def mean(self, size: int) -> Array:
        """The matrix [count, size] that gives the mean of every bin's samples."""
        matrix = np.zeros((self.count, size), self.weights[0].dtype)
        rows = np.repeat(np.arange(self.count), self.grid)
        for place, weight in zip((self.low, self.high), self.weights):
            np.add.at(matrix, (rows, place), weight)
        return np.asarray(matrix / max(self.grid, 1))


def _align_mean(image: Array, rows: _Samples, columns: _Samples) -> Array:
    # Bilinear samples on a grid, and their mean, are one product per axis over the pixels that the region touches.
    if not (rows.grid and columns.grid):
        return np.zeros((image.shape[0], rows.count, columns.count), image.dtype)
    top, bottom = rows.low.min(), rows.high.max() + 1
    left, right = columns.low.min(), columns.high.max() + 1
    across = image[:, top:bottom, left:right] @ columns.mean(image.shape[2])[:, left:right].T
    return np.asarray(rows.mean(image.shape[1])[:, top:bottom] @ across)


def _align_max(image: Array, rows: _Samples, columns: _Samples) -> Array:
    if not (rows.grid and columns.grid):
        return np.zeros((image.shape[0], rows.count, columns.count), image.dtype)
    # By ONNX's evaluator and its tests the largest of the weighted neighbours counts, not of their sums.
    best = None
    for y, wy in zip((rows.low, rows.high), rows.weights):
        for x, wx in zip((columns.low, columns.high), columns.weights):
            values = image[:, y[:, None], x] * (wy[:, None] * wx)
            best = values if best is None else np.maximum(best, values)
    assert best is not None
    split = best.reshape(image.shape[0], rows.count, rows.grid, columns.count, columns.grid)
    return np.asarray(split.max(axis=(2, 4)))


def _roi_align(attributes: Attributes, x: Array, rois: Array, batch: Array) -> Array:
    _check_batch(batch, x.shape[0])
    images = widened(x)
    half = attributes["coordinate_transformation_mode"] == "half_pixel"
    corners = widened(rois) * attributes["spatial_scale"] - (0.5 if half else 0.0)
    corners = corners.astype(images.dtype)
    if not np.isfinite(corners).all():
        raise GraphError("a region's corner is not finite")
    extents = corners[:, 2:] - corners[:, :2]
    if not half:
        extents = np.maximum(extents, 1)
    sizes, ratio = (attributes["output_width"], attributes["output_height"]), attributes["sampling_ratio"]
    pool = _align_mean if attributes["mode"] == "avg" else _align_max
    y = np.zeros((len(rois), x.shape[1], sizes[1], sizes[0]), images.dtype)
    for k, (start, extent) in enumerate(zip(corners, extents)):
        columns, rows = (_Samples(start[a], extent[a], sizes[a], ratio, x.shape[3 - a]) for a in (0, 1))
        y[k] = pool(images[batch[k]], rows, columns)
    return y.astype(x.dtype, copy=False)


def _lower_roi_align(ctx: Lowering) -> str | None:
    if reason := dtype_reason(ctx, 0, 1):
        return reason
    found = index_operand(ctx, wide=True, index=2)
    if isinstance(found, str):
        return found
    x, rois, y, a = given(ctx), given(ctx, 1), ctx.output(), ctx.attributes
    params: dict[str, Any] = dict(zip(("images", "channels", "height", "width"), x.shape))
    params.update(zip(("out_height", "out_width"), y.shape[2:]))
    params.update(
        ratio=a["sampling_ratio"],
        half_pixel=int(a["coordinate_transformation_mode"] == "half_pixel"),
        largest=int(a["mode"] == "max"),
        scale=float(a["spatial_scale"]),
    )
    units = y.shape[0] * y.shape[2] * y.shape[3] if y.size else 0
    ctx.step("roi_align_f32", params, [x, rois, found[0]], y, units=units, flops=8 * y.size)
    return None


_ROIS = np.array([[0, 0, 9, 9], [1.5, 2.25, 6.5, 8], [5, 1, 5.5, 3], [-3, -2, 4, 12]], np.float32)
_BATCH = np.array([0, 1, 1, 0])
_SIZE = {"output_height": 3, "output_width": 4}

operator(
    "RoiAlign",
    infer=_infer_roi_align,
    reference=_roi_align,
    lower=_lower_roi_align,
    typed=True,
    attributes={
        "coordinate_transformation_mode": "half_pixel",
        "mode": "avg",
        "output_height": 1,
        "output_width": 1,
        "sampling_ratio": 0,
        "spatial_scale": 1.0,
    },
    arity=(3, 3),
    cases=(
        Case(((2, 3, 10, 9), _ROIS, _BATCH), {**_SIZE, "sampling_ratio": 2}),
        Case(((2, 3, 10, 9), _ROIS, _BATCH), _SIZE, name="adaptive"),
        Case(
            ((2, 3, 7, 6), _ROIS, _BATCH),
            {**_SIZE, "coordinate_transformation_mode": "output_half_pixel", "spatial_scale": 0.625},
            name="no shift",
        ),
        Case(((2, 3, 10, 9), _ROIS, _BATCH), {**_SIZE, "mode": "max", "sampling_ratio": 2}, name="max"),
        Case(((2, 3, 10, 9), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), _SIZE, name="no regions"),
    ),
)
