"""Keras files that are damaged, hostile or contradict themselves: one typed error that names the place, and no more."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")

import h5py
from keras_bad import CONFIGS, HDF5, zeros
from keras_files import call, entry, functional, given, h5_file, keras_bytes, sequential, tensor
from keras_mutants import MODEL, STORED, whole
from refusals import refusal

from forwardpass.errors import Error, FileError, UnsupportedError
from forwardpass.formats import load_graph

NULL = Path(__file__).parent
LITTLE = 24 << 20


def refused(path: Path, kind: type[Error] = FileError) -> str:
    """The message of the error, after checking that it names the file, is short, and cost little memory."""
    load_graph(whole(path.with_name("whole.h5")))  # imports what the first model imports
    return refusal(path, kind, memory=LITTLE, length=2000)


@pytest.mark.parametrize("name", HDF5)
@pytest.mark.timeout(20)
def test_bad_hdf5(name: str, tmp_path: Path) -> None:
    change, text = HDF5[name]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = zeros(3, 2)
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    path = tmp_path / "bad.h5"
    with h5py.File(whole(path), "r+") as file:
        change(file)
    assert text in refused(path)


def test_deflated_data_that_is_too_much(tmp_path: Path) -> None:
    """Each array alone is what deflate can reach; all together are not what the file can justify."""
    path = whole(tmp_path / "bad.h5")
    with h5py.File(path, "r+") as file:
        for k in range(20):
            data = np.zeros((1 << 20, 4), np.float32)
            file.create_dataset(f"model_weights/dense/z{k}", data=data, compression="gzip", chunks=(1 << 17, 4))
        file["model_weights/dense"].attrs["weight_names"] = [f"z{k}".encode() for k in range(20)]
    with pytest.raises(FileError, match="suspiciously large"):
        load_graph(path)


def test_groups_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file.create_group("layers/dense/vars")
        file["layers/dense/loop"] = file["layers"]  # a hard link to a group around it
    write_zip(path, {"model.weights.h5": data.getvalue()})
    assert "weight 'kernel' is missing" in refused(path)
    with h5py.File(data, "r+") as file:
        for place, arrays in STORED.items():
            home = file.require_group(f"layers/{place}/vars")
            for k, array in enumerate(arrays):
                home[str(k)] = array
    write_zip(path, {"model.weights.h5": data.getvalue()})
    assert "a weight that the model does not have" in refused(path)


# ---- the zip file


def write_zip(path: Path, changed: dict[str, bytes | None]) -> None:
    """The sound `.keras` file with other entries; None leaves one out."""
    with zipfile.ZipFile(io.BytesIO(keras_bytes(MODEL, STORED))) as archive:
        entries: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**entries, **changed}.items():
            if data is not None:
                archive.writestr(name, data)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"config.json": None}, "expected an entry config.json"),
        ({"metadata.json": None}, "expected an entry metadata.json"),
        ({"model.weights.h5": None}, "expected an entry model.weights.h5"),
        ({"model.weights.h5": b""}, "not an HDF5 file"),
        ({"model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(500)}, "damaged HDF5 data"),
        ({"config.json": b"\xff"}, "not JSON"),
        ({"config.json": b"[" * 100_000}, "nested too deeply"),
        ({"config.json": b'{"a": ' * 100_000}, "nested too deeply"),
        ({"config.json": b"{}"}, "not a layer"),
        ({"metadata.json": b"[]"}, "not a model"),
        ({"../x": b""}, "unsafe name"),
    ],
)
def test_bad_archives(changed: dict[str, bytes | None], text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    write_zip(path, changed)
    assert text in refused(path)


def test_weights_in_several_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    write_zip(path, {"model.weights.h5": None, "model.weights.json": b"{}"})
    assert "weights in several files" in refused(path, UnsupportedError)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.timeout(20)
def test_bad_configurations(name: str, tmp_path: Path) -> None:
    model, kind, text = CONFIGS[name]
    path = tmp_path / "bad.keras"
    stored = STORED if "layers" not in model["config"] or model["config"]["name"] == "model" else {}
    path.write_bytes(keras_bytes(model, stored))
    assert text in refused(path, kind)


def test_weights_that_the_model_does_not_have(tmp_path: Path) -> None:
    for extra in ({"dense_1": [zeros(3)]}, {"dense": [*STORED["dense"], zeros(1)]}):
        path = tmp_path / "bad.keras"
        path.write_bytes(keras_bytes(MODEL, {**STORED, **extra}))
        assert "a weight that the model does not have" in refused(path)


def test_doubling_models_end(tmp_path: Path) -> None:
    """Each model calls the one inside of it twice: 2^30 layers in a few kilobytes."""
    inner = functional([given("x", 3), entry("ReLU", "r", [call(tensor("x"))])], [["x", 0, 0]], [["r", 0, 0]], "m")
    for _ in range(30):
        calls = [call(tensor("x")), call(tensor("m"))]
        inner = functional([given("x", 3), {**inner, "inbound_nodes": calls}], [["x", 0, 0]], [["m", 1, 0]], "m")
    path = tmp_path / "bad.keras"
    path.write_bytes(keras_bytes(inner, {}))
    with pytest.raises(FileError, match="too many nodes"):
        load_graph(path)


# ---- code


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    """A pickled function, a registered class, and text that would be code anywhere else."""
    mark = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    for layer in (
        entry("Lambda", "l", function=function),
        entry("Activation", "l", activation=code),
        entry("Dense", "l", units=code),
        entry(code, "l"),
        entry("Dense", "l", units=3, kernel_initializer=function, kernel_constraint=function),
    ):
        path = tmp_path / "bad.keras"
        path.write_bytes(keras_bytes(sequential(given("x", 3), layer), {"dense": [zeros(3, 3), zeros(3)]}))
        with contextlib.suppress(FileError, UnsupportedError):
            load_graph(path)
        assert not mark.exists()


# ---- files that are none, and damaged ones


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text(json.dumps(MODEL))
    assert "not a regular file" in refused(tmp_path / "folder.keras")
    assert "not a regular file" in refused(tmp_path / "pipe.h5")
    assert "not an HDF5 file" in refused(tmp_path / "empty.h5")
    assert "not an HDF5 file" in refused(tmp_path / "text.h5")
    assert "No such file" in refused(tmp_path / "none.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_truncated_files(suffix: str, tmp_path: Path) -> None:
    data = whole(tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"bad{suffix}"
    for k in range(0, len(data), 97):
        path.write_bytes(data[:k])
        with pytest.raises(FileError) as e:
            load_graph(path)
        assert str(e.value).startswith(str(path))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs procfs to know its own size")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_mutants(suffix: str) -> None:
    """500 damaged files of each format: typed errors or graphs, in bounded memory and time."""
    done = subprocess.run(
        [sys.executable, str(NULL / "keras_mutants.py"), suffix, "0", "500"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = whole(tmp_path / "whole.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'forwardpass\[keras\]'"):
        load_graph(path)


def test_h5_file_is_what_the_tests_write(tmp_path: Path) -> None:
    model = sequential(given("x", 3), entry("Dense", "d", units=2))
    path = h5_file(tmp_path / "m.h5", model, {"x": {}, "d": {"kernel": zeros(3, 2), "bias": zeros(2)}})
    assert list(load_graph(path).inputs) == ["x"]
