"""Weights that are packed on a thread of their own while the plan is made."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.plan import packing, planner

F32 = np.dtype("float32")
ISA = _native.available_isas()[0]
PANEL = next(i["panel"] for i in _native.isas() if i["name"] == ISA)


def job(k: int, n: int) -> tuple[str, str, dict[str, Any], list[Any], Any, int, int]:
    weights = np.random.default_rng(k).standard_normal((1, k, n)).astype(np.float32)
    panels = -(-n // PANEL)
    fields = {"batch": 1, "k": k, "n": n, "in_batch": k * n, "in_k": n, "in_n": 1, "out_batch": panels * k * PANEL}
    return ISA, "pack_b_f32", fields, [weights], np.full((1, panels, k, PANEL), np.nan, np.float32), 0, panels


def same(call: tuple[Any, ...]) -> bool:
    want = np.empty_like(call[4])
    _native.run_kernel(*call[:4], want, *call[5:])
    return bool(np.array_equal(call[4], want))


def test_all_have_run_after_the_wait_and_more_may_follow() -> None:
    background = _native.Background()
    background.wait()
    for count in (1, 40, 3):
        calls = [job(50 + i, 100) for i in range(count)]
        for call in calls:
            background.run_kernel(*call)
        background.wait()
        background.wait()
        assert all(map(same, calls))


def test_who_forgets_the_wait_waits_at_the_end() -> None:
    background = _native.Background()
    calls = [job(300, 500 + i) for i in range(20)]
    for call in calls:
        background.run_kernel(*call)
    del background
    assert all(map(same, calls))


def test_the_first_ones_can_be_waited_for() -> None:
    background = _native.Background()
    assert background.wait_for(0) == 0
    for _ in range(2):
        calls = [job(200 + i, 300) for i in range(20)]
        for call in calls:
            background.run_kernel(*call)
        for count in (1, 7, 20):
            assert count <= background.wait_for(count) <= 20
            assert all(map(same, calls[:count]))
        assert background.wait_for(100) == 20
        background.wait()


def test_it_keeps_what_it_works_on() -> None:
    background = _native.Background()
    weak = []
    for i in range(10):
        call = job(500, 300 + i)
        background.run_kernel(*call)
        weak.append(call[4])
        del call
    background.wait()
    assert all(np.isfinite(w).all() for w in weak)


@pytest.mark.parametrize("name", ["pack_c_f32", ""])
def test_what_is_wrong_is_said_at_once(name: str) -> None:
    call = job(3, 3)
    with pytest.raises(ValueError, match="kernel"):
        _native.Background().run_kernel(call[0], name, *call[2:])


def test_no_thread_is_left() -> None:
    before = threading.active_count(), len(_tasks())
    model = fp.Model(network(), threads=1)
    model(np.ones((1, 512), np.float32))
    background = _native.Background()
    background.run_kernel(*job(100, 100))
    background.wait()
    assert (threading.active_count(), len(_tasks())) == before


def _tasks() -> list[str]:
    import os

    return os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else []


def network(last: str = "Relu") -> Graph:
    rng = np.random.default_rng(5)
    weights = {f"w{i}": rng.standard_normal((512, 512)).astype(np.float32) for i in range(4)}
    nodes = [Node("MatMul", ["x" if i == 0 else f"v{i - 1}", f"w{i}"], [f"v{i}"]) for i in range(4)]
    nodes.append(Node(last, ["v3"], ["y"]))
    return Graph({"x": TensorType(F32, ("N", 512))}, ["y"], nodes, weights)


@pytest.mark.parametrize("precision", ["float32", "portable", "fast", "bfloat16"])
@pytest.mark.parametrize("last", ["Relu", "Det"])  # the second has no kernel for it
def test_plans_are_the_same(precision: str, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(6).standard_normal((512 if last == "Det" else 16, 512)).astype(np.float32)
    one, two = (fp.Model(network(last), threads=t, precision=precision) for t in (1, 2))
    packers: list[object] = []
    made = _native.Background
    monkeypatch.setattr(packing._native, "Background", lambda: packers.append(1) or made())
    np.testing.assert_array_equal(two(x), one(x))
    assert packers, "the large weights of the model on two threads were packed in the background"
    two(x[:3] if last == "Relu" else x)
    assert one._packed.keys() == two._packed.keys()
    for key, packed in one._packed.items():
        np.testing.assert_array_equal(packed, two._packed[key])


def test_weights_belong_to_the_model_only_when_they_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fp.Model(network(), threads=2)
    seen: list[int] = []
    settle = planner.Planner.settle

    def watched(self: planner.Planner) -> None:
        seen.append(len(model._packed))
        settle(self)

    monkeypatch.setattr(planner.Planner, "settle", watched)
    model(np.ones((7, 512), np.float32))
    assert seen[0] == 0
    assert model._packed
