"""What a model says of itself: summary, memory plan, profile, explanation, configuration."""

from __future__ import annotations

import itertools
import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_graphs  # noqa: F401 - registers the operator tests.Doubled
from graphs import Maker

import forwardpass as fp
import networks
from forwardpass import _native
from forwardpass.errors import InputError
from forwardpass.plan import Plan
from forwardpass.run import Model

F32 = np.dtype(np.float32)


def with_fallback() -> Model:
    """Native nodes around one that has no kernel."""
    m = Maker(dtype=F32)
    x = m("Relu", m.input("x", "N", 4), out="before")
    x = m("tests.Doubled", x, out="twice")
    return Model(m.graph(m("Sigmoid", m("MatMul", x, m.const((4, 3)), out="product"), out="after")), threads=1)


@pytest.mark.parametrize("kind", ["an input", "a constant"])
def test_outputs_that_no_node_makes(kind: str) -> None:
    m = Maker(dtype=F32)
    x = m.input("x", "N", 4)
    model = Model(m.graph(x if kind == "an input" else m.const((3, 4))))
    assert "0 of 0 nodes" in str(model.summary())
    assert "copy_f32" in str(fp.explain(model))
    with model.profile() as profile:
        model(np.ones((2, 4), np.float32))
    assert "copy_f32" in str(profile)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(networks.build("branches"), threads=1)


@pytest.fixture(scope="module")
def shape(model: Model) -> tuple[Any, ...]:
    (kind,) = model.inputs.values()
    assert kind.shape is not None
    return kind.shape[1:]


def name_of(model: Model) -> str:
    return next(iter(model.inputs))


# ---- summary


def test_summary(model: Model) -> None:
    summary = model.summary()
    assert len(summary.rows) == len(model.optimized.nodes)
    assert summary.parameters == sum(c.size for c in model.graph.constants.values() if c.dtype == np.float32)
    assert summary.native == len(summary.rows)
    text = str(summary)
    assert repr(summary) == text
    assert text.startswith(repr(model))
    assert f"{summary.parameters:,} parameters" in text
    for row in summary.rows:
        assert row["name"] in text
    assert sum(r["parameters"] for r in summary.rows) > 0


def test_summary_for_shapes(model: Model, shape: tuple[Any, ...]) -> None:
    assert "float32[N, " in str(model.summary())
    assert "float32[5, " in str(model.summary({name_of(model): (5, *shape)}))


def test_summary_where_sizes_of_one_do_not_fit() -> None:
    m = Maker(dtype=F32)
    pooled = m("MaxPool", m.input("x", "N", 3, "H", "W"), kernel_shape=[2, 2], strides=[2, 2])
    model = Model(m.graph(pooled))
    assert "depends on the input shapes" in str(model.summary())
    assert model.summary({"x": (1, 3, 4, 6)}).native == len(model.optimized.nodes)
    with pytest.raises(fp.GraphError):
        model.summary({"x": (1, 3, 1, 1)})


# ---- memory


def test_memory_plan_is_what_the_program_takes(model: Model, shape: tuple[Any, ...]) -> None:
    shapes = {name_of(model): (3, *shape)}
    plan, memory = model.plan(shapes), model.memory_plan(shapes)
    assert isinstance(plan, Plan)
    assert memory.arena == plan.program.arena_bytes == plan.arena_bytes > 0
    assert memory.inputs == 3 * 4 * int(np.prod(shape))
    assert memory.outputs == 3 * 4 * 7
    assert memory.total == memory.weights + memory.arena
    arrays = {id(a): a for s in plan.steps for a in s.params.values() if isinstance(a, np.ndarray)}
    assert memory.weights >= sum(a.nbytes for a in arrays.values()) > 0
    for t in memory.tensors:
        assert 0 <= t["offset"] <= t["offset"] + t["bytes"] <= memory.arena
        assert t["offset"] % 64 == 0
        assert 0 <= t["first"] <= t["last"] < len(plan.steps)
    text = str(memory)
    assert all(f"{t['bytes']:,}" in text for t in memory.tensors)


def test_memory_grows_with_the_batch(model: Model, shape: tuple[Any, ...]) -> None:
    plans = [model.memory_plan({name_of(model): (n, *shape)}) for n in (0, 1, 2, 3, 8, 64)]
    for before, after in itertools.pairwise(plans):
        assert before.arena < after.arena
        assert before.inputs < after.inputs
        assert before.outputs < after.outputs
    weights = {p.weights for p in plans[1:]}
    assert max(weights) < 1.2 * min(weights), "only tables of offsets depend on the batch"


def test_memory_is_reused() -> None:
    m = Maker(dtype=F32)
    x = m.input("x", "N", 256)
    for _ in range(8):
        x = m("MatMul", x, m.const((256, 256)))
    memory = Model(m.graph(m("Relu", x, out="y"))).memory_plan({"x": (16, 256)})
    assert memory.arena == 2 * 16 * 256 * 4


def test_memory_of_a_model_with_fallbacks() -> None:
    memory = with_fallback().memory_plan({"x": (10, 4)})
    assert "not counted" in str(memory)
    assert memory.inputs == 10 * 4 * 4
    assert memory.outputs == 10 * 3 * 4
    assert memory.weights > 0


# ---- profile


