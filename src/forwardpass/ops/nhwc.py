"""Image operators on channels-last values [N, H, W, C]: what the layout pass turns Conv and the pools into.

They mean what their ONNX namesakes mean; pads are explicit, and Conv has an epilogue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .conv import check_channels, convolve, kernel_of
from .linear import EPILOGUE, check_bias, check_epilogue, check_residual, epilogue
from .lower import copy_step, dtype_reason, given, reduce_step
from .lower_conv import lower_conv
from .pool import average_pool, max_pool
from .registry import REQUIRED, Attributes, Case, Constants, Lowering, Tensor, Types, operator

__all__ = ["geometry"]


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


def _last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def geometry(attributes: Attributes, shape: tuple[int, ...], kernel: tuple[int, ...]) -> windows.Window:
    """The window of an nhwc node over an image of that shape [N, H, W, C]."""
    return windows.window(attributes, shape[1:-1], kernel, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _infer_conv(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("x", "w", "bias", "residual", "scale"))
    check_epilogue(attributes)
    x = shapes.required(types, 0, "x", "f")
    image = shapes.rank_of(x, "x", 4, 5)
    if shapes.flag(attributes, "channels_first") and image is not None:
        image = (image[0], *image[2:], image[1])
    weights = shapes.rank_of(shapes.required(types, 1, "w"), "w", 4, 5)
    rank = len(image or weights or (None,) * 4)
    image, weights = image or (None,) * rank, weights or (None,) * rank
    if len(weights) != rank:
        raise GraphError("inputs x and w differ in rank", expected=str(rank), got=str(len(weights)))
    check_channels(image[-1], weights[-2], weights[-1], shapes.integer(attributes, "group"))
    check_bias(types, 2, weights[-1])
    kernel = kernel_of(attributes, weights[:-2], rank - 2)
    out: tuple[Dim, ...] = (None,) * (rank - 2)
    if kernel is not None:
        out = windows.output_sizes(attributes, image[1:-1], kernel)
    shape = (image[0], *out, weights[-1])
    check_residual(types, 3, shape)
    _check_scale(attributes, types, image, kernel)
    return [shapes.tensor(dtype, shape)]


def _check_scale(attributes: Attributes, types: Types, image: tuple[Dim, ...], kernel: list[int] | None) -> None:
    """Raise GraphError unless the factors at input 4 are absent, or one per channel of each image or of all, of a
    convolution that they commute with."""
    if len(types) < 5 or types[4] is None:
        return
    found = types[4]
    if len(image) != 4 or tuple(kernel or ()) != (1, 1) or attributes["group"] != 1 or any(attributes["pads"] or ()):
        raise GraphError("only a convolution of 1 x 1 pixels, without groups and pads, has input scale")
    shape = shapes.rank_of(found, "scale", 4, 4)
    if shape is not None:
        if shape[0] != 1:
            shapes.unify(image[0], shape[0], "the number of images and of factors")
        for size in shape[1:3]:
            shapes.unify(1, size, "one pixel and the size of input scale")
        shapes.unify(image[3], shape[3], "the channels of input x and of input scale")


def _conv(
    attributes: Attributes,
    x: Array,
    w: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    scale: Array | None = None,
) -> Array:
    images = x if attributes["channels_first"] else _first(x)
    if scale is not None:
        images = images * _first(scale)
    y = convolve(attributes, images, np.moveaxis(w, (-1, -2), (0, 1)))
    return epilogue(attributes, _last(y), bias, residual)


_3X3 = {"kernel_shape": [3, 3]}

operator(
    "Conv",
    domain="nhwc",
    infer=_infer_conv,
    reference=_conv,
    attributes={**windows.WINDOW, "group": 1, "channels_first": 0, "pooled": 0, **EPILOGUE},
    arity=(2, 5),
    lower=lower_conv,
    cases=(
        Case(((2, 7, 6, 3), (3, 3, 3, 4), (4,)), {**_3X3, "activation": "Relu"}, constants=(1, 2)),
        Case(
            ((1, 8, 9, 3), (3, 2, 3, 5)),
            {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1]},
            constants=(1,),
            name="strides",
        ),
        Case(
            ((2, 9, 9, 4), (3, 3, 2, 6), (6,)),
            {**_3X3, "group": 2, "dilations": [2, 3]},
            constants=(1, 2),
            name="groups",
        ),
        Case(
            ((2, 5, 7, 19), (3, 3, 1, 19), (19,)),
            {**_3X3, "group": 19, "pads": [1, 1, 1, 1], "activation": "HardSwish"},
            constants=(1, 2),
            name="depthwise",
        ),
        Case(
            ((1, 6, 5, 3), (2, 2, 1, 6)),
            {"kernel_shape": [2, 2], "group": 3},
            constants=(1,),
            name="depthwise times 2",
        ),
        Case(
            ((2, 4, 4, 5), (1, 1, 5, 33), (33,), (2, 4, 4, 33)),
            {"kernel_shape": [1, 1], "activation": "Clip", "alpha": 0.0, "beta": 6.0},
            constants=(1, 2),
            name="1x1 with residual",
        ),
        Case(
            ((1, 5, 5, 8), (1, 1, 8, 16)),
            {"kernel_shape": [1, 1], "strides": [2, 2]},
            constants=(1,),
            name="1x1 strided",
        ),
        Case(((0, 6, 6, 3), (3, 3, 3, 2)), _3X3, constants=(1,), name="no images"),
        Case(
            ((2, 4, 5, 6, 3), (3, 2, 3, 3, 20), (20,)),
            {"pads": [1, 0, 1, 2, 1, 0], "strides": [1, 2, 1], "activation": "Relu"},
            constants=(1, 2),
            name="volumes",
        ),
        Case(
            ((1, 5, 4, 4, 4), (2, 2, 2, 2, 6)),
            {"group": 2, "dilations": [2, 1, 2]},
            constants=(1,),
            name="groups of volumes",
        ),
        Case(((2, 2, 3, 4, 5), (1, 1, 1, 5, 7)), constants=(1,), name="1x1x1"),
        Case(
            ((2, 3, 9, 20), (3, 3, 3, 19), (19,)),
            {**_3X3, "pads": [1, 1, 1, 1], "strides": [2, 2], "activation": "Relu", "channels_first": 1},
            constants=(1, 2),
            name="channels first",
        ),
        Case(
            ((1, 5, 6, 7), (3, 3, 5, 4)),
            {**_3X3, "pads": [0, 1, 1, 2], "channels_first": 1},
            constants=(1,),
            name="many channels first",
        ),
        Case(
            ((2, 6, 5, 9), (1, 1, 9, 19), (19,), (2, 6, 5, 19), (2, 1, 1, 9)),
            {"kernel_shape": [1, 1], "activation": "Relu"},
            constants=(1, 2),
            name="scaled",
        ),
        Case(
            ((2, 3, 4, 9), (1, 1, 9, 33), (33,), (2, 2, 2, 33), (1, 1, 1, 9)),
            {"kernel_shape": [1, 1], "strides": [2, 2]},
            constants=(1, 2),
            name="scaled alike, few pixels",
        ),
    ),
    strided=True,
)


def _infer_pool(kinds: str) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = shapes.required(types, 0, "x", kinds)
        shape = shapes.rank_of(x, "x", 4, 5) or (None,) * (len(attributes["kernel_shape"]) + 2)
        ceil_mode = shapes.flag(attributes, "ceil_mode")
        shapes.flag(attributes, "count_include_pad")
        kernel = shapes.integers(attributes, "kernel_shape", len(shape) - 2, least=1)
        out = windows.output_sizes(attributes, shape[1:-1], kernel, ceil_mode=ceil_mode)
        return [shapes.tensor(x.dtype, (shape[0], *out, shape[-1]))]

    return infer


def _pool_step(ctx: Lowering, kernel: str, x: Tensor, y: Tensor, found: windows.Window, counted: int) -> None:
    """The windows of images."""
    params: dict[str, Any] = dict(
        zip(("batch", "ih", "iw", "c", "oh", "ow"), (*x.shape, *found.out)),
        kh=found.kernel[0],
        kw=found.kernel[1],
        stride_h=found.strides[0],
        stride_w=found.strides[1],
        dilation_h=found.dilations[0],
        dilation_w=found.dilations[1],
        pad_top=found.before[0],
        pad_left=found.before[1],
        pad_bottom=found.after[0],
        pad_right=found.after[1],
        count_include_pad=counted,
    )
    params.update(zip(("in_batch", "in_row", "in_col"), x.strides))
    params.update(zip(("out_batch", "out_row", "out_col"), y.strides))
    work = y.size * found.kernel[0] * found.kernel[1]
    ctx.step(kernel, params, [x], y, units=y.shape[0] * y.shape[1], flops=work)


def _part(found: windows.Window, *axes: int | None) -> windows.Window:
    """The window along some axes; None is an axis of a single pixel."""
    fields = (found.kernel, found.strides, found.dilations, found.before, found.after, found.out)
    kernel, strides, dilations, before, after, out = (
        tuple(one if a is None else field[a] for a in axes) for field, one in zip(fields, (1, 1, 1, 0, 0, 1))
    )
    return windows.Window(kernel, strides, dilations, before, after, out)


def _dense(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A dense tensor under another shape."""
    strides = [1] * len(shape)
    for k in range(len(shape) - 2, -1, -1):
        strides[k] = strides[k + 1] * max(shape[k + 1], 1)
    return Tensor(tensor.buffer, shape, tuple(strides), tensor.offset)


