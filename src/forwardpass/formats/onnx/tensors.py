"""TensorProto to arrays: what a tensor claims is held against the bytes it has before anything is allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...dtypes import DTYPES, INT2, INT4, STRING, is_narrow, name_of
from ...errors import FileError, GraphError, UnsupportedError
from ...graph import Array
from .external import Folder
from .text import text_of

if TYPE_CHECKING:
    import onnx

__all__ = ["MAX_RANK", "Tensors", "bits_of", "dtype_of"]

MAX_RANK = 32
_MAX_BYTES = 1 << 62
_MAX_DENSE = 64 << 20
"""Bytes that all sparse tensors of a model together may take as dense ones, beyond 64 times what they store."""

_PACKED_BITS = {
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float4_e2m1fn": 4,
    "uint4": 4,
    "int4": 4,
    "uint2": 2,
    "int2": 2,
}
_EXTERNAL = 1  # TensorProto.EXTERNAL


def dtype_of(code: int, where: str) -> np.dtype[Any]:
    """The dtype of a TensorProto.DataType.

    Raises
    ------
    GraphError
        It is UNDEFINED.
    UnsupportedError
        It is not known.
    """
    if code in DTYPES:
        return DTYPES[code]
    if code == 0:
        raise GraphError("the data type is undefined", where=where, expected="a TensorProto.DataType")
    raise UnsupportedError("unknown data type", where=where, expected=f"1 to {max(DTYPES)}", got=str(code))


def bits_of(dtype: np.dtype[Any]) -> int:
    """The bits of an element in a file."""
    return _PACKED_BITS.get(name_of(dtype), 8 * dtype.itemsize)


class Tensors:
    """Reads the tensors of one model.

    Parameters
    ----------
    folder
        Where its external data lies.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._dense_left = _MAX_DENSE

    def array(self, tensor: onnx.TensorProto, where: str) -> Array:
        """The values, read-only where they are the file's own bytes.

        Raises
        ------
        FileError
            More or fewer values than the dimensions say, or external data that cannot be read.
        GraphError
            Dimensions or a data type that cannot be.
        UnsupportedError
            A data type that is not known, or data in segments.
        """
        dtype = dtype_of(tensor.data_type, where)
        shape, count = _shape(tensor.dims, dtype, where)
        if tensor.HasField("segment"):
            raise UnsupportedError("tensors in segments are not read", where=where)
        if tensor.data_location == _EXTERNAL:
            size = (count * bits_of(dtype) + 7) // 8
            if dtype == STRING:
                raise FileError("strings cannot be external data", where=where)
            entries = {text_of(e.key): text_of(e.value) for e in tensor.external_data}
            return _decoded(self._folder.read(entries, size, where), dtype, shape, count, where)
        if tensor.HasField("raw_data") and dtype != STRING:
            return _decoded(np.frombuffer(tensor.raw_data, np.uint8), dtype, shape, count, where)
        return _from_fields(tensor, dtype, shape, count, where)

    def dense(self, sparse: onnx.SparseTensorProto, where: str) -> Array:
        """A sparse tensor with its zeros.

        Raises
        ------
        FileError, GraphError, UnsupportedError
            As `array`; indices out of range; or so few values for so large a shape that the file looks hostile.
        """
        values = self.array(sparse.values, f"{where}, values")
        indices = self.array(sparse.indices, f"{where}, indices")
        shape, count = _shape(sparse.dims, values.dtype, where)
        if values.ndim != 1 or indices.dtype != np.int64 or indices.shape[:1] != values.shape or indices.ndim > 2:
            got = f"{name_of(indices.dtype)}{list(indices.shape)} for values {list(values.shape)}"
            raise GraphError("the indices do not fit the values", where=where, expected="int64, one each", got=got)
        self._spend(count * values.dtype.itemsize - 64 * (values.nbytes + indices.nbytes), where)
        if indices.ndim == 2:
            if indices.shape[1] != len(shape):
                expected, got = f"{len(shape)} per value", str(indices.shape[1])
                raise GraphError("the indices do not fit the shape", where=where, expected=expected, got=got)
            if indices.size and ((indices < 0) | (indices >= np.asarray(shape, np.int64))).any():
                raise GraphError("an index is out of range", where=where, expected=f"less than {list(shape)}")
            indices = np.asarray(np.ravel_multi_index(tuple(indices.T), shape)) if indices.size else indices[:, 0]
        elif indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < count:
            raise GraphError("an index is out of range", where=where, expected=f"less than {count}")
        flat = np.full(count, "", STRING) if values.dtype == STRING else np.zeros(count, values.dtype)
        flat[indices] = values
        return flat.reshape(shape)

    def _spend(self, size: int, where: str) -> None:
        self._dense_left -= max(size, 0)
        if self._dense_left < 0:
            raise FileError(
                "a sparse tensor is suspiciously large",
                where=where,
                expected=f"at most {_MAX_DENSE >> 20} MiB beyond 64 times what the sparse tensors store",
            )


