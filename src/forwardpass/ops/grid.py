"""Sampling of images at the points of a grid, and grids of affine maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .interpolation import cubic, gather, linear, working_dtype
from .lower import dims, dtype_reason, given
from .numeric import widened
from .registry import Attributes, Case, Constants, Lowering, Types, operator

_OFFSETS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
_PADDINGS = ("zeros", "border", "reflection")
_CUBIC_A = -0.75


def _infer_grid_sample(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X")
    grid = shapes.rank_of(shapes.required(types, 1, "grid", "f"), "grid", 3)
    shape = shapes.rank_of(x, "X", 3)
    shapes.flag(attributes, "align_corners")
    shapes.choice(attributes, "padding_mode", _PADDINGS)
    if shapes.choice(attributes, "mode", tuple(_OFFSETS)) != "nearest":
        shapes.required(types, 0, "X", "fiubc")
    if shape is None or grid is None:
        return [TensorType(x.dtype, None)]
    if len(shape) != len(grid):
        raise GraphError("inputs X and grid differ in rank", expected=str(len(shape)), got=str(len(grid)))
    shapes.unify(len(shape) - 2, grid[-1], "the spatial rank of X and the last dimension of grid")
    batch = shapes.unify(shape[0], grid[0], "the batches of X and grid")
    if 0 in shape[2:]:
        raise GraphError("the image has no pixels", expected="at least one", got=str(x))
    return [shapes.tensor(x.dtype, (batch, shape[1], *grid[1:-1]))]


def _reflect(x: Array, low: float, high: float) -> Array:
    """Points mirrored at both borders until they lie between them. Those inside stay as they are."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    offset = np.mod(np.abs(x - low), 2 * span)
    mirrored = low + np.where(offset > span, 2 * span - offset, offset)
    return np.asarray(np.where((x < low) | (x > high), mirrored, x), dtype=x.dtype)


def _taps(attributes: Attributes, coordinate: Array, size: int) -> tuple[Array, Array, Array]:
    """For points [N, P] along one dimension: pixels around them [N, P, taps], weights, and which are inside."""
    mode, padding, align = attributes["mode"], attributes["padding_mode"], attributes["align_corners"]
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    x = (coordinate + 1) / 2 * (size - 1) if align else ((coordinate + 1) * size - 1) / 2
    if mode == "nearest":
        x = np.rint(x)
    if padding == "reflection":
        x = _reflect(x, low, high)
    # Far outside nothing changes any more, and NaN is nowhere.
    x = np.clip(np.where(np.isnan(x), -4, x), -4, size + 4).astype(coordinate.dtype, copy=False)
    if mode == "nearest":
        x = np.rint(x)
    pixels = np.floor(x)[..., None] + np.array(_OFFSETS[mode], x.dtype)
    distance = pixels - x[..., None]
    weights = np.ones_like(distance)
    if mode != "nearest":
        weights = linear(distance) if mode == "linear" else cubic(distance, _CUBIC_A)
    inside = np.ones(pixels.shape, bool)
    if padding == "zeros":
        inside = (pixels >= 0) & (pixels < size)
    elif padding == "reflection":
        pixels = np.trunc(_reflect(pixels, low, high))
    return np.clip(pixels, 0, size - 1).astype(np.intp), weights, inside


def _zero(dtype: np.dtype[Any]) -> Any:
    return "" if dtype.kind == "O" else dtype.type(0)


def _grid_sample(attributes: Attributes, x: Array, grid: Array) -> Array:
    out = (*x.shape[:2], *grid.shape[1:-1])
    points = widened(grid).reshape(x.shape[0], math.prod(grid.shape[1:-1]), x.ndim - 2)
    # The grid names the innermost dimension first.
    found = [_taps(attributes, points[..., -1 - k], size) for k, size in enumerate(x.shape[2:])]
    places = [p for p, _, _ in found]
    if attributes["mode"] == "nearest":
        inside = np.logical_and.reduce([i[..., 0] for _, _, i in found])
        values = gather(x, places, None)
        return np.asarray(np.where(inside[:, None], values, _zero(x.dtype)), dtype=x.dtype).reshape(out)
    images = x.astype(working_dtype(x.dtype), copy=False)
    values = gather(images, places, [np.where(i, w, 0) for _, w, i in found])
    return values.astype(x.dtype, copy=False).reshape(out)


