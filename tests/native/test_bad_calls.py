"""Calls with what is no array at all, no mapping, no name or no model: one typed error that names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from test_bad_input import IMAGE, X, small, typed

import forwardpass as fp
from forwardpass.errors import InputError
from forwardpass.run import Model

F32 = np.dtype(np.float32)


@pytest.fixture
def model() -> Model:
    return Model(small())


def listing() -> Model:
    """x[N, 4] -> y, x as a sequence of one."""
    m = Maker(dtype=F32)
    x = m.input("x", "N", 4)
    return Model(m.graph(m("Relu", x, out="y"), m("SequenceConstruct", x, out="all")))


SEQUENCES: dict[str, Callable[[Model, np.ndarray], Any]] = {
    "predict": lambda m, x: m.predict(x),
    "run_into": lambda m, x: m.run_into(x, {"y": x.copy(), "all": [x.copy()]}),
    "evaluate": lambda m, x: m.evaluate(x, {"y": x}),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_fill_no_array(name: str) -> None:
    model, x = listing(), np.ones((3, 4), np.float32)
    with pytest.raises(InputError, match="the output is a sequence") as e:
        SEQUENCES[name](model, x)
    typed(e, "output 'all'")
    assert e.value.hint == "call the model instead"
    np.testing.assert_array_equal(model(x).all[0], x)


def test_predict_of_batches_that_do_not_fit_together() -> None:
    m = Maker(dtype=F32)
    x = m.input("x", "N", 4)
    places = m("NonZero", m("ReduceMax", x, m.ints(0), keepdims=0))
    model = Model(m.graph(m("Gather", x, m("Squeeze", places, m.ints(0)), axis=1, out="y")))
    np.testing.assert_array_equal(model.predict(np.eye(4)[[0, 0]], batch_size=1), [[1], [1]])
    with pytest.raises(InputError, match="another shape than in the batches before") as e:
        model.predict([[1, 0, 0, 1], [1, 0, 0, 0]], batch_size=1)
    typed(e, "output 'y'")


MAPPINGS: dict[str, tuple[str, Callable[[Model], Any]]] = {
    "run": ("inputs", lambda m: m.run([X, IMAGE])),  # type: ignore[arg-type]
    "run of an array": ("inputs", lambda m: m.run(X)),  # type: ignore[arg-type]
    "plan": ("shapes", lambda m: m.plan((1, 6))),  # type: ignore[arg-type]
    "summary": ("shapes", lambda m: m.summary((1, 6))),  # type: ignore[arg-type]
    "memory_plan": ("shapes", lambda m: m.memory_plan([1, 6])),  # type: ignore[arg-type]
    "explain": ("shapes", lambda m: fp.explain(m, (1, 6))),  # type: ignore[arg-type]
    "stream": ("stream", lambda m: m.stream(["x"])),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MAPPINGS)
def test_no_mapping(name: str, model: Model) -> None:
    where, call = MAPPINGS[name]
    with pytest.raises(InputError, match=r"not a mapping: expected .* -> ") as e:
        call(model)
    typed(e, where)


NAMES: dict[str, Callable[[Model], Any]] = {
    "run": lambda m: m.run({1: X}),  # type: ignore[dict-item]
    "predict": lambda m: m.predict({1: X}),
    "run_into": lambda m: m.run_into({"x": X, "image": IMAGE}, {1: X}),
    "plan": lambda m: m.plan({1: (1, 6)}),  # type: ignore[dict-item]
    "capture": lambda m: m.run({"x": X, "image": IMAGE}, capture=[3]),  # type: ignore[list-item]
    "capture of a number": lambda m: m.run({"x": X, "image": IMAGE}, capture=3),  # type: ignore[arg-type]
    "capture of lists": lambda m: m.run({"x": X, "image": IMAGE}, capture=[["y"]]),  # type: ignore[list-item]
    "stream": lambda m: m.stream({3: "y"}),  # type: ignore[dict-item]
    "stream to a list": lambda m: m.stream({"x": ["y"]}),  # type: ignore[dict-item]
    "evaluate": lambda m: m.evaluate({"x": X, "image": IMAGE}, {3: X}),
    "metrics": lambda m: m.evaluate({"x": X, "image": IMAGE}, X, metrics=[["mse"]]),  # type: ignore[list-item]
    "metric": lambda m: m.evaluate({"x": X, "image": IMAGE}, X, metrics=3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_text(name: str, model: Model) -> None:
    with pytest.raises(InputError) as e:
        NAMES[name](model)
    assert e.value.where
    assert isinstance(e.value.got, str)
    assert e.value.got


@pytest.mark.parametrize("call", [fp.explain, fp.Batcher])
@pytest.mark.parametrize("value", [None, 3, "net.npz", small()])
def test_what_is_no_model(call: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(InputError, match="not a model") as e:
        call(value)
    typed(e, "model")


def test_a_trace_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    with model.profile() as profile:
        model(X, IMAGE)
    with pytest.raises(fp.FileError, match="cannot write the file") as e:
        profile.save_trace(tmp_path / "missing" / "trace.json")
    assert e.value.where == str(tmp_path / "missing" / "trace.json")


def test_none_is_the_default_isa() -> None:
    assert Model(small(), isa=None).settings == Model(small()).settings
