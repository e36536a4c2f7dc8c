"""One node run by forwardpass's definitions and by onnxruntime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from forwardpass.dtypes import code_of, decode, is_narrow, to_foreign
from forwardpass.graph import Node, TensorType
from forwardpass.ops.evaluate import evaluate_node, infer_node

__all__ = ["check_judge", "judged", "newest_opset", "ours", "theirs", "weights_for"]


def _node(op: str, domain: str, inputs: Sequence[Any], attributes: Mapping[str, Any], outputs: int) -> Node:
    names = ["" if a is None else f"in{k}" for k, a in enumerate(inputs)]
    return Node(op, names, [f"out{k}" for k in range(outputs)], dict(attributes), domain, "judged")


def ours(
    op: str, inputs: Sequence[Any], attributes: Mapping[str, Any], *, domain: str = "", outputs: int = 1
) -> list[Any]:
    """The node's outputs by its definition, after a check that inference agrees with them.

    The types inferred from shapes alone, and from ranks and from nothing, must fit the results.
    """
    node = _node(op, domain, inputs, attributes, outputs)
    results = evaluate_node(node, inputs)[:outputs]
    exact = [None if a is None else TensorType.of(a) for a in inputs]
    vague = [None if t is None else TensorType(t.dtype, (None,) * len(t.shape or ())) for t in exact]
    none = [None if t is None else TensorType(t.dtype, None) for t in exact]
    for types in (exact, vague, none):
        for found, y in zip(infer_node(node, types), results):
            assert isinstance(y, np.ndarray)
            assert found.dtype == y.dtype
            if found.shape is not None:
                assert len(found.shape) == y.ndim
                assert all(d is None or d == size for d, size in zip(found.shape, y.shape))
    return results


@functools.cache
def _runtime() -> tuple[Any, Any]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    return onnx, pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")


def check_judge(compare: Callable[[], None], departure: str | None) -> None:
    """Check that a judge agrees; with a departure, that it still does not: a reason that is no longer true fails."""
    if departure is None:
        compare()
        return
    try:
        compare()
    except Exception:
        return
    pytest.fail(f"the judge agrees: it is no longer true that it {departure}")


def weights_for(a: Any, weights: np.ndarray) -> np.ndarray:
    """Integer weights that onnxruntime multiplies with numbers of dtype `a` without an error on every CPU.

    Where a CPU lacks VNNI, it adds two products of uint8 by int8 in 16 bits, which saturate: 7 bits fit.
    """
    return weights >> 1 if (np.dtype(a), weights.dtype) == (np.uint8, np.int8) else weights


@functools.cache
def newest_opset() -> int:
    """The newest opset that both onnx and onnxruntime have."""
    onnx, ort = _runtime()
    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    options = ort.SessionOptions()
    options.log_severity_level = 4
    opset = int(onnx.defs.onnx_opset_version())
    while True:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except ort.capi.onnxruntime_pybind11_state.Fail as error:
            if "official support" not in str(error):
                raise
            opset -= 1
        else:
            return opset


def theirs(
    op: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any],
    *,
    domain: str = "",
    types: Sequence[np.dtype[Any]],
) -> list[Any]:
    """The node's outputs by onnxruntime, whose dtypes are `types`; those NumPy lacks come as float32 or integers.

    Narrow inputs are constants of the model and narrow outputs are cast in it: onnxruntime's arrays hold neither.
    """
    onnx, ort = _runtime()
    helper = onnx.helper
    node = _node(op, domain, inputs, attributes, len(types))
    nodes = [helper.make_node(op, node.inputs, node.outputs, domain=domain, **attributes)]
    arrays = {name: a for name, a in zip(node.inputs, inputs) if name}
    initializers = [
        onnx.numpy_helper.from_array(to_foreign(a), name) for name, a in arrays.items() if is_narrow(a.dtype)
    ]
    fed = {name: a for name, a in arrays.items() if not is_narrow(a.dtype)}
    results = []
    for name, dtype in zip(node.outputs, types):
        if is_narrow(dtype):
            plain = decode(np.zeros((), dtype)).dtype
            nodes.append(helper.make_node("Cast", [name], [f"{name}_cast"], to=code_of(plain)))
            name, dtype = f"{name}_cast", plain
        results.append(helper.make_tensor_value_info(name, code_of(dtype), None))
    graph = helper.make_graph(
        nodes,
        "judged",
        [helper.make_tensor_value_info(name, code_of(a.dtype), a.shape) for name, a in fed.items()],
        results,
        initializers,
    )
    domains = [helper.make_opsetid("", newest_opset()), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, fed)
    return found


def judged(
    op: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    *,
    domain: str = "",
    outputs: int = 1,
    steps: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> list[Any]:
    """Check that both agree: floats within tolerances, integers within `steps`. Returns the definition's outputs."""
    attributes = attributes or {}
    results = ours(op, inputs, attributes, domain=domain, outputs=outputs)
    types = [y.dtype for y in results]
    expected = theirs(op, inputs, attributes, domain=domain, types=types)
    for y, z in zip(results, expected):
        y = decode(y)
        assert y.shape == z.shape
        assert y.dtype == z.dtype
        if y.dtype.kind == "f":
            np.testing.assert_allclose(y, z, rtol=rtol, atol=atol)
        else:
            assert np.abs(y.astype(np.int64) - z.astype(np.int64)).max(initial=0) <= steps
    return results
