"""A vector times a matrix: tiles looked for the rows of a batch, of which there was none."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker

from forwardpass.run import Model
from tolerance import NETWORK


@pytest.mark.parametrize("shape", [(2, 1), (512, 512)])
def test_it_runs_on_every_isa(shape: tuple[int, int], isa: str) -> None:
    rng = np.random.default_rng(0)
    m = Maker(dtype=np.float32)
    weights = rng.standard_normal(shape).astype(np.float32)
    m.constants["w"] = weights
    graph = m.graph(m("MatMul", m.input("x", shape[0]), "w", out="y"))
    x = rng.standard_normal(shape[0]).astype(np.float32)
    want = x.astype(np.float64) @ weights.astype(np.float64)
    np.testing.assert_allclose(Model(graph, isa=isa)(x), want, **NETWORK)
