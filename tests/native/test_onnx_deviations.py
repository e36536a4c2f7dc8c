"""That onnxruntime still departs from the text of ONNX where the table of its deviations says so."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")

from judge import check_judge, ours, theirs
from onnx_deviations import DEVIATIONS, deviation

from tolerance import ONNX_FLOAT32

SAME = {"auto_pad": "SAME_UPPER"}
IMAGE = np.arange(2 * 7 * 6, dtype=np.float32).reshape(1, 2, 7, 6)
NAN = np.where(IMAGE == 30, np.nan, IMAGE).astype(np.float32)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
PLACES = np.array([[1], [2]])


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def pool(kernel: int, **attributes: list[int]) -> dict[str, Any]:
    return {"kernel_shape": [kernel] * 2, **SAME, **attributes}


DEPARTURES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("InstanceNormalization", [1000 + 0.001 * IMAGE, ones(2), ones(2)], {}),
    *((f"Reduce{r}", [ones(2, 0, 3), np.array([-2])], {}) for r in ("L1", "Sum", "SumSquare")),
    ("Gemm", [ones(2, 0), ones(0, 3), ones(3)], {"beta": 0.5}),
    ("MaxPool", [NAN], {"kernel_shape": [2, 2]}),
    ("GlobalMaxPool", [NAN], {}),
    *(("ScatterND", [ROWS * np.nan, PLACES, ones(2, 3)], {"reduction": r}) for r in ("max", "min")),
    *(("ScatterElements", [ROWS * np.nan, PLACES, ones(2, 1)], {"reduction": r}) for r in ("max", "min")),
    ("MatMul", [ones(0, 4, 3), ones(3)], {}),
    ("MatMul", [ones(3), ones(0, 3, 4)], {}),
    ("MatMul", [ones(1, 3), ones(0, 3, 4)], {}),
    ("MatMul", [ones(0, 3), ones(3)], {}),
    *(("Conv", [IMAGE, ones(3, 2, k, k)], {**SAME, "dilations": [2, 2]}) for k in (1, 2)),
    *((op, [IMAGE], pool(2, dilations=[2, 2])) for op in ("MaxPool", "AveragePool", "LpPool")),
    *((op, [IMAGE], pool(1, strides=[3, 3])) for op in ("MaxPool", "AveragePool", "LpPool")),
    ("ConvTranspose", [IMAGE, ones(2, 3, 2, 2)], {**SAME, "strides": [3, 3]}),
    *(
        ("ScatterND", [ROWS.astype(np.float16), PLACES, np.ones((2, 3), np.float16)], {"reduction": r})
        for r in ("add", "mul", "max", "min")
    ),
    *(
        ("ScatterElements", [ROWS.astype(np.float16), PLACES, np.ones((2, 1), np.float16)], {"reduction": r})
        for r in ("add", "mul")
    ),
    ("LRN", [IMAGE], {"size": 2}),
    ("LRN", [ROWS], {"size": 3}),
]
"""Operator, inputs, attributes."""

AGREEMENTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Gemm", [ones(2, 0), ones(0, 3), ones(3)], {}),
    ("Gemm", [ones(2, 0), ones(0, 3)], {"beta": 0.5}),
    ("Gemm", [ones(0, 2), ones(2, 3), ones(3)], {"beta": 0.5}),
    ("MatMul", [ones(2, 0), ones(0, 3)], {}),
    ("MatMul", [ones(0, 4, 3), ones(3, 2)], {}),
    ("MatMul", [ones(0, 4, 3), ones(0, 3, 2)], {}),
    ("MatMul", [ones(3), ones(2, 3, 0)], {}),
    *((op, [IMAGE], pool(1, dilations=[2, 2])) for op in ("MaxPool", "AveragePool", "LpPool")),
    *((op, [IMAGE[..., :5, :5]], pool(2, strides=[3, 3])) for op in ("MaxPool", "AveragePool", "LpPool")),
    ("Conv", [IMAGE, ones(3, 2, 1, 1)], {**SAME, "strides": [3, 3]}),
    ("ConvTranspose", [IMAGE, ones(2, 3, 2, 2)], {**SAME, "dilations": [2, 2], "strides": [3, 3]}),
    *(
        ("ScatterElements", [ROWS.astype(np.float16), PLACES, np.ones((2, 1), np.float16)], {"reduction": r})
        for r in ("max", "min")
    ),
    ("ScatterElements", [ROWS * np.nan, PLACES, ones(2, 1)], {}),
    ("ScatterND", [ROWS * np.nan, PLACES, ones(2, 3)], {"reduction": "add"}),
    *((f"Reduce{r}", [ones(2, 0, 3), np.array([1])], {}) for r in ("L1", "Sum", "SumSquare")),
    ("LRN", [IMAGE], {"size": 3}),
]
"""Beside them, nodes of which it is asked."""


def agree(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    (want,) = ours(op, inputs, attributes)
    (found,) = theirs(op, inputs, attributes, types=[want.dtype])
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, **ONNX_FLOAT32)


def label(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@pytest.mark.parametrize(("op", "inputs", "attributes"), DEPARTURES, ids=label)
def test_what_it_is_not_asked_it_gets_wrong(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    reason = deviation(op, attributes, inputs)
    assert reason is not None
    check_judge(lambda: agree(op, inputs, attributes), reason)


@pytest.mark.parametrize(("op", "inputs", "attributes"), AGREEMENTS, ids=label)
def test_what_it_is_asked_it_gets_right(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    assert deviation(op, attributes, inputs) is None
    agree(op, inputs, attributes)


DIVIDES = """
import numpy as np
from judge import theirs
x, y = np.ones((2, 0), np.float32), np.ones((3, 0), np.float32)
print("began", flush=True)
theirs("Einsum", [x, y], {"equation": "ij,kj"}, types=[x.dtype])
"""


def test_einsum_without_elements_ends_its_process(pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.rootpath / "tests" / "null"
    done = subprocess.run([sys.executable, "-c", DIVIDES], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "began\n", done.stderr
    assert done.returncode < 0
    assert deviation("Einsum", {"equation": "ij,kj"}, [ones(2, 0), ones(3, 0)]) is not None


def test_every_deviation_is_shown() -> None:
    shown = {deviation(op, attributes, inputs) for op, inputs, attributes in DEPARTURES}
    elsewhere = ("Einsum", "Loop")  # above, and below
    assert {f"{op}: {reason}" for op, _, reason in DEVIATIONS if op not in elsewhere} == shown


@pytest.mark.parametrize(("shape", "stacked"), [((), (0,)), ((2,), (0, 0)), ((2, 3), (0, 0, 0))])
def test_a_loop_without_trips(shape: tuple[int, ...], stacked: tuple[int, ...]) -> None:
    """Where its body says no sizes of what the loop stacks."""
    import onnx
    import onnxruntime as ort
    from onnx import helper

    x = np.ones(shape, np.float32)
    types = [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])]
    types.append(helper.make_tensor_value_info("s", 1, [None] * len(shape)))
    nodes = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["s"], ["t"])]
    nodes.append(helper.make_node("Identity", ["t"], ["u"]))
    results = [helper.make_tensor_value_info("d", 9, [])]
    results += [helper.make_tensor_value_info(n, 1, [None] * len(shape)) for n in "tu"]
    body = helper.make_graph(nodes, "body", types, results)
    loop = helper.make_node("Loop", ["n", "", "x"], ["y", "z"], body=body)
    given = [helper.make_tensor_value_info("x", 1, shape)]
    count = onnx.numpy_helper.from_array(np.asarray(0), "n")
    graph = helper.make_graph([loop], "g", given, [onnx.ValueInfoProto(name="z")], [count])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x})[0].shape == stacked
    assert (deviation("Loop", {}, [np.asarray(0), None, x]) is not None) == (stacked != (0, *shape))
