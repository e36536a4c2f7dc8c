"""Where onnxruntime departs from the text of ONNX, or fails on a valid node; it is not asked about such graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["DEVIATIONS", "deviation"]

_Rule = Callable[[dict[str, Any], Sequence[Any]], bool]

_POOLS = ("MaxPool", "AveragePool", "LpPool")


def _any_empty(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return any(a is not None and a.size == 0 for a in inputs)


def _empty_by_negative_axes(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return _any_empty(attributes, inputs[:1]) and len(inputs) > 1 and bool((inputs[1] < 0).any())


def _scaled_without_products(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    terms = inputs[0].shape[0 if attributes.get("transA") else 1]
    return terms == 0 and len(inputs) > 2 and attributes.get("beta", 1.0) != 1.0


def _empty_stack(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    """Whether the sums are of none in a stack, or an operand is broadcast against a size of 0."""
    a, b = inputs
    if not _any_empty(attributes, inputs):
        return False
    if b.ndim == 1 and 0 in a.shape[:-1]:
        return True
    if a.shape[-1] == 0:
        return max(a.ndim, b.ndim) > 2
    stacks = a.shape[:-2], b.shape[:-2]
    return b.ndim > 2 and stacks[0] != stacks[1] and 0 in (*stacks[0], *stacks[1])


def _same(attributes: dict[str, Any]) -> bool:
    return str(attributes.get("auto_pad", "")).startswith("SAME")


def _same_dilated(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return _same(attributes) and max(attributes.get("dilations", [1])) > 1


def _same_window_dilated(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    kernel = attributes["kernel_shape"]
    return _same(attributes) and any(d > 1 and k > 1 for d, k in zip(attributes.get("dilations", ()), kernel))


def _extents(attributes: dict[str, Any], kernel: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1] * len(kernel)))]


def _same_pads_negative(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    sizes, kernel = inputs[0].shape[2:], attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    reach = [((n - 1) // s) * s + e for n, s, e in zip(sizes, strides, _extents(attributes, kernel))]
    return _same(attributes) and any(r < n for r, n in zip(reach, sizes))


def _same_output_larger(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    extents = _extents(attributes, inputs[1].shape[2:])
    return _same(attributes) and any(s > e for s, e in zip(attributes.get("strides", ()), extents))


def _half_reduced(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return inputs[0].dtype.name == "float16" and attributes.get("reduction", "none") != "none"


def _half_summed(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return inputs[0].dtype.name == "float16" and attributes.get("reduction") in ("add", "mul")


def _not_a_number(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return any(a is not None and a.dtype.kind == "f" and np.isnan(a).any() for a in inputs)


def _extreme_of_nan(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    return attributes.get("reduction") in ("max", "min") and _not_a_number(attributes, inputs)


def _flat_images(attributes: dict[str, Any], inputs: Sequence[Any]) -> bool:
    images = inputs[0].astype(np.float64)
    return bool(images.size) and images.std(axis=tuple(range(2, images.ndim))).min() < 0.1


DEVIATIONS: tuple[tuple[str, _Rule, str], ...] = (
    ("Einsum", _any_empty, "divides by a number of elements that is 0 in some equations, which ends the process"),
    *(
        (f"Reduce{r}", _empty_by_negative_axes, "keeps the shape of data without elements where an axis is negative")
        for r in ("L1", "Sum", "SumSquare")
    ),
    ("InstanceNormalization", _flat_images, "subtracts the scaled mean from the scaled value, both rounded"),
    ("Gemm", _scaled_without_products, "does not scale C by beta where the sums are of none"),
    *((op, _not_a_number, "takes the largest of the numbers where one is NaN") for op in ("MaxPool", "GlobalMaxPool")),
    *((op, _extreme_of_nan, "replaces NaN by the number that it meets") for op in ("ScatterND", "ScatterElements")),
    ("MatMul", _empty_stack, "leaves sums of none in a stack undefined, and refuses to broadcast against a size of 0"),
    ("Conv", _same_dilated, "refuses dilations with auto_pad"),
    *((op, _same_window_dilated, "ignores dilations with auto_pad") for op in _POOLS),
    *((op, _same_pads_negative, "has negative pads, or refuses them, where strides leave pixels out") for op in _POOLS),
    ("ConvTranspose", _same_output_larger, "gives less than strides times the size where strides exceed the window"),
    ("ScatterND", _half_reduced, "has no reduction of float16"),
    ("ScatterElements", _half_summed, "has no sum and no product of float16"),
    (
        "Loop",
        lambda attributes, inputs: inputs[0] == 0 and inputs[2].ndim > 0,
        "stacks 0 values of size 0 where no size was declared",
    ),
    ("LRN", lambda attributes, inputs: attributes["size"] % 2 == 0, "has odd sizes alone"),
    ("LRN", lambda attributes, inputs: inputs[0].ndim != 4, "has images of two dimensions alone"),
)
"""Operator, a test of the attributes and inputs of a node in the newest opset, and the reason."""


def deviation(op: str, attributes: dict[str, Any], inputs: Sequence[Any]) -> str | None:
    """Why onnxruntime is not asked about a node."""
    for name, rule, reason in DEVIATIONS:
        if name == op and rule(attributes, inputs):
            return f"{op}: {reason}"
    return None
