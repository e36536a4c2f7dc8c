"""ConvTranspose of channels-last images [N, H, W, C]: what the layout pass turns ConvTranspose into."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes, windows
from .conv import check_channels, kernel_of
from .linear import EPILOGUE, check_bias, check_epilogue, epilogue
from .lower_transposed import lower_conv_transpose
from .registry import Attributes, Case, Constants, Types, operator
from .transposed import conv_transpose, output_window

_WHOLE = {"auto_pad": "NOTSET", "output_shape": None}


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("x", "w", "bias"))
    check_epilogue(attributes)
    x = shapes.rank_of(shapes.required(types, 0, "x", "f"), "x", 4, 4) or (None,) * 4
    w = shapes.rank_of(shapes.required(types, 1, "w"), "w", 4, 4) or (None,) * 4
    check_channels(x[3], w[2], w[3], shapes.integer(attributes, "group"))
    check_bias(types, 2, w[3])
    kernel = kernel_of(attributes, w[:2], 2)
    out: list[Dim] = [None, None]
    if kernel is not None:
        _, out = output_window({**attributes, **_WHOLE}, x[1:3], kernel)
    if any(isinstance(d, int) and d < 0 for d in out):
        raise GraphError("the pads are larger than the image", got=str(out))
    return [shapes.tensor(dtype, (x[0], *out, w[3]))]


def _conv_transpose(attributes: Attributes, x: Array, w: Array, bias: Array | None = None) -> Array:
    kh, kw, depth, m = w.shape
    group = attributes["group"]
    weights = w.reshape(kh, kw, depth, group, m // group).transpose(3, 2, 4, 0, 1)
    images = np.asarray(x.transpose(0, 3, 1, 2))
    y = conv_transpose({**attributes, **_WHOLE}, images, weights.reshape(group * depth, m // group, kh, kw))
    return epilogue(attributes, np.ascontiguousarray(y.transpose(0, 2, 3, 1)), bias, None)


operator(
    "ConvTranspose",
    domain="nhwc",
    infer=_infer,
    reference=_conv_transpose,
    attributes={**windows.WINDOW, "group": 1, "output_padding": None, **EPILOGUE},
    arity=(2, 3),
    lower=lower_conv_transpose,
    cases=(
        Case(((1, 4, 5, 3), (3, 3, 3, 2), (2,)), {"activation": "Relu"}, constants=(1, 2)),
        Case(
            ((2, 3, 4, 5), (4, 4, 5, 17), (17,)),
            {"strides": [2, 2], "pads": [1, 1, 1, 1], "activation": "Sigmoid"},
            constants=(1, 2),
            name="twice the size",
        ),
        Case(((2, 3, 4, 8), (2, 2, 8, 33)), {"strides": [2, 2]}, constants=(1,), name="no overlap"),
        Case(((2, 3, 4, 2), (3, 2, 2, 3)), {"strides": [3, 2], "pads": [1, 0, 2, 1]}, constants=(1,), name="strides"),
        Case(
            ((1, 3, 3, 2), (3, 3, 2, 2)),
            {"strides": [3, 2], "output_padding": [1, 1], "dilations": [1, 2]},
            constants=(1,),
            name="output padding",
        ),
        Case(((2, 3, 3, 4), (2, 2, 2, 6), (6,)), {"group": 2, "strides": [2, 2]}, constants=(1, 2), name="groups"),
        Case(((1, 4, 4, 4), (3, 3, 1, 4)), {"group": 4, "pads": [1, 1, 1, 1]}, constants=(1,), name="depthwise"),
        Case(((1, 2, 2, 3), (1, 2, 3, 4), (4,)), {"strides": [4, 3]}, constants=(1, 2), name="gaps"),
        Case(((0, 3, 3, 2), (3, 3, 2, 2)), constants=(1,), name="no images"),
    ),
    strided=True,
)