def _lower_volume(ctx: Lowering, kernel: str, x: Tensor, y: Tensor, found: windows.Window, counted: int) -> str | None:
    """Windows of volumes, first in every slice and then along the depth: the largest of the largest values, and the
    mean of the means, since every window of a row of them has as many taps."""
    if x.size and not x.contiguous:
        copy = ctx.temporary(x.shape)
        return copy_step(ctx, x, copy) or _lower_volume(ctx, kernel, copy, y, found, counted)
    if y.size and not y.contiguous:
        made = ctx.temporary(y.shape)
        return _lower_volume(ctx, kernel, x, made, found, counted) or copy_step(ctx, made, y)
    n, d, h, w, c = x.shape
    oh, ow = found.out[1:]
    slices = ctx.temporary((n * d, oh, ow, c))
    _pool_step(ctx, kernel, _dense(x, (n * d, h, w, c)), slices, _part(found, 1, 2), counted)
    columns, out = _dense(slices, (n, d, 1, oh * ow * c)), _dense(y, (n, found.out[0], 1, oh * ow * c))
    _pool_step(ctx, kernel, columns, out, _part(found, 0, None), counted)
    return None


def _lower_pool(kernel: str) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx)
        if reason:
            return reason
        x, y, a = given(ctx), ctx.output(), ctx.attributes
        found = geometry(a, x.shape, tuple(a["kernel_shape"]))
        counted = int(a["count_include_pad"])
        if len(x.shape) == 4:
            _pool_step(ctx, kernel, x, y, found, counted)
            return None
        return _lower_volume(ctx, kernel, x, y, found, counted)

    return lower


