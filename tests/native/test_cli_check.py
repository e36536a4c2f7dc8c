"""`forwardpass check`: it finds what is not supported, without reading weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_tools import CNN, as_json, called, onnx_model

from forwardpass.cli.weightless import read_weightless
from forwardpass.formats import load_graph

GOOD = [("MatMul", ["x", "w"], ["a"]), ("Relu", ["a"], ["y"])]


def test_a_model_that_is_supported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for model in (CNN, onnx_model(tmp_path / "good.onnx", GOOD)):
        status, report = as_json(capsys, "check", model)
        assert (status, report["ok"], report["problems"]) == (0, True, [])
        assert {o["runs"] for o in report["operators"]} == {"native kernels"}


def test_operators_that_do_not_exist_are_all_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nodes = [("Relux", ["x"], ["a"]), ("my.domain.Thing", ["a"], ["b"]), ("Relu", ["b"], ["y"])]
    model = onnx_model(tmp_path / "bad.onnx", nodes)
    status, report = as_json(capsys, "check", model)
    assert status == 1
    assert not report["ok"]
    first, second = report["problems"]
    assert (first["where"], first["hint"]) == ("A", "did you mean 'Relu'?")
    assert "Relux" in first["problem"]
    assert second["where"] == "B"
    assert "my.domain" in second["problem"]
    status, out, _ = called(capsys, "check", model)
    assert status == 1
    assert "2 problems" in out


def test_a_newer_opset_is_a_problem(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, report = as_json(capsys, "check", onnx_model(tmp_path / "new.onnx", GOOD, opset=99))
    assert status == 1
    (problem,) = report["problems"]
    assert (problem["kind"], problem["got"]) == ("UnsupportedError", "99")


def test_shapes_that_contradict_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "shape.onnx", GOOD, shape=["N", 7])
    status, report = as_json(capsys, "check", model)
    assert status == 1
    assert "MatMul" in report["problems"][0]["where"]


def test_a_format_that_is_not_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"TFL3")
    status, report = as_json(capsys, "check", file)
    assert status == 1
    assert "GGUF" in report["problems"][0]["got"]


def test_no_such_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = called(capsys, "check", tmp_path / "none.onnx")
    assert (status, out) == (1, "")
    assert "no such file" in err


def test_weights_are_not_read(tmp_path: Path) -> None:
    """The graph is the same but for large constants, which take no memory; garbage in their place is not noticed."""
    model = onnx_model(tmp_path / "large.onnx", GOOD, size=64)
    whole = load_graph(model)
    graph, missing = read_weightless(model)
    assert graph is not None
    assert missing == []
    assert [str(n) for n in graph.nodes] == [str(n) for n in whole.nodes]
    assert graph.constants["w"].shape == whole.constants["w"].shape
    assert graph.constants["w"].dtype == whole.constants["w"].dtype
    assert graph.constants["w"].strides == (0, 0)
    assert not graph.constants["w"].any()


def test_small_constants_are_read(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "small.onnx", GOOD)
    graph, _ = read_weightless(model)
    assert graph is not None
    np.testing.assert_array_equal(graph.constants["w"], load_graph(model).constants["w"])


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_damaged_file_is_a_problem(capsys: pytest.CaptureFixture[str], tmp_path: Path, cut: int) -> None:
    file = onnx_model(tmp_path / "cut.onnx", GOOD, size=64)
    file.write_bytes(file.read_bytes()[:-cut])
    status, report = as_json(capsys, "check", file)
    assert status == 1
    assert report["problems"][0]["kind"] == "FileError"


def test_external_data_need_not_be_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    file = onnx_model(tmp_path / "outside.onnx", GOOD, size=64)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert as_json(capsys, "check", file)[0] == 0
