"""One script, run by onnxruntime and by `forwardpass.compat.onnxruntime`: all that it sees must agree."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass.compat.onnxruntime as ours
from forwardpass.compat.onnxruntime.capi import onnxruntime_pybind11_state as our_state
from forwardpass.errors import InputError
from tolerance import NETWORK

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
theirs = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx import TensorProto, helper  # noqa: E402
from onnxruntime.capi import onnxruntime_pybind11_state as their_state  # noqa: E402

BOTH = pytest.mark.parametrize(("ort", "state"), [(theirs, their_state), (ours, our_state)], ids=["theirs", "ours"])


@pytest.fixture(scope="module")
def data() -> bytes:
    """y = relu(x @ w), t = token + 1; named dimensions, and words about itself."""
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["y"]),
        helper.make_node("Add", ["token", "one"], ["t"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.FLOAT, ["batch", 4]), info("token", TensorProto.INT64, ["batch"])]
    outputs = [info("y", TensorProto.FLOAT, ["batch", 3]), info("t", TensorProto.INT64, ["batch"])]
    constants = [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(np.int64(1), "one")]
    graph = helper.make_graph(nodes, "both", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    model.domain, model.model_version, model.doc_string = "org.tests", 3, "about it"
    helper.set_model_props(model, {"labels": "a,b,c"})
    return bytes(model.SerializeToString())


@pytest.fixture
def feed(rng: np.random.Generator) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    return {"x": x, "token": np.arange(5)}


def session(ort: Any, data: bytes | str | Path, threads: int = 1) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def agree(script: Callable[[Any], Any]) -> Any:
    """What the script gives with both modules, which must be the same."""
    want, got = script(theirs), script(ours)
    flat_want, flat_got = (v if isinstance(v, list) else [v] for v in (want, got))
    assert len(flat_want) == len(flat_got)
    for a, b in zip(flat_want, flat_got):
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(b, a, **NETWORK)
        else:
            assert a == b
    return got


def test_what_a_session_says(data: bytes) -> None:
    def script(ort: Any) -> list[Any]:
        made = session(ort, data)
        ends = [*made.get_inputs(), *made.get_outputs()]
        meta = made.get_modelmeta()
        said = [[a.name, a.shape, a.type] for a in ends]
        said += [made.get_providers(), made.get_provider_options(), made.get_overridable_initializers()]
        said += [made.get_session_options().intra_op_num_threads, ort.get_device()]
        said += [meta.producer_name, meta.graph_name, meta.domain, meta.description, meta.version]
        return [*said, meta.custom_metadata_map]

    found = agree(script)
    assert found[0] == ["x", ["batch", 4], "tensor(float)"]
    assert "CPUExecutionProvider" in ours.get_available_providers()


@pytest.mark.parametrize("own", ["", "about it"])
@pytest.mark.parametrize("of_graph", ["", "about the graph: \N{GREEK SMALL LETTER ALPHA}"])
@pytest.mark.parametrize("in_file", [False, True])
def test_descriptions(own: str, of_graph: str, in_file: bool, data: bytes, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(data)
    model.doc_string, model.graph.doc_string = own, of_graph
    source: Any = model.SerializeToString()
    if in_file:
        onnx.save_model(model, tmp_path / "m.onnx")
        source = str(tmp_path / "m.onnx")

    def script(ort: Any) -> list[Any]:
        meta = session(ort, source).get_modelmeta()
        return [meta.description, meta.graph_description]

    assert agree(script) == [own, of_graph]


@pytest.mark.parametrize("names", [None, [], ["t"], ["t", "y"]])
def test_run(data: bytes, feed: dict[str, np.ndarray], names: list[str] | None) -> None:
    agree(lambda ort: session(ort, data).run(names, feed))
    agree(lambda ort: session(ort, data).run(names, {"x": feed["x"].tolist(), "token": [0, 1, 2, 3, 4]}))
    agree(lambda ort: session(ort, data).run(names, feed, ort.RunOptions()))


def test_a_file(data: bytes, feed: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    agree(lambda ort: session(ort, str(tmp_path / "m.onnx")).run(None, feed))
    agree(lambda ort: session(ort, tmp_path / "m.onnx").run(None, feed))


def test_bound_buffers(data: bytes, feed: dict[str, np.ndarray]) -> None:
    def script(ort: Any) -> list[Any]:
        made = session(ort, data)
        binding = made.io_binding()
        binding.bind_cpu_input("x", feed["x"])
        token = feed["token"]
        binding.bind_input("token", "cpu", 0, np.int64, token.shape, token.ctypes.data)
        y, t = np.empty((5, 3), np.float32), ort.OrtValue.ortvalue_from_shape_and_type((5,), np.int64, "cpu", 0)
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        binding.bind_ortvalue_output("t", t)
        made.run_with_iobinding(binding)
        first = [y.copy(), t.numpy().copy(), *binding.copy_outputs_to_cpu()]
        binding.clear_binding_outputs()
        binding.bind_output("t")
        made.run_with_iobinding(binding)
        return first + [v.numpy() for v in binding.get_outputs()]

    agree(script)


def test_values(data: bytes, feed: dict[str, np.ndarray]) -> None:
    def script(ort: Any) -> list[Any]:
        values = {k: ort.OrtValue.ortvalue_from_numpy(v.copy()) for k, v in feed.items()}
        x = values["x"]
        said = [x.shape(), x.data_type(), x.device_name(), x.is_tensor(), x.has_value(), x.is_tensor_sequence()]
        first = (ctypes.c_float * 1).from_address(x.data_ptr())[0]
        x.update_inplace(np.ones((5, 4), np.float32))
        found = session(ort, data).run_with_ort_values(["y", "t"], values)
        return [*said, first, *(v.numpy() for v in found)]

    agree(script)
    value = ours.OrtValue.from_dlpack(feed["x"])
    assert np.shares_memory(np.from_dlpack(value), feed["x"])


def test_run_async(data: bytes, feed: dict[str, np.ndarray]) -> None:
    def script(ort: Any) -> list[Any]:
        done, heard = threading.Event(), []

        def callback(results: Any, user: Any, error: str) -> None:
            heard.extend([*results, user, error])
            done.set()

        session(ort, data, threads=2).run_async(None, feed, callback, "mine")
        assert done.wait(60)
        return heard

    assert agree(script)[2:] == ["mine", ""]
    done, errors = threading.Event(), []
    made = session(ours, data)
    made.run_async(None, {}, lambda results, user, error: (errors.append(error), done.set()), None)
    assert done.wait(60)
    assert "missing inputs" in errors[0]


@BOTH
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"x": np.ones((5, 5), np.float32)}, "InvalidArgument"),
        ({"x": np.ones(4, np.float32)}, "InvalidArgument"),
        ({"x": np.ones((5, 4), np.float64)}, "InvalidArgument"),
        ({"x": None}, None),
        ({"z": np.ones(3, np.float32)}, None),
    ],
)
def test_wrong_inputs(ort: Any, state: Any, data: bytes, feed: Any, change: Any, kind: str | None) -> None:
    made = session(ort, data)
    with pytest.raises(Exception, match=r".") as e:
        made.run(None, feed | change)
    if kind is not None:
        assert isinstance(e.value, getattr(state, kind))


@BOTH
def test_missing_inputs_and_unknown_outputs(ort: Any, state: Any, data: bytes, feed: Any) -> None:
    made = session(ort, data)
    with pytest.raises(ValueError, match=r"[Mm]issing|[Rr]equired"):
        made.run(None, {"x": feed["x"]})
    with pytest.raises(state.InvalidArgument):
        made.run(["z"], feed)


@BOTH
def test_models_that_cannot_be(ort: Any, state: Any, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(state.NoSuchFile):
        session(ort, str(tmp_path / "none.onnx"))
    with pytest.raises((state.InvalidProtobuf, state.InvalidGraph, state.Fail)):
        session(ort, b"no model at all")
    bad = onnx.load_from_string(data)
    bad.graph.node[1].op_type = "Relv"
    with pytest.raises((state.InvalidGraph, state.Fail, state.NotImplemented)):
        session(ort, bytes(bad.SerializeToString()))


def test_errors_have_the_fields_of_forwardpass(data: bytes, feed: Any) -> None:
    with pytest.raises(ours.InvalidArgument) as e:
        session(ours, data).run(None, feed | {"x": np.ones((5, 4))})
    assert isinstance(e.value, InputError)
    assert (e.value.input, e.value.expected, e.value.got) == ("x", "float32", "float64")


def test_other_providers_are_a_warning(data: bytes) -> None:
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        made = ours.InferenceSession(data, providers=[("CUDAExecutionProvider", {}), "CPUExecutionProvider"])
    assert made.get_providers() == ["CPUExecutionProvider"]


def test_options(data: bytes) -> None:
    options = ours.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("forwardpass.precision", "portable")
    made = ours.InferenceSession(data, options)
    assert (made._model.settings.threads, made._model.settings.precision) == (2, "portable")
    options.add_session_config_entry("forwardpass.precision", "portabel")
    with pytest.raises(ours.InvalidArgument, match="did you mean 'portable'"):
        ours.InferenceSession(data, options)
    with pytest.raises(AttributeError):
        options.intra_op_num_thread = 1


def test_profiles(data: bytes, feed: dict[str, np.ndarray], tmp_path: Path) -> None:
    options = ours.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "trace")
    made = ours.InferenceSession(data, options)
    made.run(None, feed)
    path = made.end_profiling()
    assert json.loads(Path(path).read_text())["traceEvents"]
    made.run(None, feed)
    assert made.end_profiling() == ""