def _pool(function: Callable[[Attributes, Array], Array]) -> Callable[[Attributes, Array], Array]:
    return lambda attributes, x: _last(function(attributes, _first(x)))


_POOL = {**windows.WINDOW, "kernel_shape": REQUIRED, "ceil_mode": 0, "count_include_pad": 0}
_SQUARE = {"kernel_shape": [2, 2], "strides": [2, 2]}
_WIDE = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}
_POOL_CASES = (
    Case(((2, 6, 8, 3),), _SQUARE),
    Case(((1, 7, 7, 17),), {"kernel_shape": [3, 2]}, name="overlap"),
    Case(((1, 7, 8, 33),), {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 2]}, name="pads"),
    Case(((1, 8, 7, 5),), {**_WIDE, "pads": [0, 0, 0, 0]}, name="ceil"),
    Case(((1, 8, 7, 64),), _WIDE, name="ceil and pads"),
    Case(((1, 9, 9, 4),), {"kernel_shape": [2, 3], "dilations": [3, 2]}, name="dilations"),
    Case(((0, 4, 4, 2),), _SQUARE, name="no images"),
    Case(((2, 5, 6, 7, 3),), {"kernel_shape": [2, 3, 3], "strides": [2, 1, 2]}, name="volumes"),
    Case(
        ((1, 5, 6, 7, 17),),
        {"kernel_shape": [3, 2, 3], "strides": [2, 2, 3], "pads": [1, 0, 1, 1, 1, 0], "ceil_mode": 1},
        name="volumes with pads",
    ),
)

operator(
    "MaxPool",
    domain="nhwc",
    infer=_infer_pool("fiu"),
    reference=_pool(max_pool),
    attributes=_POOL,
    lower=_lower_pool("max_pool_f32"),
    cases=_POOL_CASES,
    strided=True,
)

operator(
    "AveragePool",
    domain="nhwc",
    infer=_infer_pool("f"),
    reference=_pool(average_pool),
    attributes=_POOL,
    lower=_lower_pool("average_pool_f32"),
    cases=(
        *_POOL_CASES,
        Case(((1, 8, 7, 5),), {**_WIDE, "count_include_pad": 1}, name="ceil and counted pads"),
        Case(
            ((1, 6, 7, 20),),
            {"kernel_shape": [3, 3], "pads": [1, 2, 0, 1], "strides": [2, 1], "count_include_pad": 1},
            name="counted pads",
        ),
    ),
    strided=True,
)


def _infer_global(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "x", "f")
    shape = shapes.rank_of(x, "x", 4, 5)
    if shape is None:
        return [TensorType(x.dtype, None)]
    if 0 in shape[1:-1]:
        raise GraphError("the image has no pixels", expected="at least one", got=str(x))
    return [shapes.tensor(x.dtype, (shape[0], *(1,) * (len(shape) - 2), shape[-1]))]


def _lower_global(kernel: str) -> Callable[[Lowering], str | None]:
    def lower(ctx: Lowering) -> str | None:
        reason = dtype_reason(ctx)
        if reason:
            return reason
        x, y = given(ctx), ctx.output()
        last = len(x.shape) - 1
        return reduce_step(ctx, kernel, x, y, kept=(0, last), places=(0, last), reduced=range(1, last))

    return lower


def _global(op: str, kernel: str, function: Callable[..., Any]) -> None:
    operator(
        op,
        domain="nhwc",
        infer=_infer_global,
        reference=lambda attributes, x: np.asarray(function(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)),
        lower=_lower_global(kernel),
        cases=(
            Case(((2, 5, 7, 3),)),
            Case(((1, 7, 7, 65),), name="many channels"),
            Case(((1, 1, 1, 17),), name="one pixel"),
            Case(((0, 3, 4, 4),), name="no images"),
            Case(((2, 3, 4, 5, 6),), name="volumes"),
        ),
        strided=True,
    )


_global("GlobalAveragePool", "reduce_mean_f32", np.mean)
_global("GlobalMaxPool", "reduce_max_f32", np.max)
