"""The types of a program's inputs, from whatever says them: shapes, types or examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dtypes import name_of
from ...errors import InputError
from ...graph import Dim, TensorType
from .objects import DTYPES

__all__ = ["Inputs", "types_of"]

Inputs = Mapping[str, TensorType] | Sequence[TensorType]
_EXPECTED = "a shape, a type or an example for each input, by name or in order"


def types_of(given: Any) -> Inputs | None:
    """The types of the inputs by name or in order; None for None.

    Parameters
    ----------
    given
        A mapping from names, a sequence, or what one input is: a shape of sizes and of names for free axes, of float32;
        a `TensorType`; or an array or tensor, whose first axis is free.

    Raises
    ------
    InputError
        It is none of these.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): _type(value, f"inputs[{name!r}]") for name, value in given.items()}
    alone = isinstance(given, TensorType) or hasattr(given, "dtype") or _is_shape(given)
    if not alone and not isinstance(given, Sequence):
        raise InputError("not the inputs of a program", where="inputs", expected=_EXPECTED, got=type(given).__name__)
    return [_type(value, f"inputs[{k}]") for k, value in enumerate([given] if alone else given)]


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(
        isinstance(d, str) or (isinstance(d, (int, np.integer)) and not isinstance(d, bool)) for d in value
    )


def _type(value: Any, where: str) -> TensorType:
    if isinstance(value, TensorType):
        return value
    if _is_shape(value):
        shape: tuple[Dim, ...] = tuple(d if isinstance(d, str) else int(d) for d in value)
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise InputError("a size that is negative", where=where, expected="sizes, or names of free axes")
        return TensorType(np.dtype(np.float32), shape)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = DTYPES.get(str(value.dtype).removeprefix("torch."))
        if dtype is None and isinstance(value, np.ndarray):
            dtype = DTYPES.get(name_of(value.dtype))
        if dtype is not None:
            sizes = tuple(int(d) for d in value.shape)
            return TensorType(dtype, ("N", *sizes[1:]) if sizes else ())
    raise InputError("not the type of an input", where=where, expected=_EXPECTED, got=type(value).__name__)
