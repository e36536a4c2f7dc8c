"""The same bits: for a row in any batch, for any number of threads, on every ISA."""

from __future__ import annotations

import numpy as np
import pytest
from planned import run

import networks
from cases import graph_of, parameters
from forwardpass import Model, _native
from forwardpass.ops import Case, Operator, evaluate
from forwardpass.plan import Declined
from tolerance import NETWORK

NATIVE = parameters(lambda operator: operator.lower is not None)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the last bit. Any NaN equals any other: IEEE 754 leaves its sign and payload free."""
    plain_a, plain_b = (np.where(np.isnan(v), np.float32(np.nan), v) for v in (a, b))
    return a.shape == b.shape and plain_a.tobytes() == plain_b.tobytes()


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_row_alone_and_in_a_batch(name: str, isa: str) -> None:
    network = networks.build(name)
    model = Model(network, threads=1, isa=isa)
    x = networks.sample(network, 5)
    whole = model(x)
    np.testing.assert_allclose(
        whole, evaluate(network.graph(), {next(iter(model.inputs)): x}, dtype=np.float64)[next(iter(model.outputs))],
        **NETWORK,
    )  # fmt: skip
    for i in range(len(x)):
        assert same_bits(model(x[i : i + 1])[0], whole[i]), f"row {i} of 5 is not the row alone"
    assert same_bits(model(x[::-1]), whole[::-1].copy()), "the order of rows changes them"
    assert same_bits(model.predict(x, batch_size=2), whole)


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_number_of_threads(name: str, isa: str) -> None:
    network = networks.build(name)
    x = networks.sample(network, 3)
    want = Model(network, threads=1, isa=isa)(x)
    for threads in (2, 3, 8):
        model = Model(network, threads=threads, isa=isa)
        plan = model.plan({next(iter(model.inputs)): x.shape})
        divisible = any(s.units > s.grain for s in plan.steps)
        assert plan.threads == (threads if divisible else 1)
        for _ in range(3):
            assert same_bits(model(x), want), f"{threads} threads differ from one"


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_portable_across_isas(name: str) -> None:
    network = networks.build(name)
    x = networks.sample(network, 3)
    results = {i: Model(network, precision="portable", isa=i)(x) for i in _native.available_isas()}
    want = results["scalar"]
    for isa, got in results.items():
        assert same_bits(got, want), f"{isa} differs from scalar"


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize(("operator", "case"), NATIVE)
def test_operators_across_isas_and_threads(operator: Operator, case: Case) -> None:
    graph, inputs = graph_of(operator, case)
    try:
        want = run(graph, inputs, "scalar")
    except Declined:
        return  # test_ops says which cases may decline
    for isa in _native.available_isas():
        for threads in (1, 2, 3, 8):
            got = run(graph, inputs, isa, threads)
            for name in want:
                assert same_bits(got[name], want[name]), f"{isa} with {threads} threads differs from scalar"
