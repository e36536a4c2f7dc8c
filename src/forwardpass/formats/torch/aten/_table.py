"""The table of ATen's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["OPERATORS", "aten"]

OPERATORS: dict[str, Callable[..., Any]] = {}
"""Name, or name with overload where forms differ -> definition."""


def aten(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a definition under these names."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = function
        return function

    return enter
