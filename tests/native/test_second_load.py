"""Models of one file that live at the same time: what they share, and when they must not."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
import networks
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.plan.planner import Settings
from forwardpass.prepared import of_file

F32 = np.dtype("float32")


def scaled(by: float) -> Graph:
    weights = np.full((8, 8), by, np.float32)
    return Graph({"x": TensorType(F32, ("N", 8))}, ["y"], [Node("MatMul", ["x", "w"], ["y"])], {"w": weights})


X = np.ones((1, 8), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fp.save(scaled(1), tmp_path / "m.npz")
    return tmp_path / "m.npz"


def shared(one: fp.Model, other: fp.Model) -> bool:
    return one._prepared is other._prepared


def test_weights_and_plans_are_there_already(tmp_path: Path) -> None:
    network = networks.build("cifar cnn")
    fp.save(network, tmp_path / "m.npz")
    x = networks.sample(network, 2)
    first = fp.load(tmp_path / "m.npz")
    want = first(x)
    packed = set(map(id, first._packed.values()))
    second = fp.load(tmp_path / "m.npz")
    assert second is not first
    assert second._plans.maker.planned == 1
    np.testing.assert_array_equal(second(x), want)
    np.testing.assert_array_equal(fp.load(os.fsdecode(tmp_path / "m.npz"))(x), want)
    assert second._plans.maker.planned == 1
    assert set(map(id, second._packed.values())) == packed
    np.testing.assert_array_equal(fp.Model(network)(x), want)


def test_the_last_model_takes_it_along(path: Path) -> None:
    first = fp.load(path)
    second = fp.load(path)
    prepared = weakref.ref(first._prepared)
    second(X)
    del first
    assert shared(second, fp.load(path))
    del second
    assert prepared() is None  # without a garbage collection


def test_a_file_that_was_replaced_is_read(path: Path) -> None:
    first = fp.load(path)
    fp.save(scaled(2), path)
    second = fp.load(path)
    assert first(X)[0, 0] == 8
    assert second(X)[0, 0] == 16
    fp.save(scaled(1), path)  # the same bytes in another file
    assert not shared(fp.load(path), first)


def test_a_file_that_was_damaged_in_place_is_an_error(path: Path) -> None:
    os.utime(path, ns=(0, 0))  # or what follows might come in the same tick of a coarse clock
    first = fp.load(path)
    data = path.read_bytes()
    at = data.find(np.full((8, 8), 1, np.float32).tobytes()) + 100
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff")
    with pytest.raises(fp.FileError, match="the data is damaged"):
        fp.load(path)
    del first


def test_a_file_that_is_gone_is_an_error(path: Path) -> None:
    first = fp.load(path)
    path.unlink()
    with pytest.raises(fp.FileError, match="cannot open"):
        fp.load(path)
    assert first(X)[0, 0] == 8


@pytest.mark.parametrize("other", [{"threads": 2}, {"precision": "portable"}])
def test_other_settings_have_plans_of_their_own(path: Path, other: dict[str, Any]) -> None:
    first = fp.load(path, threads=1)
    assert not shared(first, fp.load(path, **{"threads": 1, **other}))
    assert shared(first, fp.load(path, threads=1))


def test_an_isa_from_the_environment_is_a_setting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fp.load(path)
    monkeypatch.setenv("FORWARDPASS_ISA", "scalar")
    second = fp.load(path)
    assert second.settings.isa == "scalar"
    assert shared(first, second) == (first.settings.isa == "scalar")


def test_a_model_may_change_its_graph(path: Path) -> None:
    first, second = fp.load(path), fp.load(path)
    assert shared(first, second)
    first.graph.nodes[0].op = "Gemm"
    first.graph.outputs.append("z")
    first.inputs.clear()
    first.graph.constants["w"] = np.zeros((8, 8), np.float32)
    for model in (second, fp.load(path)):
        assert [n.op for n in model.graph.nodes] == ["MatMul"]
        assert list(model.inputs) == ["x"]
        assert list(model.outputs) == ["y"]
        assert model.run({"x": X}, capture=["y"])["y"][0, 0] == 8


def test_an_operator_that_was_replaced_counts(tmp_path: Path) -> None:
    nodes = [Node("Triple", ["x"], ["y"], domain="second.load")]
    graph = Graph({"x": TensorType(F32, (1, 8))}, ["y"], nodes)

    def register(by: float) -> None:
        fp.op("second.load", "Triple", replace=True)(lambda x: x * np.float32(by))

    register(3)
    fp.save(graph, tmp_path / "m.npz")
    first = fp.load(tmp_path / "m.npz")
    assert first(X)[0, 0] == 3
    register(4)
    second = fp.load(tmp_path / "m.npz")
    assert not shared(first, second)
    assert second(X)[0, 0] == 4


def test_a_file_that_changes_while_it_is_read_is_not_shared(path: Path) -> None:
    settings: Settings = fp.load(path).settings

    def read() -> Graph:
        fp.save(scaled(3), path)
        return scaled(1)

    _, first = of_file(path, settings, read)
    _, second = of_file(path, settings, lambda: scaled(3))
    assert first is not second
    assert of_file(path, settings, read)[1] is second


def test_shapes_of_inputs_are_refused_whoever_lives(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(fp.InputError, match="says the shapes of its inputs itself"):
            fp.load(path, inputs=[(1, 8)])
        alive = fp.load(path)
    assert alive(X).shape == (1, 8)


def test_other_formats_are_read_each_time(tmp_path: Path) -> None:
    fp.save(scaled(1), tmp_path / "m.npz")
    (tmp_path / "m").write_bytes((tmp_path / "m.npz").read_bytes())  # a format found by its first bytes
    assert not shared(fp.load(tmp_path / "m"), fp.load(tmp_path / "m"))


def test_threads_load_and_call_them_at_once(tmp_path: Path) -> None:
    network = networks.build("cifar cnn")
    fp.save(network, tmp_path / "m.npz")
    x = networks.sample(network, 1)
    want = fp.Model(network)(x)
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(5):
            model = fp.load(tmp_path / "m.npz")
            if model(x).tobytes() != want.tobytes():
                wrong.append(model)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
