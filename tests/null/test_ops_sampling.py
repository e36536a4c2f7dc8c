"""Random operators: their seeds, distributions and dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.dtypes import BFLOAT16, DTYPES, decode, encode
from forwardpass.errors import GraphError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import find, infer_types
from forwardpass.passes import optimize

SHAPE = [40, 50]
RANDOM: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("RandomNormal", [], {"shape": SHAPE, "mean": 3.0, "scale": 2.0}),
    ("RandomNormalLike", [np.zeros(SHAPE, np.float32)], {"mean": 3.0, "scale": 2.0}),
    ("RandomUniform", [], {"shape": SHAPE, "low": -1.0, "high": 5.0}),
    ("RandomUniformLike", [np.zeros(SHAPE, np.float32)], {"low": -1.0, "high": 5.0}),
    ("Bernoulli", [np.full(SHAPE, 0.25, np.float32)], {}),
    ("Multinomial", [np.log(np.array([[1, 1, 2], [3, 0, 1]], np.float32) + 1e-30)], {"sample_size": 1000}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), RANDOM)
def test_random_operators_obey_their_seed(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    assert not find(Node(op, [], [])).pure
    first, again = (run_node(op, *inputs, **attributes, seed=7.0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for seed in (8.0, 7.5, -7.0, None):
        other = run_node(op, *inputs, **attributes, **({} if seed is None else {"seed": seed}))
        assert (first != other).any()


def test_random_numbers_have_their_distribution() -> None:
    count = np.prod(SHAPE)
    found = {op: run_node(op, *inputs, **attributes, seed=1.0) for op, inputs, attributes in RANDOM}
    for op in ("RandomNormal", "RandomNormalLike"):
        z = (found[op].astype(np.float64) - 3) / 2
        # Six standard deviations of the mean and of the variance of so many normal numbers.
        assert abs(z.mean()) < 6 / np.sqrt(count)
        assert abs(z.var() - 1) < 6 * np.sqrt(2 / count)
    for op in ("RandomUniform", "RandomUniformLike"):
        assert -1 <= found[op].min() < -0.9
        assert 4.9 < found[op].max() <= 5
        assert abs(found[op].mean() - 2) < 6 * np.sqrt(3 / count)
    assert set(np.unique(found["Bernoulli"])) == {0, 1}
    assert abs(found["Bernoulli"].mean() - 0.25) < 6 * np.sqrt(0.25 * 0.75 / count)
    drawn = found["Multinomial"]
    assert (drawn.dtype, drawn.shape) == (np.int32, (2, 1000))
    shares = np.array([np.bincount(row, minlength=3) / 1000 for row in drawn])
    assert np.all(np.abs(shares - [[0.25, 0.25, 0.5], [0.75, 0, 0.25]]) < 6 * np.sqrt(0.25 / 1000))
    assert shares[1, 1] == 0


@pytest.mark.parametrize("code", [1, 10, 11, 16])
@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike"])
def test_random_operators_give_the_dtype_that_is_asked_for(op: str, code: int) -> None:
    for like in (np.zeros((2, 3), np.int8), np.full((2, 3), "a", object), np.zeros((2, 3), np.complex64)):
        y = run_node(op, like, dtype=code)
        assert (y.dtype, y.shape) == (DTYPES[code], (2, 3))
    with pytest.raises(GraphError, match="input input has the wrong dtype"):
        run_node(op, np.zeros(3, np.int8))


@pytest.mark.parametrize("code", [1, 2, 9, 16])
def test_bernoulli_gives_the_dtype_that_is_asked_for(code: int) -> None:
    y = run_node("Bernoulli", np.array([0.0, 1.0], np.float16), dtype=code)
    assert y.dtype == DTYPES[code]
    np.testing.assert_array_equal(decode(y).astype(int), [0, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_dropout_in_training(dtype: str) -> None:
    x = encode(np.full((30, 40), 3.0), BFLOAT16) if dtype == "bfloat16" else np.full((30, 40), 3.0, dtype)
    on = np.array(True)
    y, mask = run_node("Dropout", x, np.float32(0.25), on, outputs=2, seed=5)
    np.testing.assert_array_equal(decode(y) != 0, mask)
    np.testing.assert_array_equal(decode(y)[mask], np.full(mask.sum(), 4))
    assert abs(mask.mean() - 0.75) < 6 * np.sqrt(0.25 * 0.75 / mask.size)
    again, _ = run_node("Dropout", x, np.float32(0.25), on, outputs=2, seed=5)
    np.testing.assert_array_equal(decode(y), decode(again))
    assert (decode(run_node("Dropout", x, np.float32(0.25), on)) != decode(y)).any()
    for off in (run_node("Dropout", x, np.float32(0.25), np.array(False)), run_node("Dropout", x, np.float32(0), on)):
        np.testing.assert_array_equal(decode(off), decode(x))
    half, kept = run_node("Dropout", x, None, on, outputs=2)
    np.testing.assert_array_equal(decode(half)[kept], np.full(kept.sum(), 6))


def test_dropout_in_training_is_not_optimised_away() -> None:
    constants = {"ratio": np.array(0.5, np.float32), "on": np.array(True), "zero": np.zeros(3, np.float32)}
    nodes = [
        Node("Dropout", ["x", "ratio", "on"], ["h"]),
        Node("RandomNormalLike", ["zero"], ["noise"]),
        Node("Add", ["h", "noise"], ["y"]),
    ]
    graph = Graph({"x": TensorType(np.dtype(np.float32), (3,))}, ["y"], nodes, constants)
    graph.verify()
    assert infer_types(graph)["y"].shape == (3,)
    left = [n.op for n in optimize(graph)[0].nodes]
    assert left == ["Dropout", "RandomNormalLike", "Add"]
