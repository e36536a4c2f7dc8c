"""Normalisations and losses, and the errors of bad nodes of all arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.dtypes import DTYPES, decode
from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import infer_node
from tolerance import ONNX_FLOAT32, ONNX_FLOAT64, ROUNDED


@pytest.mark.parametrize("stash", [1, 16])
def test_layer_normalization_says_the_dtype_of_its_statistics(stash: int) -> None:
    x = np.array([[1, 2, 3, 6], [0, 0, 4, 4]], np.float16)
    scale = np.ones(4, np.float16)
    y, mean, inverse = run_node("LayerNormalization", x, scale, outputs=3, stash_type=stash, epsilon=0.0)
    assert y.dtype == np.float16
    assert mean.dtype == inverse.dtype == DTYPES[stash]
    np.testing.assert_array_equal(decode(mean), [[3], [2]])
    np.testing.assert_array_equal(decode(inverse)[1], [0.5])
    np.testing.assert_array_equal(y[1], [-1, -1, 1, 1])


def test_rms_normalization_has_the_dtype_of_its_scale() -> None:
    x = np.array([[3, 4, 0, 0]], np.float16)
    y = run_node("RMSNormalization", x, np.ones(4), epsilon=0.0)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, [[1.2, 1.6, 0, 0]], **ONNX_FLOAT32)


def test_batch_normalization_in_training_moves_its_statistics() -> None:
    x = np.array([[[300.0, 340.0]], [[300.0, 380.0]]], np.float16)
    mean, var = np.array([10.0], np.float32), np.array([2.0], np.float32)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    y, moved, spread = run_node(
        "BatchNormalization", x, one, zero, mean, var, outputs=3, training_mode=1, momentum=0.5, epsilon=0.0
    )
    assert (y.dtype, moved.dtype, spread.dtype) == (np.float16, np.float32, np.float32)
    np.testing.assert_array_equal(moved, [(10 + 330) / 2])
    np.testing.assert_array_equal(spread, [(2 + 1100) / 2])
    np.testing.assert_allclose(y, (x - 330) / np.sqrt(1100), **ROUNDED["float16"])


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_losses_by_their_sums(op: str, rng: np.random.Generator) -> None:
    scores, weights = rng.standard_normal((2, 3, 4)), np.array([0.5, 2.0, 0.25])
    labels = rng.integers(0, 3, (2, 4))
    labels[0, 1] = -7
    p = np.log(np.exp(scores) / np.exp(scores).sum(1, keepdims=True)) if op.startswith("Soft") else scores
    total = count = 0.0
    for n in range(2):
        for d in range(4):
            if labels[n, d] != -7:
                total -= p[n, labels[n, d], d] * weights[labels[n, d]]
                count += weights[labels[n, d]]
    for reduction, expected in (("sum", total), ("mean", total / count)):
        y = run_node(op, scores, labels, weights, ignore_index=-7, reduction=reduction)
        np.testing.assert_allclose(y, expected, **ONNX_FLOAT64)
    with pytest.raises(GraphError, match="a label names no class: expected 0 to 2, got -7"):
        run_node(op, scores, labels, weights)


def test_an_ignored_impossible_class_costs_nothing() -> None:
    scores = np.array([[0.0, -np.inf], [1.0, 1.0]])
    loss, log_prob = run_node(
        "SoftmaxCrossEntropyLoss", scores, np.array([1, 0]), outputs=2, ignore_index=1, reduction="none"
    )
    np.testing.assert_allclose(loss, [0, np.log(2)], **ONNX_FLOAT64)
    np.testing.assert_allclose(log_prob, [[0, -np.inf], [-np.log(2)] * 2], **ONNX_FLOAT64)


BAD: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("Mod", [(2,), (2,)], {"fmod": 2}, "attribute 'fmod' is wrong: expected 0 or 1, got 2"),
    ("BitShift", ["int8", "int8"], {"direction": "UP"}, "expected one of LEFT, RIGHT, got 'UP'"),
    ("BitShift", ["int8", "int16"], {"direction": "LEFT"}, "expected int8, got int16"),
    ("Equal", [(2,), "int8"], {}, "expected float32, got int8"),
    ("Mean", [(2,), (3,)], {}, "cannot be broadcast together"),
    ("SwiGLU", [(2, 1), (2, 3)], {}, "the shapes of A and B do not match: expected 1, got 3"),
    ("SwiGLU", [(2, 1), (2,)], {}, "inputs A and B differ in rank"),
    ("LpNormalization", [(2, 3)], {"p": 3}, "attribute 'p' is wrong: expected 1 or 2, got 3"),
    ("LpNormalization", [(2, 3)], {"axis": 2}, "axis is out of range"),
    ("LRN", [(2, 3, 4)], {"size": 0}, "attribute 'size' is wrong: expected at least 1"),
    ("LRN", [(2, 3, 4)], {}, "attribute 'size' is missing"),
    ("InstanceNormalization", [(2, 3, 4), (4,), (3,)], {}, "the length of input scale do not match: expected 3, got 4"),
    ("GroupNormalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 4}, "expected a divisor of 6, got 4"),
    ("GroupNormalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 0}, "attribute 'num_groups' is wrong"),
    ("LayerNormalization", [(2, 6), (3,)], {}, "cannot be broadcast"),
    ("LayerNormalization", [(2, 6), (4, 2, 6)], {}, "input Scale does not broadcast to input X"),
    ("LayerNormalization", [(2, 6), (6,)], {"axis": 2}, "axis is out of range"),
    ("LayerNormalization", [(2, 6), (6,)], {"stash_type": 7}, "attribute 'stash_type' is wrong"),
    ("RMSNormalization", [(2, 1), (2, 6)], {}, "input scale does not broadcast to input X"),
    ("MeanVarianceNormalization", [(2, 6)], {}, "axes is out of range"),
    ("BatchNormalization", [(2, 2), (2,), "float64", (2,), (2,)], {}, "differs in dtype from input scale"),
    ("SoftmaxCrossEntropyLoss", [(2, 3), "int64"], {"reduction": "max"}, "expected one of none, sum, mean"),
    ("SoftmaxCrossEntropyLoss", [(3,), "int64"], {}, "input scores has the wrong rank: expected rank 2 or more"),
    ("NegativeLogLikelihoodLoss", [(3, 4), "int64"], {}, "do not match: expected 3, got 2"),
    ("NegativeLogLikelihoodLoss", [(2, 4), "int64", (3,)], {}, "the length of input weight do not match"),
    ("RandomNormal", [], {"shape": [2, -1]}, "attribute 'shape' is wrong: expected integers of at least 0"),
    ("RandomNormal", [], {"shape": [2], "dtype": 7}, "attribute 'dtype' is wrong: expected one of float32"),
    ("RandomUniform", [], {"shape": [2**40, 2**40]}, "the output is too large"),
    ("Multinomial", [(2, 3)], {"sample_size": 0}, "attribute 'sample_size' is wrong"),
    ("Multinomial", [(2, 3, 4)], {}, "input input has the wrong rank: expected rank 2"),
    ("Bernoulli", [(2,)], {"dtype": 8}, "attribute 'dtype' is wrong"),
    ("Dropout", [(2,), (2, 2)], {}, "input ratio has the wrong rank"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "words"), BAD)
def test_bad_node(op: str, inputs: list[Any], attributes: dict[str, Any], words: str) -> None:
    types = [
        TensorType(np.dtype(np.float32), i) if isinstance(i, tuple) else TensorType(np.dtype(i), (2,)) for i in inputs
    ]
    node = Node(op, [f"in{k}" for k in range(len(types))], ["y"], attributes, name="bad")
    with pytest.raises(GraphError) as caught:
        infer_node(node, types)
    assert words in str(caught.value)
    assert "bad" in str(caught.value)


def test_bad_values() -> None:
    with pytest.raises(GraphError, match=r"input ratio is out of range: expected at least 0 and below 1, got 1\.0"):
        run_node("Dropout", np.zeros(3), np.float32(1), np.array(True))
    with pytest.raises(GraphError, match="no class with a probability above 0"):
        run_node("Multinomial", np.full((1, 3), -np.inf, np.float32))
    with pytest.raises(GraphError, match="the mean of no integers is undefined"):
        run_node("ReduceMean", np.zeros((0,), np.int32))
