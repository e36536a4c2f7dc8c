"""Where onnxruntime departs from the text of ONNX, or fails on a valid node; it is not asked about such graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["deviation"]

_Rule = Callable[[int, dict[str, Any], Sequence[Any]], bool]

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
_EXTREMES = ("MaxPool", "GlobalMaxPool", "ScatterND", "ScatterElements")


def _any_empty(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return any(a is not None and a.size == 0 for a in inputs)


def _same(attributes: dict[str, Any]) -> bool:
    return str(attributes.get("auto_pad", "")).startswith("SAME")


def _same_dilated(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return _same(attributes) and max(attributes.get("dilations", [1])) > 1


def _same_strides(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    kernel = attributes.get("kernel_shape") or inputs[1].shape[2:]
    return _same(attributes) and any(s > k for s, k in zip(attributes.get("strides", ()), kernel))


def _half_reduced(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return inputs[0].dtype.name == "float16" and attributes.get("reduction", "none") != "none"


def _not_a_number(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    floats = (a for a in inputs if a is not None and a.dtype.kind == "f")
    return attributes.get("reduction", "max") in ("max", "min") and any(np.isnan(a).any() for a in floats)


def _flat_images(opset: int, attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    images = inputs[0].astype(np.float64)
    return bool(images.size) and images.std(axis=tuple(range(2, images.ndim))).min() < 0.1


DEVIATIONS: tuple[tuple[str, _Rule, str], ...] = (
    ("Einsum", _any_empty, "divides by 0 elements and ends the process"),
    *((f"Reduce{r}", _any_empty, "gives 0 elements where ONNX gives the sum of none") for r in ("L1", "SumSquare")),
    ("InstanceNormalization", _flat_images, "subtracts the scaled mean from the scaled value, both rounded"),
    ("Gemm", _any_empty, "does not scale C by beta where the sums are of none"),
    *((op, _not_a_number, "takes the largest of the numbers where one is NaN") for op in _EXTREMES),
    ("MatMul", _any_empty, "refuses operands without elements, or leaves the sums of none undefined"),
    *((op, _same_dilated, "ignores or refuses dilations with auto_pad") for op in _WINDOWS),
    *((op, _same_strides, "has negative pads where strides exceed the kernel with auto_pad") for op in _WINDOWS),
    *((op, _half_reduced, "has no reduction of float16") for op in ("ScatterND", "ScatterElements")),
    ("Loop", lambda opset, attributes, inputs: inputs[0] == 0, "stacks 0 values of size 0 where no size was declared"),
    ("LRN", lambda opset, attributes, inputs: attributes["size"] % 2 == 0, "has odd sizes alone"),
    ("LRN", lambda opset, attributes, inputs: inputs[0].ndim != 4, "has images of two dimensions alone"),
)
"""Operator, a test of the opset, attributes and inputs of a node, and the reason."""


def deviation(opset: int, op: str, attributes: dict[str, Any], inputs: Sequence[Any]) -> str | None:
    """Why onnxruntime is not asked about a node."""
    for name, rule, reason in DEVIATIONS:
        if name == op and rule(opset, attributes, inputs):
            return f"{op}: {reason}"
    return None
