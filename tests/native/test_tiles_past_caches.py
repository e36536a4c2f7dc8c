"""Large results of products on matrix tiles go past the caches: the same bits, wherever they begin in a cache line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always
from test_tiles import conv

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.plan import Plan, make_plan

SAME = [1, 1, 1, 1]
CASES: dict[str, dict[str, Any]] = {
    "one tile": {"shape": (1, 4, 4, 32), "outputs": 16, "kernel": 1},
    "panels in pairs": {"shape": (1, 4, 16, 64), "outputs": 64, "kernel": 1, "activation": "Relu"},
    "an odd panel": {
        "shape": (3, 5, 7, 40),
        "outputs": 48,
        "kernel": 1,
        "activation": "Clip",
        "alpha": -1.0,
        "beta": 1.0,
    },
    "a border between rows": {"shape": (2, 9, 11, 33), "outputs": 32, "kernel": 3, "pads": SAME},
    "many turns": {"shape": (1, 8, 40, 64), "outputs": 96, "kernel": 3, "pads": SAME},
    "columns left over": {"shape": (1, 6, 8, 32), "outputs": 40, "kernel": 1},
}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    monkeypatch.setattr(lower_split, "_STREAMED_BYTES", 0)


def streams(plan: Plan) -> list[int]:
    return [s.params["streams"] for s in plan.steps if s.kernel == "brgemm_split_f32"]


def run(plan: Plan, x: np.ndarray, offset: int) -> np.ndarray:
    """The result, so many numbers behind a cache line, in memory around which nothing may change."""
    shape = next(iter(plan.outputs.values())).sizes
    size = int(np.prod(shape))
    memory = np.full(size + 64, 77, np.float32)
    first = -(memory.ctypes.data // 4) % 16 + 16 + offset
    y = memory[first : first + size].reshape(shape)
    plan.program.run_profiled([x], [y])
    assert set(memory[:first]) | set(memory[first + size :]) == {77}
    return y


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("special", [False, True], ids=["finite", "special"])
@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_results_in_the_caches(
    name: str, special: bool, precision: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    isa = _native.available_isas()[0]  # only the instructions do, their emulation does not
    graph, inputs = conv(rng, **CASES[name])
    x = inputs["x"]
    if special:
        x[0, 1, 2, 3], x[-1, 2, 1, 0], x[-1, 0, 0, 5] = np.inf, np.nan, 3e38
    plans = [make_plan(graph, {"x": x.shape}, on_tiles(isa, threads, precision), {}) for threads in (1, 2, 3)]
    assert all(set(streams(plan)) == {1} for plan in plans)
    monkeypatch.setattr(lower_split, "_STREAMED_BYTES", 1 << 40)
    plain = make_plan(graph, {"x": x.shape}, on_tiles(isa, 1, precision), {})
    assert not any(streams(plain))
    want = run(plain, x, 0).tobytes()
    for plan in plans:
        assert [run(plan, x, offset).tobytes() == want for offset in (0, 1, 4, 8, 15)] == [True] * 5


@pytest.mark.parametrize("precision", ["float32", "fast", "bfloat16"])
def test_only_large_results_of_the_graph_do(
    precision: str, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a later step reads, or may find in the caches, does not."""
    monkeypatch.setattr(lower_split, "_STREAMED_BYTES", 4 * 96 * 32)
    w = rng.standard_normal((32, 32), dtype=np.float32)
    nodes = [
        Node("Linear", ["x", "w"], ["h"], {}, "fused"),
        Node("Softmax", ["h"], ["s"], {"axis": -1}),
        Node("Linear", ["s", "w"], ["y"], {}, "fused"),
    ]
    for rows, wanted in ((96, [0, 1]), (80, [0, 0])):
        graph = Graph({"x": TensorType(np.dtype(np.float32), (1, rows, 32))}, ["y"], nodes, {"w": w})
        assert streams(make_plan(graph, {"x": (1, rows, 32)}, on_tiles(isa, 1, precision), {})) == wanted
