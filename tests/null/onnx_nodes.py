"""ONNX models of one node, run by the NumPy definitions and by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from forwardpass.graph import Graph
from forwardpass.ops import evaluate

__all__ = ["by_definition", "by_onnxruntime", "checked", "imported", "node_model", "same"]


def _shape_of(array: Any, known: str) -> list[Any] | None:
    if known == "rank":
        return [None] * array.ndim
    return list(array.shape) if known == "shape" else None


def node_model(
    op: str,
    version: int,
    arrays: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    outputs: int = 1,
    domain: str = "",
    known: str = "shape",
    constants: Sequence[int] = (),
    plain: int = 12,
) -> Any:
    """A model of one node.

    Parameters
    ----------
    known
        What the model says of its inputs: "shape", "rank" or "dtype".
    constants
        Which inputs are initializers.
    plain
        The opset of the default domain, for a node of another one.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    h = onnx.helper
    names = ["" if a is None else f"in{k}" for k, a in enumerate(arrays)]
    results = [f"out{k}" for k in range(outputs)]
    made = h.make_node(op, names, results, domain=domain, name="the node")
    for name, value in (attributes or {}).items():
        kind = onnx.AttributeProto.INTS if value == [] else None  # nothing else says what an empty list holds
        made.attribute.append(h.make_attribute(name, value, attr_type=kind))
    inputs, weights = [], []
    for k, array in enumerate(arrays):
        if array is None:
            continue
        if k in constants:
            weights.append(onnx.numpy_helper.from_array(array, names[k]))
            continue
        code = 8 if array.dtype.kind in "OU" else h.np_dtype_to_tensor_dtype(array.dtype)
        inputs.append(h.make_tensor_value_info(names[k], code, _shape_of(array, known)))
    empty = [onnx.ValueInfoProto(name=r) for r in results]
    graph = h.make_graph([made], "one node", inputs, empty, weights)
    opsets = [h.make_opsetid(domain, version)] + ([h.make_opsetid("", plain)] if domain else [])
    return h.make_model(graph, opset_imports=opsets, ir_version=8)


def checked(graph: Graph) -> Any:
    """The model of a graph, which onnx's checker accepts."""
    from forwardpass.formats.onnx.export import to_model

    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    graph.verify()
    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def imported(model: Any) -> Graph:
    """The graph of a model."""
    from forwardpass.formats.onnx import import_model

    return import_model(model)


def feeds(model: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    """The inputs of a call."""
    wanted = {i.name for i in model.graph.input}
    return {f"in{k}": a for k, a in enumerate(arrays) if f"in{k}" in wanted}


def by_definition(model: Any, arrays: Sequence[Any]) -> list[Any]:
    """The outputs by the NumPy definitions of the newest opset."""
    results = evaluate(imported(model), feeds(model, arrays))
    return [results[o.name] for o in model.graph.output]


def by_onnxruntime(model: Any, arrays: Sequence[Any]) -> list[Any]:
    """The outputs by onnxruntime."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds(model, arrays)))


def same(got: Any, want: Any, tolerance: Mapping[str, float]) -> None:
    """Assert that two values are equal: arrays of one dtype and shape, lists, maps."""
    if isinstance(want, (list, tuple)):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w, tolerance)
    elif isinstance(want, dict):
        assert isinstance(got, dict)
        assert got.keys() == want.keys()
        np.testing.assert_allclose([float(got[k]) for k in want], [float(v) for v in want.values()], **tolerance)
    else:
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape
        if want.dtype.kind in "OU":
            assert got.astype(str).tolist() == want.astype(str).tolist()
            return
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, **tolerance)
