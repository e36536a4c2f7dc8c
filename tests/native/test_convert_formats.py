"""`forwardpass convert` from every format: what it writes computes what the source does."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_files import model as tflite_model
from tflite_files import operator, tensor

import forwardpass as fp
from forwardpass.builder import Dense, Input, Network, Sequential
from forwardpass.cli import main

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
BUILDER = """
from forwardpass.builder import Dense, Input, Sequential

def build():
    return Sequential([Input((4,)), Dense(3, "relu"), Dense(2)])

network = build()
number = 3
"""


def network() -> Network:
    return Sequential([Input((4,)), Dense(3, "relu"), Dense(2)]).init(seed=1)


def converted(source: Path, *words: str) -> fp.Model:
    target = source.with_name("converted.npz")
    assert main(["convert", str(source), str(target), *words]) == 0
    return fp.load(target, threads=1)


def with_builder(source: Path, name: str = "build") -> fp.Model:
    (source.parent / "net.py").write_text(BUILDER)
    return converted(source, "--network", f"{source.parent / 'net.py'}:{name}")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")
    from keras_files import entry, h5_file, keras_bytes, sequential

    kernel, bias = network().get_weights()["dense/kernel"], np.float32([1, 2, 3])
    path = tmp_path / f"net{suffix}"
    layers = [entry("InputLayer", "input", batch_shape=[None, 4]), entry("Dense", "dense", units=3)]
    if suffix == ".h5":
        h5_file(path, sequential(*layers), {"dense": {"dense/kernel:0": kernel, "dense/bias:0": bias}})
    else:
        path.write_bytes(keras_bytes(sequential(*layers), {"dense": [kernel, bias]}))
    found = converted(path)(X)
    np.testing.assert_array_equal(found, fp.load(path, threads=1)(X))
    np.testing.assert_allclose(found, X @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_lite(tmp_path: Path) -> None:
    w = network().get_weights()["dense/kernel"].T
    tensors = [tensor("float32", [-1, 4]), tensor("float32", [3, 4], w), tensor("float32", [-1, 3])]
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_model(tensors, [operator("FULLY_CONNECTED", [0, 1, -1], [2])], [0], [2]))
    np.testing.assert_array_equal(converted(path)(X), fp.load(path, threads=1)(X))


def test_weights_of_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **network().get_weights())
    for name in ("build", "network"):
        np.testing.assert_array_equal(with_builder(tmp_path / "w.npz", name)(X), network().model(threads=1)(X))


def test_weights_of_keras(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")
    arrays = list(network().get_weights().values())
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        for k, array in enumerate(arrays):
            file[f"layers/{('dense', 'dense_1')[k // 2]}/vars/{k % 2}"] = array
    np.testing.assert_array_equal(with_builder(tmp_path / "net.weights.h5")(X), network().model(threads=1)(X))


def test_weights_of_safetensors(tmp_path: Path) -> None:
    """With PyTorch's names and layouts."""
    arrays = network().get_weights()
    state = {f"{k}.{leaf}": arrays[f"{layer}/{own}"].T for k, layer in ((0, "dense"), (2, "dense_1"))
             for leaf, own in (("weight", "kernel"), ("bias", "bias"))}  # fmt: skip
    header: dict[str, Any] = {}
    data = b""
    for name, array in state.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    np.testing.assert_array_equal(with_builder(tmp_path / "w.safetensors")(X), network().model(threads=1)(X))


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_weights_and_programs_of_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights go onto a network; programs are one themselves, of which TorchScript does not say the shapes."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [frameworks])")
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
    inputs = torch.from_numpy(X)
    with torch.no_grad():
        want = module(inputs).numpy()
    torch.save(module.state_dict(), tmp_path / "w.pth")
    torch.export.save(torch.export.export(module, (inputs,)), tmp_path / "net.pt2")
    torch.jit.save(torch.jit.trace(module, inputs), tmp_path / "net.pt")
    capsys.readouterr()
    for name, words in (("net.pt", ()), ("w.pth", ()), ("net.pt2", ("--shape", "5,4"))):
        assert main(["convert", str(tmp_path / name), str(tmp_path / "net.npz"), *words]) == 1
        assert name in capsys.readouterr().err
    for found in (
        with_builder(tmp_path / "w.pth"),
        converted(tmp_path / "net.pt", "--shape", "N,4"),
        converted(tmp_path / "net.pt2"),
        fp.from_torch(torch.jit.load(tmp_path / "net.pt"), inputs),
    ):
        np.testing.assert_allclose(found(X), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["nothing.py:build", "net.py:number", "net.py:unknown", "net.py"])
def test_wrong_networks(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "w.npz", **network().get_weights())
    (tmp_path / "net.py").write_text(BUILDER)
    words = [str(tmp_path / "w.npz"), str(tmp_path / "m.npz"), "--network", str(tmp_path / name)]
    assert main(["convert", *words]) == 1
    assert "--network" in capsys.readouterr().err
    assert not (tmp_path / "m.npz").exists()
