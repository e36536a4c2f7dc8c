"""Resize: interpolation along each axis in turn, from one table of taps and weights per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType, Value
from ..records import record
from . import shapes
from .interpolation import cubic, linear, working_dtype
from .lower import given
from .lower_resize import lower_axes
from .lower_typed import move_reason
from .registry import Attributes, Case, Constants, Lowering, Types, operator

__all__ = ["AxisPlan", "Taps", "axis_taps", "plan_axes"]

_MODES = ("nearest", "linear", "cubic")
_TRANSFORMATIONS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")


@record(frozen=True, slots=True)
class AxisPlan:
    """How one axis is resized: its size, the output's, the scale, and the part of the image that is resized."""

    axis: int
    size: int
    out: int
    scale: float
    region: tuple[float, float]

    @property
    def is_identity(self) -> bool:
        """Whether the axis stays as it is."""
        return self.size == self.out and self.scale == 1 and self.region == (0.0, 1.0)


@record(frozen=True, slots=True)
class Taps:
    """Which pixels every output of an axis is made of.

    Attributes
    ----------
    places : [out, taps]
        Coordinates inside the image.
    weights : [out, taps]
        float64; None for the one tap of nearest.
    outside : [out]
        Where the output is extrapolation_value instead; None where nowhere.
    """

    places: Array
    weights: Array | None
    outside: Array | None


def _present(types: Types, constants: Constants, index: int, name: str, count: int | None) -> tuple[bool, Array | None]:
    """Whether the vector at an input is there (an empty one is not), and its value where that is known."""
    found = shapes.at(types, index)
    if found is None:
        return False, None
    shape = shapes.rank_of(found, name, 1, 1)
    if shape == (0,):
        return False, None
    if shape is not None and count is not None:
        shapes.unify(count, shape[0], f"the number of resized axes and the length of input {name}")
    value: Value = shapes.at(constants, index)
    return True, value if isinstance(value, np.ndarray) else None


def _axes(attributes: Attributes, rank: int) -> list[int]:
    if attributes["axes"] is None:
        return list(range(rank))
    return shapes.axes_of(shapes.integers(attributes, "axes"), rank)


def _by_scales(shape: Sequence[Dim], axes: Sequence[int], scales: Array) -> list[Dim]:
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise GraphError("input scales is wrong", expected="positive numbers", got=str(scales.tolist()))
    out = list(shape)
    for axis, scale in zip(axes, scales.astype(np.float32)):
        size = shape[axis]
        # In float32, as ONNX's shape inference: 10 x 0.7 is 7. A region of interest does not change the size there.
        if isinstance(size, int):
            out[axis] = math.floor(np.float32(size) * scale)
        elif scale != 1:
            out[axis] = None
    return out


def _by_sizes(attributes: Attributes, shape: Sequence[Dim], axes: Sequence[int], sizes: Sequence[int]) -> list[Dim]:
    if any(s < 0 for s in sizes):
        raise GraphError("input sizes is wrong", expected="no negative numbers", got=str(list(sizes)))
    out = list(shape)
    policy = attributes["keep_aspect_ratio_policy"]
    if policy == "stretch":
        for axis, size in zip(axes, sizes):
            out[axis] = size
        return out
    given = [d for d in (shape[a] for a in axes) if isinstance(d, int)]
    scale = _common_scale(policy, given, sizes) if len(given) == len(axes) else None
    for k, axis in enumerate(axes):
        out[axis] = None if scale is None else math.floor(scale * given[k] + 0.5)
    return out


