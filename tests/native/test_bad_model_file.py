"""`load` of files that are damaged, hostile or of another kind: one typed error that names the file, or no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import BAD_FILES, npy
from bad_models import BAD_MODELS, edited, small_graph

import forwardpass as fp
from forwardpass.builder import Dense, Input, Sequential
from forwardpass.errors import Error, FileError
from forwardpass.formats import npz


@pytest.fixture(scope="module")
def written() -> bytes:
    network = Sequential([Input((8,), name="x"), Dense(5, name="dense"), Dense(2, name="last")])
    network.init(seed=0)
    return npz.to_bytes(network.graph())


def refused(path: Path) -> Error:
    with pytest.raises(FileError) as e:
        fp.load(path)
    assert str(path) in e.value.where
    return e.value


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(BAD_FILES[name]())
    refused(tmp_path / "bad.npz")


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(edited(npz.to_bytes(small_graph()), BAD_MODELS[name]))
    refused(tmp_path / "bad.npz")


def test_missing_extra_and_other_weights(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"

    def change(edit: Callable[[dict[str, bytes], str], Any]) -> Error:
        def apply(document: Any, entries: dict[str, bytes]) -> None:
            edit(entries, next(k for k in sorted(entries) if "dense" in k))

        path.write_bytes(edited(written, apply))
        return refused(path)

    for edit in (
        lambda entries, k: entries.pop(k),
        lambda entries, k: entries.update({"surprise.npy": npy(np.ones(3, np.float32))}),
        lambda entries, k: entries.update({k: npy(np.ones((3, 3), np.float32))}),
        lambda entries, k: entries.update({k: npy(np.ones((8, 5)))}),
        lambda entries, k: entries.update({k: npy(np.ones((8, 5), "f4").astype(object))}),
    ):
        assert change(edit).expected


def test_cut_and_flipped_files(written: bytes, tmp_path: Path) -> None:
    """Wherever a file is cut or a bit is flipped, it is refused; or nothing that counts has changed."""
    path = tmp_path / "m.npz"
    path.write_bytes(written)
    x = np.ones((1, 8), np.float32)
    want = fp.load(path)(x)
    for size in range(0, len(written), 97):
        path.write_bytes(written[:size])
        refused(path)
    kept = 0
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(written), 1500, replace=False):
        data = bytearray(written)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            y = fp.load(path)(x)
        except Error:
            continue
        assert y.tobytes() == want.tobytes()
        kept += 1
    assert kept < 1500 / 3, "padding and time stamps are a small part of a file"


@pytest.mark.parametrize("name", ["nowhere.npz", ".", "nowhere/model.npz", "model.onnx", "a\0b.npz", "x" * 5000])
def test_no_such_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(Error) as e:
        fp.load(str(tmp_path / name))
    assert e.value.where
