"""Models in other processes: pickles by bytes and by path, spawn and fork, joblib."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_graphs import mlp, two_outputs

import forwardpass as fp
from forwardpass.errors import ConfigError, FileError
from forwardpass.run import Model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    fp.save(mlp(), path)
    return path


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 8), dtype=np.float32)


@pytest.mark.parametrize("way", ["bytes", "path"])
def test_pickles(way: str, file: Path, x: np.ndarray) -> None:
    model = fp.load(file, threads=1, precision="portable")
    model.pickle_by = way
    data = pickle.dumps(model)
    assert (str(file).encode() in data) == (way == "path")
    again = pickle.loads(data)
    assert again.pickle_by == way
    assert (again.settings.threads, again.settings.precision) == (1, "portable")
    np.testing.assert_array_equal(again(x), model(x))


def test_a_pickle_by_path_is_small_and_stays_so(file: Path) -> None:
    model = fp.load(file)
    model.pickle_by = "path"
    data = pickle.dumps(model)
    assert len(data) < len(pickle.dumps(fp.load(file))) / 2
    assert pickle.dumps(pickle.loads(data)) == data


def test_a_pickle_by_path_needs_the_same_file(file: Path) -> None:
    model = fp.load(file)
    model.pickle_by = "path"
    data = pickle.dumps(model)
    fp.save(two_outputs(), file)
    with pytest.raises(FileError, match="not the file that was pickled") as e:
        pickle.loads(data)
    assert e.value.where == str(file)
    assert e.value.expected != e.value.got
    file.unlink()
    with pytest.raises(FileError, match='pickle_by = "bytes"'):
        pickle.loads(data)


def test_ways_that_there_are_not(file: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        fp.load(file).pickle_by = "pth"
    with pytest.raises(ConfigError, match="from no file"):
        Model(mlp()).pickle_by = "path"


def _rows(model: Model, x: np.ndarray) -> Sequence[float]:
    return model(x).tolist()


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_multiprocessing(method: str, threads: int, file: Path, x: np.ndarray) -> None:
    model = fp.load(file, threads=threads)
    model.pickle_by = "path"
    want = model(x).tolist()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(partial(_rows, model), [x, x, x]) == [want] * 3


@pytest.mark.frameworks
@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("way", ["bytes", "path"])
def test_joblib(backend: str, way: str, file: Path, x: np.ndarray) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    model = fp.load(file, threads=1)
    model.pickle_by = way
    want = model(x).tolist()
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(_rows)(model, x) for _ in range(4)) == [want] * 4
