"""Attention in one kernel: every form of it, masks, windows, caches, and what its bits do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from attentions import FORMS, MASKS, Arrays, attention, draw, form, masked, same_everywhere
from graphs import Maker
from planned import plan_of, run

from forwardpass.errors import InputError
from forwardpass.graph import Graph
from forwardpass.ops import evaluate
from forwardpass.passes import optimize
from tolerance import PROBABILITIES, native


def check(graph: Graph, inputs: Arrays, isa: str, threads: int = 1) -> Arrays:
    got = run(graph, inputs, isa, threads)
    want = evaluate(graph, inputs, dtype=np.float64)
    for name, y in got.items():
        np.testing.assert_allclose(y, want[name], **native(want[name]))
    return got


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, isa: str, rng: np.random.Generator) -> None:
    check(*form(rng, name), isa)


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", FORMS)
def test_bits_across_isas_and_threads(name: str, rng: np.random.Generator) -> None:
    same_everywhere(run, *form(rng, name), threads=(1, 2, 3))


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, causal: int, isa: str, rng: np.random.Generator) -> None:
    check(*masked(rng, name, causal), isa)


def test_rows_that_see_nothing_are_zero(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 2, 6, 16), k=(1, 2, 300, 16), v=(1, 2, 300, 16))
    mask = np.ones((6, 300), bool)
    mask[2] = False
    mask[4, :299] = False
    got = check(attention({**inputs, "mask": mask}), {**inputs, "mask": mask}, isa)["y"]
    np.testing.assert_array_equal(got[:, :, 2], 0)
    np.testing.assert_array_equal(got[:, :, 4], inputs["v"][:, :, 299])


@pytest.mark.parametrize("past", [1, 300])
@pytest.mark.parametrize("outputs", [1, 3])
def test_cache(past: int, outputs: int, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(2, 4, 3, 8), k=(2, 2, 3, 8), v=(2, 2, 3, 6), past_key=(2, 2, past, 8),
                  past_value=(2, 2, past, 6))  # fmt: skip
    check(attention(inputs, outputs, is_causal=1), inputs, isa)


def test_present_without_past(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(2, 5, 24), k=(2, 7, 24), v=(2, 7, 30))
    check(attention(inputs, 3, q_num_heads=3, kv_num_heads=3), inputs, isa)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("queries", [1, 9])
def test_lengths_of_the_batch(queries: int, causal: int, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(4, 2, queries, 16), k=(4, 1, 300, 16), v=(4, 1, 300, 16))
    for lengths in ((300, 9, 257, 31), (0, 3, 256, 299)):  # also of fewer keys than queries
        inputs["lengths"] = np.array(lengths)
        got = check(attention(inputs, is_causal=causal), inputs, isa)["y"]
        inputs["k"][1, :, lengths[1] :] = np.nan
        again = run(attention(inputs, is_causal=causal), inputs, isa)["y"]
        np.testing.assert_array_equal(again, got)
        inputs["k"][1, :, lengths[1] :] = 0
    inputs["lengths"][2] = 301
    with pytest.raises(InputError, match="out of range"):
        run(attention(inputs, is_causal=causal), inputs, isa)


def test_step_by_step_is_the_whole(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 2, 40, 8), k=(1, 2, 40, 8), v=(1, 2, 40, 8))
    whole = run(attention(inputs, is_causal=1), inputs, isa)["y"]
    cache = {"past_key": inputs["k"][:, :, :0], "past_value": inputs["v"][:, :, :0]}
    for t in range(40):
        given = {**{n: inputs[n][:, :, t : t + 1] for n in "qkv"}, **cache}
        made = run(attention(given, 3, is_causal=1), given, isa)
        cache = {"past_key": made["present_key"], "past_value": made["present_value"]}
        np.testing.assert_array_equal(made["y"], whole[:, :, t : t + 1])


@pytest.mark.parametrize("size", [1, 16, 37, 64, 100, 256])
def test_few_queries_have_the_bits_of_many(size: int, isa: str, rng: np.random.Generator) -> None:
    """Their keys and values are read where they lie, those of many are packed."""
    inputs = draw(rng, q=(2, 4, 30, size), k=(2, 2, 290, size), v=(2, 2, 290, size))
    whole = run(attention(inputs), inputs, isa)["y"]
    for first, end in ((0, 1), (7, 9), (20, 24)):
        given = {**inputs, "q": inputs["q"][:, :, first:end]}
        graph = attention(given)
        steps = plan_of(graph, {k: v.shape for k, v in given.items()}, isa).steps
        assert [s.kernel for s in steps] == ["attention_f32"]
        np.testing.assert_array_equal(run(graph, given, isa)["y"], whole[:, :, first:end])


@pytest.mark.parametrize("length", [5, 130, 256, 300])
def test_padding_changes_no_bit(length: int, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 2, length, 16), k=(1, 2, length, 16), v=(1, 2, length, 16))
    want = run(attention(inputs), inputs, isa)["y"]
    for more in (1, 40, 600):
        padded = {n: np.concatenate([x, np.full_like(x, 3.0).repeat(1 + more // length, 2)[:, :, :more]], 2)
                  for n, x in inputs.items()}  # fmt: skip
        for hidden in (-np.inf, np.finfo(np.float32).min):
            mask = np.where(np.arange(length + more) < length, 0, hidden).astype(np.float32)
            given = {**padded, "mask": mask}
            got = run(attention(given), given, isa)["y"]
            np.testing.assert_array_equal(got[:, :, :length], want)


def test_a_row_alone_and_in_a_batch(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(5, 2, 40, 16), k=(5, 2, 40, 16), v=(5, 2, 40, 16))
    whole = run(attention(inputs), inputs, isa)["y"]
    for i in range(5):
        alone = {n: x[i : i + 1] for n, x in inputs.items()}
        np.testing.assert_array_equal(run(attention(alone), alone, isa)["y"][0], whole[i])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_special_values(value: float, where: str, isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 2, 6, 16), k=(1, 2, 20, 16), v=(1, 2, 20, 16))
    inputs[where][0, 1, 3, 5] = value
    got = run(attention(inputs), inputs, isa)["y"]
    want = evaluate(attention(inputs), inputs)["y"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got[:, 0], want[:, 0], **native(want[:, 0]))


def test_large_scores(isa: str, rng: np.random.Generator) -> None:
    inputs = draw(rng, q=(1, 1, 9, 16), k=(1, 1, 600, 16), v=(1, 1, 600, 16))
    inputs["q"] *= 40
    graph = attention(inputs)
    np.testing.assert_allclose(
        run(graph, inputs, isa)["y"], evaluate(graph, inputs, dtype=np.float64)["y"], **PROBABILITIES
    )


def test_no_memory_for_all_scores() -> None:
    shapes = dict.fromkeys("qkv", (1, 8, 4096, 64))
    inputs = {n: np.broadcast_to(np.float32(0), s) for n, s in shapes.items()}
    plan = plan_of(attention(inputs), shapes, "scalar")
    assert plan.arena_bytes <= 2 * 8 * 4096 * 64 * 4 + 4096  # the packed K and V


def test_nothing() -> None:
    inputs = {n: np.zeros((2, 3, s, 8), np.float32) for n, s in (("q", 4), ("k", 0), ("v", 0))}
    np.testing.assert_array_equal(run(attention(inputs), inputs, "scalar")["y"], 0)


def test_no_keys_at_all(isa: str) -> None:
    """The sum over nothing, as of the operators that attention is made of."""
    m = Maker(dtype=np.float32)
    q, k = m.input("q", "B", "L", 4), m.input("k", "B", "K", 4)
    scores = m("Softmax", m("MatMul", q, m("Transpose", k, perm=[0, 2, 1])), axis=-1)
    graph, _ = optimize(m.graph(m("MatMul", scores, k)))
    assert [n.qualified for n in graph.nodes] == ["fused.Attention"]
    check(graph, {"q": np.ones((1, 2, 4), np.float32), "k": np.ones((1, 0, 4), np.float32)}, isa)
    assert not evaluate(graph, {"q": np.ones((1, 2, 4)), "k": np.ones((1, 0, 4))}, dtype=np.float64)["v3"].any()
