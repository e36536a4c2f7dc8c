"""Model: the ways to call it, batches, intermediate values, its plans, and what it survives."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32, mlp, two_outputs

import forwardpass as fp
import networks
from forwardpass.builder import Dense, Input, Sequential
from forwardpass.errors import ConfigError, InputError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.plan import Plan
from forwardpass.plan.hybrid import Hybrid
from forwardpass.run import Model
from tolerance import NETWORK


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((3, 4), dtype=np.float32), rng.standard_normal((3, 4), dtype=np.float32)


# ---- calls


def test_positional_keyword_and_mixed(pair: tuple[np.ndarray, np.ndarray]) -> None:
    model, (a, b) = Model(two_outputs()), pair
    for got in (model(a, b), model(a, b=b), model(a=a, b=b), model(b=b, a=a), model(a, b)):
        np.testing.assert_array_equal(got.sum, a + b)
        np.testing.assert_array_equal(got[1], a - b)


def test_several_outputs_are_a_named_tuple(pair: tuple[np.ndarray, np.ndarray]) -> None:
    result = Model(two_outputs())(*pair)
    assert isinstance(result, tuple)
    assert result._fields == ("sum", "_1")  # a name that is no identifier is a place
    again = pickle.loads(pickle.dumps(result))
    assert again._fields == result._fields
    np.testing.assert_array_equal(again.sum, result.sum)


@pytest.mark.parametrize("graph", [mlp, two_outputs], ids=["one output", "two outputs"])
def test_a_second_call_takes_the_fast_path(graph: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(graph())
    arrays = [np.ones((3, *t.shape[1:]), np.float32) for t in model.inputs.values() if t.shape]
    first = model(*arrays)
    monkeypatch.delattr(Model, "_call")
    second = model(*arrays)
    assert type(second) is type(first)
    pairs = list(zip(first, second, strict=True)) if isinstance(first, tuple) else [(first, second)]
    for a, b in pairs:
        assert not np.shares_memory(a, b)
        np.testing.assert_array_equal(a, b)


def test_one_output_is_an_array_of_its_own() -> None:
    model = Model(mlp())
    x = np.ones((2, 8), np.float32)
    first, second = model(x), model(x)
    assert type(first) is np.ndarray
    assert first.flags.owndata
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing inputs: expected a, b, got none"),
        ((1,), {}, "missing inputs: expected a, b, got a"),
        ((1, 2, 3), {}, "too many inputs: expected 2: a, b, got 3"),
        ((1,), {"a": 2}, "input 'a' is given twice"),
        ((1, 2), {"c": 3}, "unknown input 'c'"),
    ],
)
def test_wrong_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Model(two_outputs())(*args, **kwargs)


def test_run_by_name(pair: tuple[np.ndarray, np.ndarray]) -> None:
    model, (a, b) = Model(two_outputs()), pair
    got = model.run({"b": b, "a": a})
    assert list(got) == ["sum", "the/difference"]
    np.testing.assert_array_equal(got["the/difference"], a - b)


# ---- predict


@pytest.mark.parametrize("rows", [0, 1, 6, 7, 8, 20])
@pytest.mark.parametrize("progress", [False, True])
def test_predict(rows: int, progress: bool, rng: np.random.Generator) -> None:
    model, x = Model(mlp()), rng.standard_normal((rows, 8), dtype=np.float32)
    got = model.predict(x, batch_size=7, progress=progress)
    assert got.shape == (rows, 3)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, model(x))


def test_predict_several_inputs_and_outputs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    model, (a, b) = Model(two_outputs()), pair
    got = model.predict({"a": a.tolist(), "b": b.astype(np.float64)}, batch_size=2)
    np.testing.assert_array_equal(got.sum, a + b)
    np.testing.assert_array_equal(got[1], a - b)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "8", None])
def test_predict_wrong_batch_size(size: Any) -> None:
    with pytest.raises(InputError) as e:
        Model(mlp()).predict(np.ones((2, 8), np.float32), batch_size=size)
    assert e.value.where == "batch_size"


@pytest.mark.parametrize(
    ("x", "where", "words"),
    [
        (1.0, "input 'a'", "a scalar has no rows"),
        ({"a": np.ones((2, 4)), "b": np.ones((3, 4))}, "input 'b'", "different length: expected 2 as 'a', got 3"),
        ({"a": np.ones((2, 4)), "b": None}, "input 'b'", "not an array"),
        ({"a": np.ones((2, 5)), "b": np.ones((2, 4))}, "input 'a'", "wrong size of axis 1"),
        (np.ones((2, 4)), "call", "missing inputs"),
    ],
)
def test_predict_wrong_inputs(x: Any, where: str, words: str) -> None:
    model = Model(two_outputs())
    given = {"a": x, "b": x} if isinstance(x, float) else x
    with pytest.raises(InputError, match=words) as e:
        model.predict(given)
    assert e.value.where == where


def test_predict_needs_a_row_per_row() -> None:
    m = Maker(dtype=F32)
    model = Model(m.graph(m("ReduceSum", m.input("x", "N", 4), keepdims=0, out="total")))
    with pytest.raises(InputError, match="no row per row") as e:
        model.predict(np.ones((4, 4), np.float32), batch_size=2)
    assert e.value.where == "output 'total'"
    assert model(np.ones((4, 4), np.float32)) == 16


# ---- memory


def _partly_native() -> Graph:
    m = Maker(dtype=F32)
    return m.graph(m("tests.Doubled", m("Relu", m.input("x", "N", 8)), out="y"))


@pytest.mark.parametrize("make", [mlp, _partly_native])
def test_plans_and_models_are_freed_without_the_garbage_collector(make: Callable[[], Graph]) -> None:
    def plans() -> int:
        return sum(isinstance(o, (Plan, Hybrid)) for o in gc.get_objects())

    gc.collect()
    before = plans()
    gc.disable()
    try:
        model = Model(make(), threads=1)
        for rows in range(1, 40):
            model(np.ones((rows, 8), np.float32))
        assert plans() - before <= 2 * 16
        model.run({"x": np.ones((1, 8), np.float32)}, capture=["x"])
        del model
        assert plans() == before
    finally:
        gc.enable()


def test_run_by_name_has_no_longer_way_than_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Model(mlp(), threads=1), np.ones((2, 8), np.float32)
    want = model(x)
    monkeypatch.setattr(Model, "_checked", None)
    np.testing.assert_array_equal(model.run({"x": x})["y"], want)
    with pytest.raises(TypeError):
        model.run({"x": x[:1]})  # another shape has to be checked


# ---- capture


def test_capture_equals_the_definition(rng: np.random.Generator) -> None:
    graph = mlp()
    model, x = Model(graph), rng.standard_normal((5, 8), dtype=np.float32)
    names = ["s", "h", "t", "x", "c1", "y"]
    got = model.run({"x": x}, capture=names)
    assert list(got) == ["y", "s", "h", "t", "x", "c1"]
    want = evaluate(graph, {"x": x}, outputs=names, dtype=np.float64)
    for name in names:
        np.testing.assert_allclose(got[name], want[name], **NETWORK)
    assert "s" not in model.optimized.producers(), "fused away unless it is captured"


def test_capture_in_a_network(rng: np.random.Generator) -> None:
    network = networks.build("branches")
    model, x = Model(network), networks.sample(network, 2)
    graph = model.graph
    names = [n.outputs[0] for n in graph.nodes]
    want = evaluate(graph, {next(iter(graph.inputs)): x}, outputs=names, dtype=np.float64)
    got = model.run({next(iter(graph.inputs)): x}, capture=names)
    assert len(names) > 16, "more outputs than the fast path takes"
    for name in names:
        np.testing.assert_allclose(got[name], want[name], **NETWORK)


def test_capture_unknown_name() -> None:
    with pytest.raises(InputError, match=r"unknown value 'hh'.*did you mean 'h'\?") as e:
        Model(mlp()).run({"x": np.ones((1, 8), np.float32)}, capture=["hh"])
    assert e.value.where == "capture"


def test_capture_one_name() -> None:
    x = np.ones((1, 8), np.float32)
    assert list(Model(mlp()).run({"x": x}, capture="s")) == ["y", "s"]


# ---- settings


def test_inputs_and_outputs() -> None:
    model = Model(mlp())
    assert {k: str(t) for k, t in model.inputs.items()} == {"x": "float32[N, 8]"}
    assert {k: str(t) for k, t in model.outputs.items()} == {"y": "float32[N, 3]"}


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 1 << 20])
def test_wrong_threads(threads: Any) -> None:
    with pytest.raises(ConfigError) as e:
        Model(mlp(), threads=threads)
    assert (e.value.where, e.value.got) == ("threads", repr(threads))


def test_integers_of_numpy_are_threads() -> None:
    assert Model(mlp(), threads=np.int64(2)).settings.threads == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["bfloat17", "", None, "FLOAT32", ["fast"]])
def test_wrong_precision_lists_those_there_are(precision: Any) -> None:
    with pytest.raises(ConfigError, match="float32, portable, fast, bfloat16") as e:
        Model(mlp(), precision=precision)
    assert e.value.where == "precision"


@pytest.mark.parametrize("wrong", ["sse9", 9, ["scalar"]])
def test_wrong_isa_lists_those_there_are(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="scalar") as e:
        Model(mlp(), isa=wrong)
    assert e.value.where == "isa"


@pytest.mark.parametrize("source", [3, None, "model.npz", [1]])
def test_what_is_no_graph(source: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a graph"):
        Model(source)
    with pytest.raises(InputError, match="not a graph"):
        fp.save(source, tmp_path / "x.npz")


# ---- copies and files


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_give_the_same_bits(how: Any, rng: np.random.Generator) -> None:
    model = Model(mlp(), threads=2, precision="portable", isa="scalar")
    x = rng.standard_normal((3, 8), dtype=np.float32)
    want = model(x)
    made = how(model)
    assert made.settings == model.settings
    assert made(x).tobytes() == want.tobytes()


def test_a_default_is_chosen_anew_where_a_pickle_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(Model(mlp()))
    monkeypatch.setenv("FORWARDPASS_NUM_THREADS", "3")
    monkeypatch.setenv("FORWARDPASS_ISA", "scalar")
    made = pickle.loads(data)
    assert (made.settings.threads, made.settings.isa) == (3, "scalar")


@pytest.mark.parametrize("kind", ["graph", "model", "network"])
def test_save_and_load_keep_every_bit(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    network = Sequential([Input((8,)), Dense(5, activation="gelu"), Dense(3)])
    network.init(seed=2)
    model = Model(network)
    fp.save({"graph": model.graph, "model": model, "network": network}[kind], tmp_path / "m.npz")
    x = rng.standard_normal((4, 8), dtype=np.float32)
    loaded = fp.load(tmp_path / "m.npz")
    assert loaded(x).tobytes() == model(x).tobytes()
    assert loaded.inputs == model.inputs
    fp.save(loaded, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()


# ---- plans


def test_plans_are_bounded_and_right() -> None:
    model = Model(mlp())
    x = np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32)
    want = model(x)
    for _ in range(2):
        for rows in range(1, 40):
            np.testing.assert_array_equal(model(x[:rows]), want[:rows])
            assert len(model._plans) <= 16
    assert model.plan({"x": (39, 8)}) is model.plan({"x": [39, np.int64(8)]})


def test_plans_from_many_threads() -> None:
    model = Model(mlp(), threads=1)
    x = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
    want = model(x)

    def work(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, 64, 400).tolist()
        return all(np.array_equal(model(x[:r]), want[:r]) for r in rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(model._plans) <= 16


def test_variants_are_bounded() -> None:
    model, x = Model(mlp()), np.ones((1, 8), np.float32)
    for names in (["s"], ["h"], ["t"], ["x"], ["s", "h"], ["h", "s"]):
        assert list(model.run({"x": x}, capture=names)) == ["y", *names]
    assert len(model._variants) <= 4


@pytest.mark.parametrize(
    "shape", [3, "N8", (2.0, 8), (-1, 8), (float("nan"), 8), None, (2, None), (2,), (2, 9), (1 << 62, 8), (1 << 70, 8)]
)
def test_plan_refuses_shapes(shape: Any) -> None:
    with pytest.raises(InputError) as e:
        Model(mlp()).plan({"x": shape})
    assert e.value.where in ("input 'x'", "value 'x'")


def test_plan_of_an_unknown_input() -> None:
    with pytest.raises(InputError, match=r"unknown input 'xx'.*did you mean 'x'\?"):
        Model(mlp()).plan({"xx": (1, 8)})


def test_plan_takes_no_memory_for_values() -> None:
    model = Model(mlp())
    assert model.memory_plan({"x": (1 << 36, 8)}).arena > 1 << 38


def test_plans_share_the_weights() -> None:
    m = Maker(dtype=F32)
    x = m.conv(m.input("x", "N", 64, 4, 4), 64, 256, bias=True)
    x = m("MatMul", m("Flatten", m("Mul", x, m.const((256, 4, 4)))), m.const((4096, 100)))
    model = Model(m.graph(x))
    model.plan()
    weights = sum(c.nbytes for c in model.graph.constants.values())
    tracemalloc.start()
    try:
        for batch in range(2, 8):
            model.plan({"x": (batch, 64, 4, 4)})
        assert tracemalloc.get_traced_memory()[1] < weights / 3
    finally:
        tracemalloc.stop()


def test_no_inputs() -> None:
    m = Maker(dtype=F32)
    model = Model(m.graph(m("Relu", m.const(np.float32([-1, 2])), out="y")))
    np.testing.assert_array_equal(model(), [0, 2])
    y = np.empty(2, np.float32)
    model.run_into({}, y)
    np.testing.assert_array_equal(y, [0, 2])
    with pytest.raises(InputError, match="without inputs"):
        model.predict({})


def test_graph_is_not_changed() -> None:
    graph = mlp()
    text = str(graph)
    Model(graph)(np.ones((2, 8), np.float32))
    assert str(graph) == text


def test_unused_input(rng: np.random.Generator) -> None:
    inputs = {k: TensorType(F32, ("N", 2)) for k in ("x", "unused")}
    model = Model(Graph(inputs, ["y"], [Node("Neg", ["x"], ["y"])]))
    x = rng.standard_normal((2, 2), dtype=np.float32)
    np.testing.assert_array_equal(model(x, x), -x)
    with pytest.raises(InputError, match="missing inputs"):
        model(x)
