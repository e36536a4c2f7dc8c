"""Products, convolutions and pools that optimisers have joined with what surrounds them."""

from __future__ import annotations

import numpy as np

from ...graph import Array, Dim, TensorType
from .. import shapes, windows
from ..activations import ACTIVATIONS, activate
from ..conv import convolve
from ..linear import check_bias, check_residual, matmul_shape
from ..pool import max_pool
from ..quantization import EIGHT_BITS, one_of
from ..quantized_linear import CONVOLUTION, convolution_shape
from ..registry import REQUIRED, Attributes, Constants, Types, operator, registry
from . import DOMAIN

_TRANSPOSITIONS = ("transA", "transB", "transBatchA", "transBatchB")


def _order(rank: int, transposed: bool, batch_transposed: bool) -> list[int]:
    """The order in which an operand's dimensions are read: with its first one as the rows, last two exchanged."""
    order = list(range(rank))
    if batch_transposed and rank > 2:
        order = [*order[1:-1], 0, rank - 1]
    if transposed and rank > 1:
        order[-2:] = order[:-3:-1]
    return order


def _infer_matmul(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("A", "B"))
    shapes.number(attributes, "alpha")
    for name in _TRANSPOSITIONS:
        shapes.flag(attributes, name)
    operands: list[tuple[Dim, ...] | None] = []
    for index, name in enumerate("AB"):
        shape = shapes.rank_of(shapes.required(types, index, name, "f"), name, 1)
        if shape is not None:
            order = _order(len(shape), attributes[f"trans{name}"], attributes[f"transBatch{name}"])
            shape = tuple(shape[k] for k in order)
        operands.append(shape)
    return [shapes.tensor(dtype, matmul_shape(*operands))]


def _matmul(attributes: Attributes, a: Array, b: Array) -> Array:
    left = a.transpose(_order(a.ndim, attributes["transA"], attributes["transBatchA"]))
    right = b.transpose(_order(b.ndim, attributes["transB"], attributes["transBatchB"]))
    y = np.asarray(np.matmul(left, right))
    return y if attributes["alpha"] == 1 else np.asarray(y * y.dtype.type(attributes["alpha"]))


operator(
    "FusedMatMul",
    domain=DOMAIN,
    infer=_infer_matmul,
    reference=_matmul,
    attributes={"alpha": 1.0, **dict.fromkeys(_TRANSPOSITIONS, 0)},
    arity=(2, 2),
)


def _activated(name: str | None, y: Array, given: list[float | None]) -> Array:
    """An activation by its ONNX name; parameters that are not given have ONNX's defaults."""
    if not name:
        return y
    defaults = list(ACTIVATIONS[name].parameters.values())
    padded = [*given, *[None] * len(defaults)]
    values = [d if v is None else v for v, d in zip(padded, defaults)]
    return activate(name, y, *values)


def _check_activation(attributes: Attributes) -> None:
    if attributes["activation"] is not None:
        shapes.choice(attributes, "activation", ("", *ACTIVATIONS))


def _infer_conv(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "W", "B", "Z"))
    _check_activation(attributes)
    x = shapes.rank_of(shapes.required(types, 0, "X", "f"), "X", 3)
    shape = convolution_shape(attributes, x, shapes.rank_of(shapes.required(types, 1, "W"), "W", 3))
    check_bias(types, 2, None if shape is None else shape[1])
    check_residual(types, 3, shape)
    return [shapes.tensor(dtype, shape)]


def _conv(
    attributes: Attributes, x: Array, w: Array, bias: Array | None = None, residual: Array | None = None
) -> Array:
    y = convolve(attributes, x, w, bias)
    return _activated(
        attributes["activation"],
        y if residual is None else np.asarray(y + residual),
        list(attributes["activation_params"] or ()),
    )


operator(
    "FusedConv",
    domain=DOMAIN,
    infer=_infer_conv,
    reference=_conv,
    attributes={**CONVOLUTION, "activation": None, "activation_params": None},
    arity=(2, 4),
)

_GEMM = registry["", "Gemm"]
_PARAMETERS = ("activation_alpha", "activation_beta", "activation_gamma")


def _infer_gemm(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_activation(attributes)
    for name in _PARAMETERS:
        if attributes[name] is not None:
            shapes.number(attributes, name)
    return _GEMM.infer(attributes, types, constants)


def _gemm(attributes: Attributes, a: Array, b: Array, c: Array | None = None) -> Array:
    y = _GEMM.reference(attributes, a, b, c)
    alpha, beta, gamma = (attributes[name] for name in _PARAMETERS)
    second = gamma if attributes["activation"] == "Selu" else beta
    return _activated(attributes["activation"], y, [alpha, second])


operator(
    "FusedGemm",
    domain=DOMAIN,
    infer=_infer_gemm,
    reference=_gemm,
    attributes={**_GEMM.attributes, "activation": None, **dict.fromkeys(_PARAMETERS)},
    arity=(2, 3),
)


def _infer_max_pool(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = one_of(types, 0, "x", EIGHT_BITS)
    shape = shapes.rank_of(x, "x", 3)
    ceil_mode = shapes.flag(attributes, "ceil_mode")
    if shape is None:
        return [TensorType(x.dtype, None)]
    kernel = shapes.integers(attributes, "kernel_shape", len(shape) - 2, least=1)
    out = windows.output_sizes(attributes, shape[1:-1], kernel, ceil_mode=ceil_mode)
    return [shapes.tensor(x.dtype, (shape[0], *out, shape[-1]))]


operator(
    "NhwcMaxPool",
    domain=DOMAIN,
    infer=_infer_max_pool,
    reference=lambda attributes, x: np.moveaxis(max_pool(attributes, np.moveaxis(x, -1, 1)), 1, -1),
    attributes={**windows.WINDOW, "auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": REQUIRED},
)
