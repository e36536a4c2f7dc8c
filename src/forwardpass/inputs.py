"""The edge where a caller's arrays come in: everything is validated here, once, and trusted inside."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import InputError
from .graph import Array, TensorType

__all__ = ["as_array", "bind_arguments", "check_shapes", "suggest"]


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def bind_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Mapping[str, TensorType]
) -> dict[str, Any]:
    """The values of a call by input name.

    Raises
    ------
    InputError
        Too many, unknown, repeated or missing inputs.
    """
    names = list(inputs)
    if len(args) > len(names):
        raise InputError(
            "too many inputs", where="call", expected=f"{len(names)}: {', '.join(names)}", got=str(len(args))
        )
    bound = dict(zip(names, args))
    for name, value in kwargs.items():
        if name not in inputs:
            hint = suggest(name, names)
            raise InputError(f"unknown input {name!r}", where="call", expected=", ".join(names), hint=hint)
        if name in bound:
            raise InputError(f"input {name!r} is given twice", where="call")
        bound[name] = value
    missing = [n for n in names if n not in bound]
    if missing:
        raise InputError(
            "missing inputs", where="call", expected=", ".join(names), got=", ".join(bound) or "none"
        )
    return {n: bound[n] for n in names}


def as_array(name: str, value: Any, wanted: TensorType) -> Array:
    """A value as a C-contiguous, aligned array of the wanted dtype, without a copy where it already is one.

    Anything that NumPy or DLPack can read is accepted: strided, read-only, misaligned and big-endian arrays, memory
    maps, lists. Integers become floats and float64 becomes float32; floats never become integers.

    Raises
    ------
    InputError
        A dtype that does not convert, or an object that is no array.
    """
    where = f"input {name!r}"
    if not isinstance(value, np.ndarray):
        value = _foreign(value, where)
    array: Array = value
    if (
        array.dtype.names is not None
        or array.dtype.kind not in "biufc"
        or (array.dtype != wanted.dtype and not np.can_cast(array.dtype, wanted.dtype, "same_kind"))
    ):
        raise InputError("wrong dtype", where=where, expected=wanted.dtype.name, got=str(array.dtype))
    with np.errstate(over="ignore"):
        return np.require(np.asarray(array), wanted.dtype.newbyteorder("="), ["C", "A"])


def _foreign(value: Any, where: str) -> Array:
    if value is None or isinstance(value, (str, bytes, dict)):
        raise InputError("not an array", where=where, expected="an array", got=type(value).__name__)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as e:
        raise InputError(
            f"not an array: {e}", where=where, expected="an array", got=type(value).__name__
        ) from e


def check_shapes(shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, TensorType]) -> None:
    """Compare shapes with the model's inputs; equal symbols must have equal sizes.

    Raises
    ------
    InputError
        Naming the input, the shape that was expected and the one given.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, t in inputs.items():
        given = shapes[name]
        if t.shape is None:
            continue
        where, wanted = f"input {name!r}", _text(t.shape)
        if len(given) != len(t.shape):
            hint = "add the batch dimension: x[None]" if len(given) + 1 == len(t.shape) else ""
            raise InputError("wrong rank", where=where, expected=wanted, got=_text(given), hint=hint)
        for axis, (size, dim) in enumerate(zip(given, t.shape)):
            if isinstance(dim, int) and dim != size:
                raise InputError(f"wrong size of axis {axis}", where=where, expected=wanted, got=_text(given))
            if isinstance(dim, str):
                known, other = sizes.setdefault(dim, (size, name))
                if known != size:
                    raise InputError(
                        f"size {dim!r} is {size} here but {known} in input {other!r}",
                        where=where, expected=wanted, got=_text(given),
                    )  # fmt: skip


def _text(shape: tuple[Any, ...]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
