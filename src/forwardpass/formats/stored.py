"""Element types by name, and the plain arrays that stand in a file for those that `.npy` does not have.

Narrow types (bfloat16, float8, int4, ...) are stored as the integers of their bits, one for each element; complex
numbers as real and imaginary part along one more axis of 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DTYPES, FLOAT4E2M1, FLOAT6E2M3, FLOAT6E3M2, INT2, INT4, STRING, UINT2, UINT4, name_of
from ..errors import FileError, UnsupportedError
from ..graph import Array, TensorType

__all__ = ["TYPES", "name_in_file", "restored", "stored", "stored_type", "text_array"]

TYPES = {name_of(dtype): dtype for dtype in DTYPES.values()}
"""Name in a file -> dtype."""

_BITS = {FLOAT4E2M1: 4, FLOAT6E2M3: 6, FLOAT6E3M2: 6, UINT4: 4, INT4: 4, UINT2: 2, INT2: 2}
"""Types of which not all values of a byte are elements."""
_PARTS: dict[str, np.dtype[Any]] = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}


def name_in_file(dtype: np.dtype[Any], where: str) -> str:
    """The name of a dtype of any byte order.

    Raises
    ------
    UnsupportedError
        No file can hold it.
    """
    name = name_of(dtype)
    if name not in TYPES or TYPES[name] not in (dtype, dtype.newbyteorder("=")):
        raise UnsupportedError("a file cannot hold this dtype", where=where, expected=", ".join(TYPES), got=str(dtype))
    return name


def stored_type(declared: TensorType) -> TensorType:
    """The type of the array that stands in the file for one of the declared type; the same object where that is it."""
    dtype, shape = declared.dtype, declared.shape
    if dtype.kind == "V":
        return TensorType(dtype[0], shape)
    if dtype.kind == "c":
        return TensorType(_PARTS[dtype.name], None if shape is None else (*shape, 2))
    return declared


def stored(array: Array, where: str) -> Array:
    """The array that stands in the file for one that is not of text.

    Raises
    ------
    UnsupportedError
        It holds what no element of its type is.
    """
    if array.dtype.kind == "V":
        codes: Array = np.ascontiguousarray(array).view(array.dtype[0]).reshape(array.shape)
        if wrong := _wrong_codes(codes, array.dtype):
            raise UnsupportedError("no value of its type", where=where, expected=wrong)
        return codes
    if array.dtype.kind == "c":
        part = np.dtype(f"{array.dtype.byteorder}f{array.dtype.itemsize // 2}")
        return np.ascontiguousarray(array).view(part).reshape(*array.shape, 2)
    return array


def restored(array: Array, dtype: np.dtype[Any], where: str) -> Array:
    """What `stored` was given: a view of an array of that `stored_type`.

    Raises
    ------
    FileError
        It holds what no element of its type is.
    """
    if dtype.kind == "c":
        return np.asarray(array.view(dtype).reshape(array.shape[:-1]))
    if wrong := _wrong_codes(array, dtype):
        raise FileError(f"no {name_of(dtype)}", where=where, expected=wrong)
    return np.asarray(array.view(dtype))


def _wrong_codes(codes: Array, dtype: np.dtype[Any]) -> str:
    """The range that some code is not in, or ""."""
    if dtype not in _BITS or not codes.size:
        return ""
    count = 1 << _BITS[dtype]
    low = -count // 2 if codes.dtype.kind == "i" else 0
    least, most = int(codes.min()), int(codes.max())
    return "" if low <= least and most < low + count else f"{low} to {low + count - 1}"


def text_array(texts: list[str], shape: tuple[int, ...]) -> Array:
    """Text as a read-only array."""
    array = np.empty(len(texts), STRING)
    array[:] = texts
    array = array.reshape(shape)
    array.flags.writeable = False
    return array
