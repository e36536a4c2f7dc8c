"""Operators of the domain ai.onnx.ml: classical models and the preparation of their features."""

from __future__ import annotations

__all__ = ["DOMAIN"]

DOMAIN = "ai.onnx.ml"
