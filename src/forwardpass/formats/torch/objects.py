"""What a pickle of weights may name: storages, element types, and how tensors are put together from them."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ... import dtypes
from ...errors import FileError
from ...records import record
from .pickles import Global, Unpickler

__all__ = ["DTYPES", "KNOWN", "Storage", "Tensor", "storage_of", "tensor_of"]

MAX_RANK = 32
_LIMIT = 1 << 62

DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "bool")},
    **{name: np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64", "complex64", "complex128")},
    "bfloat16": dtypes.BFLOAT16,
    "float8_e4m3fn": dtypes.FLOAT8E4M3FN,
    "float8_e4m3fnuz": dtypes.FLOAT8E4M3FNUZ,
    "float8_e5m2": dtypes.FLOAT8E5M2,
    "float8_e5m2fnuz": dtypes.FLOAT8E5M2FNUZ,
    "float8_e8m0fnu": dtypes.FLOAT8E8M0,
}
"""PyTorch's names -> dtype."""

_STORAGES = {
    "Half": "float16",
    "Float": "float32",
    "Double": "float64",
    "BFloat16": "bfloat16",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}


@record(frozen=True, slots=True)
class Storage:
    """Elements that tensors are views of.

    Attributes
    ----------
    key
        What the file calls its data.
    dtype
        None for bytes of any type.
    count
        Elements; bytes where there is no dtype.
    start
        Where it begins in the data, in elements.
    total
        Elements of the data.
    """

    key: str
    dtype: np.dtype[Any] | None
    count: int
    start: int
    total: int

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.total * (1 if self.dtype is None else self.dtype.itemsize)


@record(frozen=True, slots=True)
class Tensor:
    """A view of a storage: offset and strides count elements."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class _Complaining(Protocol):
    def error(self, message: str, *, expected: str = ..., got: str = ...) -> FileError: ...


def _sizes(pickle: _Complaining, value: Any, what: str) -> tuple[int, ...]:
    """A tuple of integers that are not negative."""
    if not isinstance(value, (tuple, list)) or len(value) > MAX_RANK:
        raise pickle.error(f"wrong {what} of a tensor", expected=f"at most {MAX_RANK} integers")
    if any(type(v) is not int or not 0 <= v < _LIMIT for v in value):
        raise pickle.error(f"wrong {what} of a tensor", expected="integers >= 0")
    return tuple(value)


def tensor_of(
    pickle: _Complaining, storage: Any, offset: Any, shape: Any, strides: Any, dtype: np.dtype[Any] | None = None
) -> Tensor:
    """A tensor of which every element lies inside of its storage.

    Parameters
    ----------
    pickle
        What makes errors that say the place.
    storage
        A `Storage`; whatever else stands there, here and in the others, is an error.
    dtype
        Of the elements; None for that of the storage.
    """
    if not isinstance(storage, Storage):
        raise pickle.error("a tensor without a storage")
    sizes, steps = _sizes(pickle, shape, "shape"), _sizes(pickle, strides, "strides")
    (first,) = _sizes(pickle, (offset,), "offset")
    kind = storage.dtype if dtype is None else dtype
    if kind is None or len(sizes) != len(steps):
        raise pickle.error("wrong arguments of a tensor", expected="a dtype, and one stride for each size")
    available = storage.count if storage.dtype is not None else storage.count // kind.itemsize
    last = first + sum((d - 1) * s for d, s in zip(sizes, steps))
    if 0 not in sizes and last >= available:
        expected = f"at most {available} elements"
        raise pickle.error("the tensor reaches beyond its storage", expected=expected, got=f"element {last}")
    if math.prod(d for d in sizes if d) * kind.itemsize >= _LIMIT:
        raise pickle.error("the tensor is too large", expected="< 2^62 bytes")
    return Tensor(storage, kind, first, sizes, steps)


def _tensor_v1(pickle: Unpickler, *arguments: Any) -> Tensor:
    if not 4 <= len(arguments) <= 7:
        raise pickle.error("wrong arguments of a tensor", got=f"{len(arguments)}")
    return tensor_of(pickle, *arguments[:4])


def _tensor_v3(pickle: Unpickler, *arguments: Any) -> Tensor:
    if not 7 <= len(arguments) <= 8 or not isinstance(arguments[6], Global):
        raise pickle.error("wrong arguments of a tensor", got=f"{len(arguments)}")
    dtype = arguments[6].value
    if not isinstance(dtype, np.dtype):
        raise pickle.error("not a dtype", got=arguments[6].name)
    storage, offset, shape, strides = arguments[:4]
    return tensor_of(pickle, storage, offset, shape, strides, dtype)


def _parameter(pickle: Unpickler, *arguments: Any) -> Tensor:
    if not 1 <= len(arguments) <= 4 or not isinstance(arguments[0], Tensor):
        raise pickle.error("a parameter without a tensor")
    return arguments[0]


def _ordered(pickle: Unpickler, *arguments: Any) -> dict[Any, Any]:
    """An OrderedDict, which has no arguments, or in the files of Python 2 a list of pairs."""
    made: dict[Any, Any] = {}
    pairs = arguments[0] if arguments else []
    if len(arguments) > 1 or not isinstance(pairs, list):
        raise pickle.error("wrong arguments of an OrderedDict")
    pickle.count(len(pairs))
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise pickle.error("wrong arguments of an OrderedDict", expected="pairs")
        pickle.put(made, pair[0], pair[1])
    return made


def _size(pickle: Unpickler, *arguments: Any) -> tuple[int, ...]:
    return _sizes(pickle, arguments[0] if len(arguments) == 1 else None, "size")


KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor_v1,
    "torch._utils._rebuild_tensor_v2": _tensor_v1,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.storage.UntypedStorage": None,
    **{f"torch.{name}Storage": DTYPES[dtype] for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
}
"""Module and name -> a function of the unpickler and the arguments, a dtype, or None for bytes. Nothing else exists."""


def storage_of(pickle: Unpickler, reference: Any) -> Storage:
    """The storage that a persistent reference means."""
    if not isinstance(reference, tuple) or not 5 <= len(reference) <= 6 or reference[0] != "storage":
        hint = "save the weights alone: torch.save(model.state_dict(), path)"
        kind = reference[0] if isinstance(reference, tuple) and reference and reference[0] == "module" else "reference"
        raise pickle.error(f"the pickle refers to a {kind}", expected="storages alone", hint=hint)
    _, kind, key, _, count = reference[:5]
    (total,) = _sizes(pickle, (count,), "storage")
    dtype = kind.value if isinstance(kind, Global) and kind.name.endswith("Storage") else ""
    if not isinstance(key, str) or not (dtype is None or isinstance(dtype, np.dtype)):
        raise pickle.error("wrong reference to a storage")
    view = reference[5] if len(reference) == 6 else None
    if view is None:
        return Storage(key, dtype, total, 0, total)
    if not isinstance(view, tuple) or len(view) != 3:
        raise pickle.error("wrong reference to a part of a storage")
    start, size = _sizes(pickle, view[1:], "part")
    if start + size > total:
        raise pickle.error("a part reaches beyond its storage", expected=f"<= {total}", got=str(start + size))
    return Storage(key, dtype, size, start, total)
