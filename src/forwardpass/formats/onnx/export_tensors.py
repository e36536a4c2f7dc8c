"""Arrays and types to TensorProto and TypeProto: the way back of `tensors` and `parse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...dtypes import STRING, code_of, is_narrow
from ...errors import UnsupportedError
from ...graph import Array, TensorType
from .tensors import bits_of

if TYPE_CHECKING:
    import onnx

__all__ = ["External", "put_tensor", "put_type", "stored_bytes"]

_SMALLEST_EXTERNAL = 1024
"""Bytes from which on a tensor goes into the file of external data: shapes and axes stay in the model."""
_ALIGNMENT = 64
_INT64 = 7


class External:
    """The tensors that a model keeps in another file, in the order in which they lie there.

    Parameters
    ----------
    location
        Its name, beside the model.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._arrays: list[tuple[int, Array]] = []
        self._end = 0

    def put(self, tensor: onnx.TensorProto, array: Array) -> None:
        """Let a tensor refer to the file."""
        size = stored_bytes(array)
        start = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        self._arrays.append((start, array))
        self._end = start + size
        tensor.data_location = type(tensor).EXTERNAL
        for key, value in (("location", self.location), ("offset", str(start)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)

    def parts(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file, piece by piece."""
        end = 0
        for start, array in self._arrays:
            yield bytes(start - end)
            data = _raw(array)
            yield data
            end = start + len(data)


def stored_bytes(array: Array) -> int:
    """The bytes of an array's values in a file; text counts by its characters, four bytes each at most."""
    if array.dtype == STRING:
        return sum(4 * len(t) for t in array.flat)
    return (array.size * bits_of(array.dtype) + 7) // 8


def put_tensor(
    tensor: onnx.TensorProto, array: Array, *, name: str = "", where: str = "", external: External | None = None
) -> None:
    """Fill a TensorProto.

    Raises
    ------
    UnsupportedError
        A dtype that ONNX lacks, or objects that are no text.
    """
    tensor.name = name
    tensor.dims.extend(array.shape)
    tensor.data_type = _code(array.dtype, where)
    if array.dtype == STRING:
        for text in array.flat:
            if not isinstance(text, str):
                got = type(text).__name__
                raise UnsupportedError("ONNX cannot hold this", where=where, expected="text", got=got)
            tensor.string_data.append(text.encode())
    elif external is not None and stored_bytes(array) >= _SMALLEST_EXTERNAL:
        external.put(tensor, array)
    else:
        tensor.raw_data = bytes(_raw(array))


def _code(dtype: np.dtype[Any], where: str) -> int:
    try:
        return code_of(dtype)
    except KeyError:
        expected = "an element type of ONNX"
        raise UnsupportedError("ONNX has no such dtype", where=where, expected=expected, got=str(dtype)) from None


def _raw(array: Array) -> bytes | memoryview:
    """The values as little-endian bytes."""
    bits = bits_of(array.dtype)
    if bits < 8:
        return _packed(array, bits)
    dtype = array.dtype if is_narrow(array.dtype) else array.dtype.newbyteorder("<")
    plain = np.ascontiguousarray(array, dtype)
    return plain.reshape(-1).view(np.uint8).data


def _packed(array: Array, bits: int) -> bytes:
    """Elements of 6, 4 or 2 bits, lowest first."""
    codes = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    ones = np.unpackbits(codes[:, np.newaxis], axis=1, count=bits, bitorder="little")
    return np.packbits(ones.reshape(-1), bitorder="little").tobytes()


def put_type(proto: onnx.TypeProto, kind: TensorType, where: str, keys: np.dtype[Any] | None = None) -> None:
    """Fill a TypeProto.

    Parameters
    ----------
    keys
        The dtype of a map's keys, which `TensorType` does not say; int64 by default.

    Raises
    ------
    UnsupportedError
        A dtype that ONNX lacks.
    """
    for container in kind.container:
        if container == "map":
            proto.map_type.key_type = _INT64 if keys is None else _code(keys, where)
            proto = proto.map_type.value_type
        else:
            proto = (proto.sequence_type if container == "sequence" else proto.optional_type).elem_type
    tensor = proto.tensor_type
    tensor.elem_type = _code(kind.dtype, where)
    if kind.shape is None:
        return
    tensor.shape.SetInParent()
    for size in kind.shape:
        dim = tensor.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size:
            dim.dim_param = size
