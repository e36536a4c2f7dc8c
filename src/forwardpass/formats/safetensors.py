"""Weights in safetensors files: eight bytes of length, a JSON header, then the data of all tensors.

The header maps names to dtype, shape and the place of the data; `__metadata__` maps text to text. The data must be
covered by the tensors without overlap or holes. Arrays are views of the file's memory map where it is aligned.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import FileError
from ..graph import Array
from . import places
from .archive import excerpt
from .files import mapped
from .places import Place

__all__ = ["DTYPES", "MAX_HEADER_BYTES", "read_weights"]

MAX_HEADER_BYTES = places.MAX_BYTES
"""The format allows 100 MB; 16 MiB name more than 100,000 tensors."""
MAX_RANK = 32

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "BF16": dtypes.BFLOAT16,
    "F8_E4M3": dtypes.FLOAT8E4M3FN,
    "F8_E4M3FNUZ": dtypes.FLOAT8E4M3FNUZ,
    "F8_E5M2": dtypes.FLOAT8E5M2,
    "F8_E5M2FNUZ": dtypes.FLOAT8E5M2FNUZ,
    "F8_E8M0": dtypes.FLOAT8E8M0,
}
"""The names of the format -> dtype."""


def read_weights(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """Read the arrays of a safetensors file.

    Parameters
    ----------
    path
        The file. It must not be changed in place while the arrays are in use, since they are its memory map.
    verify
        Of no effect: the format has no checksums.

    Returns
    -------
    dict
        Name -> read-only array, in the order of their data.

    Raises
    ------
    FileError
        The file cannot be read or is damaged: a header that is no strict JSON, or tensors that overlap, leave holes,
        lie outside the file, or whose sizes do not fit dtype and shape.
    """
    where = os.fsdecode(path)
    data = memoryview(mapped(path))
    if len(data) < 8:
        raise FileError("not a safetensors file", where=where, expected="8 bytes of length", got=f"{len(data)} bytes")
    length = int.from_bytes(data[:8], "little")
    limit = min(MAX_HEADER_BYTES, len(data) - 8)
    if length > limit:
        expected = f"<= {limit} bytes"
        raise FileError("the header is too long, or cut short", where=where, expected=expected, got=str(length))
    top = Place(places.parse(data[8 : 8 + length], f"{where}: header"), None, f"{where}: header")
    body = data[8 + length :]
    found: list[tuple[int, int, str, np.dtype[Any], tuple[int, ...]]] = []
    for name, place in top.items():
        if name == "__metadata__":
            for _, text in place.items():
                text.text()
        else:
            found.append(_entry(name, place, len(body)))
    found.sort(key=lambda e: e[:2])
    _check_layout(found, len(body), where)
    return {name: _array(body[begin:end], dtype, shape, where, name) for begin, end, name, dtype, shape in found}


_FIELDS = frozenset({"dtype", "shape", "data_offsets"})


def _entry(name: str, place: Place, size: int) -> tuple[int, int, str, np.dtype[Any], tuple[int, ...]]:
    """Where the data of one tensor begins and ends, its name, dtype and shape."""
    place.only(_FIELDS)
    kind = place.text_of("dtype")
    if kind not in DTYPES:
        raise place["dtype"].error("a dtype that is not read", ", ".join(DTYPES))
    shape = tuple(d.integer() for d in place["shape"].list())
    if len(shape) > MAX_RANK or any(d < 0 for d in shape):
        raise place["shape"].error("wrong shape", f"at most {MAX_RANK} sizes >= 0")
    offsets = [o.integer() for o in place["data_offsets"].list()]
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= size:
        raise place["data_offsets"].error("the tensor lies outside the file", f"0 <= begin <= end <= {size}")
    needed = math.prod(shape) * DTYPES[kind].itemsize
    if offsets[1] - offsets[0] != needed:
        raise place["data_offsets"].error("the data has the wrong size", f"{needed} bytes for {kind} {list(shape)}")
    return offsets[0], offsets[1], name, DTYPES[kind], shape


def _check_layout(found: list[tuple[int, int, str, np.dtype[Any], tuple[int, ...]]], size: int, where: str) -> None:
    at = 0
    for begin, end, name, _, _ in found:
        if begin != at:
            what = "overlaps another" if begin < at else "leaves a hole before it"
            place = f"{where}: {excerpt(name)}"
            raise FileError(f"the tensor {what}", where=place, expected=f"its data at {at}", got=str(begin))
        at = end
    if at != size:
        raise FileError("the tensors do not cover the data", where=where, expected=f"{size} bytes", got=str(at))


def _array(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], where: str, name: str) -> Array:
    if not data:
        array: Array = np.zeros(shape, dtype)
    else:
        array = np.frombuffer(data, dtype)
        if dtype.kind == "b" and array.view(np.uint8).max() > 1:
            raise FileError("bool data other than 0 and 1", where=f"{where}: {excerpt(name)}")
        if sys.byteorder == "big" and dtype.kind != "V":
            array = array.byteswap()
        array = np.require(array, dtype, ["C", "A"]).reshape(shape)
    array.flags.writeable = False
    return array
