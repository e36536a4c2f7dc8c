"""Engines that `forwardpass bench` knows and few environments have: each gives the right outputs, or says why not."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.bench.engines import Call, NotApplicable, Options, load_engine
from tolerance import NETWORK

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def _engine(name: str) -> Any:
    engine = load_engine(name)
    try:
        engine.version()
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")
    return engine


def _file(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], shape: list[Any], dtype: int = 1) -> str:
    x = helper.make_tensor_value_info("x", dtype, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(w, k) for k, w in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return str(path)


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    source = np.random.default_rng(0)
    return {"w": source.standard_normal((5, 8)).astype(np.float32), "b": source.standard_normal(5).astype(np.float32)}


@pytest.fixture
def dense(tmp_path: Path, weights: dict[str, np.ndarray]) -> str:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1), helper.make_node("Relu", ["h"], ["y"])]
    return _file(tmp_path / "dense.onnx", nodes, weights, ["N", 8])


def _outputs(made: Call) -> Any:
    made.function(*made.args)
    return made.outputs(made.function(*made.args))


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("name", ["mnn", "onnxruntime", "openvino", "torch"])
def test_an_output_that_only_renames_keeps_its_name(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Optimisers drop the Identity, and may keep the other name."""
    engine, x = _engine(name), rng.standard_normal((2, 8), dtype=np.float32)
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Identity", ["h"], ["y"])]
    found = _outputs(engine.load(_file(tmp_path / "m.onnx", nodes, {}, ["N", 8]), {"x": x}, Options()))
    np.testing.assert_array_equal(found["y"], np.maximum(x, 0))


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("name", ["mnn", "onnxruntime", "openvino", "torch"])
def test_indices_are_read_as_what_they_are(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    engine, x = _engine(name), rng.integers(0, 9, (2, 5))
    table = rng.standard_normal((9, 4), dtype=np.float32)
    nodes = [helper.make_node("Gather", ["t", "x"], ["y"])]
    path = _file(tmp_path / "m.onnx", nodes, {"t": table}, ["N", 5], TensorProto.INT64)
    found = _outputs(engine.load(path, {"x": x}, Options()))
    np.testing.assert_array_equal(found["y"], table[x])


# ---- ncnn


def test_ncnn(dense: str, weights: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    engine, x = _engine("ncnn"), rng.standard_normal((1, 8), dtype=np.float32)
    want = np.maximum(x @ weights["w"].T + weights["b"], 0)
    found = _outputs(engine.load(dense, {"x": x}, Options()))
    np.testing.assert_allclose(found["y"], want, **NETWORK)


def test_ncnn_says_what_it_cannot(dense: str, tmp_path: Path) -> None:
    engine = _engine("ncnn")
    with pytest.raises(NotApplicable, match="batch 1 alone"):
        engine.load(dense, {"x": np.ones((2, 8), np.float32)}, Options())
    with pytest.raises(NotApplicable, match="other types"):
        engine.load(dense, {"x": np.ones((1, 8), np.int64)}, Options())


# ---- LiteRT


def _twin(path: Path, weights: dict[str, np.ndarray]) -> None:
    """The dense network as a flat buffer of TensorFlow Lite, written by the schema that LiteRT brings."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    s = importlib.import_module("ai_edge_litert.schema_py_generated")

    def tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
        t = s.TensorT()
        t.name, t.shape, t.buffer, t.type = name.encode(), list(shape), buffer, s.TensorType.FLOAT32
        return t

    buffers = [s.BufferT()]
    for w in weights.values():
        buffers.append(s.BufferT())
        buffers[-1].data = np.frombuffer(w.tobytes(), np.uint8)
    options = s.FullyConnectedOptionsT()
    options.fusedActivationFunction = s.ActivationFunctionType.RELU
    node = s.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = 0, [0, 1, 2], [3]
    node.builtinOptionsType, node.builtinOptions = s.BuiltinOptions.FullyConnectedOptions, options
    graph = s.SubGraphT()
    graph.tensors = [tensor("x", (1, 8), 0), tensor("w", (5, 8), 1), tensor("b", (5,), 2), tensor("y", (1, 5), 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [node]
    code = s.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.FULLY_CONNECTED
    model = s.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


@pytest.mark.parametrize("batch", [1, 3])
def test_litert_runs_the_twin(batch: int, dense: str, weights: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    engine, x = _engine("litert"), rng.standard_normal((batch, 8), dtype=np.float32)
    with pytest.raises(NotApplicable, match=r"dense\.tflite beside it"):
        engine.load(dense, {"x": x}, Options())
    _twin(Path(dense).with_suffix(".tflite"), weights)
    found = _outputs(engine.load(dense, {"x": x}, Options()))
    np.testing.assert_allclose(found["y"], np.maximum(x @ weights["w"].T + weights["b"], 0), **NETWORK)
    own = _outputs(engine.load(str(Path(dense).with_suffix(".tflite")), {"x": x}, Options()))
    np.testing.assert_array_equal(own["y"], found["y"])
    with pytest.raises(NotApplicable, match="instead of"):
        engine.load(dense, {"x": np.ones((1, 9), np.float32)}, Options())


def test_images_are_turned_to_the_layout_of_the_twin() -> None:
    """Needs no engine: the twin's shape decides."""
    litert = load_engine("litert")
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(litert._as_twin(x, (1, 3, 4, 2), "x"), x.transpose(0, 2, 3, 1))
    assert litert._as_twin(x, (9, 2, 3, 4), "x") is x
    np.testing.assert_array_equal(litert._as_onnx(x.transpose(0, 2, 3, 1), (0, 2, 3, 4)), x)
    with pytest.raises(NotApplicable):
        litert._as_twin(x, (1, 5, 5, 5), "x")


def test_a_file_of_litert_is_timed_with_both(
    dense: str, weights: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    _engine("litert")
    from forwardpass.cli import main

    file = Path(dense).with_suffix(".tflite")
    _twin(file, weights)
    words = ["bench", str(file), "--against", "litert,onnxruntime", "--rounds", "1", "--seconds", "0.01", "--no-peak"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"][0]["engines"]
    assert {k: v["status"] for k, v in found.items()} == {
        "forwardpass": "ok",
        "litert": "ok",
        "onnxruntime": "unable",
    }


# ---- in a match


def test_an_engine_that_sits_a_model_out_is_no_failure(dense: str, capsys: pytest.CaptureFixture[str]) -> None:
    _engine("ncnn")
    from forwardpass.cli import main

    words = ["bench", dense, "--against", "ncnn", "--batch", "2", "--rounds", "1", "--seconds", "0.01", "--no-peak"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"][0]["engines"]
    assert found["forwardpass"]["status"] == "ok"
    assert (found["ncnn"]["status"], found["ncnn"]["message"]) == ("unable", "ncnn runs batch 1 alone")
