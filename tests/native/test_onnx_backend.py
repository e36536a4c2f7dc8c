"""ONNX's own suite of backends: node, simple, pytorch-converted and pytorch-operator cases."""

from __future__ import annotations

import unittest
import warnings
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import helper
from onnx_known import DRAWN, KNOWN

import forwardpass.backend as backend
from forwardpass import ConfigError, InputError

GROUPS = ("Node", "Simple", "PyTorchConverted", "PyTorchOperator")
TRAINING = ("test_adagrad", "test_adam", "test_gradient_of", "test_momentum", "test_nesterov_momentum")
"""Cases of the training domain."""


def _suite() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the making of the expected values
        return onnx.backend.test.BackendTest(backend, __name__)


SUITE = _suite()


def _cases() -> dict[str, unittest.TestCase]:
    found = {}
    for group in GROUPS:
        made = SUITE.test_cases[f"OnnxBackend{group}ModelTest"]
        for name in unittest.defaultTestLoader.getTestCaseNames(made):
            if name.endswith("_cpu") and not name.startswith(TRAINING):
                found[name.removesuffix("_cpu")] = made(name)
    return found


CASES = _cases()


def _marks(name: str) -> list[pytest.MarkDecorator]:
    if name not in KNOWN:
        return []
    return [pytest.mark.xfail(reason=KNOWN[name], raises=(AssertionError, TypeError), strict=True)]


@pytest.mark.parametrize("name", [pytest.param(n, marks=_marks(n), id=n) for n in CASES if n not in DRAWN])
@pytest.mark.filterwarnings("ignore")
def test_onnx(name: str) -> None:
    CASES[name].debug()


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_numbers_are_zeros_and_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(ref_outputs: list[Any], outputs: list[Any], **tolerance: Any) -> None:
        for want, found in zip(ref_outputs, outputs, strict=True):
            assert (found.shape, found.dtype) == (want.shape, want.dtype)
            assert np.isin(found, (0, 1)).all()

    monkeypatch.setattr(SUITE, "assert_similar_outputs", compare)
    CASES[name].debug()


def test_the_suite_is_whole() -> None:
    assert len(CASES) > 1900
    assert {*KNOWN, *DRAWN} <= CASES.keys()
    assert {"test_relu", "test_single_relu_model", "test_Conv2d", "test_operator_conv"} <= CASES.keys()


def _model() -> onnx.ModelProto:
    """y = x + w, where w is an input with a value, and z = x * x."""
    types = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N"]) for n in ("x", "w")]
    outputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N"]) for n in ("y", "z")]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Mul", ["x", "x"], ["z"])]
    weights = [onnx.numpy_helper.from_array(np.float32([10]), "w")]
    graph = helper.make_graph(nodes, "two", types, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_run_model() -> None:
    x = np.float32([1, 2, 3])
    outputs = backend.run_model(_model(), [x])
    np.testing.assert_array_equal(outputs.y, x + 10)
    np.testing.assert_array_equal(outputs["z"], x * x)
    prepared = backend.prepare(_model().SerializeToString(), "CPU", threads=1, something="else")
    for inputs in (x, [x], {"x": x}):
        np.testing.assert_array_equal(prepared.run(inputs)[0], x + 10)


def test_run_node() -> None:
    x = np.float32([[1, -2]])
    (y,) = backend.run_node(helper.make_node("Clip", ["x", "", "most"], ["y"]), [x, np.float32(0.5)])
    np.testing.assert_array_equal(y, [[0.5, -2]])
    (y,) = backend.run_node(helper.make_node("Add", ["x", "x"], ["y"]), [x, x])
    np.testing.assert_array_equal(y, x + x)
    old = helper.make_node("Softmax", ["x"], ["y"])
    (y,) = backend.run_node(old, np.zeros((1, 2, 2), np.float32), opset_version=11)
    np.testing.assert_array_equal(y, np.full((1, 2, 2), 0.25, np.float32))


def test_what_does_not_fit() -> None:
    x = np.float32([1])
    with pytest.raises(ConfigError, match="no such device: expected CPU, got CUDA"):
        backend.prepare(_model(), "CUDA")
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    with pytest.raises(InputError, match="too many inputs"):
        backend.run_model(_model(), [x, x, x])
    with pytest.raises(InputError, match="'w': the input is a constant"):
        backend.run_model(_model(), [x, x])
    with pytest.raises(InputError, match="wrong number of inputs: expected 2, got 1"):
        backend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [x])
