"""ONNX models: where they come from, the values of their tensors and attributes, and their results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx_models import (
    MODELS,
    F,
    I,
    example,
    external,
    graph,
    info,
    model,
    node,
    put_outside,
    typed,
)

import forwardpass as fp
from forwardpass import dtypes
from forwardpass.formats import load_graph
from forwardpass.formats.onnx import graph_of, import_model, read
from forwardpass.graph import TensorType
from forwardpass.ops import evaluate, infer_types
from tolerance import ONNX_FLOAT32

F32 = np.dtype(np.float32)


def same(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted):
            same(g, w)
        return
    if type(wanted).__name__ == "SparseTensor":
        return  # onnxruntime gives these back as they are
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    if wanted.dtype.kind in "OUS":
        assert got.tolist() == wanted.tolist()
    else:
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, **ONNX_FLOAT32)


@pytest.mark.parametrize("name", MODELS)
def test_models_against_onnxruntime(name: str, rng: np.random.Generator) -> None:
    made = MODELS[name]()
    imported = import_model(made)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert imported.outputs == [o.name for o in made.graph.output]
    for _ in range(4):
        inputs = {i.name: example(i, rng) for i in made.graph.input}
        wanted = session.run(None, inputs)
        got = evaluate(imported, inputs)
        for o, w in zip(imported.outputs, wanted):
            same(got[o], w)


@pytest.mark.parametrize("name", MODELS)
def test_types_are_consistent(name: str) -> None:
    imported = import_model(MODELS[name]())
    assert infer_types(imported).keys() >= set(imported.outputs)


# ---- where models come from


def test_every_source(tmp_path: Path) -> None:
    made = MODELS["dense"]()
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    texts = {str(g) for g in (graph_of(made), graph_of(made.SerializeToString()), graph_of(path), load_graph(path))}
    assert len(texts) == 1
    with pytest.raises(fp.InputError, match="a path, bytes or a ModelProto, got list"):
        graph_of([])  # type: ignore[arg-type]
    with pytest.raises(fp.FileError, match="cannot open the file"):
        read(tmp_path / "none.onnx")


def test_without_the_package_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["dense"](), path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(fp.UnsupportedError, match=r"pip install 'forwardpass\[onnx\]'") as e:
        load_graph(path)
    assert "\n" not in str(e.value)


def test_the_package_alone_does_not_import_onnx() -> None:
    code = "import sys, forwardpass.formats.onnx; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_metadata() -> None:
    made = MODELS["dense"]()
    made.producer_name, made.producer_version, made.doc_string = "tool", "1.2", "what it does"
    made.metadata_props.append(onnx.StringStringEntryProto(key="author", value="ж"))
    expected = {"producer": "tool 1.2", "description": "what it does", "author": "ж"}
    assert import_model(made).metadata == expected


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(external(tmp_path).SerializeToString())
    expected = import_model(MODELS["dense"]())
    found = load_graph(path)
    for k, v in expected.constants.items():
        np.testing.assert_array_equal(found.constants[k], v)
        assert not found.constants[k].flags.writeable
    with pytest.raises(fp.FileError, match="load the model by its path"):
        graph_of(path.read_bytes())


def test_links_inside_of_the_folder_are_followed(tmp_path: Path) -> None:
    made = external(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "w.bin")
    made.graph.initializer[0].external_data[0].value = "link"
    assert import_model(made, folder=str(tmp_path)).constants.keys() == {"w", "b"}


def test_defaults_of_external_data(tmp_path: Path) -> None:
    """Offset and length may be absent; an empty tensor needs no bytes."""
    made = MODELS["dense"]()
    data = numpy_helper.to_array(made.graph.initializer[0])
    (tmp_path / "w.bin").write_bytes(data.tobytes() + b"more")
    put_outside(made.graph.initializer[0], location="w.bin")
    np.testing.assert_array_equal(import_model(made, folder=str(tmp_path)).constants["w"], data)


# ---- values


def _samples() -> dict[str, np.ndarray[Any, Any]]:
    import ml_dtypes

    numbers = np.array([[0, 1, 1], [1, 0, 1], [2, 3, 1]])
    found: dict[str, np.ndarray[Any, Any]] = {"bool": numbers.astype(bool)}
    for code, dtype in dtypes.DTYPES.items():
        name = dtypes.name_of(dtype)
        if code in (8, 9):
            continue
        scale = 1 if name.endswith("2") and "int2" in name else 2
        values = np.minimum(numbers, 1) if name.endswith("int2") else numbers * scale
        target = getattr(ml_dtypes, name) if dtypes.is_narrow(dtype) else dtype
        found[name] = values.astype(target)
    return found


SAMPLES = _samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_tensors_of_every_type(name: str) -> None:
    """As bytes and in fields, with an odd number of elements that are packed."""
    array = SAMPLES[name]
    raw = numpy_helper.from_array(array, "raw")
    assert raw.HasField("raw_data")
    code = raw.data_type
    fields = helper.make_tensor("fields", code, array.shape, array.astype(_plain(array)).ravel().tolist())
    assert not fields.HasField("raw_data")
    found = import_model(model(graph([], [], ["raw", "fields"], [raw, fields]))).constants
    for k in ("raw", "fields"):
        assert found[k].dtype == dtypes.DTYPES[code]
        back = dtypes.to_foreign(found[k])
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back.astype(_plain(array)), array.astype(_plain(array)))


def _plain(array: np.ndarray[Any, Any]) -> Any:
    """A type of NumPy's own that holds the values."""
    return np.float32 if array.dtype.kind == "V" else array.dtype


