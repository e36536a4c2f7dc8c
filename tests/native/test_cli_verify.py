"""`forwardpass verify`: right models agree, and of wrong ones the node is found that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_tools import CNN, MLP, as_json, called, onnx_model

import forwardpass as fp
from forwardpass.cli.bisect import first_disagreement
from forwardpass.cli.compare import compare
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.registry import registry

NODES = [
    ("MatMul", ["x", "w"], ["a"]),
    ("Tanh", ["a"], ["b"]),
    ("Neg", ["a"], ["n"]),
    ("Add", ["b", "n"], ["c"]),
    ("MatMul", ["c", "w"], ["d"]),
    ("Sigmoid", ["d"], ["y"]),
]


@pytest.fixture
def wrong_tanh() -> Iterator[None]:
    """Tanh with one percent too much."""
    kept = registry["", "Tanh"]

    @fp.op("", "Tanh", replace=True)
    def tanh(x: np.ndarray) -> np.ndarray:
        return np.tanh(x) * x.dtype.type(1.01)

    yield
    registry["", "Tanh"] = kept


@pytest.mark.parametrize("model", [CNN, MLP])
def test_the_embedded_networks_agree(capsys: pytest.CaptureFixture[str], model: str) -> None:
    status, report = as_json(capsys, "verify", model, "--runs", "2", "--batch", "3")
    assert (status, report["ok"], report["first"]) == (0, True, None)
    assert [r["seed"] for r in report["runs"]] == [0, 1]
    for one in report["runs"]:
        (row,) = one["outputs"]
        assert row["agrees"]
        assert 0 < row["error"]["relative"] < 1e-5
        assert row["error"]["ulp"] > 0


def test_onnxruntime_agrees(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    model = onnx_model(tmp_path / "right.onnx", NODES)
    status, report = as_json(capsys, "verify", model, "--against", "onnxruntime")
    assert status == 0
    (row,) = report["runs"][0]["outputs"]
    assert row["error"]["relative"] < 1e-6
    assert row["other_error"]["relative"] < 1e-6


def test_the_wrong_node_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path, wrong_tanh: None) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    model = onnx_model(tmp_path / "wrong.onnx", NODES)
    status, report = as_json(capsys, "verify", model, "--against", "onnxruntime", "--batch", "3")
    assert (status, report["ok"]) == (1, False)
    first = report["first"]
    assert (first["node"], first["operator"]) == ("B", "Tanh")
    assert math.isclose(first["value"]["difference"]["relative"], 0.01, rel_tol=0.05)
    assert [(i["name"], i["agrees"]) for i in first["inputs"]] == [("a", True)]
    # The definition is the wrong one itself, so that the judge takes its side.
    assert first["blame"] == "onnxruntime"
    status, out, _ = called(capsys, "verify", model, "--against", "onnxruntime")
    assert status == 1
    assert "b = Tanh(a)" in out
    assert "disagrees" in out


def test_a_kernel_that_differs_from_its_definition_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the definition of Relu changes; its kernel stays, and is the one to blame as far as the judge knows."""
    relu = registry["", "Relu"]
    monkeypatch.setitem(registry, ("", "Relu"), _with_reference(relu, lambda attributes, x: np.maximum(x, 0.25)))
    nodes = [("MatMul", ["x", "w"], ["a"]), ("Relu", ["a"], ["b"]), ("MatMul", ["b", "w"], ["y"])]
    status, report = as_json(capsys, "verify", onnx_model(tmp_path / "relu.onnx", nodes))
    assert status == 1
    assert report["first"]["node"] == "B"
    assert report["first"]["blame"] == "forwardpass"


def _with_reference(old: object, reference: object) -> object:
    fields = {k: getattr(old, k) for k in type(old).__slots__}  # type: ignore[attr-defined]
    return type(old)(**{**fields, "reference": reference})


def test_an_npz_model_has_no_onnxruntime(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = called(capsys, "verify", MLP, "--against", "onnxruntime")
    assert (status, out) == (1, "")
    assert "--against reference" in err


def test_given_inputs_are_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.full((2, 64), np.nan, np.float32))
    status, report = as_json(capsys, "verify", MLP, "--input", f"pixels={file}")
    assert status == 0, "nan is what both must give"
    assert report["runs"][0]["outputs"][0]["difference"]["relative"] == 0


def test_a_tolerance_of_zero_is_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = as_json(capsys, "verify", MLP, "--tolerance", "0")
    assert status == 1
    assert report["first"]["node"]


def test_errors_in_units_in_the_last_place() -> None:
    one = np.float32([1, 2, 4])
    found = compare(np.nextafter(one, np.float32(9)), one.astype(np.float64))
    assert found["ulp"] == 1
    assert math.isclose(found["relative"], 2**-23 * 4 / 4)
    assert compare(one, one)["relative"] == 0
    assert compare(one, np.float32([1, 2, 5]))["at"] == [2]
    assert compare(one, np.float32([1, 2]))["relative"] == math.inf
    assert compare(np.float32([np.nan]), np.float32([np.nan]))["relative"] == 0
    assert compare(np.float32([np.nan]), np.float32([0]))["relative"] == math.inf
    assert compare(np.float32([np.inf]), np.float32([np.inf]))["relative"] == 0
    assert compare(np.int64([1, 2, 3, 4]), np.int64([1, 2, 3, 5]))["relative"] == 0.25
    assert compare([one], [one])["relative"] == 0
    assert compare([one], [])["relative"] == math.inf
    assert compare(np.float32([]), np.float32([]))["relative"] == 0


def _chain(*edges: tuple[str, list[str]]) -> Graph:
    nodes = [Node("Sum", list(inputs), [out]) for out, inputs in edges]
    return Graph({"x": TensorType(np.dtype(np.float32), (1,))}, [edges[-1][0]], nodes)


@pytest.mark.parametrize("bad", ["a1", "a2", "b1", "b2", "m", "y"])
def test_bisection_finds_the_branch(bad: str) -> None:
    """Of two branches either may be wrong, in whatever order the nodes stand."""
    edges = [("a1", ["x"]), ("a2", ["a1"]), ("b1", ["x"]), ("b2", ["b1"]), ("m", ["a2", "b2"]), ("y", ["m"])]
    graph = _chain(*edges)
    after = {bad}
    for out, inputs in edges:
        if after & set(inputs):
            after.add(out)
    known = {out for out, _ in edges}
    steps: list[int] = []
    found = first_disagreement(graph, "y", known, lambda v: v not in after, lambda: steps.append(1))
    assert found is not None
    assert found[1] == bad
    assert len(steps) <= len(edges)


def test_bisection_of_a_long_chain_asks_little() -> None:
    edges = [(f"v{k}", [f"v{k - 1}" if k else "x"]) for k in range(1000)]
    asked: list[str] = []
    found = first_disagreement(
        _chain(*edges), "v999", {o for o, _ in edges}, lambda v: asked.append(v) or int(v[1:]) < 700, lambda: None
    )
    assert found is not None
    assert found[1] == "v700"
    assert len(asked) <= 11


def test_bisection_with_values_that_cannot_be_compared() -> None:
    graph = _chain(("a", ["x"]), ("b", ["a"]), ("c", ["b"]), ("y", ["c"]))
    found = first_disagreement(graph, "y", {"a", "y"}, lambda v: v == "a", lambda: None)
    assert found is not None
    assert found[1] == "y"
