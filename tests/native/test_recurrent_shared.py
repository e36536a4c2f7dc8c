"""The hidden units of a single row, which threads share: the bits of one thread, however many there are."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from planned import plan_of
from test_recurrent import GATES, Arrays, draw, graph_of, native

import forwardpass as fp
from forwardpass import _native
from forwardpass.ops import lower_recurrent
from forwardpass.ops.lower_linear import chunk_length
from forwardpass.plan.planner import Step

pytestmark = pytest.mark.threads
CELLS: dict[str, dict[str, Any]] = {"GRU": {"linear_before_reset": 1}, "LSTM": {}}


@pytest.fixture(autouse=True)
def every_state_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_recurrent, "_LEAST_PART", 1)


def usual(op: str, steps: int, batch: int = 1, hidden: int = 128, **how: Any) -> Arrays:
    return draw(op, steps, batch, 7, hidden, absent="p", **how)


def recurrent(op: str, arrays: Arrays, isa: str, threads: int, **attributes: Any) -> Step:
    graph, inputs = graph_of(op, arrays, **attributes)
    shapes = {k: v.shape for k, v in inputs.items()}
    (step,) = (s for s in plan_of(graph, shapes, isa, threads).steps if s.kernel == f"{op.lower()}_f32")
    return step


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize("op", CELLS)
def test_bits_are_those_of_one_thread(op: str, steps: int, direction: str, layout: int, isa: str) -> None:
    arrays = usual(op, steps, layout=layout)
    how = {"direction": direction, "layout": layout, **CELLS[op]}
    want = native(op, arrays, isa, **how)
    for threads in (2, 3, 9):
        step = recurrent(op, arrays, isa, threads, **how)
        assert step.params["unit"] > 0
        assert step.threads == min(threads, step.units)
        for _ in range(3):
            for got, expected in zip(native(op, arrays, isa, threads, **how), want):
                assert got.tobytes() == expected.tobytes(), f"{threads} threads differ from one"


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("hidden", [272, 512])
@pytest.mark.parametrize("op", CELLS)
def test_sums_of_several_chunks(op: str, hidden: int, isa: str) -> None:
    arrays = usual(op, 3, hidden=hidden)
    assert chunk_length(hidden, GATES[op] * hidden) < hidden
    want = native(op, arrays, "scalar", **CELLS[op])
    for threads in (1, 2):
        for got, expected in zip(native(op, arrays, isa, threads, **CELLS[op]), want):
            assert got.tobytes() == expected.tobytes()


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("absent", ["ph", "pc", "pb", "phcb"])
@pytest.mark.parametrize("outputs", [(0,), (1,)])
@pytest.mark.parametrize("op", CELLS)
def test_with_and_without_states_biases_and_outputs(op: str, outputs: tuple[int, ...], absent: str, isa: str) -> None:
    arrays = draw(op, 5, 1, 9, 64, absent=absent)
    how = {"outputs": outputs, **CELLS[op]}
    assert recurrent(op, arrays, isa, 2, **how).params["unit"] > 0
    assert native(op, arrays, isa, 2, **how)[0].tobytes() == native(op, arrays, isa, **how)[0].tobytes()


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("usual_first", [True, False])
@pytest.mark.parametrize("op", CELLS)
def test_one_of_two_directions(op: str, usual_first: bool, isa: str) -> None:
    """Directions of different activations are kernels of their own, and only that of the usual ones is shared."""
    names = ["Sigmoid", "Tanh", "Tanh"][: GATES[op] - 1]
    other = ["HardSigmoid", *names[1:]]
    functions = [*names, *other] if usual_first else [*other, *names]
    arrays = usual(op, 5, directions=2)
    how = {"direction": "bidirectional", "activations": functions, **CELLS[op]}
    want = native(op, arrays, isa, **how)
    for got, expected in zip(native(op, arrays, isa, 2, **how), want):
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("op", "arrays", "attributes"),
    [
        ("LSTM", usual("LSTM", 4, 2), {}),
        ("LSTM", usual("LSTM", 4, directions=2), {"direction": "bidirectional"}),
        ("LSTM", usual("LSTM", 4, lengths=[3]), {}),
        ("LSTM", usual("LSTM", 4, hidden=125), {}),
        ("LSTM", usual("LSTM", 4), {"clip": 3.0}),
        ("LSTM", usual("LSTM", 4), {"input_forget": 1}),
        ("LSTM", usual("LSTM", 4), {"activations": ["Sigmoid", "Relu", "Tanh"]}),
        ("LSTM", draw("LSTM", 4, 1, 7, 128), {}),  # peepholes
        ("GRU", usual("GRU", 4), {}),
        ("RNN", usual("RNN", 4), {}),
    ],
    ids=["rows", "directions", "lengths", "width", "clip", "input_forget", "activation", "peepholes",
         "reset before", "RNN"],
)  # fmt: skip
def test_others_are_not_shared(op: str, arrays: Arrays, attributes: dict[str, Any]) -> None:
    isa = _native.available_isas()[0]
    assert recurrent(op, arrays, isa, 2, **attributes).params["unit"] == 0


@pytest.mark.parametrize(("threads", "parts"), [(1, 0), (2, 2), (9, 4)])
def test_a_part_is_worth_its_waits(threads: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of which each would do too little leave the row to some of them: at most 5 here."""
    monkeypatch.setattr(lower_recurrent, "_LEAST_PART", 2 * 4 * 128 * 128 // 5)
    step = recurrent("LSTM", usual("LSTM", 9), _native.available_isas()[0], threads)
    assert step.params["unit"] == (128 // parts if parts else 0)


def test_small_states_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_recurrent, "_LEAST_PART", 4 * 64 * 64 + 1)
    isa = _native.available_isas()[0]
    assert recurrent("LSTM", usual("LSTM", 9, hidden=64), isa, 2).params["unit"] == 0
    assert recurrent("LSTM", usual("LSTM", 9, hidden=96), isa, 2).params["unit"] > 0
    assert recurrent("LSTM", usual("LSTM", 9, hidden=96), isa, 1).params["unit"] == 0


@pytest.fixture
def models() -> list[fp.Model]:
    """On one, two and three threads."""
    graph, _ = graph_of("LSTM", {k: v for k, v in usual("LSTM", 40).items() if k not in "hc"}, outputs=(0,))
    return [fp.Model(graph, threads=t) for t in (1, 2, 3)]


def test_a_caller_who_finds_the_team_busy_does_all_parts(models: list[fp.Model]) -> None:
    xs = [np.random.default_rng(k).standard_normal((40, 1, 7), dtype=np.float32) for k in range(4)]
    want = [models[0](x).copy() for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for model in models[1:]:
            for _ in range(10):
                for got, expected in zip(pool.map(lambda x, m=model: m(x).copy(), xs), want):
                    np.testing.assert_array_equal(got, expected)


@pytest.fixture
def limit() -> Iterator[Any]:
    """Sets the most threads of the process."""
    library = ctypes.CDLL(_native.__file__)
    before = library.forwardpass_get_num_threads()
    yield library.forwardpass_set_num_threads
    library.forwardpass_set_num_threads(before)


def test_under_a_limit_a_thread_does_the_parts_of_several(models: list[fp.Model], limit: Any) -> None:
    x = np.random.default_rng(9).standard_normal((40, 1, 7), dtype=np.float32)
    want = models[0](x).copy()
    for most in (1, 2):
        limit(most)
        for model in models[1:]:
            np.testing.assert_array_equal(model(x), want)
