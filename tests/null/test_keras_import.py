"""Keras files of both formats: how layers are connected, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")

import h5py
from keras_files import (
    Array,
    call,
    close,
    draw,
    entry,
    functional,
    given,
    h5_file,
    keras_bytes,
    old_call,
    run,
    sequential,
    tensor,
    written,
)

from forwardpass.errors import UnsupportedError
from forwardpass.formats import load_graph

RNN = [draw(3, 2), draw(2, 2), draw(2)]


def nested(kind: str) -> Any:
    """A model in a model, called twice, and a layer that is shared; calls as Keras 3 or as Keras 2 writes them."""
    new = kind == "keras"

    def to(*names: str, node: int = 0) -> Any:
        if new:
            return (
                call(*(tensor(n, node) for n in names)) if len(names) == 1 else call([tensor(n, node) for n in names])
            )
        return [[n, node, 0, {}] for n in names]

    inner_layers = [
        given("a", 3),
        entry("Dense", "inside", [to("a")], units=3, activation="linear", trainable=False),
        entry("BatchNormalization", "norm", [to("inside")], axis=-1, epsilon=0.5),
    ]
    inner = functional(inner_layers, [["a", 0, 0]], [["norm", 0, 0]], "inner", [to("x"), to("y")])
    first, second = (tensor("inner", 0), tensor("inner", 1)) if new else (["inner", 0, 0, {}], ["inner", 1, 0, {}])
    layers = [
        given("x", 3),
        given("y", 3),
        inner,
        entry("Dense", "shared", [call(first), call(second)] if new else [[first], [second]], units=2),
        entry(
            "Add", "sum",
            [call([tensor("shared", 0), tensor("shared", 1)]) if new else [["shared", 0, 0, {}], ["shared", 1, 0, {}]]],
        ),
    ]  # fmt: skip
    return functional(layers, [["y", 0, 0], ["x", 0, 0]], [["sum", 0, 0], ["shared", 1, 0]])


def judged(x: Array, y: Array) -> list[Array]:
    def once(v: Array) -> Array:
        v = v.astype(np.float64) @ draw(3, 3) + draw(3)
        v = (v - draw(3)) / np.sqrt(np.abs(draw(3)).astype(np.float64) + 0.5) * draw(3) + draw(3)
        return v @ draw(3, 2) + draw(2)

    return [once(x) + once(y), once(y)]


NORM = [draw(3), draw(3), draw(3), np.abs(draw(3))]


def test_models_in_models_of_keras_files(tmp_path: Path) -> None:
    stored = {
        "functional/layers/dense": [draw(3, 3), draw(3)],
        "functional/layers/batch_normalization": NORM,
        "dense": [draw(3, 2), draw(2)],
    }
    graph = written(tmp_path, nested("keras"), stored)
    assert list(graph.inputs) == ["y", "x"]
    y, x = draw(2, 3), draw(4, 3)[:2]
    for got, want in zip(run(graph, y, x), judged(x, y)):
        close(got, want)


def test_models_in_models_of_h5_files(tmp_path: Path) -> None:
    """What is trained comes first: the inner dense layer is frozen, so its weights stand after gamma and beta."""
    names = [
        "norm/gamma:0",
        "norm/beta:0",
        "inside/kernel:0",
        "inside/bias:0",
        "norm/moving_mean:0",
        "norm/moving_variance:0",
    ]
    inner = dict(zip(names, [NORM[0], NORM[1], draw(3, 3), draw(3), NORM[2], NORM[3]]))
    stored = {
        "x": {},
        "y": {},
        "inner": inner,
        "shared": {"shared/kernel:0": draw(3, 2), "shared/bias:0": draw(2)},
        "sum": {},
    }
    graph = load_graph(h5_file(tmp_path / "m.h5", nested("h5"), stored))
    y, x = draw(2, 3), draw(4, 3)[:2]
    for got, want in zip(run(graph, y, x), judged(x, y)):
        close(got, want)


def test_sequential_models_without_an_input_layer(tmp_path: Path) -> None:
    config = {"name": "d", "batch_input_shape": [None, 4], "units": 3, "activation": "relu", "dtype": "float32"}
    dense = {"class_name": "Dense", "config": config}
    weights = {"d": {"d/kernel:0": draw(4, 3), "d/bias:0": draw(3)}}
    for model in (
        {"class_name": "Sequential", "config": [dense]},
        {"class_name": "Sequential", "config": {"layers": [dense]}},
    ):
        graph = load_graph(h5_file(tmp_path / "m.h5", model, weights, "2.1.0"))
        assert list(graph.inputs) == ["d_input"]
        (got,) = run(graph, draw(2, 4))
        close(got, np.maximum(draw(2, 4).astype(np.float64) @ draw(4, 3) + draw(3), 0))


def test_the_hard_sigmoid_of_keras_2_is_another(tmp_path: Path) -> None:
    model = sequential(given("x", 4), entry("Activation", "it", activation="hard_sigmoid"))
    x = draw(2, 4)
    for version, slope in (("2.15.0", 0.2), ("3.1.0", 1 / 6)):
        (got,) = run(load_graph(h5_file(tmp_path / "m.h5", model, {"x": {}, "it": {}}, version)), x)
        close(got, np.clip(x.astype(np.float64) * np.float64(slope) + 0.5, 0, 1))


def test_a_call_with_states_as_keras_2_writes_it(tmp_path: Path) -> None:
    weights = dict(zip(["r/kernel:0", "r/recurrent_kernel:0", "r/bias:0"], RNN))
    layers = [given("x", 5, 3), given("h", 2), entry("SimpleRNN", "r", [old_call("x", "h")], units=2)]
    model = functional(layers, [["x", 0, 0], ["h", 0, 0]], [["r", 0, 0]])
    x, h = draw(2, 5, 3), draw(2, 2)
    (got,) = run(load_graph(h5_file(tmp_path / "m.h5", model, {"x": {}, "h": {}, "r": weights})), x, h)
    kernel, recurrent, bias = (w.astype(np.float64) for w in RNN)
    state = h.astype(np.float64)
    for t in range(5):
        state = np.tanh(x[:, t] @ kernel + state @ recurrent + bias)
    close(got, state)


def test_content_decides_where_the_suffix_does_not(tmp_path: Path) -> None:
    model = sequential(given("x", 4), entry("Dense", "d", units=3))
    path = tmp_path / "model.bin"
    path.write_bytes(keras_bytes(model, {"dense": [draw(4, 3), draw(3)]}))
    assert list(load_graph(path).inputs) == ["x"]
    h5_file(path, model, {"x": {}, "d": {"kernel": draw(4, 3), "bias": draw(3)}})
    assert load_graph(path).metadata["producer"] == "Keras 2.15.0"


def test_long_lists_of_names_are_stored_in_parts(tmp_path: Path) -> None:
    model = sequential(given("x", 4), entry("Dense", "d", units=3))
    path = h5_file(tmp_path / "m.h5", model, {"x": {}, "d": {"kernel": draw(4, 3), "bias": draw(3)}})
    with h5py.File(path, "r+") as file:
        attributes = file["model_weights"].attrs
        del attributes["layer_names"]
        attributes["layer_names0"], attributes["layer_names1"] = [b"x"], [b"d"]
    (got,) = run(load_graph(path), draw(2, 4))
    close(got, draw(2, 4).astype(np.float64) @ draw(4, 3) + draw(3))


# ---- refusals


DENSE, CELL = {"dense": [draw(2, 2), draw(2)]}, {"lstm/cell": [draw(2, 8), draw(2, 8), draw(8)]}


@pytest.mark.parametrize(
    ("layers", "weights", "text"),
    [
        ([entry("Lambda", "code", function="...")], {}, r"'code' \(Lambda\)"),
        ([entry("Mine", "own", module="mine.layers")], {}, r"'own' \(mine.layers.Mine\)"),
        ([entry("Dense", "own", module="evil", units=2)], {}, r"'own' \(evil.Dense\)"),
        ([{**entry("Mine", "own"), "module": None, "registered_name": "Mine>Layer"}], {}, r"'own' \(Mine>Layer\)"),
        ([entry("Lambda", "a"), entry("Dense", "b", units=2), entry("StringLookup", "c")], {}, r"'a' \(Lam.*'c' \(Str"),
        ([entry("Activation", "a", activation="mine>swish")], {}, "'a' .*an activation that is not read"),
        ([entry("LSTM", "r", units=2, stateful=True)], CELL, "'r' .*stateful"),
        ([entry("LSTM", "r", units=2, activation="mish")], CELL, "'r' .*this activation of a recurrent layer"),
        (
            [entry("Dense", "q", units=2, dtype={"class_name": "QuantizedDTypePolicy", "config": {}})],
            DENSE,
            "quantised",
        ),
        ([entry("Masking", "m"), entry("Softmax", "s")], {}, "'s' .*Softmax layer of masked values"),
    ],
)
def test_what_is_refused_names_its_layer(layers: list[dict[str, Any]], weights: Any, text: str, tmp_path: Path) -> None:
    model = sequential(given("x", 3, 2), *layers)
    with pytest.raises(UnsupportedError, match=text) as e:
        written(tmp_path, model, weights)
    assert "model.keras" in e.value.where