def _common_scale(policy: str, given: Sequence[int], sizes: Sequence[int]) -> float:
    """The scale of all axes that keeps the aspect ratio."""
    if 0 in given:
        raise GraphError("an axis without pixels has no aspect ratio")
    ratios = [s / d for d, s in zip(given, sizes)]
    return (min if policy == "not_larger" else max)(ratios, default=1.0)


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X")
    mode = shapes.choice(attributes, "mode", _MODES)
    transformation = shapes.choice(attributes, "coordinate_transformation_mode", _TRANSFORMATIONS)
    shapes.choice(attributes, "nearest_mode", _NEAREST)
    shapes.choice(attributes, "keep_aspect_ratio_policy", _POLICIES)
    shapes.flag(attributes, "exclude_outside")
    for name in ("cubic_coeff_a", "extrapolation_value"):
        shapes.number(attributes, name)
    if shapes.flag(attributes, "antialias") and mode == "nearest":
        raise GraphError("attribute 'antialias' is wrong", expected="linear or cubic interpolation", got="nearest")
    if mode != "nearest" or transformation == "tf_crop_and_resize":
        shapes.required(types, 0, "X", "fiubc")
    rank = None if x.shape is None else len(x.shape)
    axes = None if rank is None else _axes(attributes, rank)
    count = None if axes is None else len(axes)
    with_roi, _ = _present(types, constants, 1, "roi", None if count is None else 2 * count)
    if transformation == "tf_crop_and_resize" and not with_roi:
        raise GraphError("input roi is absent", expected="a region for tf_crop_and_resize")
    with_scales, scales = _present(types, constants, 2, "scales", count)
    with_sizes, sizes = _present(types, constants, 3, "sizes", count)
    if with_scales == with_sizes:
        raise GraphError("one of scales and sizes is needed", got="both" if with_scales else "none")
    if with_scales:
        shapes.required(types, 2, "scales", "f")
    else:
        shapes.required(types, 3, "sizes", "i")
    if x.shape is None or axes is None:
        return [TensorType(x.dtype, None)]
    if scales is not None:
        out = _by_scales(x.shape, axes, scales)
    elif sizes is not None:
        out = _by_sizes(attributes, x.shape, axes, [int(s) for s in sizes])
    else:
        out = [None if k in axes else d for k, d in enumerate(x.shape)]
    for axis, (a, b) in enumerate(zip(x.shape, out)):
        if a == 0 and isinstance(b, int) and b > 0:
            raise GraphError("an axis without pixels cannot grow", got=f"axis {axis} of {x}")
    return [shapes.tensor(x.dtype, out)]


def plan_axes(
    attributes: Attributes, shape: Sequence[int], roi: Array | None, scales: Array | None, sizes: Array | None
) -> list[AxisPlan]:
    """What a Resize does to the axes of an image of that shape, without those that stay as they are."""
    axes = _axes(attributes, len(shape))
    ratios: list[float]
    if scales is not None and scales.size:
        out = _by_scales(shape, axes, scales)
        ratios = [float(s) for s in scales]
    else:
        assert sizes is not None
        wanted = [int(s) for s in sizes]
        out = _by_sizes(attributes, shape, axes, wanted)
        policy = attributes["keep_aspect_ratio_policy"]
        ratios = [s / max(shape[a], 1) for a, s in zip(axes, wanted)]
        if policy != "stretch":
            ratios = [_common_scale(policy, [shape[a] for a in axes], wanted)] * len(axes)
    regions = [(0.0, 1.0)] * len(axes)
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize" and roi is not None:
        regions = [(float(roi[k]), float(roi[k + len(axes)])) for k in range(len(axes))]
    plans = []
    for axis, ratio, region in zip(axes, ratios, regions):
        size = out[axis]
        assert isinstance(size, int)
        plans.append(AxisPlan(axis, shape[axis], size, ratio, region))
    return [p for p in plans if not p.is_identity]


def _coordinates(transformation: str, plan: AxisPlan, dtype: type) -> Array:
    """Where in the image every output lies, in pixels."""
    # In float32 a scale of 0.4 puts output 1 at 2.5, as meant, not just below: it matters where one pixel is chosen.
    x: Array = np.arange(plan.out, dtype=dtype)
    last = plan.size - 1
    if transformation == "align_corners":
        # By the standard with the output's length, a whole number, even where the scale would make a fraction of it.
        return x * last / max(plan.out - 1, 1)
    if transformation == "asymmetric":
        return x / plan.scale
    if transformation == "tf_crop_and_resize":
        start, end = plan.region
        if plan.out > 1:
            return start * last + x * (end - start) * last / (plan.out - 1)
        return np.full(plan.out, 0.5 * (start + end) * last, dtype)
    if transformation == "pytorch_half_pixel" and plan.out == 1:
        return np.zeros(1, dtype)
    inner = (x + 0.5) / plan.scale - 0.5
    if transformation == "half_pixel_symmetric":
        # The centres of image and output lie on each other, whatever the rounding of the output's size.
        inner += plan.size / 2 * (1 - plan.out / (plan.scale * plan.size))
    return inner


