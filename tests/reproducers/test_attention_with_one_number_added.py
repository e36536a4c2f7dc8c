"""A single number that is added to the scores of attention is no mask with a row of keys: planning it failed."""

from __future__ import annotations

import numpy as np

import forwardpass as fp
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import NETWORK


def test_a_number_is_a_mask_for_all_keys() -> None:
    kind = TensorType(np.dtype(np.float32), (1, 2, 3, 4))
    nodes = [
        Node("Transpose", ["k"], ["kt"], {"perm": [0, 1, 3, 2]}),
        Node("MatMul", ["q", "kt"], ["s"]),
        Node("Add", ["s", "bias"], ["m"]),
        Node("Softmax", ["m"], ["p"], {"axis": 3}),
        Node("MatMul", ["p", "v"], ["y"]),
    ]
    graph = Graph({"q": kind, "k": kind, "v": kind}, ["y"], nodes, {"bias": np.array(0.5, np.float32)})
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(kind.sizes).astype(np.float32) for name in graph.inputs}
    found = fp.Model(graph, threads=1).run(feeds)["y"]
    np.testing.assert_allclose(found, evaluate(graph, feeds, dtype=np.float64)["y"], **NETWORK)
