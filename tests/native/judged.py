"""One node, as a model runs it: optimised and planned, on every ISA, against the definition in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from planned import run

from cases import graph_of
from forwardpass import _native
from forwardpass.ops import Case, evaluate, load_all, registry
from forwardpass.passes import optimize
from tolerance import native

__all__ = ["judge", "operands"]


def operands(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Standard normal float32 values."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def judge(
    name: str, inputs: tuple[Any, ...], constants: tuple[int, ...] = (), domain: str = "", outputs: int = 1,
    **attributes: Any,
) -> None:  # fmt: skip
    """Every step is native; the bits are those of the scalar ISA whatever the ISA and the number of threads; and the
    values are those of the definition."""
    load_all()
    graph, given = graph_of(registry[domain, name], Case(inputs, attributes, constants=constants))
    for node in graph.nodes:  # whatever else an operator gives, the model does not ask for it
        node.outputs = node.outputs[:outputs]
    graph.outputs = graph.outputs[:outputs]
    made, _ = optimize(graph)
    first = None
    for isa in _native.available_isas():
        for threads in (1, 3):
            got = run(made, given, isa, threads)
            first = first or got
            for value, array in got.items():
                assert array.tobytes() == first[value].tobytes(), f"{value} on {isa} with {threads} threads"
    assert first is not None
    plain = all(a.dtype == np.float32 for a in first.values())
    want = evaluate(graph, given, dtype=np.float64 if plain else None)
    for value, array in first.items():
        assert array.shape == want[value].shape
        limit = native(want[value]) if array.dtype.kind == "f" else {"rtol": 0.0, "atol": 0.0}
        np.testing.assert_allclose(array, want[value], **limit)
