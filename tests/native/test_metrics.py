"""Metrics: their formulas, Keras' numbers, and `Model.evaluate`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass import metrics as m
from forwardpass.graph import Graph, Node, TensorType
from tolerance import KERAS_METRICS

F32 = np.dtype(np.float32)


def passing_on(classes: int) -> fp.Model:
    """A model whose answers are its inputs."""
    kind = TensorType(F32, ("N", classes))
    return fp.Model(Graph({"x": kind}, ["y"], [Node("Identity", ["x"], ["y"])]), threads=1)


def data() -> dict[str, np.ndarray[Any, Any]]:
    """Predictions and answers; the first rows are as sure and as wrong as can be."""
    rng = np.random.default_rng(7)
    logits = rng.standard_normal((50, 6))
    p = np.exp(3 * logits)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    p[0] = np.float32([1, 0, 0, 0, 0, 0])
    c = rng.integers(0, 6, 50)
    c[0] = 1
    b = rng.uniform(size=(50, 1)).astype(np.float32)
    b[:2] = [[0], [1]]
    t = rng.integers(0, 2, (50, 1)).astype(np.float32)
    t[:2] = [[1], [0]]
    r = rng.standard_normal((50, 3)).astype(np.float32)
    q = rng.standard_normal((50, 3)).astype(np.float32)
    return {"logits": logits.astype(np.float32), "p": p, "c": c, "onehot": np.eye(6, dtype=np.float32)[c], "b": b,
            "t": t, "r": r, "q": q}  # fmt: skip


KERAS: dict[tuple[str, str], dict[str, float]] = {
    ("p", "onehot"): {
        "mse": 0.21210341155529022,
        "mae": 0.2812657058238983,
        "categorical_crossentropy": 4.170649528503418,
        "binary_crossentropy": 1.0012661218643188,
        "accuracy": 0.1599999964237213,
        "categorical_accuracy": 0.1599999964237213,
        "top_2": 0.36000001430511475,
    },
    ("p", "c"): {
        "sparse_categorical_crossentropy": 4.170649528503418,
        "accuracy": 0.1599999964237213,
        "top_3": 0.46000000834465027,
    },
    ("b", "t"): {
        "binary_crossentropy": 1.8716496229171753,
        "accuracy": 0.3199999928474426,
        "binary_accuracy": 0.3199999928474426,
    },
    ("r", "q"): {"mse": 1.8169609308242798, "mae": 1.0724319219589233},
}
"""What `keras.Model.evaluate` of Keras 3.15.1 (PyTorch backend) gives for `data()`: of a Sequential of one linear
Activation, compiled with these metrics, `TopKCategoricalAccuracy(2)` and `SparseTopKCategoricalAccuracy(3)` for the
last ones, with `batch_size=7`."""
KERAS_LOGITS = {"binary": 1.6658668518066406, "categorical": 2.1253578662872314}
"""`BinaryCrossentropy(from_logits=True)(t, 8 * b - 4)`, and `CategoricalCrossentropy` and
`SparseCategoricalCrossentropy` of the logits, in the same way."""


@pytest.mark.parametrize(("x", "y"), KERAS)
@pytest.mark.parametrize("batch_size", [7, 50])
def test_numbers_of_keras(x: str, y: str, batch_size: int) -> None:
    given, wanted = data(), KERAS[x, y]
    names = [m.top_k(int(n[4:])) if n.startswith("top_") else n for n in wanted]
    found = passing_on(given[x].shape[1]).evaluate(given[x], given[y], metrics=names, batch_size=batch_size)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, **KERAS_METRICS, err_msg=name)


def test_numbers_of_keras_from_logits() -> None:
    d = data()
    found = m.binary_crossentropy(d["t"], 8 * d["b"] - 4, from_logits=True).mean()
    np.testing.assert_allclose(found, KERAS_LOGITS["binary"], **KERAS_METRICS)
    for function, answers in ((m.categorical_crossentropy, "onehot"), (m.sparse_categorical_crossentropy, "c")):
        found = function(d[answers], d["logits"], from_logits=True).mean()
        np.testing.assert_allclose(found, KERAS_LOGITS["categorical"], **KERAS_METRICS)


def test_formulas() -> None:
    y, p = np.float64([[0, 1], [1, 0]]), np.float64([[0.25, 0.75], [0.5, 0.5]])
    assert m.mean_squared_error(y, p).tolist() == [0.0625, 0.25]
    assert m.mean_absolute_error(y, p).tolist() == [0.25, 0.5]
    log = -math.log(0.75), -math.log(0.5)
    np.testing.assert_allclose(m.binary_crossentropy(y, p), log, rtol=1e-12)
    np.testing.assert_allclose(m.categorical_crossentropy(y, p), log, rtol=1e-12)
    np.testing.assert_allclose(m.categorical_crossentropy(y, 2 * p), log, rtol=1e-12)  # shares of their sum
    np.testing.assert_allclose(m.sparse_categorical_crossentropy(np.array([1, 0]), p), log, rtol=1e-12)
    assert m.binary_accuracy(y, p).tolist() == [1, 0.5]
    assert m.categorical_accuracy(y, p).tolist() == [1, 1]
    assert m.sparse_categorical_accuracy(np.array([[1], [1]]), p).tolist() == [1, 0]


def test_rows_of_images_are_means_over_their_elements() -> None:
    y, p = np.zeros((2, 2, 2, 3)), np.ones((2, 2, 2, 3))
    assert m.mean_squared_error(y, p).tolist() == [1, 1]
    assert m.sparse_categorical_accuracy(np.zeros((2, 2, 2)), p).tolist() == [1, 1]
    assert m.mean_absolute_error(np.zeros(3), np.ones((3, 1))).tolist() == [1, 1, 1]


def test_accuracy_goes_by_the_shapes() -> None:
    p = np.float32([[0.1, 0.9], [0.8, 0.2]])
    assert m.accuracy(np.array([1, 1]), p).tolist() == [1, 0]
    assert m.accuracy(np.array([[0, 1], [0, 1]]), p).tolist() == [1, 0]
    assert m.accuracy(np.array([1, 0]), p[:, :1]).tolist() == [0, 0]
    assert m.accuracy(np.array([0, 1]), p[:, 0]).tolist() == [1, 1]


def test_top_k() -> None:
    p = np.float32([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1], [0.25, 0.25, np.nan, 0.5]])
    for k, wanted in ((1, [0, 1, 0]), (2, [1, 1, 0]), (4, [1, 1, 0])):
        assert m.top_k(k)(np.array([2, 1, 2]), p).tolist() == wanted
    assert m.top_k(1)(np.eye(4)[[2, 1, 3]], p).tolist() == [0, 1, 1]
    assert m.top_k(3).__name__ == "top_3"


def test_the_result() -> None:
    d = data()
    found = passing_on(3).evaluate(d["r"], d["q"], metrics=["mse", "mean_absolute_error"])
    assert repr(found) == "mse                  1.81696\nmean_absolute_error  1.07243"
    assert found == {"mse": found["mse"], "mean_absolute_error": found["mean_absolute_error"]}
    assert repr(m.Measures()) == "Measures({})"

    def worst(y: Any, p: Any) -> Any:
        return np.abs(y - p).max(axis=1)

    found = passing_on(3).evaluate(d["r"], d["q"], metrics=worst)
    assert found["worst"] == pytest.approx(float(np.abs(d["r"] - d["q"]).max(axis=1).mean()))


def test_several_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    kind = TensorType(F32, ("N", 2))
    nodes = [Node("Identity", ["x"], ["a"]), Node("Neg", ["x"], ["b"])]
    model = fp.Model(Graph({"x": kind}, ["a", "b"], nodes), threads=1)
    x = np.float32([[1, 2], [3, 4]])
    assert model.evaluate(x, {"a": x, "b": x}, metrics=["mae"]) == {"a_mae": 0.0, "b_mae": 5.0}
    assert model.evaluate(x, {"b": x}, metrics=["mae"], progress=True) == {"mae": 5.0}
    with pytest.raises(fp.InputError, match="several outputs: expected output name -> answers, of a, b"):
        model.evaluate(x, x)
    with pytest.raises(fp.InputError, match="unknown output: expected a, b, got c"):
        model.evaluate(x, {"c": x})


@pytest.mark.parametrize(
    ("y", "metrics", "words"),
    [
        ([[1.0, 2.0, 3.0]], "mse", "expected 2 rows, got \\[1, 3\\]"),
        ([1.0, 2.0], "mse", "the answers do not fit: expected \\[2, 3\\], got \\[2\\]"),
        ([[1, 2], [3, 4]], "sparse_categorical_accuracy", "expected class numbers \\[2\\], got \\[2, 2\\]"),
        ([0, 3], "sparse_categorical_accuracy", "no class numbers: expected 0 to 2, got 0 to 3"),
        ([0, 0.5], "accuracy", "no class numbers"),
        ([0, 1], "acuracy", "did you mean 'accuracy'"),
        ([0, 1], [], "no metrics"),
        (1, "mse", "expected 2 rows"),
    ],
)
def test_what_does_not_fit(y: Any, metrics: Any, words: str) -> None:
    with pytest.raises(fp.InputError, match=words):
        passing_on(3).evaluate(np.zeros((2, 3), np.float32), y, metrics=metrics)


@pytest.mark.parametrize("metric", m.METRICS)
@pytest.mark.parametrize("y", [["a", "b"], [["a"] * 3] * 2, [None, 1.0], np.zeros(2, [("a", "f4")])])
def test_answers_that_are_no_numbers(metric: str, y: Any) -> None:
    with pytest.raises(fp.InputError, match="the answers are no numbers: expected numbers, got "):
        passing_on(3).evaluate(np.zeros((2, 3), np.float32), y, metrics=metric)


def test_ragged_answers() -> None:
    with pytest.raises(fp.InputError, match="y: not an array"):
        passing_on(3).evaluate(np.zeros((2, 3), np.float32), [[1.0], [1.0, 2.0]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "metric", ["sparse_categorical_crossentropy", "sparse_categorical_accuracy", "accuracy", "top_5"]
)
def test_class_numbers_that_are_not_finite(metric: str, value: float) -> None:
    with pytest.raises(fp.InputError, match="no class numbers: expected 0 to 2, got "):
        passing_on(3).evaluate(np.ones((2, 3), np.float32), [0, value], metrics=metric)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["mse", "mae", "binary_crossentropy", "categorical_crossentropy"])
def test_values_that_are_not_a_number(metric: str) -> None:
    x = np.full((2, 3), 1 / 3, np.float32)
    assert np.isnan(passing_on(3).evaluate(x, np.full((2, 3), np.nan), metrics=metric)[metric])


def test_metrics_of_one_name_are_all_there() -> None:
    d = data()
    largest, least = (lambda y, p: np.abs(y - p).max(axis=1)), (lambda y, p: np.abs(y - p).min(axis=1))
    found = passing_on(3).evaluate(d["r"], d["q"], metrics=[largest, least, "mse", "mse", largest])
    assert list(found) == ["<lambda>", "<lambda>_1", "mse"]
    assert found["<lambda>"] == pytest.approx(float(largest(d["r"], d["q"]).mean()))
    assert found["<lambda>_1"] == pytest.approx(float(least(d["r"], d["q"]).mean()))


def test_no_rows_and_no_classes() -> None:
    with pytest.raises(fp.InputError, match="expected 1 row or more"):
        passing_on(3).evaluate(np.zeros((0, 3), np.float32), np.zeros((0, 3)))
    with pytest.raises(fp.InputError, match="no classes"):
        m.categorical_crossentropy(np.zeros(3), np.zeros(3))
    with pytest.raises(fp.InputError, match="expected a positive integer, got 0"):
        m.top_k(0)
