"""Attention of "bfloat16" on matrix tiles. Every ISA runs it here: those without tiles by an emulation."""

from __future__ import annotations

import numpy as np
import pytest
from attentions import FORMS, MASKS, Arrays, attention, draw, form, masked, same, same_everywhere
from planned import on_tiles

from forwardpass.graph import Graph
from forwardpass.ops import evaluate
from forwardpass.plan import make_plan
from tolerance import BFLOAT16, native

FEW = ("two queries of odd heads", "four queries", "one query", "wide heads", "one element")
ON_TILES = [n for n in FORMS if n not in FEW]


def run(graph: Graph, x: Arrays, isa: str, threads: int = 1) -> Arrays:
    plan = make_plan(graph, {k: v.shape for k, v in x.items()}, on_tiles(isa, threads, "bfloat16"), {})
    assert "attention_bf16" in [step.kernel for step in plan.steps]
    return dict(zip(graph.outputs, plan.run([np.ascontiguousarray(x[k]) for k in graph.inputs])))


def rounded(x: np.ndarray) -> np.ndarray:
    """float32 numbers as the nearest bfloat16 ones."""
    return ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)


def check(graph: Graph, inputs: Arrays, isa: str) -> None:
    """The products' operands are rounded, and nothing else."""
    near = {k: rounded(x) if k in "qkv" else x for k, x in inputs.items()}
    want = evaluate(graph, near, dtype=np.float64)["y"]
    np.testing.assert_allclose(run(graph, inputs, isa)["y"], want, rtol=0, atol=BFLOAT16 * np.abs(inputs["v"]).max())


@pytest.mark.parametrize("name", ON_TILES)
def test_forms(name: str, isa: str, rng: np.random.Generator) -> None:
    check(*form(rng, name), isa)


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", ON_TILES)
def test_the_emulation_has_the_bits_of_the_instructions(name: str, rng: np.random.Generator) -> None:
    same_everywhere(run, *form(rng, name), threads=(1, 3))


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, causal: int, isa: str, rng: np.random.Generator) -> None:
    check(*masked(rng, name, causal), isa)


def test_a_row_of_a_batch_is_that_row_alone(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(3, 2, 70, 40), k=(3, 2, 300, 40), v=(3, 2, 300, 40))
    whole = run(attention(inputs), inputs, isa)["y"]
    for i in range(3):
        row = {k: x[i : i + 1] for k, x in inputs.items()}
        assert same(run(attention(row), row, isa), {"y": whole[i : i + 1]})


def test_infinities_and_nan_stay_in_their_rows(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 1, 20, 16), k=(1, 1, 33, 16), v=(1, 1, 33, 16))
    clean = run(attention(inputs), inputs, isa)["y"]
    inputs["q"][0, 0, 7, 3] = np.nan
    got = run(attention(inputs), inputs, isa)["y"]
    assert np.isnan(got[0, 0, 7]).all()
    assert np.array_equal(np.delete(got, 7, 2), np.delete(clean, 7, 2))


def test_few_queries_and_wide_heads_stay_in_float32(isa: str, rng: np.random.Generator) -> None:
    for name in FEW:
        graph, inputs = form(rng, name)
        plan = make_plan(graph, {k: v.shape for k, v in inputs.items()}, on_tiles(isa, 1, "bfloat16"), {})
        assert "attention_f32" in [step.kernel for step in plan.steps], name


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFC00000])
def test_a_query_that_is_no_number_has_no_number_for_an_answer(bits: int, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 2, 20, 32), k=(1, 2, 70, 32), v=(1, 2, 70, 32))
    plain = run(attention(inputs), inputs, isa)["y"]
    inputs["q"][0, 1, 7, 3] = np.uint32(bits).view(np.float32)
    found = run(attention(inputs), inputs, isa)["y"]
    assert np.isnan(found[0, 1, 7]).all()
    found[0, 1, 7] = plain[0, 1, 7]
    assert same({"y": found}, {"y": plain})


@pytest.mark.parametrize("size", [2.0**22, 2.0**60])
def test_of_very_large_scores_the_largest_alone_counts(size: float, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 1, 20, 32), k=(1, 1, 64, 32), v=(1, 1, 64, 32))
    inputs["q"] *= np.float32(size)
    near = {k: rounded(x).astype(np.float64) for k, x in inputs.items()}
    best = (near["q"][0, 0] @ near["k"][0, 0].T).argmax(1)
    want = near["v"][0, 0][best]
    np.testing.assert_allclose(run(attention(inputs), inputs, isa)["y"][0, 0], want, **native(want))


def test_scores_of_minus_infinity_and_nan_have_no_number_for_an_answer(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 1, 20, 32), k=(1, 1, 64, 32), v=(1, 1, 64, 32))
    inputs["q"] = np.abs(inputs["q"])
    inputs["k"][:] = -np.inf
    inputs["k"][0, 0, 3] = np.nan
    assert np.isnan(run(attention(inputs), inputs, isa)["y"]).all()