def _nearest(mode: str, x: Array) -> Array:
    if mode == "floor":
        return np.floor(x)
    if mode == "ceil":
        return np.ceil(x)
    return np.ceil(x - 0.5) if mode == "round_prefer_floor" else np.floor(x + 0.5)


def axis_taps(attributes: Attributes, plan: AxisPlan) -> Taps:
    """The pixels and weights of which the outputs of one axis are made."""
    # Numbers of Python: an array of float32 takes any other for one of float64, and rounds to another pixel.
    plan = AxisPlan(plan.axis, int(plan.size), int(plan.out), float(plan.scale), plan.region)
    transformation = attributes["coordinate_transformation_mode"]
    nearest = attributes["mode"] == "nearest"
    x = _coordinates(transformation, plan, np.float32 if nearest else np.float64)
    outside = None
    if transformation == "tf_crop_and_resize":
        beyond = ~((x >= 0) & (x <= plan.size - 1))
        outside = beyond if beyond.any() else None
        x = np.where(beyond, 0, x)
    if nearest:
        places = np.clip(_nearest(attributes["nearest_mode"], x), 0, plan.size - 1)
        return Taps(places.astype(np.intp)[:, None], None, outside)
    radius = 1 if attributes["mode"] == "linear" else 2
    antialias = bool(attributes["antialias"])
    # Against aliasing the filter is stretched over as many pixels as become one.
    stretch = min(plan.scale, 1.0) if antialias else 1.0
    start = math.floor(-radius / stretch) + 1
    places = (np.ceil(x) - 1)[:, None] + np.arange(start, 2 - start)
    distance = (places - x[:, None]) * stretch
    weights = linear(distance) if radius == 1 else cubic(distance, float(attributes["cubic_coeff_a"]))
    if attributes["exclude_outside"]:
        weights = np.where((places >= 0) & (places < plan.size), weights, 0)
    if antialias or attributes["exclude_outside"]:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return Taps(np.clip(places, 0, plan.size - 1).astype(np.intp), weights, outside)


def _along(x: Array, axis: int, taps: Taps, fill: float) -> Array:
    """One axis resized."""
    if taps.weights is None:
        y = np.take(x, taps.places[:, 0], axis=axis)
    else:
        shape = (-1, *(1,) * (x.ndim - axis - 1))
        weights = taps.weights.astype(x.real.dtype)
        y = np.take(x, taps.places[:, 0], axis=axis) * weights[:, 0].reshape(shape)
        for k in range(1, taps.places.shape[1]):
            y += np.take(x, taps.places[:, k], axis=axis) * weights[:, k].reshape(shape)
    if taps.outside is not None:
        y[(slice(None),) * axis + (taps.outside,)] = fill
    return np.asarray(y)


def _saturated(x: Array, dtype: np.dtype[Any]) -> Array:
    """Interpolated values in the dtype of the image: integers rounded to nearest, and inside their range."""
    if dtype.kind in "iu":
        # 2^63 - 1 is no float64: what is not below 2^63 becomes the largest integer by itself.
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        rounded = np.rint(x)
        inside = np.clip(rounded, float(low), np.nextafter(float(high), 0) if high > 2**53 else float(high))
        return np.where(rounded >= float(high), dtype.type(high), inside.astype(dtype))
    return np.asarray(np.rint(x) != 0 if dtype.kind == "b" else x, dtype=dtype)


