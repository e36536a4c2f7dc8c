"""How threads share products on matrix tiles."""

from __future__ import annotations

import numpy as np
import pytest
from planned import on_tiles, tiles_always

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.plan import make_plan


@pytest.mark.parametrize(("rows", "precision", "cut"), [
    (128, "float32", 1), (128, "fast", 1), (128, "bfloat16", 0), (400, "float32", 0),
])  # fmt: skip
def test_weights_that_outweigh_their_operand_are_cut(
    rows: int, precision: str, cut: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that each thread reads half of them; the bits are those of one thread."""
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    x = rng.standard_normal((1, rows, 64), dtype=np.float32)
    w = rng.standard_normal((64, 528), dtype=np.float32)
    graph = Graph({"x": TensorType.of(x)}, ["y"], [Node("Linear", ["x", "w"], ["y"], {}, "fused")], {"w": w})
    one, two = (make_plan(graph, {"x": x.shape}, on_tiles(isa, n, precision), {}) for n in (1, 2))
    assert [s.params["split_n"] for s in two.steps if s.kernel == "brgemm_split_f32"] == [cut]
    assert one.run([x])[0].tobytes() == two.run([x])[0].tobytes()
