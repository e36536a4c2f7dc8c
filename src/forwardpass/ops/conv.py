"""Convolution of images in ONNX's layout [N, C, *spatial]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .linear import check_bias
from .numeric import widened
from .registry import Attributes, Case, Constants, Types, operator

__all__ = ["convolve", "kernel_of"]


def kernel_of(attributes: Attributes, weights: Sequence[Dim] | None, rank: int) -> list[int] | None:
    """The kernel's size, from the attribute or the weights' spatial dimensions; None where both are unknown.

    Raises
    ------
    GraphError
        The two differ.
    """
    given = attributes["kernel_shape"]
    kernel = None if given is None else shapes.integers(attributes, "kernel_shape", rank, least=1)
    if weights is None:
        return kernel
    if kernel is None:
        return [d for d in weights if isinstance(d, int)] if all(isinstance(d, int) for d in weights) else None
    for axis, (k, d) in enumerate(zip(kernel, weights)) if kernel != list(weights) else ():
        shapes.unify(k, d, f"attribute 'kernel_shape' and the weights' spatial dimension {axis}")
    return kernel


def check_channels(channels: Dim, per_group: Dim, outputs: Dim, group: int) -> None:
    """Raise GraphError unless a convolution's channels, weights and group fit together."""
    if group < 1:
        raise GraphError("attribute 'group' is wrong", expected="at least 1", got=str(group))
    if isinstance(per_group, int) and isinstance(channels, int) and per_group * group != channels:
        raise GraphError(
            "the image's channels do not fit the weights",
            expected=f"{per_group * group} (group {group} x {per_group})",
            got=str(channels),
        )
    if isinstance(outputs, int) and outputs % group:
        raise GraphError(
            "the number of output channels is no multiple of group",
            expected=f"a multiple of {group}",
            got=str(outputs),
        )


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "W", "B"))
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 3)
    w = shapes.rank_of(shapes.required(types, 1, "W"), "W", 3)
    known = x if x is not None else w
    if known is None:
        return [TensorType(dtype, None)]
    rank = len(known) - 2
    if w is not None and len(w) != len(known):
        raise GraphError("inputs X and W differ in rank", expected=str(len(known)), got=str(len(w)))
    channels: tuple[Dim, Dim] = (None, None) if w is None else (w[0], w[1])
    check_channels(None if x is None else x[1], channels[1], channels[0], shapes.integer(attributes, "group"))
    check_bias(types, 2, channels[0])
    kernel = kernel_of(attributes, None if w is None else w[2:], rank)
    out: tuple[Dim, ...] = (None,) * rank
    if kernel is not None:
        out = windows.output_sizes(attributes, (None,) * rank if x is None else x[2:], kernel)
    return [shapes.tensor(dtype, (None if x is None else x[0], channels[0], *out))]


def convolve(attributes: Attributes, x: Array, w: Array, bias: Array | None = None) -> Array:
    """The definition of Conv: for every group a product of the windows' values and the weights.

    Parameters
    ----------
    x : [N, C, *spatial]
    w : [M, C / group, *kernel]
    bias : [M] or None

    Returns
    -------
    Array [N, M, *out]
    """
    group, outputs = attributes["group"], w.shape[0]
    found = windows.window(attributes, x.shape[2:], w.shape[2:])
    taps = found.taps(widened(x), 0)
    pixels, rank = math.prod(found.out), len(found.out)
    depth = w.shape[1] * math.prod(w.shape[2:])
    grouped = taps.reshape(x.shape[0], group, w.shape[1], *taps.shape[2:])
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    rows = grouped.transpose(order).reshape(group, x.shape[0] * pixels, depth)
    columns = widened(w).reshape(group, outputs // group, depth).transpose(0, 2, 1)
    y = np.matmul(rows, columns).reshape(group, x.shape[0], pixels, outputs // group)
    y = y.transpose(1, 0, 3, 2).reshape(x.shape[0], outputs, *found.out)
    if bias is not None:
        y = y + widened(bias).reshape(-1, *(1,) * rank)
    return np.asarray(y, dtype=x.dtype)


operator(
    "Conv",
    infer=_infer,
    reference=convolve,
    attributes={**windows.WINDOW, "auto_pad": "NOTSET", "group": 1},
    arity=(2, 3),
    cases=(
        Case(((2, 3, 7, 6), (4, 3, 3, 3), (4,)), constants=(1, 2)),
        Case(
            ((1, 3, 8, 9), (5, 3, 3, 2)),
            {"strides": [2, 3], "pads": [1, 0, 2, 1]},
            constants=(1,),
            name="strides",
        ),
        Case(
            ((2, 4, 9, 9), (6, 2, 3, 3), (6,)),
            {"group": 2, "dilations": [2, 3]},
            constants=(1, 2),
            name="groups",
        ),
        Case(((1, 6, 5, 5), (6, 1, 3, 3)), {"group": 6, "pads": [1, 1, 1, 1]}, constants=(1,), name="depthwise"),
        Case(
            ((1, 3, 6, 6), (2, 3, 3, 3)),
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            constants=(1,),
            name="upper",
        ),
        Case(
            ((1, 3, 6, 6), (2, 3, 3, 3)),
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
            constants=(1,),
            name="lower",
        ),
        Case(
            ((1, 3, 6, 6), (2, 3, 3, 3)),
            {"auto_pad": "VALID", "kernel_shape": [3, 3]},
            constants=(1,),
            name="valid",
        ),
        Case(((2, 5, 4, 4), (7, 5, 1, 1), (7,)), constants=(1, 2), name="1x1"),
        Case(((2, 3, 11), (4, 3, 3), (4,)), {"pads": [1, 1]}, constants=(1, 2), name="1-D"),
        Case(((1, 2, 4, 5, 6), (3, 2, 2, 2, 3)), {"strides": [1, 2, 1]}, constants=(1,), name="3-D"),
        Case(((0, 3, 6, 6), (2, 3, 3, 3)), constants=(1,), name="no images"),
    ),
)
