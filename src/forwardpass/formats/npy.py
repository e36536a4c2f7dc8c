"""The `.npy` form of one array (NumPy enhancement proposal 1): a header with dtype and shape, then the data.

Only plain numbers are read: no object, structured, text or complex dtypes. The header is never evaluated.
"""

from __future__ import annotations

import math
import re
import sys
from functools import lru_cache
from struct import Struct

import numpy as np

from ..errors import FileError, UnsupportedError
from ..graph import Array
from .archive import ALIGNMENT, excerpt

__all__ = ["DTYPES", "parse", "parts"]

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
"""Names of the dtypes that a file may hold."""

MAX_RANK = 32
MAX_ELEMENTS = 1 << 62
MAX_HEADER_BYTES = 10_000

_MAGIC = b"\x93NUMPY"
_PREFIX = Struct("<BxH")
"""Version, and the length of the header in version 1."""
_LONGEST_PLAIN = 246
"""Bytes of a header that is looked up among those seen before."""
_SWAPPED = ">" if sys.byteorder == "little" else "<"
_KINDS = {np.dtype(d).str[1:]: np.dtype(d) for d in DTYPES}
_ITEM = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*"""
    r"""(?:(['"])(?P<descr>[^'"]*)\3|(?P<flag>True|False)|\((?P<shape>[^()]*)\))\s*(?:,\s*|(?=\}))"""
)


def parts(array: Array) -> list[bytes | Array]:
    """The header and the data of an array as they are written: C order, little-endian.

    Raises
    ------
    UnsupportedError
        The dtype is not one of `DTYPES`.
    """
    if array.dtype.str[1:] not in _KINDS:
        raise UnsupportedError("a file cannot hold this dtype", expected=", ".join(DTYPES), got=str(array.dtype))
    array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    used = len(_MAGIC) + 4 + len(text) + 1
    header = text.encode() + b" " * (-used % ALIGNMENT) + b"\n"
    return [_MAGIC + b"\1\0" + len(header).to_bytes(2, "little") + header, array.reshape(-1).view(np.uint8)]


def parse(data: memoryview, where: str) -> Array:
    """The array in a `.npy` file's bytes: read-only, native byte order, C order; a view where possible.

    Parameters
    ----------
    data
        All bytes of the file.
    where
        How messages name it.

    Raises
    ------
    FileError
        The header is malformed, the dtype is not one of `DTYPES`, or the data has not the size that dtype and
        shape say.
    """
    descr, fortran, shape, start = _header(data, where)
    dtype = _KINDS.get(descr[1:]) if descr[:1] in "<>|=" else None
    if dtype is None:
        kinds = {"O": "Python objects", "V": "structured", "U": "text", "S": "text"}
        got = f"{descr!r} ({kinds[descr[1:2]]})" if descr[1:2] in kinds else repr(descr)
        raise FileError("a dtype that is not read", where=where, expected=", ".join(DTYPES), got=excerpt(got))
    count = math.prod(shape)
    extent = (count or math.prod(d for d in shape if d)) * dtype.itemsize
    if len(shape) > MAX_RANK or extent >= MAX_ELEMENTS:
        got = f"shape {excerpt(shape)}"
        raise FileError("the array is too large", where=where, expected=f"rank <= {MAX_RANK}, < 2^62 bytes", got=got)
    if len(data) - start != count * dtype.itemsize:
        expected = f"{count * dtype.itemsize} bytes for {dtype.name}{list(shape)}"
        raise FileError("the data has the wrong size", where=where, expected=expected, got=str(len(data) - start))
    if count == 0:
        array: Array = np.zeros(shape, dtype)
    else:
        array = np.frombuffer(data, dtype.newbyteorder() if descr[0] == _SWAPPED else dtype, count, start)
        if dtype.kind == "b" and array.view(np.uint8).max() > 1:
            raise FileError("bool data other than 0 and 1", where=where)
        array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
        if fortran or descr[0] == _SWAPPED or not array.flags.aligned:
            array = np.require(array, dtype, ["C", "A"])
    array.flags.writeable = False
    return array


def _header(data: memoryview, where: str) -> tuple[str, bool, tuple[int, ...], int]:
    """dtype text, whether the order is Fortran's, shape, and where the data starts."""
    if len(data) < 12 or data[:6] != _MAGIC:
        raise FileError("not a .npy array", where=where, got=excerpt(bytes(data[:8])))
    version, length = _PREFIX.unpack_from(data, len(_MAGIC))
    if version not in (1, 2):
        raise FileError("unknown version of .npy", where=where, expected="1 or 2", got=str(version))
    start = 10
    if version == 2:
        start, length = 12, int.from_bytes(data[8:12], "little")
    if length > MAX_HEADER_BYTES or start + length > len(data):
        limit = min(MAX_HEADER_BYTES, len(data) - start)
        raise FileError("bad length of the .npy header", where=where, expected=f"<= {limit}", got=str(length))
    plain = _plain(bytes(data[start : start + length])) if length <= _LONGEST_PLAIN else None
    if plain is not None:
        return plain[0], False, plain[1], start + length
    text = str(data[start : start + length], "latin1").strip()
    found: dict[str, str] = {}
    at = 1
    while text[:1] == "{" and (item := _ITEM.match(text, at)):
        value = item[{"descr": "descr", "fortran_order": "flag", "shape": "shape"}[item["key"]]]
        if value is None or item["key"] in found:
            break
        found[item["key"]] = value
        at = item.end()
    if text[at:] != "}" or len(found) != 3:
        hint = "object and structured arrays are not read" if "descr" not in found else ""
        raise FileError("malformed .npy header", where=where, got=excerpt(repr(text)), hint=hint)
    return found["descr"], found["fortran_order"] == "True", _shape(found["shape"], where), start + length


@lru_cache(maxsize=256)  # arrays of a network often have the type of another one
def _plain(header: bytes) -> tuple[str, tuple[int, ...]] | None:
    """dtype text and shape of a header as NumPy itself writes it; a wrong dtype in it is found later."""
    descr, _, shape = str(header, "latin1").strip().partition("', 'fortran_order': False, 'shape': (")
    if not (descr.startswith("{'descr': '") and shape.endswith("), }")):
        return None
    try:
        return descr[11:], _shape(shape[:-4], "")
    except FileError:
        return None


def _shape(text: str, where: str) -> tuple[int, ...]:
    sizes = [s.strip() for s in text.split(",")]
    one = len(sizes) == 1 and sizes[0]
    if not sizes[-1]:
        sizes.pop()
    # Twenty digits hold every size that can be right, and keep the conversion from taking quadratic time.
    fits = not one and len(sizes) <= 64 and max(map(len, sizes), default=0) <= 20
    if not fits or not text.isascii() or not all(map(str.isdigit, sizes)):
        raise FileError("malformed shape", where=where, expected="sizes >= 0", got=excerpt(f"({text})"))
    return tuple(map(int, sizes))
