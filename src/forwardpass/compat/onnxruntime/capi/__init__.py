"""Where onnxruntime keeps its native module, from which programs import its errors."""

from __future__ import annotations
