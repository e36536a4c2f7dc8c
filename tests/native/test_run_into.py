"""`Model.run_into`: the caller's memory, and what is refused without being touched."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32, mlp, two_outputs

from forwardpass.dtypes import DTYPES, decode, from_foreign, name_of
from forwardpass.errors import InputError
from forwardpass.run import Model


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((3, 4), dtype=np.float32), rng.standard_normal((3, 4), dtype=np.float32)


@pytest.mark.parametrize("bare", [False, True])
def test_run_into_one_output(bare: bool) -> None:
    model, x = Model(mlp()), np.ones((2, 8), np.float32)
    want = model(x)
    for _ in range(2):  # the checked path, then the fast one
        y = np.full((2, 3), np.nan, np.float32)
        assert model.run_into(x if bare else {"x": x}, y if bare else {"y": y}) is None
        np.testing.assert_array_equal(y, want)


def test_run_into_several_outputs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    model, (a, b) = Model(two_outputs()), pair
    for _ in range(2):
        s, d = np.empty_like(a), np.empty_like(a)
        model.run_into({"b": b, "a": a}, {"the/difference": d, "sum": s})
        np.testing.assert_array_equal(s, a + b)
        np.testing.assert_array_equal(d, a - b)


def test_run_into_converts_inputs() -> None:
    model, x = Model(mlp()), np.ones((2, 8))
    y = np.empty((2, 3), np.float32)
    model.run_into(x, y)
    np.testing.assert_array_equal(y, model(x))


def test_run_into_allocates_no_arrays() -> None:
    model, x, y = Model(mlp(), threads=1), np.ones((2, 8), np.float32), np.empty((2, 3), np.float32)
    inputs, outputs = {"x": x}, {"y": y}
    model.run_into(inputs, outputs)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            model.run_into(inputs, outputs)
        after, peak = tracemalloc.get_traced_memory()
        model(x)
        assert tracemalloc.get_traced_memory()[1] > peak, "tracemalloc sees an array that is allocated"
    finally:
        tracemalloc.stop()
    assert after - before < 100  # the loop's own integer
    assert peak - before < 200


@pytest.mark.parametrize("code", [16, 17, 18, 19, 20, 21, 22, 23, 24], ids=lambda c: name_of(DTYPES[c]))
def test_run_into_what_a_call_returns(code: int) -> None:
    """Also where NumPy lacks the type: arrays of ml_dtypes where that is installed, else the structured ones."""
    m = Maker(dtype=F32)
    model = Model(m.graph(m("Cast", m.input("x", "N"), to=code, out="y")))
    x = np.float32([1, 0, 2])
    want = model(x)
    y, own = np.empty_like(want), np.empty(3, DTYPES[code])
    for _ in range(2):
        model.run_into(x, y)
        model.run_into(x, own)
    assert y.tobytes() == want.tobytes()
    np.testing.assert_array_equal(decode(own), decode(from_foreign(want)))
    other = np.empty(3, np.uint16)
    with pytest.raises(InputError, match=f"wrong array: expected {name_of(DTYPES[code])}.*, got uint16"):
        model.run_into(x, other)


def _bad_outputs() -> dict[str, tuple[Any, str]]:
    """Name -> an output for mlp() with two rows, and what the error says."""
    readonly = np.full((2, 3), 7, np.float32)
    readonly.flags.writeable = False
    odd = np.full(6 * 4 + 1, 7, np.uint8)[1:].view(np.float32).reshape(2, 3)
    return {
        "read-only": (readonly, "wrong memory layout: .* got not writeable"),
        "shape": (np.full((3, 3), 7, np.float32), r"expected float32\[2, 3\], got float32\[3, 3\]"),
        "rank": (np.full(6, 7, np.float32), r"expected float32\[2, 3\], got float32\[6\]"),
        "dtype": (np.full((2, 3), 7.0), "got float64"),
        "byte order": (np.full((2, 3), 7, ">f4"), "got not of native byte order"),
        "strided": (np.full((2, 6), 7, np.float32)[:, ::2], "got not C-contiguous"),
        "Fortran": (np.full((2, 3), 7, np.float32, order="F"), "got not C-contiguous"),
        "misaligned": (odd, "got not aligned"),
        "list": ([[7.0] * 3] * 2, "not an array: .* got list"),
        "none": (None, "got NoneType"),
    }


@pytest.mark.parametrize("name", _bad_outputs())
@pytest.mark.parametrize("warm", [False, True])
def test_run_into_refuses_and_does_not_touch(name: str, warm: bool) -> None:
    model, x = Model(mlp()), np.ones((2, 8), np.float32)
    bad, words = _bad_outputs()[name]
    if warm:
        model(x)
    before = np.array(bad, copy=True)
    with pytest.raises(InputError, match=words) as e:
        model.run_into({"x": x}, {"y": bad})
    assert e.value.where == "output 'y'"
    np.testing.assert_array_equal(np.array(bad), before)
    np.testing.assert_array_equal(model(x), Model(mlp())(x))


@pytest.mark.parametrize("warm", [False, True])
def test_run_into_refuses_overlaps(warm: bool) -> None:
    m = Maker(dtype=F32)
    x = m.input("x", "N", 4)
    model = Model(m.graph(m("Relu", x, out="y"), m("Neg", x, out="z")))
    memory = np.arange(40, dtype=np.float32)
    a, other = memory[:8].reshape(2, 4), np.empty((2, 4), np.float32)
    if warm:
        model(a)
    before = memory.copy()
    for y, z in ((a, other), (other, memory[4:12].reshape(2, 4)), (memory[16:24].reshape(2, 4),) * 2):
        with pytest.raises(InputError, match="overlaps"):
            model.run_into({"x": a}, {"y": y, "z": z})
    np.testing.assert_array_equal(memory, before)
    # Neighbours do not overlap.
    model.run_into({"x": a}, {"y": memory[8:16].reshape(2, 4), "z": memory[16:24].reshape(2, 4)})
    np.testing.assert_array_equal(memory[8:16], before[:8])
    np.testing.assert_array_equal(memory[16:24], -before[:8])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "missing outputs: expected sum, the/difference, got none"),
        ({"sum": 0}, "missing outputs: .* got sum"),
        ({"sum": 0, "the/diference": 0}, r"unknown output 'the/diference'.*did you mean 'the/difference'\?"),
        ({"sum": 0, "the/difference": 0, "more": 0}, "unknown output 'more'"),
        (0, "missing outputs: .* got sum"),
    ],
)
def test_run_into_wrong_names(outputs: Any, words: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    model, (a, b) = Model(two_outputs()), pair
    model(a, b)
    with pytest.raises(InputError, match=words):
        model.run_into({"a": a, "b": b}, outputs)
    with pytest.raises(InputError, match="missing inputs"):
        model.run_into(a, outputs)