def _resize(
    attributes: Attributes,
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    plans = plan_axes(attributes, x.shape, roi, scales, sizes)
    if not plans:
        return x
    if any(p.out == 0 for p in plans):
        shape = list(x.shape)
        for p in plans:
            shape[p.axis] = p.out
        return np.zeros(shape, x.dtype)
    nearest = attributes["mode"] == "nearest"
    y = x if nearest else x.astype(working_dtype(x.dtype))
    # Axes that shrink come first: the others then have less to do.
    for plan in sorted(plans, key=lambda p: p.out / p.size):
        y = _along(y, plan.axis, axis_taps(attributes, plan), attributes["extrapolation_value"])
    return y if nearest else _saturated(y, x.dtype)


def _lower(ctx: Lowering) -> str | None:
    listed = [ctx.constant(k) for k in (1, 2, 3)]
    if any(v is None and ctx.input(k) is not None for k, v in enumerate(listed, 1)):
        return "roi, scales or sizes are not constant"
    if reason := move_reason(ctx):
        return reason
    attributes = ctx.attributes
    x, y = given(ctx), ctx.output()
    if not y.size:
        return None
    plans = sorted(plan_axes(attributes, x.shape, *listed), key=lambda p: p.out / p.size)
    axes = [(p.axis, axis_taps(attributes, p)) for p in plans]
    return lower_axes(ctx, axes, attributes["mode"] == "nearest", float(attributes["extrapolation_value"]))


def _scaled(*scales: float) -> tuple[None, Array]:
    return None, np.array(scales, np.float32)


def _sized(*sizes: int) -> tuple[None, None, Array]:
    return None, None, np.array(sizes)


_IMAGE = (2, 3, 5, 6)
_UP, _DOWN = _scaled(1, 1, 2, 3), _sized(2, 3, 3, 4)
_CROP = np.array([0, 0, 0.1, -0.3, 1, 1, 0.8, 1.2], np.float32)


def _cases() -> list[Case]:
    made = []
    for mode in _MODES:
        made.append(Case((_IMAGE, *_UP), {"mode": mode}, constants=(2,), name=mode))
        made.append(Case((_IMAGE, *_DOWN), {"mode": mode}, constants=(3,), name=f"{mode} down"))
        for t in ("align_corners", "asymmetric", "pytorch_half_pixel"):
            attributes = {"mode": mode, "coordinate_transformation_mode": t}
            made.append(Case((_IMAGE, *_sized(2, 3, 7, 5)), attributes, constants=(3,), name=f"{mode} {t}"))
        crop = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.0}
        made.append(Case((_IMAGE, _CROP, *_sized(2, 3, 4, 8)[1:]), crop, constants=(1, 3), name=f"{mode} crop"))
    for mode in _NEAREST:
        attributes = {"nearest_mode": mode, "coordinate_transformation_mode": "asymmetric"}
        made.append(Case((_IMAGE, *_scaled(1, 1, 1.6, 0.4)), attributes, constants=(2,), name=f"nearest {mode}"))
    return made


operator(
    "Resize",
    infer=_infer,
    reference=_resize,
    attributes={
        "antialias": 0,
        "axes": None,
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
        "keep_aspect_ratio_policy": "stretch",
        "mode": "nearest",
        "nearest_mode": "round_prefer_floor",
    },
    arity=(1, 4),
    lower=_lower,
    typed=True,
    cases=(
        *_cases(),
        Case(
            (_IMAGE, *_scaled(2.5, 0.8)),
            {"mode": "cubic", "axes": [2, 3], "exclude_outside": 1, "cubic_coeff_a": -0.5},
            constants=(2,),
            name="cubic inside",
        ),
        Case(
            ((1, 2, 9, 12), *_sized(1, 2, 4, 5)), {"mode": "linear", "antialias": 1}, constants=(3,), name="antialias"
        ),
        Case(
            (_IMAGE, *_sized(7, 9)),
            {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
            constants=(3,),
            name="not larger",
        ),
        Case(
            (_IMAGE, *_scaled(1, 1, 0.7, 1.3)),
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
            constants=(2,),
            name="symmetric",
        ),
        Case(((2, 3, 7), *_scaled(1, 1, 2)), {"mode": "linear"}, constants=(2,), name="1-D"),
        Case(((1, 2, 3, 4, 5), *_scaled(1, 1, 2, 2, 2)), {"mode": "linear"}, constants=(2,), name="3-D"),
    ),
)
