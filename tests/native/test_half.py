"""float16 is stored, and float32 is computed with."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker

from forwardpass.graph import Graph
from forwardpass.ops import evaluate
from forwardpass.plan import Plan
from forwardpass.run import Model
from tolerance import NETWORK

HALF = np.dtype(np.float16)


def network() -> Graph:
    """Convolution, activation, pool and a product, all of float16."""
    m = Maker(dtype=HALF)
    x = m("Relu", m.conv(m.input("x", "N", 3, 8, 8), 3, 16, bias=True))
    x = m("Flatten", m("GlobalAveragePool", x))
    return m.graph(m("Softmax", m("Gemm", x, m.const((16, 5)), m.const((5,)), out="scores"), out="y"))


def test_a_network_runs_natively_and_is_rounded_once(isa: str, rng: np.random.Generator) -> None:
    graph = network()
    model = Model(graph, isa=isa)
    x = rng.standard_normal((3, 3, 8, 8)).astype(HALF)
    y = model(x)
    exact = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    assert y.dtype == HALF
    # Nothing but the result is rounded to float16: half a unit in its last place, and a little for float32.
    assert np.abs(y - exact).max() <= 0.51 * np.spacing(exact.astype(HALF)).max()
    assert isinstance(model.plan({"x": x.shape}), Plan)
    assert all(c.dtype == np.float16 for c in graph.constants.values()), "they are stored as they were"
    np.testing.assert_array_equal(model(x[1:2])[0], y[1])


def test_a_cast_of_the_model_rounds(isa: str) -> None:
    m = Maker(dtype=np.float32)
    narrow = m("Cast", m.input("x", "N"), to=10)
    graph = m.graph(m("Cast", m("Neg", narrow), to=1, out="y"))
    x = np.array([1 / 3, 1e-9, 70000], np.float32)
    with np.errstate(over="ignore"):
        want = -x.astype(HALF).astype(np.float32)
    np.testing.assert_array_equal(Model(graph, isa=isa)(x), want)


@pytest.mark.parametrize("op", ["LayerNormalization", "TopK"])
def test_an_output_left_out_is_no_reason_to_fail(op: str) -> None:
    m = Maker(dtype=np.float32)
    x = m.input("x", 2, 4)
    extra = m.const((4,)) if op == "LayerNormalization" else m.ints(2)
    m(op, x, extra, out="first", outputs=3 if op == "LayerNormalization" else 2)
    m.nodes[-1].outputs[0] = ""
    graph = m.graph("first_1")
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(Model(graph)(x), evaluate(graph, {"x": x})["first_1"], **NETWORK)
