"""Operators of the domain com.microsoft that exported and optimised models use."""

from __future__ import annotations

__all__ = ["DOMAIN"]

DOMAIN = "com.microsoft"
