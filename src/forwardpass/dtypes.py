"""Element types: those of ONNX that NumPy has, and stand-ins for the narrow ones that it lacks.

A narrow type is a structured dtype of one unsigned (or for INT4 and INT2 signed) field that bears its name. Such
arrays can be moved, sliced and joined like any others; arithmetic goes through `decode` and `encode`. Integers of 4 and
2 bits take a byte each. Text is kept in arrays of Python strings (dtype object).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "BFLOAT16",
    "DTYPES",
    "FLOAT4E2M1",
    "FLOAT6E2M3",
    "FLOAT6E3M2",
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "FLOAT8E8M0",
    "INT2",
    "INT4",
    "STRING",
    "UINT2",
    "UINT4",
    "code_of",
    "decode",
    "encode",
    "from_foreign",
    "is_floating",
    "is_narrow",
    "kind_of",
    "largest",
    "name_of",
    "nearest_bfloat16",
    "to_foreign",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def _narrow(name: str, carrier: str) -> np.dtype[Any]:
    return np.dtype([(name, carrier)])


BFLOAT16 = _narrow("bfloat16", "<u2")
FLOAT8E4M3FN = _narrow("float8_e4m3fn", "u1")
FLOAT8E4M3FNUZ = _narrow("float8_e4m3fnuz", "u1")
FLOAT8E5M2 = _narrow("float8_e5m2", "u1")
FLOAT8E5M2FNUZ = _narrow("float8_e5m2fnuz", "u1")
FLOAT8E8M0 = _narrow("float8_e8m0fnu", "u1")
FLOAT4E2M1 = _narrow("float4_e2m1fn", "u1")
FLOAT6E2M3 = _narrow("float6_e2m3fn", "u1")
FLOAT6E3M2 = _narrow("float6_e3m2fn", "u1")
UINT4 = _narrow("uint4", "u1")
INT4 = _narrow("int4", "i1")
UINT2 = _narrow("uint2", "u1")
INT2 = _narrow("int2", "i1")
STRING = np.dtype(object)

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    8: STRING,
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    14: np.dtype(np.complex64),
    15: np.dtype(np.complex128),
    16: BFLOAT16,
    17: FLOAT8E4M3FN,
    18: FLOAT8E4M3FNUZ,
    19: FLOAT8E5M2,
    20: FLOAT8E5M2FNUZ,
    21: UINT4,
    22: INT4,
    23: FLOAT4E2M1,
    24: FLOAT8E8M0,
    25: UINT2,
    26: INT2,
    27: FLOAT6E2M3,
    28: FLOAT6E3M2,
}
"""ONNX's TensorProto.DataType -> dtype."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}
# NumPy makes the names of its dtypes in Python, which takes longer than all else that a plan does with one.
_NAMES = {
    np.dtype(name): name
    for name in (
        "float32", "float64", "float16", "bool", "int64", "int32", "int16", "int8",
        "uint64", "uint32", "uint16", "uint8", "complex64", "complex128",
    )
}  # fmt: skip
_INTEGER_BITS = {UINT4: (0, 15), INT4: (-8, 7), UINT2: (0, 3), INT2: (-2, 1)}
# Exponent bits, mantissa bits, bias, and which codes are not numbers, by the ONNX text on them.
_FORMATS = {
    FLOAT8E4M3FN: (4, 3, 7),
    FLOAT8E4M3FNUZ: (4, 3, 8),
    FLOAT8E5M2: (5, 2, 15),
    FLOAT8E5M2FNUZ: (5, 2, 16),
    FLOAT4E2M1: (2, 1, 1),
    FLOAT6E2M3: (2, 3, 1),
    FLOAT6E3M2: (3, 2, 3),
}
_ALL_FINITE = (FLOAT4E2M1, FLOAT6E2M3, FLOAT6E3M2)


