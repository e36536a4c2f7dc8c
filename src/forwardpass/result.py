"""What a call gives back: arrays, and the named tuple of a model with several outputs."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from .dtypes import to_foreign

__all__ = ["public", "result_type"]


def public(value: Any) -> Any:
    """A value as a caller gets it: element types that NumPy lacks are those of ml_dtypes where that is installed."""
    if isinstance(value, list):
        return [public(v) for v in value]
    return to_foreign(value) if isinstance(value, np.ndarray) else value


def result_type(names: tuple[str, ...]) -> Callable[..., Any]:
    """The named tuple of a model's outputs; names that Python does not allow are _0, _1, ... in it."""
    plain = namedtuple("Outputs", names, rename=True)  # type: ignore[misc]

    class Outputs(plain):
        __slots__ = ()

        def __reduce__(self) -> Any:
            return _rebuild, (names, tuple(self))

    return Outputs


def _rebuild(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return result_type(names)(*values)
