"""An output that a node leaves out counted as wanted where a node without a kernel leaves out an input."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import NETWORK


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_output_left_out(op: str, gates: int, rng: np.random.Generator) -> None:
    run = pytest.importorskip("forwardpass.run", reason="the compiled modules are not built")
    shapes = {"x": (3, 2, 4), "w": (1, gates * 5, 4), "r": (1, gates * 5, 5)}
    arrays = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    arrays |= {"u": np.arange(3, dtype=np.complex64), "top": np.array([2], np.int64)}
    inputs = {k: TensorType.of(arrays[k]) for k in ("x", "u")}
    nodes = [
        Node(op, ["x", "w", "r"], ["", "last"], {"hidden_size": 5}),
        Node("Slice", ["u", "zero", "top", "", "step"], ["cut"]),
    ]
    constants = {k: arrays[k] for k in ("w", "r", "top")}
    constants |= {"zero": np.array([0], np.int64), "step": np.array([1], np.int64)}
    graph = Graph(inputs, ["last", "cut"], nodes, constants)
    feeds = {k: arrays[k] for k in inputs}
    want = evaluate(graph, feeds)
    got = run.Model(graph, threads=1).run(feeds)
    np.testing.assert_allclose(got["last"], want["last"], **NETWORK)
    np.testing.assert_array_equal(got["cut"], want["cut"])
