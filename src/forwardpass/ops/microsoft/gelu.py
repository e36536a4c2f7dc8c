"""Gelu and its approximations, with an optional bias."""

from __future__ import annotations

import numpy as np

from ...graph import Array, TensorType
from .. import shapes
from ..activations import activate
from ..linear import check_bias
from ..registry import Attributes, Constants, Types, operator
from . import DOMAIN


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("X", "bias"))
    x = shapes.required(types, 0, "X", "f")
    if shapes.at(types, 1) is not None:
        shape = shapes.rank_of(x, "X", 1)
        check_bias(types, 1, None if shape is None else shape[-1])
    return [TensorType(dtype, x.shape)]


def _infer_quick(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.number(attributes, "alpha")
    return _infer(attributes, types, constants)


def _gelu(attributes: Attributes, x: Array, bias: Array | None = None) -> Array:
    return activate("Gelu", x if bias is None else np.asarray(x + bias))


def _fast_gelu(attributes: Attributes, x: Array, bias: Array | None = None) -> Array:
    return activate("GeluTanh", x if bias is None else np.asarray(x + bias))


operator("Gelu", domain=DOMAIN, infer=_infer, reference=_gelu)
operator("BiasGelu", domain=DOMAIN, infer=_infer, reference=_gelu, arity=(2, 2))
operator("FastGelu", domain=DOMAIN, infer=_infer, reference=_fast_gelu, arity=(1, 2))
operator(
    "QuickGelu",
    domain=DOMAIN,
    infer=_infer_quick,
    reference=lambda attributes, x: activate("Swish", x, attributes["alpha"]),
    attributes={"alpha": 1.702},
)
