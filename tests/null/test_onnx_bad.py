"""ONNX: what is damaged, hostile or not valid is refused with one typed error, in little memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnx_mutants
import pytest
from onnx_bad import BAD, FOLDERS
from onnx_models import MODELS, external
from refusals import refusal

from forwardpass.errors import Error, FileError, GraphError
from forwardpass.formats.onnx import graph_of, import_model
from forwardpass.ops import infer_types

LITTLE = 16 << 20
NULL = Path(__file__).parent


def refused(path: Path, kind: type[Error]) -> str:
    """The message of the error, after checking that it names the file, is short, and cost little memory."""
    load_graph_once()
    return refusal(path, kind, memory=LITTLE, length=1000)


def load_graph_once() -> None:
    """Import what the first model imports."""
    graph_of(MODELS["dense"]())


@pytest.mark.parametrize("name", BAD)
@pytest.mark.timeout(10)
def test_bad_models(tmp_path: Path, name: str) -> None:
    make, kind, text = BAD[name]
    made = make()
    path = tmp_path / "bad.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    assert text in refused(path, kind)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.timeout(10)
def test_bad_external_data(tmp_path: Path, name: str) -> None:
    make, text = FOLDERS[name]
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "bad.onnx"
    path.write_bytes(make(folder).SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(48))
    assert text in refused(path, FileError)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(tmp_path / "folder.onnx", FileError)
    assert "not a regular file" in refused(tmp_path / "pipe.onnx", FileError)
    assert "No such file" in refused(tmp_path / "none.onnx", FileError)


def test_a_file_beyond_what_a_message_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 5)  # takes no space
    assert "too large for a protobuf message" in refused(path, FileError)


def test_wrong_ranks_and_types_are_found_by_their_rules() -> None:
    """The structure is sound; what the operators say of it names the node."""
    made = MODELS["image"]()
    made.graph.input[0].type.tensor_type.shape.dim.pop()
    with pytest.raises(GraphError, match=r"node Conv -> 'c'.*rank"):
        infer_types(import_model(made))
    made = MODELS["dense"]()
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(GraphError, match=r"node 'first' \(Gemm\).*dtype"):
        infer_types(import_model(made))


@pytest.mark.parametrize("name", MODELS)
def test_truncated_at_every_byte(name: str) -> None:
    data = MODELS[name]().SerializeToString()
    whole = str(graph_of(data))
    for k in range(len(data)):
        try:
            found = str(graph_of(data[:k]))
        except Error:
            continue
        # Only the opset, which comes last, may be lost: then it is 1.
        assert found != whole or k > len(data) - 40


@pytest.mark.parametrize("name", ["dense", "functions", "branches"])
def test_every_text_may_be_no_text(name: str) -> None:
    """Each string of the file in turn with a byte that UTF-8 does not have."""
    made = MODELS[name]()
    texts = {
        v.encode()
        for m in onnx_mutants.messages(made)
        for _, values in m.ListFields()
        for v in (values if onnx_mutants.is_list(values) else [values])
        if isinstance(v, str) and v
    }
    assert len(texts) > 10
    data = made.SerializeToString()
    for text in texts:
        size = bytes([len(text)])
        assert size + text in data
        with pytest.raises(FileError, match=r"UTF-8|not an ONNX model"):
            graph_of(data.replace(size + text, size + text[:-1] + b"\xff"))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs procfs to know its own size")
@pytest.mark.parametrize("name", [*MODELS, "external"])
def test_mutants(name: str) -> None:
    """150 damaged files of each model: 200 MB of address space, and two seconds for each."""
    done = subprocess.run(
        [sys.executable, str(NULL / "onnx_mutants.py"), name, "0", "150"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = {k: int(v) for k, v in (item.split("=") for item in done.stdout.split())}
    assert outcomes.keys() <= {"imported", "ran", "FileError", "GraphError", "InputError", "UnsupportedError"}
    assert sum(outcomes.values()) == 150
    # Most damage is found, but not everything is damage.
    assert outcomes["FileError"] > 25
    assert outcomes["GraphError"] > 10
    assert outcomes.get("ran", 0) + outcomes.get("imported", 0) > 10


def test_mutants_are_damaged(tmp_path: Path) -> None:
    """The same seed gives the same bytes, and few of them are the good model's."""
    good = external(tmp_path).SerializeToString()
    made = [onnx_mutants.mutant("external", seed, tmp_path) for seed in range(100)]
    assert made == [onnx_mutants.mutant("external", seed, tmp_path) for seed in range(100)]
    assert sum(m != good for m in made) > 75
