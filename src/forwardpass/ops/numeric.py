"""What the definitions of arithmetic share: sets of dtypes, and half precision that is computed in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from ..dtypes import (
    BFLOAT16,
    DTYPES,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    code_of,
    kind_of,
    name_of,
)
from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .registry import Attributes, Types

__all__ = [
    "BOOL",
    "FLOATS",
    "FLOATS_AND_FLOAT8",
    "INTEGERS",
    "NUMBERS",
    "SIGNED",
    "UNSIGNED",
    "WIDE_INTEGERS",
    "DTypes",
    "dtype_attribute",
    "one_of",
    "rounded_once",
    "typed",
    "unidirectional",
    "widened",
]

DTypes: TypeAlias = "frozenset[np.dtype[Any]]"


def _set(names: str) -> DTypes:
    return frozenset(np.dtype(n) for n in names.split())


BOOL = _set("bool")
FLOATS = _set("float16 float32 float64") | {BFLOAT16}
FLOATS_AND_FLOAT8 = FLOATS | {FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ}
SIGNED = _set("int8 int16 int32 int64")
UNSIGNED = _set("uint8 uint16 uint32 uint64")
INTEGERS = SIGNED | UNSIGNED
WIDE_INTEGERS = _set("int32 int64 uint32 uint64")
NUMBERS = FLOATS | INTEGERS


def _listed(allowed: Iterable[np.dtype[Any]]) -> str:
    return ", ".join(name_of(d) for d in sorted(allowed, key=code_of))


def one_of(dtype: np.dtype[Any], name: str, allowed: DTypes) -> None:
    """Raise GraphError unless the dtype of input or attribute `name` is allowed."""
    if dtype not in allowed:
        raise GraphError(f"{name} has the wrong dtype", expected=f"one of {_listed(allowed)}", got=name_of(dtype))


def typed(types: Types, index: int, name: str, allowed: DTypes) -> TensorType:
    """The type of an input that must be there, of one of the dtypes that the standard lists."""
    found = shapes.required(types, index, name)
    if found.dtype not in allowed:
        # The general message where the kind is wrong: it is shorter.
        kinds = {kind_of(d) for d in allowed}
        shapes.required(types, index, name, "".join(k for k in "fiubcO" if k in kinds))
        one_of(found.dtype, f"input {name}", allowed)
    return found


def dtype_attribute(attributes: Attributes, name: str, allowed: DTypes) -> np.dtype[Any] | None:
    """An attribute that is one of ONNX's codes of data types; None where it is absent."""
    if attributes[name] is None:
        return None
    code = shapes.integer(attributes, name)
    if code not in DTYPES or DTYPES[code] not in allowed:
        got = name_of(DTYPES[code]) if code in DTYPES else str(code)
        raise GraphError(f"attribute {name!r} is wrong", expected=f"one of {_listed(allowed)}", got=got)
    return DTYPES[code]


def unidirectional(x: TensorType, other: TensorType, name: str, *, of: str = "X") -> None:
    """Raise GraphError unless input `name` can be broadcast to input `of` without making it larger."""
    both = shapes.broadcast(x.shape, other.shape)
    if x.shape is None or other.shape is None or both is None:
        return
    grown = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(x.shape, both))
    if len(both) != len(x.shape) or grown:
        raise GraphError(
            f"input {name} does not broadcast to input {of}",
            expected=f"a shape that fits into {shapes.describe(x.shape)}",
            got=shapes.describe(other.shape),
        )


def widened(x: Array) -> Array:
    """float16 as float32; anything else as it is."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def rounded_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The definition with float16 computed in float32, and its floating results rounded at the end.

    NumPy would round after each of several operations, and sum in float16.
    """

    @wraps(function)
    def definition(attributes: Attributes, *arrays: Array | None) -> Any:
        if not any(a is not None and a.dtype == np.float16 for a in arrays):
            return function(attributes, *arrays)
        result = function(attributes, *(None if a is None else widened(a) for a in arrays))
        if isinstance(result, tuple):
            return tuple(_narrowed(r) for r in result)
        return _narrowed(result)

    return definition


def _narrowed(result: Array) -> Array:
    return np.asarray(result, np.float16) if result.dtype.kind == "f" else result
