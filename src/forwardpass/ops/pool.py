"""Pooling of images in ONNX's layout [N, C, *spatial]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes, windows
from .lower import dtype_reason, given, reduce_step, unary_step
from .numeric import widened
from .registry import REQUIRED, Attributes, Case, Constants, Lowering, Types, operator

__all__ = ["average_pool", "max_pool"]


def _lowest(dtype: np.dtype[Any]) -> float:
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _window(attributes: Attributes, x: Array) -> windows.Window:
    return windows.window(attributes, x.shape[2:], attributes["kernel_shape"], ceil_mode=bool(attributes["ceil_mode"]))


def _infer_window(attributes: Attributes, types: Types, kinds: str) -> TensorType:
    x = shapes.required(types, 0, "X", kinds)
    shape = shapes.rank_of(x, "X", 3)
    ceil_mode = shapes.flag(attributes, "ceil_mode")
    if shape is None:
        return TensorType(x.dtype, None)
    kernel = shapes.integers(attributes, "kernel_shape", len(shape) - 2, least=1)
    out = windows.output_sizes(attributes, shape[2:], kernel, ceil_mode=ceil_mode)
    return shapes.tensor(x.dtype, (*shape[:2], *out))


def _infer_max_pool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.flag(attributes, "storage_order")
    y = _infer_window(attributes, types, "fiu")
    return [y, TensorType(np.dtype(np.int64), y.shape)]


def max_pool(attributes: Attributes, x: Array) -> Array:
    """The largest value of every window; the padding never wins."""
    found = _window(attributes, x)
    rank = len(found.kernel)
    return np.asarray(found.taps(x, _lowest(x.dtype)).max(axis=tuple(range(-rank, 0))))


def _flat(taps: Array, rank: int) -> Array:
    """The taps of every window in one dimension."""
    return taps.reshape(*taps.shape[:-rank], math.prod(taps.shape[-rank:]))


def _max_indices(attributes: Attributes, x: Array) -> Array:
    """Where in the flattened input the largest value of every window is, the first one where several are."""
    found = _window(attributes, x)
    rank, spatial = len(found.kernel), x.shape[2:]
    count = np.arange(math.prod(spatial))
    within = count.reshape(spatial[::-1]).T if attributes["storage_order"] else count.reshape(spatial)
    within = within[None, None]
    taps = _flat(found.taps(x, _lowest(x.dtype)), rank)
    # Positions in the padding are -1: a window of -inf alone must not point there.
    places = _flat(found.taps(within, -1), rank)
    inside = np.broadcast_to(places >= 0, taps.shape)
    largest = taps.max(axis=-1, keepdims=True, initial=_lowest(x.dtype))
    wins = ((taps == largest) | np.isnan(taps) if x.dtype.kind == "f" else taps == largest) & inside
    best = wins.argmax(axis=-1)[..., None]
    local = np.take_along_axis(np.broadcast_to(places, taps.shape), best, axis=-1)[..., 0]
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * rank)
    return np.asarray(planes * math.prod(spatial) + local, dtype=np.int64)


def _max_pool(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    return max_pool(attributes, x), _max_indices(attributes, x)


def _infer_average_pool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.flag(attributes, "count_include_pad")
    return [_infer_window(attributes, types, "f")]


def average_pool(attributes: Attributes, x: Array) -> Array:
    """The mean of every window, of its taps inside the image or, with count_include_pad, the padded image."""
    found = _window(attributes, x)
    total = found.taps(widened(x), 0).sum(axis=tuple(range(-len(found.kernel), 0)))
    counts = found.counts(x.shape[2:], bool(attributes["count_include_pad"]))
    with np.errstate(all="ignore"):
        return np.asarray(total / counts.astype(total.dtype), dtype=x.dtype)


_MAX = {**windows.WINDOW, "auto_pad": "NOTSET", "ceil_mode": 0}
_SQUARE = {"kernel_shape": [2, 2], "strides": [2, 2]}
_WIDE = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
_CASES = (
    Case(((2, 3, 6, 8),), _SQUARE),
    Case(((1, 2, 7, 7),), {"kernel_shape": [3, 2]}, name="overlap"),
    Case(((1, 2, 7, 8),), {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 2]}, name="pads"),
    Case(((1, 2, 8, 7),), _WIDE, name="ceil"),
    Case(((1, 2, 8, 7),), {**_WIDE, "pads": [1, 1, 1, 1]}, name="ceil and pads"),
    Case(((1, 1, 3, 3),), {"kernel_shape": [1, 1], "strides": [4, 4], "ceil_mode": 1}, name="ceil past the end"),
    Case(((1, 2, 9, 9),), {"kernel_shape": [2, 3], "dilations": [3, 2]}, name="dilations"),
    Case(((1, 2, 7, 7),), {**_SQUARE, "auto_pad": "SAME_UPPER"}, name="upper"),
    Case(((1, 2, 7, 7),), {**_SQUARE, "auto_pad": "SAME_LOWER"}, name="lower"),
    Case(((1, 2, 7, 7),), {**_SQUARE, "auto_pad": "VALID"}, name="valid"),
    Case(((2, 3, 9),), {"kernel_shape": [3], "strides": [2]}, name="1-D"),
    Case(((1, 2, 4, 5, 6),), {"kernel_shape": [2, 2, 3], "pads": [1, 0, 1, 0, 1, 1]}, name="3-D"),
    Case(((0, 2, 4, 4),), _SQUARE, name="no images"),
)

operator(
    "MaxPool",
    infer=_infer_max_pool,
    reference=_max_pool,
    attributes={**_MAX, "kernel_shape": REQUIRED, "storage_order": 0},
    cases=(
        *_CASES,
        Case(((2, 3, 4, 6),), {**_SQUARE, "storage_order": 1}, name="column-major indices"),
        Case((np.arange(32, dtype=np.int8).reshape(1, 2, 4, 4),), _SQUARE, name="int8"),
    ),
)

operator(
    "AveragePool",
    infer=_infer_average_pool,
    reference=average_pool,
    attributes={**_MAX, "kernel_shape": REQUIRED, "count_include_pad": 0},
    cases=(
        *_CASES,
        Case(
            ((1, 2, 6, 7),),
            {"kernel_shape": [3, 3], "pads": [1, 2, 0, 1], "strides": [2, 1], "count_include_pad": 1},
            name="count pads",
        ),
        Case(
            ((1, 2, 8, 7),),
            {**_WIDE, "pads": [1, 1, 1, 1], "count_include_pad": 1},
            name="ceil and counted pads",
        ),
    ),
)


def _infer_global(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "f")
    shape = shapes.rank_of(x, "X", 2)
    if shape is None:
        return [TensorType(x.dtype, None)]
    if any(d == 0 for d in shape[2:]):
        raise GraphError("the image has no pixels", expected="at least one", got=str(x))
    return [shapes.tensor(x.dtype, (*shape[:2], *(1,) * (len(shape) - 2)))]


def _spatial_axes(rank: int) -> tuple[int, ...]:
    return tuple(range(2, rank))


def _spatial(x: Array) -> tuple[int, ...]:
    return _spatial_axes(x.ndim)


_GLOBAL_CASES = (
    Case(((2, 3, 5, 7),)),
    Case(((1, 17, 1, 1),), name="one pixel"),
    Case(((2, 3, 5),), name="1-D"),
    Case(((1, 2, 3, 4, 5),), name="3-D"),
    Case(((0, 3, 4, 4),), name="no images"),
)

operator(
    "GlobalAveragePool",
    infer=_infer_global,
    reference=lambda attributes, x: np.asarray(widened(x).mean(axis=_spatial(x), keepdims=True), dtype=x.dtype),
    cases=_GLOBAL_CASES,
)

operator(
    "GlobalMaxPool",
    infer=_infer_global,
    reference=lambda attributes, x: np.asarray(x.max(axis=_spatial(x), keepdims=True)),
    cases=_GLOBAL_CASES,
)


def _check_power(attributes: Attributes) -> None:
    if shapes.integer(attributes, "p") < 1:
        raise GraphError("attribute 'p' is wrong", expected="at least 1", got=str(attributes["p"]))


def _norm(taps: Array, p: int, axes: tuple[int, ...], keep: bool = False) -> Array:
    """The Lp norm over some axes."""
    if p == 1:
        return np.asarray(np.abs(taps).sum(axis=axes, keepdims=keep))
    if p == 2:
        return np.asarray(np.sqrt(np.square(taps).sum(axis=axes, keepdims=keep)))
    powers = np.abs(taps) ** p
    return np.asarray(powers.sum(axis=axes, keepdims=keep) ** (1 / p))


def _infer_lp_pool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_power(attributes)
    return [_infer_window(attributes, types, "f")]


def _lp_pool(attributes: Attributes, x: Array) -> Array:
    found = _window(attributes, x)
    axes = tuple(range(-len(found.kernel), 0))
    return np.asarray(_norm(found.taps(widened(x), 0), attributes["p"], axes), dtype=x.dtype)


operator(
    "LpPool",
    infer=_infer_lp_pool,
    reference=_lp_pool,
    attributes={**_MAX, "kernel_shape": REQUIRED, "p": 2},
    cases=(
        *_CASES,
        Case(((1, 2, 6, 7),), {**_SQUARE, "p": 1}, name="p 1"),
        Case(((2, 3, 9),), {"kernel_shape": [3], "p": 3}, name="p 3"),
    ),
)


def _infer_global_lp(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_power(attributes)
    return _infer_global(attributes, types, constants)


def _lower_global_lp(ctx: Lowering) -> str | None:
    if reason := dtype_reason(ctx):
        return reason
    x, y, p = given(ctx), ctx.output(), ctx.attributes["p"]
    if p not in (1, 2):
        return "only p 1 and 2 have native kernels"
    kernel = "reduce_l1_f32" if p == 1 else "reduce_sum_square_f32"
    reason = reduce_step(ctx, kernel, x, y, kept=(0, 1), places=(0, 1), reduced=_spatial_axes(len(x.shape)))
    return reason or (unary_step(ctx, "sqrt", 0.0, 0.0, y, y) if p == 2 else None)


operator(
    "GlobalLpPool",
    infer=_infer_global_lp,
    lower=_lower_global_lp,
    reference=lambda attributes, x: np.asarray(_norm(widened(x), attributes["p"], _spatial(x), True), dtype=x.dtype),
    attributes={"p": 2},
    cases=(*_GLOBAL_CASES, Case(((2, 3, 4, 5),), {"p": 1}, name="p 1"), Case(((2, 3, 4, 5),), {"p": 3}, name="p 3")),
)
