"""Windows added up to images in ONNX's layout [N, C, *spatial]: ConvTranspose, Col2Im, MaxUnpool."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .conv import kernel_of
from .linear import check_bias
from .numeric import widened
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator

__all__ = ["conv_transpose", "output_window"]


def output_window(
    attributes: Attributes, spatial: Sequence[Dim], kernel: Sequence[int]
) -> tuple[list[int | None], list[Dim]]:
    """What a transposed convolution cuts off before the image, and the sizes of what it keeps.

    Both are None where the input's size is unknown.

    Raises
    ------
    GraphError
        Attributes of the wrong length or sign.
    """
    rank = len(spatial)
    strides = shapes.integers(attributes, "strides", rank, least=1, default=1)
    dilations = shapes.integers(attributes, "dilations", rank, least=1, default=1)
    pads = shapes.integers(attributes, "pads", 2 * rank, least=0, default=0)
    extra = shapes.integers(attributes, "output_padding", rank, least=0, default=0)
    auto = shapes.choice(attributes, "auto_pad", windows.AUTO_PAD)
    asked: list[int] | None = None
    if attributes["output_shape"] is not None:
        asked = shapes.integers(attributes, "output_shape", rank, least=0)
    before: list[int | None] = []
    out: list[Dim] = []
    for axis, size in enumerate(spatial):
        if not isinstance(size, int):
            before.append(None)
            out.append(None if asked is None else asked[axis])
            continue
        full = strides[axis] * (size - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        if asked is None and not auto.startswith("SAME"):
            first, last = (0, 0) if auto == "VALID" else (pads[axis], pads[axis + rank])
            before.append(first)
            out.append(full - first - last)
            continue
        wanted = size * strides[axis] if asked is None else asked[axis]
        # Where the windows do not reach, the image ends in zeros: nothing is cut off then.
        total = max(full - wanted, 0)
        before.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
        out.append(wanted)
    return before, out


def _infer_conv_transpose(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "W", "B"))
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 3)
    w = shapes.rank_of(shapes.required(types, 1, "W"), "W", 3)
    known = x if x is not None else w
    if known is None:
        return [TensorType(dtype, None)]
    rank = len(known) - 2
    group = shapes.integer(attributes, "group")
    if group < 1:
        raise GraphError("attribute 'group' is wrong", expected="at least 1", got=str(group))
    if w is not None and len(w) != len(known):
        raise GraphError("inputs X and W differ in rank", expected=str(len(known)), got=str(len(w)))
    outputs: Dim = None
    if w is not None:
        channels = shapes.unify(None if x is None else x[1], w[0], "the channels of X and the first dimension of W")
        if isinstance(channels, int) and channels % group:
            raise GraphError("the channels are no multiple of group", expected=str(group), got=str(channels))
        outputs = w[1] * group if isinstance(w[1], int) else w[1] if group == 1 else None
    check_bias(types, 2, outputs)
    kernel = kernel_of(attributes, None if w is None else w[2:], rank)
    out: Sequence[Dim] = (None,) * rank
    if kernel is not None:
        if any(k < 1 for k in kernel):
            raise GraphError("the kernel is empty", expected="sizes of at least 1", got=str(kernel))
        _, out = output_window(attributes, (None,) * rank if x is None else x[2:], kernel)
    return [shapes.tensor(dtype, (None if x is None else x[0], outputs, *out))]


def conv_transpose(attributes: Attributes, x: Array, w: Array, bias: Array | None = None) -> Array:
    """The definition of ConvTranspose: every pixel times the weights, added up where the windows overlap.

    Parameters
    ----------
    x : [N, C, *spatial]
    w : [C, M / group, *kernel]
    bias : [M] or None

    Returns
    -------
    Array [N, M, *out]
    """
    group, rank, kernel = attributes["group"], x.ndim - 2, w.shape[2:]
    before, out = output_window(attributes, x.shape[2:], kernel)
    depth, outputs = x.shape[1] // group, w.shape[1]
    pixels = widened(x).reshape(x.shape[0], group, depth, math.prod(x.shape[2:]))
    rows = widened(w).reshape(group, depth, outputs * math.prod(kernel)).transpose(0, 2, 1)
    columns = np.matmul(rows, pixels).reshape(x.shape[0], group * outputs, *kernel, *x.shape[2:])
    strides = attributes["strides"] or [1] * rank
    dilations = attributes["dilations"] or [1] * rank
    y = windows.fold(
        columns, strides, dilations, [b for b in before if b is not None], [d for d in out if isinstance(d, int)]
    )
    if bias is not None:
        y = y + widened(bias).reshape(-1, *(1,) * rank)
    return np.asarray(y, dtype=x.dtype)


operator(
    "ConvTranspose",
    infer=_infer_conv_transpose,
    reference=conv_transpose,
    attributes={**windows.WINDOW, "auto_pad": "NOTSET", "group": 1, "output_padding": None, "output_shape": None},
    arity=(2, 3),
    cases=(
        Case(((1, 3, 4, 5), (3, 2, 3, 3), (2,)), constants=(1, 2)),
        Case(((2, 2, 3, 4), (2, 3, 3, 2)), {"strides": [3, 2], "pads": [1, 0, 2, 1]}, constants=(1,), name="strides"),
        Case(
            ((1, 2, 3, 3), (2, 2, 3, 3)),
            {"strides": [3, 2], "output_padding": [1, 1], "dilations": [1, 2]},
            constants=(1,),
            name="output padding",
        ),
        Case(
            ((1, 2, 4, 4), (2, 2, 3, 3)),
            {"strides": [2, 2], "output_shape": [7, 8], "auto_pad": "SAME_UPPER"},
            constants=(1,),
            name="output shape",
        ),
        Case(((1, 2, 4, 4), (2, 2, 3, 3)), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, constants=(1,), name="lower"),
        Case(((2, 4, 3, 3), (4, 3, 2, 2), (6,)), {"group": 2, "strides": [2, 2]}, constants=(1, 2), name="groups"),
        Case(((1, 4, 4, 4), (4, 1, 3, 3)), {"group": 4, "pads": [1, 1, 1, 1]}, constants=(1,), name="depthwise"),
        Case(((1, 2, 5), (2, 3, 4)), {"strides": [2]}, constants=(1,), name="1-D"),
        Case(((1, 2, 2, 3, 2), (2, 1, 2, 2, 3)), {"strides": [1, 2, 1]}, constants=(1,), name="3-D"),
    ),
)


def _infer_col2im(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "fiubc")
    columns = shapes.rank_of(x, "input", 3, 3)
    image = shapes.value_of(types, constants, 1, "image_shape")
    block = shapes.value_of(types, constants, 2, "block_shape")
    if image is None or block is None:
        rank = next((n for n in (shapes.length_of(types, k) for k in (1, 2)) if n is not None), None)
        return [shapes.unknown(x.dtype, None if rank is None else rank + 2)]
    rank = len(image)
    if len(block) != rank or any(v < 1 for v in (*image, *block)):
        raise GraphError("the shapes of image and block are wrong", expected="as many sizes", got=f"{image}, {block}")
    if columns is None:
        return [shapes.tensor(x.dtype, (None, None, *image))]
    found = windows.window({**attributes, "kernel_shape": block}, image, block)
    shapes.unify(math.prod(found.out), columns[2], "the number of windows and the last dimension of the input")
    taps = math.prod(block)
    if isinstance(columns[1], int) and columns[1] % taps:
        raise GraphError("the columns are no multiple of the block", expected=str(taps), got=str(columns[1]))
    channels = columns[1] // taps if isinstance(columns[1], int) else None
    return [shapes.tensor(x.dtype, (columns[0], channels, *image))]


def _col2im(attributes: Attributes, x: Array, image_shape: Array, block_shape: Array) -> Array:
    image, block = [int(d) for d in image_shape], [int(d) for d in block_shape]
    found = windows.window({**attributes, "kernel_shape": block}, image, block)
    columns = widened(x).reshape(x.shape[0], x.shape[1] // math.prod(block), *block, *found.out)
    y = windows.fold(columns, found.strides, found.dilations, found.before, image)
    return np.asarray(y, dtype=x.dtype)


operator(
    "Col2Im",
    infer=_infer_col2im,
    reference=_col2im,
    attributes={"dilations": None, "pads": None, "strides": None},
    arity=(3, 3),
)


def _unpooled(attributes: Attributes, spatial: Sequence[int]) -> list[int]:
    """The spatial sizes of the image of which a MaxPool makes one of these sizes."""
    rank = len(spatial)
    kernel = shapes.integers(attributes, "kernel_shape", rank, least=1)
    strides = shapes.integers(attributes, "strides", rank, least=1, default=1)
    pads = shapes.integers(attributes, "pads", 2 * rank, least=0, default=0)
    return [(d - 1) * strides[a] - pads[a] - pads[a + rank] + kernel[a] for a, d in enumerate(spatial)]


def _infer_max_unpool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "f")
    shape = shapes.rank_of(x, "X", 3)
    places = shapes.required(types, 1, "I", "i").shape
    if shape is not None and places is not None:
        if len(shape) != len(places):
            raise GraphError("inputs X and I differ in rank", expected=str(len(shape)), got=str(len(places)))
        for axis, (a, b) in enumerate(zip(shape, places)):
            shapes.unify(a, b, f"dimension {axis} of X and I")
    if shape is None:
        return [TensorType(x.dtype, None)]
    known = [d for d in shape[2:] if isinstance(d, int)]
    inner = _unpooled(attributes, known) if len(known) == len(shape) - 2 else [None] * (len(shape) - 2)
    if shapes.at(types, 2) is None:
        return [shapes.tensor(x.dtype, (*shape[:2], *inner))]
    asked = shapes.value_of(types, constants, 2, "output_shape")
    if asked is None:
        return [TensorType(x.dtype, (None,) * len(shape))]
    if len(asked) != len(shape) or any(d is not None and o < d for o, d in zip(asked[2:], inner)):
        raise GraphError("output_shape is wrong", expected=shapes.describe((*shape[:2], *inner)), got=str(asked))
    for a, b in zip(shape[:2], asked[:2]):
        shapes.unify(a, b, "the images and channels of X and of output_shape")
    return [shapes.tensor(x.dtype, asked)]


def _max_unpool(attributes: Attributes, x: Array, places: Array, output_shape: Array | None = None) -> Array:
    shape = [*x.shape[:2], *_unpooled(attributes, x.shape[2:])]
    size = math.prod(shape)
    if places.size and not 0 <= places.min() <= places.max() < size:
        raise GraphError("input I points outside of the image", expected=f"0 to {size - 1}")
    flat = np.zeros(size, x.dtype)
    flat[places.ravel()] = x.ravel()
    image = flat.reshape(shape)
    if output_shape is None:
        return image
    y = np.zeros([int(d) for d in output_shape], x.dtype)
    # Indices count in the image that the attributes give; a larger one keeps it in its first corner.
    y[tuple(slice(0, d) for d in shape)] = image
    return y


operator(
    "MaxUnpool",
    infer=_infer_max_unpool,
    reference=_max_unpool,
    attributes={"kernel_shape": REQUIRED, "pads": None, "strides": None},
    arity=(2, 3),
)
