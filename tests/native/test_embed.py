"""Another Cython module and a C++ program that load a model and run it without Python objects."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT, blocks

import forwardpass as fp
from cases import mlp
from forwardpass.ops import evaluate
from tolerance import NETWORK

FILES = {b.file: b.text for b in blocks(ROOT / "docs" / "embedding.md") if b.file}
CYTHON, CPP = FILES["embedded.pyx"], FILES["race.cpp"]


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler on PATH")
    return found


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A model file, an input and the answer in float64."""
    graph = mlp([8, 5, 1], "Sigmoid", "Sigmoid")
    path = tmp_path / "mlp.npz"
    fp.save(graph, path)
    x = np.random.default_rng(3).standard_normal((4, 8), dtype=np.float32)
    return path, x, evaluate(graph, {"x": x}, dtype=np.float64)[graph.outputs[0]]


def _compile(compiler: str, source: Path, target: Path) -> None:
    includes = [fp.get_include(), sysconfig.get_path("include")]
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", *(f"-I{i}" for i in includes)]
    subprocess.run([compiler, *flags, str(source), "-o", str(target)], check=True)


def test_cython_extension(compiler: str, saved: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, x, want = saved
    (tmp_path / "embedded.pyx").write_text(CYTHON)
    root = Path(fp.__file__).parents[1]
    command = [
        sys.executable,
        "-m",
        "cython",
        "--cplus",
        "-3",
        "-I",
        str(root),
        str(tmp_path / "embedded.pyx"),
    ]
    subprocess.run(command, check=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    _compile(compiler, tmp_path / "embedded.cpp", tmp_path / f"embedded{suffix}")
    sys.path.insert(0, str(tmp_path))
    try:
        import embedded
    finally:
        sys.path.remove(str(tmp_path))
    y = np.full((4, 1), np.nan, np.float32)
    embedded.classify(str(path).encode(), 4, x, y, 3)
    np.testing.assert_allclose(y, want, **NETWORK)
    assert np.array_equal(y, fp.load(path)(x))
    with pytest.raises(RuntimeError, match=r"^nowhere\.npz: cannot open the file \([^\n]*\)$"):
        embedded.classify(b"nowhere.npz", 4, x, y, 1)


def test_cpp_threads(compiler: str, saved: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    import ctypes

    path, x, want = saved
    source, target = tmp_path / "race.cpp", tmp_path / "race.so"
    source.write_text(CPP)
    _compile(compiler, source, target)
    library = ctypes.CDLL(str(target))
    y = np.full((4, 1), np.nan, np.float32)
    error = ctypes.create_string_buffer(256)
    addresses = [ctypes.c_void_p(a.ctypes.data) for a in (x, y)]
    different = library.race(str(path).encode(), *addresses, 4, error, 256)
    assert different == 0, error.value
    np.testing.assert_allclose(y, want, **NETWORK)
