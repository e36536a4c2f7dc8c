"""What a call with several outputs returns."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

__all__ = ["result_type"]


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