def _shape(dims: Any, dtype: np.dtype[Any], where: str) -> tuple[tuple[int, ...], int]:
    """The shape and the number of elements."""
    shape = tuple(dims)
    if any(d < 0 for d in shape):
        raise GraphError("a dimension is negative", where=where, got=str(list(shape)))
    if len(shape) > MAX_RANK:
        raise UnsupportedError("too many dimensions", where=where, expected=f"at most {MAX_RANK}", got=str(len(shape)))
    # NumPy refuses sizes that overflow even where another one is 0.
    if math.prod(max(d, 1) for d in shape) * dtype.itemsize > _MAX_BYTES:
        raise GraphError("the tensor is too large", where=where, expected="at most 2^62 bytes", got=str(list(shape)))
    return shape, math.prod(shape)


def _decoded(raw: Array, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, where: str) -> Array:
    """Little-endian bytes as an array."""
    bits = bits_of(dtype)
    size = (count * bits + 7) // 8
    if raw.nbytes != size:
        what = f"{name_of(dtype)}{list(shape)}"
        raise FileError(
            "the data has the wrong size", where=where, expected=f"{size} bytes for {what}", got=str(raw.nbytes)
        )
    if bits < 8:
        return _unpacked(raw, bits, dtype, count).reshape(shape)
    if dtype == np.bool_:
        return np.asarray(raw != 0).reshape(shape)
    array = raw.view(dtype if is_narrow(dtype) else dtype.newbyteorder("<"))
    return array.reshape(shape)


def _unpacked(raw: Array, bits: int, dtype: np.dtype[Any], count: int) -> Array:
    """Elements of 6, 4 or 2 bits, lowest first, as the bytes that dtypes.py keeps them in."""
    if bits == 6:
        stream = np.unpackbits(raw, count=6 * count, bitorder="little").reshape(count, 6)
        codes: Array = np.packbits(stream, axis=1, bitorder="little")[:, 0]
    else:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = ((raw[:, np.newaxis] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    if dtype in (INT4, INT2):
        sign = 1 << (bits - 1)
        codes = (codes.astype(np.int8) ^ sign) - sign
    return np.asarray(np.ascontiguousarray(codes.astype(dtype[0])).view(dtype))


_FIELDS = {
    1: "float_data",
    7: "int64_data",
    8: "string_data",
    11: "double_data",
    12: "uint64_data",
    13: "uint64_data",
    14: "float_data",
    15: "double_data",
}
"""Data type -> the field of its values; int32_data for all others."""


def _from_fields(
    tensor: onnx.TensorProto, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, where: str
) -> Array:
    field = _FIELDS.get(tensor.data_type, "int32_data")
    stored = getattr(tensor, field)
    bits = 8 if bits_of(dtype) == 6 else bits_of(dtype)  # those of 6 bits are packed in raw data only
    expected = (count * bits + 7) // 8 if bits < 8 else count * (2 if dtype.kind == "c" else 1)
    if len(stored) != expected:
        what = f"{expected} in {field} for {name_of(dtype)}{list(shape)}"
        raise FileError("the wrong number of values", where=where, expected=what, got=str(len(stored)))
    if dtype == STRING:
        return _strings(stored, shape, where)
    if field != "int32_data":
        carrier = {"float_data": "f4", "double_data": "f8", "int64_data": "i8", "uint64_data": "u8"}[field]
        values = np.array(stored, carrier)
        return values.view(dtype).reshape(shape) if dtype.kind == "c" else values.astype(dtype).reshape(shape)
    whole = np.array(stored, np.int32)
    if bits < 8:
        return _unpacked(whole.astype(np.uint8), bits, dtype, count).reshape(shape)
    if is_narrow(dtype) or dtype == np.float16:  # the integers are the bits
        codes = whole & 63 if bits_of(dtype) == 6 else whole
        return np.asarray(codes.astype(f"u{dtype.itemsize}").view(dtype)).reshape(shape)
    return whole.astype(dtype).reshape(shape)


def _strings(stored: Any, shape: tuple[int, ...], where: str) -> Array:
    array = np.empty(len(stored), STRING)
    for k, text in enumerate(stored):
        try:
            array[k] = text.decode("utf-8")
        except UnicodeDecodeError:
            raise GraphError("text that is not UTF-8", where=where, got=repr(text[:40])) from None
    return array.reshape(shape)
