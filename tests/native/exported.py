"""Graphs written as ONNX models: what onnx's checker and onnxruntime make of them, and that they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.formats.onnx import import_model
from forwardpass.formats.onnx.export import to_model
from forwardpass.graph import Graph
from forwardpass.ops.evaluate import is_pure

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

__all__ = ["exported", "onnxruntime_of", "opset_of", "same_bits", "same_values"]


def opset_of(model: Any, domain: str = "") -> int:
    """The opset that a model asks for."""
    (found,) = [int(o.version) for o in model.opset_import if o.domain == domain]
    return found


def exported(graph: Graph, feeds: Mapping[str, Any], *, check: bool = True) -> Any:
    """The graph as a model that onnx's checker accepts, and that gives the same bits when it is read again."""
    model = to_model(graph)
    if check:
        onnx.checker.check_model(model, full_check=True)
    again = import_model(model)
    assert list(again.inputs) == list(graph.inputs)
    assert again.outputs == graph.outputs
    if all(is_pure(n) for n in graph.nodes):
        same_bits(fp.Model(again, threads=1).run(feeds), fp.Model(graph, threads=1).run(feeds))
    return model


def same_bits(found: Any, wanted: Any) -> None:
    """Assert that two values are the same: arrays bit for bit, sequences and maps element by element."""
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype.kind == "O":
            assert found.tolist() == wanted.tolist()
        else:
            assert found.tobytes() == wanted.tobytes()
    elif isinstance(wanted, Mapping):
        assert list(found) == list(wanted)
        for key in wanted:
            same_bits(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted):
            same_bits(f, w)
    else:
        assert found == wanted


def same_values(found: Any, wanted: Any, tolerance: Mapping[str, float]) -> None:
    """Assert that what onnxruntime gives is near: arrays within the tolerance, all else equal."""
    if isinstance(wanted, np.ndarray):
        found = np.asarray(found)
        assert found.shape == wanted.shape
        if wanted.dtype.kind in "fc":
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, **tolerance)
        else:
            np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, Mapping):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same_values(found[key], wanted[key], tolerance)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted):
            same_values(f, w, tolerance)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, **tolerance)
    else:
        assert found == wanted


def onnxruntime_of(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any] | str:
    """The outputs by onnxruntime, or why it cannot run what is valid."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        for reason in ("NOT_IMPLEMENTED", "ValidateOpsetForDomain", "Unsupported model IR version", "official support"):
            if reason in str(error):
                return reason
        raise
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds))))