def test_strings() -> None:
    text = numpy_helper.from_array(np.array([["a", "ж"]], object), "t")
    found = import_model(model(graph([], [], ["t"], [text]))).constants["t"]
    assert found.dtype == dtypes.STRING
    assert found.tolist() == [["a", "ж"]]


@pytest.mark.parametrize("indices", [typed("i", I, [2], [1, 5]), typed("i", I, [2, 2], [0, 1, 1, 2])])
def test_sparse_initializers(indices: onnx.TensorProto) -> None:
    main = graph([node("Add", ["x", "s"], ["y"])], [info("x", F, [2, 3])], ["y"])
    main.sparse_initializer.append(helper.make_sparse_tensor(typed("s", F, [2], [5, 7]), indices, [2, 3]))
    found = import_model(model(main)).constants["s"]
    np.testing.assert_array_equal(found, np.float32([[0, 5, 0], [0, 0, 7]]))


def _attributes(made: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as the importer reads them."""
    from forwardpass.formats.onnx.external import Folder
    from forwardpass.formats.onnx.parse import parse_operations
    from forwardpass.formats.onnx.tensors import Tensors

    return parse_operations([made], Tensors(Folder(None)), "test")[0].attributes


def test_attributes_of_every_kind() -> None:
    sparse = helper.make_sparse_tensor(typed("v", F, [1], [5]), typed("i", I, [1], [2]), [3])
    inner = graph([node("Relu", ["x"], ["y"])], [], ["y"], name="inner")
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, ["N", 2]))
    given = {
        "f": 0.5, "i": -3, "s": "жb", "t": typed("t", I, [2], [1, 2]), "g": inner, "sparse": sparse, "type": kind,
        "fs": [0.5, 1.5], "is": [1, -2], "ss": ["a", "b"], "ts": [typed("t", F, [], [1])], "gs": [inner, inner],
        "sparses": [sparse], "types": [kind],
    }  # fmt: skip
    made = node("Any", ["x"], ["y"], **given)
    made.attribute.append(onnx.AttributeProto(name="none", type=onnx.AttributeProto.INTS))
    made.attribute.append(onnx.AttributeProto(name="untyped", i=4))
    found = _attributes(made)
    assert {k: found[k] for k in ("f", "i", "s", "fs", "is", "ss", "none", "untyped")} == {
        "f": 0.5, "i": -3, "s": "жb", "fs": [0.5, 1.5], "is": [1, -2], "ss": ["a", "b"], "none": [], "untyped": 4,
    }  # fmt: skip
    np.testing.assert_array_equal(found["t"], np.array([1, 2]))
    np.testing.assert_array_equal(found["ts"][0], np.float32(1))
    for array in (found["sparse"], found["sparses"][0]):
        np.testing.assert_array_equal(array, np.float32([0, 0, 5]))
    wanted = TensorType(F32, ("N", 2), ("sequence",))
    assert found["type"] == wanted and found["types"] == [wanted]  # noqa: PT018
    assert [s.free for s in (found["g"], *found["gs"])] == [{"x"}] * 3