def test_profile(model: Model, shape: tuple[Any, ...], tmp_path: Path) -> None:
    x = np.ones((2, *shape), np.float32)
    want = model(x)
    with model.profile() as profile:
        for _ in range(3):
            np.testing.assert_array_equal(model(x), want)
        y = np.empty_like(want)
        model.run_into(x, y)
    model(x)  # not timed any more
    np.testing.assert_array_equal(y, want)
    plan = model.plan({name_of(model): x.shape})
    assert isinstance(plan, Plan)
    assert profile.calls == 4
    assert [s["kernel"] for s in profile.steps] == [s.kernel for s in plan.steps]
    assert all(s["calls"] == 4 and s["nanoseconds"] >= 0 for s in profile.steps)
    assert profile.nanoseconds == sum(s["nanoseconds"] for s in profile.steps) > 0
    assert sum(s["flops"] for s in profile.steps) == plan.flops
    text = str(profile)
    assert repr(profile) == text
    assert "4 calls" in text
    assert text.count("\n") == len(plan.steps) + 3
    profile.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == 4 * len(plan.steps)
    ends = 0.0
    for e in events:
        assert e["ph"] == "X"
        assert e["ts"] == pytest.approx(ends)
        ends = e["ts"] + e["dur"]
    assert ends == pytest.approx(profile.nanoseconds / 1e3)


def test_a_call_that_was_disturbed_does_not_move_the_typical_one(model: Model) -> None:
    profile = model.profile()
    for ns in (10, 12, 11, 1_000_000, 13):
        profile.record_definition(model.graph.nodes[0], ns)
        profile.count()
    assert profile.steps[0]["median"] == 12
    assert profile.typical == 12
    assert profile.nanoseconds == 1_000_046
    assert "0.012" in str(profile)


def test_profile_of_several_shapes_and_threads(model: Model, shape: tuple[Any, ...]) -> None:
    def work(rows: int) -> None:
        for _ in range(5):
            model(np.ones((rows, *shape), np.float32))

    with model.profile() as profile:
        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert profile.calls == 15
    assert all(s["calls"] == 5 for s in profile.steps)


def test_profiles_nest(model: Model, shape: tuple[Any, ...]) -> None:
    x = np.ones((1, *shape), np.float32)
    with model.profile() as outer:
        model(x)
        with model.profile() as inner:
            model(x)
        model(x)
    assert (outer.calls, inner.calls) == (2, 1)


def test_profile_of_nothing(model: Model) -> None:
    with model.profile() as profile:
        pass
    assert profile.steps == []
    assert "0 calls" in str(profile)


def test_profile_shows_definitions() -> None:
    model = with_fallback()
    with model.profile() as profile:
        model(np.ones((2, 4), np.float32))
    kernels = [s["kernel"] for s in profile.steps]
    assert kernels.count("definition") == 1
    assert "relu_f32" in kernels
    assert profile.calls == 1
    assert "definition" in str(profile)


# ---- explain and configuration


def test_explain(model: Model, shape: tuple[Any, ...]) -> None:
    shapes = {name_of(model): (4, *shape)}
    explanation, plan = fp.explain(model, shapes), model.plan(shapes)
    assert isinstance(plan, Plan)
    assert len(explanation.steps) == len(plan.steps)
    for s in explanation.steps:
        assert s["kernel"] in _native.kernel_names()
        assert s["isa"] == model.settings.isa
        assert s["threads"] >= 1
        assert s["bytes"] > 0
    assert any(s["flops"] > 0 and s["algorithm"] for s in explanation.steps)
    assert explanation.fallbacks == {}
    assert explanation.log is model.log
    assert explanation.log.fired("fuse_activation")
    text = str(explanation)
    assert repr(explanation) == text
    assert "fuse_activation" in text
    assert "brgemm_f32" in text
    assert "depthwise_f32" in text
    assert "1 thread" in text


def test_explain_says_why_a_rewrite_declined() -> None:
    m = Maker(dtype=F32)
    product = m("MatMul", m.input("x", "N", 4), m.const((4, 3)), out="product")
    model = Model(m.graph(m("Relu", product, out="y"), product))
    assert "is a graph output" in str(fp.explain(model))


def test_explain_and_summary_name_fallbacks() -> None:
    model = with_fallback()
    explanation, summary = fp.explain(model, {"x": (3, 4)}), model.summary()
    assert explanation.fallbacks == {"node 'twice' (tests.Doubled)": "tests.Doubled has no native kernel"}
    kernels = [s["kernel"] for s in explanation.steps]
    assert kernels == ["relu_f32", "definition", "brgemm_f32"]
    for reason in explanation.fallbacks.values():
        assert reason in str(explanation)
        assert reason in str(summary)
    assert summary.native == len(summary.rows) - 1


def test_explain_refuses_shapes(model: Model) -> None:
    with pytest.raises(InputError, match="wrong rank"):
        fp.explain(model, {name_of(model): (1, 2)})


def test_show_config() -> None:
    config = fp.show_config()
    text = str(config)
    assert repr(config) == text
    for part in (fp.__version__, np.__version__, "float32", "portable", "fast", f"threads: {config.threads}"):
        assert part in text
    for isa in _native.isas():
        state = "in use" if isa["name"] == config.isa else "available" if isa["available"] else isa["why_not"]
        assert f"ISA {isa['name']}: {state}" in text


def test_show_config_obeys_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDPASS_ISA", "scalar")
    monkeypatch.setenv("FORWARDPASS_NUM_THREADS", "5")
    text = str(fp.show_config())
    assert "ISA scalar: in use" in text
    assert "threads: 5 (FORWARDPASS_NUM_THREADS)" in text


def test_reprs(model: Model) -> None:
    assert re.fullmatch(
        r"<Model unnamed\(x: float32\[N, 4\]\) -> after: float32\[N, 3\]; float32, \w+, 1 thread>",
        repr(with_fallback()),
    )
    assert "portable, scalar, 2 threads>" in repr(Model(model.graph, threads=2, precision="portable", isa="scalar"))
    assert "[..." not in repr(model)
    assert repr(model.log) == str(model.log)
