"""The functions of keras.activations as nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...builder import core
from ..archive import excerpt
from .call import Call
from .config import Layer

__all__ = ["activate", "leaky", "named", "over_axis", "rectify"]


def _glu(c: Call, x: str) -> str:
    value, gate = c.nodes("Split", [x], 2, axis=-1, num_outputs=2)
    return c.node("Mul", [value, c.node("Sigmoid", [gate])])


def _clip(c: Call, x: str, low: float | None, high: float | None) -> str:
    bounds = ["" if v is None else c.number(v, "bound") for v in (low, high)]
    return c.node("Clip", [x, *bounds])


def _log_sigmoid(c: Call, x: str) -> str:
    return c.node("Neg", [c.node("Softplus", [c.node("Neg", [x])])])


def _sparse_plus(c: Call, x: str) -> str:
    """0 up to -1, x from 1 on, and (x + 1)^2 / 4 between, which is where the clipped x + 1 gives both ends too."""
    near = _clip(c, c.node("Add", [x, c.number(1)]), 0.0, 2.0)
    square = c.node("Mul", [c.node("Mul", [near, near]), c.number(0.25)])
    return c.node("Add", [square, c.node("Relu", [c.node("Sub", [x, c.number(1)])])])


def _sparsemax(c: Call, x: str) -> str:
    """max(x - tau, 0), tau from the largest values. As Keras does on every backend up to 3.15 at least: tau has the sum
    of all the sums of the supporting values, where the projection on the simplex (Martins, Astudillo 2016) has the last
    of those sums. With one supporting value they are the same."""
    size = c.size(x, -1)
    ordered, _ = c.nodes("TopK", [x, c.ints([size], "size")], 2, axis=-1, largest=1, sorted=1)
    sums = c.node("CumSum", [ordered, c.constant("axis", np.array(-1, np.int64))])
    ranks = c.constant("ranks", np.arange(1, size + 1, dtype=np.float32))
    support = c.node("Greater", [c.node("Add", [c.node("Mul", [ordered, ranks]), c.number(1)]), sums])
    chosen = c.cast(support, np.float32)
    axis = c.ints([-1], "axes")
    count = c.node("ReduceSum", [chosen, axis], keepdims=1)
    total = c.node("ReduceSum", [c.node("Mul", [sums, chosen]), axis], keepdims=1)
    tau = c.node("Div", [c.node("Sub", [total, c.number(1)]), count])
    return c.node("Relu", [c.node("Sub", [x, tau])])


def _squareplus(c: Call, x: str) -> str:
    root = c.node("Sqrt", [c.node("Add", [c.node("Mul", [x, x]), c.number(4)])])
    return c.node("Mul", [c.node("Add", [x, root]), c.number(0.5)])


_MORE: dict[str, Callable[[Call, str], str]] = {
    "glu": _glu,
    "hard_shrink": lambda c, x: c.node("Shrink", [x], lambd=0.5, bias=0.0),
    "hard_tanh": lambda c, x: _clip(c, x, -1.0, 1.0),
    "log_sigmoid": _log_sigmoid,
    "soft_shrink": lambda c, x: c.node("Shrink", [x], lambd=0.5, bias=0.5),
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda c, x: c.node("HardSigmoid", [x], alpha=0.5, beta=0.5),
    "sparsemax": _sparsemax,
    "squareplus": _squareplus,
    "tanh_shrink": lambda c, x: c.node("Sub", [x, c.node("Tanh", [x])]),
}
"""What the builder does not have."""


def activate(c: Call, x: str, key: str = "activation") -> str:
    """The activation that an argument of the layer says."""
    name = named(c.layer, c.layer.config.get(key))
    if isinstance(name, Layer):
        return rectify(c, x, name) if name.kind == "ReLU" else leaky(c, x, name)
    if name == "hard_sigmoid" and c.version < 3:  # another slope than that of Keras 3
        return c.node("HardSigmoid", [x], alpha=0.2, beta=0.5)
    more = _MORE.get(name)
    return more(c, x) if more is not None else core.ACTIVATIONS[name](c, x)


def named(layer: Layer, value: Any) -> str | Layer:
    """An activation as an argument says it: its name, or the layer ReLU or LeakyReLU in its place.

    Raises
    ------
    UnsupportedError
        There is none of this name.
    """
    if isinstance(value, dict):
        if value.get("class_name") in ("ReLU", "LeakyReLU"):
            return Layer.of(value, layer.where)
        # A function has its name for config, and the module says whether it is one of Keras.
        home = value.get("module")
        value = (
            value.get("config") if home in (None, "builtins", "keras.activations") else f"{home}.{value.get('config')}"
        )
    if value is None:
        return "linear"
    if not isinstance(value, str) or (value not in core.ACTIVATIONS and value not in _MORE):
        raise layer.unsupported("an activation that is not read", got=excerpt(repr(value)))
    return value


def over_axis(layer: Layer) -> bool:
    """Whether the layer's activation works along the last axis and not on every value by itself."""
    return named(layer, layer.config.get("activation")) in ("glu", "log_softmax", "softmax", "sparsemax")


def rectify(c: Call, x: str, layer: Layer) -> str:
    """ReLU with all of its arguments."""
    top = None if layer.config.get("max_value") is None else layer.number("max_value")
    slope = layer.number("negative_slope", 0.0) if layer.config.get("negative_slope") is not None else 0.0
    threshold = layer.number("threshold", 0.0) if layer.config.get("threshold") is not None else 0.0
    if threshold:
        # x above the threshold, slope * (x - threshold) below it.
        high = c.node("Greater", [x, c.number(threshold, "threshold")])
        below = c.node("Mul", [c.node("Sub", [x, c.number(threshold, "threshold")]), c.number(slope, "slope")])
        y = c.node("Where", [high, x, below])
        return y if top is None else c.node("Min", [y, c.number(top, "max_value")])
    if not slope:
        return c.node("Relu", [x]) if top is None else _clip(c, x, 0.0, top)
    y = c.node("LeakyRelu", [x], alpha=slope)
    return y if top is None else _clip(c, y, None, top)


def leaky(c: Call, x: str, layer: Layer) -> str:
    """LeakyReLU; its slope was `alpha` in Keras 2."""
    key = "negative_slope" if "negative_slope" in layer.config else "alpha"
    return c.node("LeakyRelu", [x], alpha=layer.number(key, 0.3))
