"""Layers that move values: reshaping, padding, cropping, repeating."""

from __future__ import annotations

import math

import numpy as np

from .call import Call
from .kinds import layer


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
    mode = {"nearest": "nearest", "bilinear": "linear"}[str(how)]
    y = c.node(
        "Resize",
        [x, "", "", c.ints(sizes, "sizes")],
        axes=[2, 3],
        mode=mode,
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    )
    return y if c.layer.channels_first else c.transpose(y, [0, 2, 3, 1])