def _lower(ctx: Lowering) -> str | None:
    if reason := dtype_reason(ctx):
        return reason
    x, points, y = given(ctx), given(ctx, 1), ctx.output()
    spatial = x.shape[2:]
    if len(spatial) > 3:
        return "more than 3 spatial dimensions"
    a = ctx.attributes
    params = {
        "channels": x.shape[1], "points": max(math.prod(y.shape[2:]), 1), "mode": list(_OFFSETS).index(a["mode"]),
        "padding": _PADDINGS.index(a["padding_mode"]), "align": int(a["align_corners"]),
        "rank": len(spatial), "shape": dims(spatial),
    }  # fmt: skip
    units = x.shape[0] * math.prod(y.shape[2:])
    taps = len(_OFFSETS[a["mode"]]) ** len(spatial)
    ctx.step("grid_sample_f32", params, [x, points], y, units=units, grain=16, flops=2 * taps * y.size)
    return None


def _grid(seed: int, *shape: int) -> Array:
    """Points of which some lie outside of the image."""
    return np.random.default_rng(seed).uniform(-1.3, 1.3, shape).astype(np.float32)


def _cases() -> list[Case]:
    made = []
    for mode in _OFFSETS:
        for padding in ("zeros", "border", "reflection"):
            for align in (0, 1):
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
                name = f"{mode} {padding}{' aligned' if align else ''}"
                made.append(Case(((2, 2, 4, 5), _grid(1, 2, 3, 4, 2)), attributes, name=name))
    return made


operator(
    "GridSample",
    infer=_infer_grid_sample,
    reference=_grid_sample,
    lower=_lower,
    attributes={"align_corners": 0, "mode": "linear", "padding_mode": "zeros"},
    arity=(2, 2),
    cases=(
        *_cases(),
        Case(((1, 2, 3, 4, 5), _grid(2, 1, 2, 3, 2, 3)), name="3-D"),
        Case(
            ((1, 2, 3, 4, 5), _grid(3, 1, 2, 3, 2, 3)),
            {"mode": "nearest", "padding_mode": "border"},
            name="3-D nearest",
        ),
    ),
)


def _infer_affine_grid(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    theta = shapes.required(types, 0, "theta", "f")
    shapes.flag(attributes, "align_corners")
    matrix = shapes.rank_of(theta, "theta", 3, 3)
    size = shapes.value_of(types, constants, 1, "size")
    listed = shapes.required(types, 1, "size", "i").shape
    rank = None if matrix is None or not isinstance(matrix[1], int) else matrix[1]
    if rank is None and listed is not None and isinstance(listed[0], int):
        rank = listed[0] - 2
    if rank is None:
        return [TensorType(theta.dtype, None)]
    if rank not in (2, 3):
        raise GraphError("theta is wrong", expected="[N, 2, 3] or [N, 3, 4]", got=str(theta))
    if matrix is not None:
        shapes.unify(rank, matrix[1], "the rows of theta and the spatial dimensions of size")
        shapes.unify(rank + 1, matrix[2], "the columns of theta and its rows plus 1")
    if listed is not None:
        shapes.unify(rank + 2, listed[0], "the rank of the image and the length of size")
    batch = None if matrix is None else matrix[0]
    if size is None:
        return [TensorType(theta.dtype, (batch, *(None,) * rank, rank))]
    return [
        shapes.tensor(theta.dtype, (shapes.unify(batch, size[0], "the batches of theta and size"), *size[2:], rank))
    ]


def _affine_grid(attributes: Attributes, theta: Array, size: Array) -> Array:
    spatial = [int(d) for d in size[2:]]
    matrices = widened(theta)
    lines = []
    for d in spatial:
        if attributes["align_corners"]:
            line = np.linspace(-1, 1, d) if d > 1 else np.zeros(d)
        else:
            line = (2 * np.arange(d) + 1) / d - 1
        lines.append(line.astype(matrices.dtype))
    axes = np.meshgrid(*lines, indexing="ij")
    positions = np.stack([*axes[::-1], np.ones(spatial, matrices.dtype)], axis=-1).reshape(-1, len(spatial) + 1)
    y = positions @ matrices.transpose(0, 2, 1)
    return np.asarray(y.reshape(len(theta), *spatial, len(spatial)), dtype=theta.dtype)


operator(
    "AffineGrid",
    infer=_infer_affine_grid,
    reference=_affine_grid,
    attributes={"align_corners": 0},
    arity=(2, 2),
)
