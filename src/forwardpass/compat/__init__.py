"""The interfaces of other engines on this one: `forwardpass.compat.onnxruntime`."""

from __future__ import annotations
