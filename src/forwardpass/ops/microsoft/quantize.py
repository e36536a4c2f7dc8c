"""The forms of QuantizeLinear and DequantizeLinear of before ONNX had 16 and 4 bits: the standard's, without blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import GraphError
from ...graph import Array, TensorType
from .. import shapes
from ..quantize import dequantize, quantize
from ..registry import Attributes, Constants, Types, operator, registry
from . import DOMAIN

_FIXED: Mapping[str, Any] = {"saturate": 1, "block_size": 0, "output_dtype": 0, "precision": 0}


def _standard(attributes: Attributes) -> dict[str, Any]:
    axis = attributes["axis"]
    return {**_FIXED, "axis": 1 if axis is None else axis}


def _infer(name: str, attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    if attributes["axis"] is None:
        scale = shapes.required(types, 1, "scale").shape
        if scale is not None and (len(scale) > 1 or (scale and isinstance(scale[0], int) and scale[0] != 1)):
            raise GraphError("attribute 'axis' is missing", expected="an axis, or a scale that is a scalar")
    return registry["", name].infer(_standard(attributes), types, constants)


def _quantize(attributes: Attributes, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    return quantize(_standard(attributes), x, scale, zero_point)


def _dequantize(attributes: Attributes, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    return dequantize(_standard(attributes), x, scale, zero_point)


operator(
    "QuantizeLinear",
    domain=DOMAIN,
    infer=lambda attributes, types, constants: _infer("QuantizeLinear", attributes, types, constants),
    reference=_quantize,
    attributes={"axis": None},
    arity=(2, 3),
    narrow=True,
)
operator(
    "DequantizeLinear",
    domain=DOMAIN,
    infer=lambda attributes, types, constants: _infer("DequantizeLinear", attributes, types, constants),
    reference=_dequantize,
    attributes={"axis": None},
    arity=(2, 3),
    narrow=True,
)
