"""The table of ATen's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["OPERATORS", "aten"]

OPERATORS: dict[str, Callable[..., Any]] = {}
"""Name, or name with overload where forms differ -> definition."""


_Definition = TypeVar("_Definition", bound=Callable[..., Any])


def aten(*names: str) -> Callable[[_Definition], _Definition]:
    """Enter a definition under these names."""

    def enter(function: _Definition) -> _Definition:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = function
        return function

    return enter
