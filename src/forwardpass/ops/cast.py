"""Operators that change the type of elements: Cast, CastLike, BitCast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import (
    DTYPES,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    INT2,
    INT4,
    STRING,
    UINT2,
    UINT4,
    decode,
    encode,
    is_narrow,
    kind_of,
    name_of,
)
from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .lower_typed import lower_cast
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator

_NUMBERS_AND_TEXT = "fiubO"


def _dtype_to(attributes: Attributes) -> np.dtype[Any]:
    code = shapes.integer(attributes, "to")
    if code not in DTYPES:
        raise GraphError("attribute 'to' is wrong", expected="the number of an element type", got=str(code))
    return DTYPES[code]


def _text(value: Any) -> str:
    """A number in plain notation, with as many digits as it takes to read the same one back."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if not isinstance(value, np.floating):
        return str(value)
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "INF" if value > 0 else "-INF"
    return np.format_float_positional(value, trim="-")


def _to_text(x: Array) -> Array:
    if x.dtype == STRING:
        return x
    x = decode(x)
    y = np.empty(x.shape, object)
    y.ravel()[:] = [_text(v) for v in x.ravel()]  # ravel of a new array is a view of it
    return y


def _float(text: str) -> float:
    """The number that a text stands for; Python's own reader takes underscores too, which are none of ONNX's."""
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise GraphError("a string is no number", expected='a number, "INF", "-INF" or "NaN"', got=repr(text))


def _integer(text: str) -> int:
    """An integer, or what is before the point of another number."""
    try:
        if "_" not in text:
            return int(text)
    except ValueError:
        pass
    value = _float(text)
    if not math.isfinite(value):
        raise GraphError("a string is no integer", expected="a finite number", got=repr(text))
    return int(value)


def _from_text(x: Array, dtype: np.dtype[Any]) -> Array:
    """Strings as numbers wide enough for the dtype: float64, or 64 bits of which a cast keeps the lower ones."""
    texts = [str(t) for t in x.ravel()]
    if kind_of(dtype) in "iu":
        words = np.array([_integer(t) & (2**64 - 1) for t in texts], np.uint64)
        return np.asarray(words.view(np.int64).reshape(x.shape))
    return np.asarray(np.array([_float(t) for t in texts], np.float64).reshape(x.shape))


def converted(x: Array, dtype: np.dtype[Any], *, saturate: bool = True, round_mode: str = "up") -> Array:
    """An array as Cast makes it: numbers, bools and strings of any type into any other."""
    if dtype == x.dtype:
        return x
    if dtype == STRING:
        return _to_text(x)
    numbers = _from_text(x, dtype) if x.dtype == STRING else decode(x)
    if is_narrow(dtype):
        return encode(numbers, dtype, saturate=saturate, round_mode=round_mode)
    return numbers.astype(dtype)


def _infer_cast(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", _NUMBERS_AND_TEXT)
    dtype = _dtype_to(attributes)
    if kind_of(dtype) not in _NUMBERS_AND_TEXT:
        raise GraphError("attribute 'to' is wrong", expected="numbers, bool or strings", got=name_of(dtype))
    _check_mode(attributes)
    return [shapes.tensor(dtype, x.shape)]


def _check_mode(attributes: Attributes) -> None:
    shapes.flag(attributes, "saturate")
    shapes.choice(attributes, "round_mode", ("up", "down", "nearest"))


def _cast(attributes: Attributes, x: Array, like: Array | None = None) -> Array:
    dtype = _dtype_to(attributes) if like is None else like.dtype
    return converted(x, dtype, saturate=bool(attributes["saturate"]), round_mode=attributes["round_mode"])


operator(
    "Cast",
    infer=_infer_cast,
    reference=_cast,
    attributes={"to": REQUIRED, "saturate": 1, "round_mode": "up"},
    lower=lower_cast,
    cases=(
        Case((np.arange(5),), {"to": 1}),
        Case(((2, 3),), {"to": 7}, name="truncates"),
        Case(((2, 3),), {"to": 11}, name="widens"),
        Case((np.array([0.0, 0.5, -2.0], np.float32),), {"to": 9}, name="bool"),
        Case((np.array([True, False]),), {"to": 1}, name="from bool"),
        Case(((2, 3),), {"to": 10}, name="halves"),
        Case((np.array([300, -1, 70000]),), {"to": 2}, name="keeps the lower bits"),
        Case((np.array([1.5, -2.5, 0.1], np.float16),), {"to": 1}, name="from halves"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)


def _infer_cast_like(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", _NUMBERS_AND_TEXT)
    like = shapes.required(types, 1, "target_type", _NUMBERS_AND_TEXT)
    _check_mode(attributes)
    return [shapes.tensor(like.dtype, x.shape)]


operator(
    "CastLike",
    infer=_infer_cast_like,
    reference=_cast,
    attributes={"saturate": 1, "round_mode": "up"},
    arity=(2, 2),
    lower=lower_cast,
    cases=(
        Case((np.arange(5), np.float32(0))),
        Case(((2, 3), np.array([1, 2])), name="truncates"),
        Case((np.array([2, 0, -1]), np.array([], bool)), name="bool"),
    ),
    narrow=True,
    strided=True,
    typed=True,
)

_BITS = {FLOAT6E2M3: 6, FLOAT6E3M2: 6, INT4: 4, UINT4: 4, FLOAT4E2M1: 4, INT2: 2, UINT2: 2}


def _bits(dtype: np.dtype[Any]) -> int:
    return _BITS.get(dtype, dtype.itemsize * 8)


def _infer_bit_cast(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "fiubc")
    dtype = _dtype_to(attributes)
    if dtype == STRING:
        raise GraphError("attribute 'to' is wrong", expected="a type of numbers", got="string")
    if _bits(dtype) != _bits(x.dtype):
        raise GraphError(
            "the element types differ in width",
            expected=f"{_bits(x.dtype)} bits as {name_of(x.dtype)}",
            got=f"{_bits(dtype)} bits of {name_of(dtype)}",
        )
    return [shapes.tensor(dtype, x.shape)]


def _bit_cast(attributes: Attributes, x: Array) -> Array:
    dtype = _dtype_to(attributes)
    codes = np.ascontiguousarray(x).reshape(-1)
    if _bits(dtype) < 8:
        # Each takes a byte, in which the signed ones have their sign extended.
        width = _bits(dtype)
        whole = codes.view(np.uint8) & (2**width - 1)
        signed = kind_of(dtype) == "i"
        codes = ((whole ^ (1 << width - 1)) - (1 << width - 1)).astype(np.uint8) if signed else whole
    if dtype == np.bool_:
        codes = codes.view(np.uint8) != 0
    return np.asarray(codes.view(dtype).reshape(x.shape))


operator(
    "BitCast",
    infer=_infer_bit_cast,
    reference=_bit_cast,
    attributes={"to": REQUIRED},
    cases=(
        Case((np.array([[1, -1], [2**31 - 1, 0]], np.int32),), {"to": 12}),
        Case((np.array([250, 3], np.uint8),), {"to": 3}, name="to a signed type"),
        Case((np.array(-2, np.int64),), {"to": 13}, name="scalar"),
        Case((np.array([1, 0, 1], np.uint8),), {"to": 9}, name="to bool"),
    ),
    narrow=True,
)
