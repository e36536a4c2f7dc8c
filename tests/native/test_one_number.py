"""Weights that are one number in a large shape, as in ONNX's light models: as if every element of them were there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass import Model
from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.plan import Plan

F32 = np.dtype(np.float32)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Node]] = {
    "sum": ((512, 1024), (512, 1024), Node("Add", ["x", "w"], ["y"])),
    "product": ((3, 600), (600, 700), Node("MatMul", ["x", "w"], ["y"])),
    "product from the left": ((600, 3), (700, 600), Node("MatMul", ["w", "x"], ["y"])),
    "transposed": ((3, 600), (700, 600), Node("Gemm", ["x", "w"], ["y"], {"transB": 1})),
    "windows": ((1, 192, 7, 9), (192, 192, 3, 3), Node("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]})),
    "pixels": ((1, 512, 5, 5), (600, 512, 1, 1), Node("Conv", ["x", "w"], ["y"])),
    "concatenation": ((512, 1024), (512, 1024), Node("Concat", ["w", "x"], ["y"], {"axis": 1})),
    "recurrent": ((4, 2, 512), (1, 1024, 512), Node("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 256})),
}


def graph(case: str, constants: dict[str, Array], made: list[Node]) -> Graph:
    x, _, node = CASES[case]
    return Graph({"x": TensorType(F32, x)}, ["y"], [*made, node], constants)


@pytest.mark.parametrize("case", CASES)
def test_as_if_every_element_were_there(case: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDPASS_ISA", isa)
    shape = CASES[case][1]
    others: dict[str, Any] = {"r": np.full((1, 1024, 256), 0.01, np.float32)} if case == "recurrent" else {}
    sizes = {"s": np.array(shape, np.int64)}
    made = Node("ConstantOfShape", ["s"], ["w"], {"value": np.array([0.0125], np.float32)})
    model = Model(graph(case, {**sizes, **others}, [made]), threads=1)
    x = np.random.default_rng(0).standard_normal(CASES[case][0], dtype=np.float32)
    want = Model(graph(case, {"w": np.full(shape, 0.0125, np.float32), **others}, []), threads=1)(x)
    assert isinstance(model.plan({"x": x.shape}), Plan), "a node runs by its definition"
    np.testing.assert_array_equal(model(x), want)
    fp.save(model, tmp_path / "model.npz", optimized=True)
    np.testing.assert_array_equal(fp.load(tmp_path / "model.npz", threads=2)(x), want)
