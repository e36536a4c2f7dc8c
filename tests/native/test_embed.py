"""Another Cython module and a C++ program that load a model and run it without Python objects."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import forwardpass as fp
from cases import mlp
from forwardpass.ops import evaluate
from tolerance import NETWORK

CYTHON = """
# cython: language_level=3
from forwardpass cimport fp_api, fp_float32, fp_model, fp_tensor_info, import_forwardpass

cdef const fp_api* fp = import_forwardpass()

def classify(bytes path, int batch, float[:, ::1] x, float[:, ::1] y, int calls):
    cdef char error[256]
    cdef fp_tensor_info info
    cdef fp_model* model = fp.load(path, b"float32", 1, batch, error, sizeof(error))
    if model is NULL:
        raise RuntimeError(error.decode())
    try:
        if fp.input_count(model) != 1 or fp.output_count(model) != 1:
            raise RuntimeError("one input and one output expected")
        if fp.input_info(model, 1, &info) != -1 or fp.input_info(model, 0, &info):
            raise RuntimeError("one input expected")
        if info.type != fp_float32 or info.bytes != x.nbytes:
            raise RuntimeError("unexpected input")
        run(model, &x[0, 0], &y[0, 0], calls)
    finally:
        fp.release(model)

cdef void run(fp_model* model, const float* x, float* y, int calls) noexcept nogil:
    cdef const void* inputs[1]
    cdef void* outputs[1]
    inputs[0] = x
    outputs[0] = y
    for _ in range(calls):
        fp.run(model, inputs, outputs)
"""

CPP = """
#include <Python.h>
#include <forwardpass.h>
#include <thread>
#include <vector>
#include <cstring>

// Four threads run one model at once, without the GIL; returns how many of their results differ from the first.
extern "C" int race(const char* path, const float* x, float* y, int batch, char* error, int error_size) {
  PyGILState_STATE gil = PyGILState_Ensure();
  const fp_api* fp = static_cast<const fp_api*>(PyCapsule_Import("forwardpass._native._C_API", 0));
  fp_model* model = fp ? fp->load(path, "portable", 1, batch, error, error_size) : nullptr;
  PyGILState_Release(gil);
  if (!model) return -1;
  fp_tensor_info info;
  fp->output_info(model, 0, &info);
  const int n = static_cast<int>(info.bytes / 4);
  std::vector<std::vector<float>> results(4, std::vector<float>(n));
  std::vector<std::thread> threads;
  for (auto& r : results) {
    threads.emplace_back([&] {
      const void* in[] = {x};
      void* out[] = {r.data()};
      for (int i = 0; i < 200; ++i) fp->run(model, in, out);
    });
  }
  for (auto& t : threads) t.join();
  std::memcpy(y, results[0].data(), info.bytes);
  int different = 0;
  for (auto& r : results) different += std::memcmp(r.data(), y, info.bytes) != 0;
  gil = PyGILState_Ensure();
  fp->release(model);
  PyGILState_Release(gil);
  return different;
}
"""


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler")
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
    with pytest.raises(RuntimeError, match=r"nowhere\.npz"):
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
