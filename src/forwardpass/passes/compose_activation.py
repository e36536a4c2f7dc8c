"""Activations that an exporter wrote out in smaller operators become one again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..graph import Node
from .rewrite import Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _scalar(view: View, value: str) -> float | None:
    array = view.constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _close(a: float | None, b: float) -> bool:
    """Equal within the rounding of float32, in which exporters write constants."""
    return a is not None and math.isclose(a, b, rel_tol=2.0**-22)


def _from(view: View, value: str, op: str) -> Node | None:
    node = view.producer(value)
    return node if node is not None and node.qualified == op else None


def _with_scalar(view: View, value: str, op: str) -> tuple[str, float] | None:
    """(x, c) where the value is op(x, c) or, for Add and Mul, op(c, x)."""
    node = _from(view, value, op)
    if node is None:
        return None
    for k in (1, 0) if op in ("Add", "Mul") else (1,):
        c = _scalar(view, node.inputs[k])
        if c is not None and view.constant(node.inputs[1 - k]) is None:
            return node.inputs[1 - k], c
    return None


def _scaled(view: View, value: str) -> tuple[str, float]:
    """(x, c) where the value is x * c."""
    found = _with_scalar(view, value, "Mul")
    if found is not None:
        return found
    found = _with_scalar(view, value, "Div")
    return (value, 1.0) if found is None or found[1] == 0 else (found[0], 1 / found[1])


def _factors(view: View, node: Node) -> tuple[float, list[str]]:
    """A product as a number and values, past the products that it alone reads."""
    scale, values, todo = 1.0, [], [node]
    while todo:
        current = todo.pop()
        for k, value in enumerate(current.inputs):
            c = _scalar(view, value)
            divisor = current.op == "Div" and k == 1
            inner = view.producer(value)
            if c is not None and (c != 0 or not divisor):
                scale = scale / c if divisor else scale * c
            elif inner is not None and inner.qualified in ("Mul", "Div") and _expands(view, inner, divisor):
                todo.append(inner)
            else:
                values.append(value if not divisor else "")
    return scale, values


def _expands(view: View, inner: Node, divisor: bool) -> bool:
    return not divisor and view.shared(inner.outputs[0]) is None


def _sigmoid(view: View, x: str, f: str, scale: float) -> tuple[str, dict[str, object]] | None:
    node = _from(view, f, "Sigmoid")
    if node is None or scale != 1:
        return None
    inner, alpha = _scaled(view, node.inputs[0]) if node.inputs[0] != x else (x, 1.0)
    return ("Swish", {"alpha": alpha}) if inner == x else None


def _hard_swish(view: View, x: str, f: str, scale: float) -> tuple[str, dict[str, object]] | None:
    node = _from(view, f, "HardSigmoid")
    if node is not None and node.inputs[0] == x and scale == 1:
        bound = view.attributes(node)
        fits = _close(float(bound["alpha"]), 1 / 6) and _close(float(bound["beta"]), 0.5)
        return ("HardSwish", {}) if fits else None
    # x * Clip(x + 3, 0, 6) / 6, as PyTorch exported it.
    node = _from(view, f, "Clip")
    if node is None or len(node.inputs) < 3 or not _close(scale, 1 / 6):
        return None
    bounds = [_scalar(view, i) for i in node.inputs[1:3]]
    shifted = _with_scalar(view, node.inputs[0], "Add")
    return ("HardSwish", {}) if bounds == [0, 6] and shifted == (x, 3) else None


def _mish(view: View, x: str, f: str, scale: float) -> tuple[str, dict[str, object]] | None:
    tanh = _from(view, f, "Tanh")
    inner = None if tanh is None else _from(view, tanh.inputs[0], "Softplus")
    return ("Mish", {}) if inner is not None and inner.inputs[0] == x and scale == 1 else None


def _gelu(view: View, x: str, f: str, scale: float) -> tuple[str, dict[str, object]] | None:
    """x / 2 * (1 + erf(x / sqrt 2)), or with tanh(sqrt(2 / pi) * (x + 0.044715 x^3))."""
    plus_one = _with_scalar(view, f, "Add")
    if plus_one is None or plus_one[1] != 1 or not _close(scale, 0.5):
        return None
    erf = _from(view, plus_one[0], "Erf")
    if erf is not None:
        inner, c = _scaled(view, erf.inputs[0])
        return ("Gelu", {"approximate": "none"}) if inner == x and _close(c, math.sqrt(0.5)) else None
    tanh = _from(view, plus_one[0], "Tanh")
    fits = tanh is not None and _gelu_argument(view, x, tanh.inputs[0])
    return ("Gelu", {"approximate": "tanh"}) if fits else None


def _gelu_argument(view: View, x: str, value: str) -> bool:
    """Whether the value is sqrt(2 / pi) (x + 0.044715 x^3), or the same with x outside."""
    inner, c = _scaled(view, value)
    add = _from(view, inner, "Add")
    if add is not None and x in add.inputs and _close(c, math.sqrt(2 / math.pi)):
        cubed, c = _scaled(view, add.inputs[1 - add.inputs.index(x)])
        return _close(c, 0.044715) and (_with_scalar(view, cubed, "Pow") == (x, 3.0) or _product(view, cubed, x, 3))
    product = _from(view, value, "Mul")
    scale, values = (0.0, []) if product is None else _factors(view, product)
    if not _close(scale, math.sqrt(2 / math.pi)) or len(values) != 2 or x not in values:
        return False
    plus_one = _with_scalar(view, values[1 - values.index(x)], "Add")
    square = None if plus_one is None or plus_one[1] != 1 else _from(view, plus_one[0], "Mul")
    scale, values = (0.0, []) if square is None else _factors(view, square)
    return _close(scale, 0.044715) and values == [x, x]


def _product(view: View, value: str, x: str, power: int) -> bool:
    """Whether the value is x times x, so many times."""
    node = _from(view, value, "Mul")
    return node is not None and _factors(view, node) == (1.0, [x] * power)


_FORMS: tuple[Callable[[View, str, str, float], tuple[str, dict[str, object]] | None], ...] = (
    _sigmoid,
    _hard_swish,
    _mish,
    _gelu,
)


@rule("Mul", "Div")
def compose(view: View, node: Node) -> Result:
    """x * f(x) for the f of Swish, HardSwish, Mish and Gelu."""
    y = node.outputs[0]
    if view.type(y).dtype.kind != "f":
        return None
    scale, values = _factors(view, node)
    if len(values) != 2 or "" in values or not np.isfinite(scale):
        return None
    for x, f in (values, values[::-1]):
        for form in _FORMS:
            found = form(view, x, f, scale)
            if found is not None and view.type(x) == view.type(y):
                op, attributes = found
                return Patch(f"became {op}", [node], [Node(op, [x], [y], attributes, name=node.name)])
    return None


PASS = Pass("compose_activation", (compose,))
