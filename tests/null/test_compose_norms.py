"""Normalisation as exporters write it out becomes one operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Maker, ops, reasons

from forwardpass.graph import Graph
from forwardpass.ops import evaluate
from forwardpass.passes import optimize
from tolerance import NETWORK

SIZE = 12
Style = Callable[[Maker, str], str]


def mean(m: Maker, x: str) -> str:
    return m("ReduceMean", x, m.ints(-1), keepdims=1)


def number(m: Maker, value: float) -> str:
    return m.const(np.array(value))


def root(m: Maker, x: str) -> str:
    return m("Sqrt", m("Add", x, number(m, 1e-5)))


def affine(m: Maker, y: str) -> str:
    return m("Add", m("Mul", y, m.const((SIZE,))), m.const((SIZE,)))


def layer(m: Maker, x: str) -> str:
    """PyTorch before LayerNormalization was an operator of ONNX."""
    d = m("Sub", x, mean(m, x))
    return affine(m, m("Div", d, root(m, mean(m, m("Pow", d, number(m, 2))))))


def layer_twice(m: Maker, x: str) -> str:
    """Each use of the difference calculates it again."""
    middle = mean(m, x)
    a, b = m("Sub", x, middle), m("Sub", x, middle)
    return affine(m, m("Div", a, root(m, mean(m, m("Mul", b, b)))))


def layer_inverse(m: Maker, x: str) -> str:
    d = m("Sub", x, mean(m, x))
    inverse = m("Reciprocal", root(m, mean(m, m("Mul", d, d))))
    return m("Add", m.const((SIZE,)), m("Mul", m.const((SIZE,)), m("Mul", d, inverse)))


def layer_bare(m: Maker, x: str) -> str:
    d = m("Sub", x, mean(m, x))
    return m("Div", d, root(m, mean(m, m("Pow", d, number(m, 2)))))


def t5(m: Maker, x: str) -> str:
    inverse = m("Div", number(m, 1.0), root(m, mean(m, m("Pow", x, number(m, 2)))))
    return m("Mul", m.const((SIZE,)), m("Mul", x, inverse))


def llama(m: Maker, x: str) -> str:
    spread = m("Add", mean(m, m("Mul", x, x)), number(m, 1e-6))
    return m("Mul", m("Mul", m("Pow", spread, number(m, -0.5)), x), m.const((SIZE,)))


STYLES = [
    (layer, "LayerNormalization", 3),
    (layer_twice, "LayerNormalization", 3),
    (layer_inverse, "LayerNormalization", 3),
    (layer_bare, "LayerNormalization", 2),
    (t5, "RMSNormalization", 2),
    (llama, "RMSNormalization", 2),
]


def build(style: Style) -> Graph:
    m = Maker(dtype=np.float32)
    return m.graph(m("Neg", style(m, m.input("x", "N", "length", SIZE)), out="y"))


@pytest.mark.parametrize(("style", "op", "inputs"), STYLES, ids=lambda s: getattr(s, "__name__", ""))
def test_styles(style: Style, op: str, inputs: int, rng: np.random.Generator) -> None:
    graph = build(style)
    made, log = optimize(graph, check=True)
    assert ops(made) == [op, "Neg"], log
    assert len(made.nodes[0].inputs) == inputs
    x = rng.standard_normal((2, 3, SIZE), dtype=np.float32)
    np.testing.assert_allclose(evaluate(made, {"x": x})["y"], evaluate(graph, {"x": x})["y"], **NETWORK)


def test_another_axis_is_none() -> None:
    m = Maker(dtype=np.float32)
    x = m.input("x", "N", 5, SIZE)
    d = m("Sub", x, m("ReduceMean", x, m.ints(1), keepdims=1))
    spread = m("ReduceMean", m("Mul", d, d), m.ints(1), keepdims=1)
    made, _ = optimize(m.graph(m("Div", d, root(m, spread), out="y")), check=True)
    assert "LayerNormalization" not in ops(made)


def test_says_why_not() -> None:
    m = Maker(dtype=np.float32)
    graph = m.graph(m("Neg", layer(m, m.input("x", "N", None))))
    made, log = optimize(graph, check=True)
    assert "LayerNormalization" not in ops(made)
    assert "the size of its rows is unknown" in reasons(log, "compose_norms")


def test_a_result_that_is_used_twice_keeps_its_scale(rng: np.random.Generator) -> None:
    m = Maker(dtype=np.float32)
    y = layer_bare(m, m.input("x", 4, SIZE))
    graph = m.graph(m("Mul", y, m.const((SIZE,)), out="scaled"), m("Neg", y, out="other"))
    made, _ = optimize(graph, check=True)
    assert sorted(ops(made)) == ["LayerNormalization", "Mul", "Neg"]
    x = rng.standard_normal((4, SIZE), dtype=np.float32)
    for name, want in evaluate(graph, {"x": x}).items():
        np.testing.assert_allclose(evaluate(made, {"x": x})[name], want, **NETWORK)