def code_of(dtype: np.dtype[Any]) -> int:
    """ONNX's TensorProto.DataType of a dtype.

    Raises
    ------
    KeyError
        ONNX has no such type.
    """
    return _CODES[dtype if dtype.names else dtype.newbyteorder("=")]


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy cannot calculate with it."""
    return dtype.names is not None


def name_of(dtype: np.dtype[Any]) -> str:
    """`float32`, `bfloat16`, `int4`, `string`, ..."""
    if dtype.names:
        return dtype.names[0]
    return "string" if dtype.kind == "O" else _NAMES.get(dtype) or dtype.name


def kind_of(dtype: np.dtype[Any]) -> str:
    """NumPy's letter for the kind: f, i, u, b, c, or O for text; of a narrow type, that of what it stands for."""
    if dtype.names is None:
        return dtype.kind
    if dtype in _INTEGER_BITS:
        return "i" if _INTEGER_BITS[dtype][0] else "u"
    return "f"


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether its values are real numbers in floating point."""
    return kind_of(dtype) == "f"


@cache
def _values(dtype: np.dtype[Any]) -> Array:
    """The value of every code of a float8, float6 or float4 type."""
    codes = np.arange(256)
    if dtype == FLOAT8E8M0:
        return np.where(codes == 255, np.nan, np.exp2(codes - 127.0)).astype(np.float32)
    exponent_bits, mantissa_bits, bias = _FORMATS[dtype]
    codes = codes[: 2 << (exponent_bits + mantissa_bits)]
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    values = sign * np.where(exponent, (1 + mantissa) * np.exp2(exponent - bias), mantissa * np.exp2(1 - bias))
    if dtype == FLOAT8E4M3FN:
        values[[0x7F, 0xFF]] = np.nan
    elif dtype == FLOAT8E5M2:
        values[[0x7C, 0xFC]] = np.inf, -np.inf
        values[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
    elif dtype not in _ALL_FINITE:
        values[0x80] = np.nan  # the FNUZ types have no -0
    return np.asarray(values, np.float32)


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite value of a floating type, or the largest of an integer type."""
    if dtype in _INTEGER_BITS:
        return _INTEGER_BITS[dtype][1]
    if dtype == BFLOAT16:
        return float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])
    if is_narrow(dtype):
        values = _values(dtype)
        return float(values[np.isfinite(values)].max())
    return float(np.finfo(dtype).max) if dtype.kind == "f" else int(np.iinfo(dtype).max)


def decode(array: Array) -> Array:
    """A narrow array as float32, or as int8 or uint8 where it holds integers. Others come back as they are."""
    dtype = array.dtype
    if dtype.names is None:
        return array
    codes = np.ascontiguousarray(array).view(dtype[0]).reshape(array.shape)
    if dtype in _INTEGER_BITS:
        return np.array(codes)
    if dtype == BFLOAT16:
        return np.asarray((codes.astype(np.uint32) << 16).view(np.float32))
    return np.asarray(_values(dtype)[codes])


def encode(array: Array, dtype: np.dtype[Any], *, saturate: bool = True, round_mode: str = "up") -> Array:
    """Numbers as a narrow type, rounded to nearest, ties to even. Integers wrap as NumPy's do.

    Parameters
    ----------
    array
        Floating point, integers or bools; narrow arrays are decoded first.
    saturate
        float8 only: whether a value beyond the range becomes the largest one, else infinity or NaN.
    round_mode
        FLOAT8E8M0 only: "up", "down" or "nearest" power of two.
    """
    array = decode(array)
    if dtype in _INTEGER_BITS:
        low, high = _INTEGER_BITS[dtype]
        whole = np.asarray(np.trunc(array) if array.dtype.kind == "f" else array).astype(np.int64)
        codes = ((whole - low) & (high - low)) + low
    elif dtype == BFLOAT16:
        codes = _bfloat16_codes(np.asarray(array, np.float32))
    elif dtype == FLOAT8E8M0:
        codes = _power_codes(np.asarray(array, np.float32), saturate, round_mode)
    else:
        codes = _float_codes(np.asarray(array, np.float32), dtype, saturate)
    return np.asarray(np.ascontiguousarray(codes.astype(dtype[0])).view(dtype).reshape(array.shape))


