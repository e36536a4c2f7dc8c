"""Layers that move values: reshaping, padding, cropping, repeating, merging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .call import Call
from .kinds import Flow, layer


@layer("Flatten", integers=True)
def flatten(c: Call) -> str:
    x = c.x
    rank = c.rank(x)
    if c.layer.channels_first and rank > 1:
        x = c.transpose(x, [0, *range(2, rank), 1])
    return c.node("Flatten", [x], axis=1)


@layer("Reshape", integers=True)
def reshape(c: Call) -> str:
    target = c.layer.config.get("target_shape")
    if not isinstance(target, list) or len(target) > 32:
        raise c.layer.error("target_shape", "a list of sizes", target)
    sizes = [-1 if d is None else d for d in target]
    good = all(isinstance(d, int) and not isinstance(d, bool) and (d == -1 or 0 < d < 2**31) for d in sizes)
    if not good or sizes.count(-1) > 1:
        raise c.layer.error("target_shape", "sizes, and at most one -1", target)
    known = c.shape(c.x)[1:]
    if all(isinstance(d, int) for d in known):
        total, rest = math.prod(d for d in known if isinstance(d, int)), math.prod(d for d in sizes if d != -1)
        if -1 in sizes and rest and total % rest == 0:
            sizes[sizes.index(-1)] = total // rest
        if math.prod(sizes) != total:
            raise c.layer.error("target_shape", f"{total} values", target)
    return c.reshape(c.x, [0, *sizes])


@layer("Permute", integers=True)
def permute(c: Call) -> str:
    order = c.layer.integers("dims", c.rank(c.x) - 1)
    if sorted(order) != list(range(1, len(order) + 1)):
        raise c.layer.error("dims", "each axis once", order)
    return c.transpose(c.x, [0, *order])


@layer("RepeatVector", integers=True)
def repeat_vector(c: Call) -> str:
    if c.rank(c.x) != 2:
        raise c.layer.error("input", "two dimensions", c.rank(c.x))
    y = c.node("Unsqueeze", [c.x, c.ints([1], "axes")])
    return c.node("Tile", [y, c.ints([1, c.layer.integer("n"), 1], "repeats")])


# ---- around and inside of images


def _pairs(c: Call, key: str, count: int, default: int) -> list[list[int]]:
    """Before and after on each axis: from an integer, from one per axis, or from pairs."""
    value = c.layer.config.get(key, default)
    outer = value if isinstance(value, list) else [value] * count
    if count == 1 and isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value):
        outer = [value]
    pairs = [v if isinstance(v, list) else [v, v] for v in outer]
    flat = [v for p in pairs for v in p]
    good = all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**31 for v in flat)
    if len(pairs) != count or any(len(p) != 2 for p in pairs) or not good:
        raise c.layer.error(key, f"{count} pairs of integers", value)
    return pairs


def _first(c: Call, count: int) -> int:
    """The first spatial axis."""
    if c.rank(c.x) != count + 2:
        raise c.layer.error("input", f"{count + 2} dimensions", c.rank(c.x))
    return 2 if c.layer.channels_first else 1


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(c: Call) -> str:
    count = int(c.layer.kind[-2])
    pairs, first = _pairs(c, "padding", count, 1), _first(c, count)
    begin, end = [0] * (count + 2), [0] * (count + 2)
    for k, (before, after) in enumerate(pairs):
        begin[first + k], end[first + k] = before, after
    return c.node("Pad", [c.x, c.ints([*begin, *end], "pads")], mode="constant")


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(c: Call) -> str:
    count = int(c.layer.kind[-2])
    pairs, first = _pairs(c, "cropping", count, 1 if count == 1 else 0), _first(c, count)
    top = np.iinfo(np.int64).max
    starts, ends = [p[0] for p in pairs], [-p[1] if p[1] else top for p in pairs]
    axes = [first + k for k in range(count)]
    for axis, pair in zip(axes, pairs):
        size = c.shape(c.x)[axis]
        if isinstance(size, int) and sum(pair) >= size:
            raise c.layer.error("cropping", f"less than {size}", pair)
    return c.node("Slice", [c.x, c.ints(starts), c.ints(ends), c.ints(axes)])


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(c: Call) -> str:
    count = int(c.layer.kind[-2])
    factors, first = c.layer.integers("size", count, 2), _first(c, count)
    how = str(c.layer.config.get("interpolation", "nearest")) if count == 2 else "nearest"
    if how not in ("nearest", "bilinear"):
        raise c.unsupported("this interpolation is not read", expected="nearest or bilinear", got=how)
    # ONNX resizes the last axes fastest, so images go through channels-first.
    x = c.x if first == 2 else c.transpose(c.x, [0, count + 1, *range(1, count + 1)])
    scales = c.constant("scales", np.array([1, 1, *factors], np.float32))
    if how == "nearest":
        y = c.node(
            "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
    else:
        y = c.node("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")
    return y if first == 2 else c.transpose(y, [0, *range(2, count + 2), 1])


@layer("Resizing")
def resizing(c: Call) -> str:
    sizes = [c.layer.integer("height"), c.layer.integer("width")]
    how = c.layer.config.get("interpolation", "bilinear")
    special = [k for k in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias") if c.layer.flag(k, False)]
    if how not in ("nearest", "bilinear") or special or c.rank(c.x) != 4:
        raise c.unsupported("this form of resizing is not read", got=", ".join([str(how), *special]))
    x = c.x if c.layer.channels_first else c.transpose(c.x, [0, 3, 1, 2])
    target = c.ints([c.size(x, 1), *sizes], "sizes")
    batch = c.node("Concat", [c.node("Shape", [x], start=0, end=1), target], axis=0)
    mode = {"nearest": "nearest", "bilinear": "linear"}[str(how)]
    y = c.node(
        "Resize",
        [x, "", "", batch],
        mode=mode,
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    )
    return y if c.layer.channels_first else c.transpose(y, [0, 2, 3, 1])


# ---- merging


def _aligned(c: Call) -> list[str]:
    """The inputs of a merging layer with the same rank: dimensions of size 1 come after the batch."""
    if not c.flows:
        raise c.layer.error("inputs", "at least one tensor", 0)
    rank = max(c.rank(f.value) for f in c.flows)
    return [
        f.value
        if c.rank(f.value) == rank
        else c.node("Unsqueeze", [f.value, c.ints(list(range(1, 1 + rank - c.rank(f.value))), "axes")])
        for f in c.flows
    ]


def _all(c: Call, masks: Sequence[str]) -> str | None:
    """Known where all are."""
    found: str | None = None
    for mask in masks:
        found = mask if found is None or found == mask else c.node("And", [found, mask])
    return found


_MERGES = {"Add": "Add", "Multiply": "Mul", "Subtract": "Sub", "Maximum": "Max", "Minimum": "Min"}


@layer(*_MERGES, "Average", integers=True)
def merge(c: Call) -> Flow:
    values = _aligned(c)
    op = _MERGES.get(c.layer.kind, "Add")
    if c.layer.kind == "Subtract" and len(values) != 2:
        raise c.layer.error("inputs", "two tensors", len(values))
    y = values[0]
    for x in values[1:]:
        y = c.node(op, [y, x])
    if c.layer.kind == "Average":
        y = c.node("Div", [y, c.number(len(values), "count")])
    return Flow(y, _all(c, [f.mask for f in c.flows if f.mask is not None]))


@layer("Concatenate", integers=True)
def concatenate(c: Call) -> Flow:
    values = [f.value for f in c.flows]
    if not values:
        raise c.layer.error("inputs", "at least one tensor", 0)
    rank = c.rank(values[0])
    (axis,) = c.layer.axes("axis", rank)
    y = c.node("Concat", values, axis=axis)
    masks = [f.mask for f in c.flows]
    if all(m is None for m in masks):
        return Flow(y)
    if axis == rank - 1 and rank > 2:
        # One known part makes a step known, and a part without a mask always is.
        known = [m for m in masks if m is not None]
        if len(known) < len(masks):
            return Flow(y)
        merged = known[0]
        for mask in known[1:]:
            merged = merged if mask == merged else c.node("Or", [merged, mask])
        return Flow(y, merged)
    if axis == 1 and rank == 3 and all(m is not None for m in masks):
        return Flow(y, c.node("Concat", [m for m in masks if m is not None], axis=1))
    raise c.unsupported("masked values are joined along this axis, which is not read", got=f"axis {axis}")


@layer("Dot")
def dot(c: Call) -> str:
    """Products over one axis of each input, for every sample; the other axes follow each other."""
    if len(c.flows) != 2:
        raise c.layer.error("inputs", "two tensors", len(c.flows))
    x, y = (f.value for f in c.flows)
    ranks = c.rank(x), c.rank(y)
    value = c.layer.config.get("axes")
    pair: list[Any] = value if isinstance(value, list) else [value, value]
    good = len(pair) == 2 and all(isinstance(v, int) and -r <= v < r and v % r for v, r in zip(pair, ranks))
    if not good or max(ranks) > 8:
        raise c.layer.error("axes", "an axis of each input but the first", value)
    if c.layer.flag("normalize", False):
        x, y = (_unit(c, v, a) for v, a in zip((x, y), pair))
    left = "abcdefgh"[: ranks[0]]
    right = ["a", *"ijklmnop"[: ranks[1] - 1]]
    right[pair[1] % ranks[1]] = left[pair[0] % ranks[0]]
    summed = left[pair[0] % ranks[0]]
    kept = "".join(k for k in left if k != summed) + "".join(k for k in right[1:] if k != summed)
    z = c.node("Einsum", [x, y], equation=f"{left},{''.join(right)}->{kept}")
    return c.node("Unsqueeze", [z, c.ints([1], "axes")]) if len(kept) == 1 else z


def _unit(c: Call, x: str, axis: int) -> str:
    """Vectors along an axis of length 1."""
    length = c.node("ReduceL2", [x, c.ints([axis], "axes")], keepdims=1)
    return c.node("Div", [x, c.node("Max", [length, c.number(1e-12, "least")])])


@layer("UnitNormalization", masking="pass")
def unit_normalization(c: Call) -> str:
    axes = c.layer.axes("axis", c.rank(c.x))
    length = c.node("ReduceL2", [c.x, c.ints(axes, "axes")], keepdims=1)
    return c.node("Div", [c.x, c.node("Max", [length, c.number(1e-12, "least")])])