def _bfloat16_codes(x: Array) -> Array:
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.asarray(np.where(np.isnan(x), ((bits >> 16) & 0x8000) | 0x7FC0, rounded))


def nearest_bfloat16(x: Array) -> Array:
    """float32 numbers as codes of bfloat16 (uint16). What would round to infinity becomes the largest of them."""
    codes = _bfloat16_codes(x).astype(np.uint16)
    beyond = np.isfinite(x) & (codes & 0x7FFF == 0x7F80)
    return np.asarray(codes - beyond, np.uint16)


def _float_codes(x: Array, dtype: np.dtype[Any], saturate: bool) -> Array:
    exponent_bits, mantissa_bits, _ = _FORMATS[dtype]
    sign_bit = 1 << (exponent_bits + mantissa_bits)
    positive = _values(dtype)[:sign_bit]
    finite = positive[np.isfinite(positive)].astype(np.float64)
    size = np.abs(x.astype(np.float64))
    # Codes of positive values ascend with them; the extra end point decides what is beyond the range.
    ends = np.append(finite, 2 * finite[-1] - finite[-2])
    middle = (ends[1:] + ends[:-1]) / 2
    low = np.searchsorted(middle, size, side="left")
    high = np.searchsorted(middle, size, side="right")
    codes = np.where(low % 2 == 0, low, high)  # they differ in ties only
    beyond = codes >= len(finite)
    unsigned_zero = dtype in (FLOAT8E4M3FNUZ, FLOAT8E5M2FNUZ)
    # The FNUZ types keep the code of -0 for it, and -0 is what stands for it in the types that have none.
    not_a_number = {FLOAT8E4M3FN: 0x7F, FLOAT8E5M2: 0x7F}.get(dtype, sign_bit)
    overflow = 0x7C if dtype == FLOAT8E5M2 else not_a_number
    if saturate or dtype in _ALL_FINITE:
        overflow = len(finite) - 1
    codes = np.where(beyond, overflow, codes)
    negative = np.signbit(x)
    if unsigned_zero:
        signed = np.where(negative & (codes != 0) & (codes < sign_bit), codes | sign_bit, codes)
        return np.where(np.isnan(x), not_a_number, signed)
    return np.where(np.isnan(x), not_a_number, codes) | np.where(negative, sign_bit, 0)


def _power_codes(x: Array, saturate: bool, round_mode: str) -> Array:
    """FLOAT8E8M0: the exponent of a positive power of two, 255 for NaN."""
    size = np.abs(x.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.log2(size)
        if round_mode == "nearest":
            below = np.floor(exponent)
            codes = np.where(size - np.exp2(below) >= np.exp2(below + 1) - size, below + 1, below) + 127
        else:
            codes = (np.ceil(exponent) if round_mode == "up" else np.floor(exponent)) + 127
        codes = np.where(size == 0, 0, codes)
    codes = np.where(codes > 254, 254 if saturate else 255, codes)
    return np.where(np.isnan(x), 255, np.clip(codes, 0, 255))


def from_foreign(array: Array) -> Array:
    """An array of the package ml_dtypes as one of this module; others as they are."""
    if array.dtype.isbuiltin == 1 or array.dtype.names is not None:  # ml_dtypes gives float8_e5m2 the kind "f"
        return array
    for dtype in DTYPES.values():
        if dtype.names and dtype.names[0] == array.dtype.name:
            if dtype in _INTEGER_BITS:
                return encode(array.astype(np.int8), dtype)
            return np.asarray(np.ascontiguousarray(array).view(dtype).reshape(array.shape))
    return array


def to_foreign(array: Array) -> Array:
    """A narrow array as one of the package ml_dtypes where that is installed; others as they are."""
    if array.dtype.names is None:
        return array
    try:
        import ml_dtypes
    except ImportError:
        return array
    foreign = getattr(ml_dtypes, array.dtype.names[0], None)
    if foreign is None:
        return array
    if array.dtype in _INTEGER_BITS:
        return np.asarray(decode(array).astype(foreign))
    return np.asarray(np.ascontiguousarray(array).view(foreign).reshape(array.shape))
