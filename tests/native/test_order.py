"""Kernels along one axis - ArgMax, ArgMin, TopK, running sums - and reductions of integers, against NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from planned import run as run_graph

from forwardpass._native import run_kernel
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import EPS32, HALF_ULP, lanes

TYPES = [
    "float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
]  # fmt: skip
INTEGERS = [t for t in TYPES if "int" in t]
UNTOUCHED = -7777


def _along(x: np.ndarray, y: np.ndarray, axis: int) -> dict[str, Any]:
    """The space of the other dimensions, for an output that has the axis too."""
    others = [d for d in range(x.ndim) if d != axis]
    return {
        "type": x.dtype.name, "length": x.shape[axis], "rank": len(others), "shape": [x.shape[d] for d in others],
        "in_stride": [x.strides[d] // x.itemsize for d in others],
        "out_stride": [y.strides[d] // y.itemsize for d in others],
    }  # fmt: skip


def _run(isa: str, kernel: str, params: dict[str, Any], x: np.ndarray, y: np.ndarray, cuts: Sequence[int]) -> None:
    units = int(np.prod(params["shape"]))
    for begin, end in itertools.pairwise([0, *(c for c in cuts if c < units), units]):
        run_kernel(isa, kernel, params, [x], y, begin, end)


def arg(isa: str, op: str, x: np.ndarray, axis: int, last: bool, cuts: Sequence[int] = ()) -> np.ndarray:
    y = np.full([1 if d == axis else n for d, n in enumerate(x.shape)], UNTOUCHED, np.int64)
    params = {**_along(x, y, axis), "axis_stride": x.strides[axis] // x.itemsize, "last": int(last)}
    _run(isa, f"arg_{op}_any", params, x, y, cuts)
    return y


def best_index(op: str, x: np.ndarray, axis: int, last: bool) -> np.ndarray:
    function = np.argmax if op == "max" else np.argmin
    if not last:
        return np.asarray(function(x, axis=axis, keepdims=True))
    return np.asarray(x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=True))


def few(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Values of which many are equal."""
    return rng.integers(0, 7, shape).astype(dtype)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("dtype", TYPES)
def test_arg_of_ties(isa: str, dtype: str, op: str, last: bool, rng: np.random.Generator) -> None:
    for n in (1, 2, 15, 63, 64, 65, 80, 127, 129, 300):
        x = few(rng, dtype, 5, n)
        for view, axis in ((x, 1), (x.T, 0), (x, 0), (few(rng, dtype, 3, n, 4), 1), (x[::2, ::-1], 1)):
            want = best_index(op, view, axis, last)
            for cuts in ((), (1, 2, 7)):
                np.testing.assert_array_equal(arg(isa, op, view, axis, last, cuts), want)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("op", ["max", "min"])
def test_arg_of_special_values(isa: str, op: str, last: bool, rng: np.random.Generator) -> None:
    for n in (3, 70, 200):
        x = rng.standard_normal((6, n)).astype(np.float32)
        x[0, 1], x[1, [0, 2]], x[2], x[3], x[4, n // 2] = np.nan, np.nan, np.inf, -np.inf, np.inf
        x[5], x[5, -1] = 0.0, -0.0
        for view, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
            np.testing.assert_array_equal(arg(isa, op, view, axis, last), best_index(op, view, axis, last))


def test_arg_columns(isa: str, rng: np.random.Generator) -> None:
    for columns in (1, 15, 16, 17, 63, 64, 65, 200):
        x = rng.standard_normal((2, 21, columns)).astype(np.float32)
        for op, last in itertools.product(("max", "min"), (False, True)):
            got = arg(isa, op, x, 1, last, cuts=(3, columns - 1, columns + 1))
            np.testing.assert_array_equal(got, best_index(op, x, 1, last))


def top_k(isa: str, x: np.ndarray, k: int, axis: int, largest: bool, cuts: Sequence[int] = ()) -> np.ndarray:
    y = np.full([k if d == axis else n for d, n in enumerate(x.shape)], UNTOUCHED, np.int64)
    params = {**_along(x, y, axis), "axis_stride": x.strides[axis] // x.itemsize, "k": k, "largest": int(largest),
              "out_axis": y.strides[axis] // y.itemsize}  # fmt: skip
    _run(isa, "top_k_any", params, x, y, cuts)
    return y


def best_indices(x: np.ndarray, k: int, axis: int, largest: bool) -> np.ndarray:
    """By NumPy's stable sort, which puts NaN last."""
    ordered = np.argsort(np.flip(x, axis) if largest else x, axis=axis, kind="stable")
    if largest:
        ordered = np.flip(x.shape[axis] - 1 - ordered, axis)
    return np.take(ordered, np.arange(k), axis=axis)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_top_k(isa: str, dtype: str, largest: bool, rng: np.random.Generator) -> None:
    for n in (1, 2, 15, 16, 17, 40, 300):
        for k in sorted({0, 1, 2, n // 2, n - 1, n}):
            x = few(rng, dtype, 4, n)
            if k > n:
                continue
            for view, axis in ((x, 1), (x.T, 0), (few(rng, dtype, 2, n, 3), 1), (x[:, ::-1], 1)):
                want = best_indices(view, k, axis, largest)
                np.testing.assert_array_equal(top_k(isa, view, k, axis, largest), want)
                np.testing.assert_array_equal(top_k(isa, view, k, axis, largest, cuts=(1, 3)), want)


@pytest.mark.parametrize("largest", [False, True])
def test_top_k_of_special_values(isa: str, largest: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 77)).astype(np.float32)
    pool = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    x[:, rng.integers(0, 77, 40)] = pool[rng.integers(0, 5, (20, 40))]
    x[0], x[1] = np.nan, np.sort(x[1])
    for k in (1, 5, 76, 77):
        np.testing.assert_array_equal(top_k(isa, x, k, 1, largest), best_indices(x, k, 1, largest))


@pytest.mark.parametrize("outputs", [["v"], ["i"], ["v", "i"]])
def test_top_k_of_which_one_output_is_read(isa: str, outputs: list[str], rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 9, 4)).astype(np.float32)
    node = Node("TopK", ["x", "k"], ["v", "i"], {"axis": 1})
    graph = Graph({"x": TensorType.of(x)}, outputs, [node], {"k": np.array([4])})
    want = evaluate(graph, {"x": x})
    for name, got in run_graph(graph, {"x": x}, isa).items():
        np.testing.assert_array_equal(got, want[name])


def cumulative(isa: str, op: str, x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    y = np.full(x.shape, 77, x.dtype)
    params = {**_along(x, y, axis), "in_axis": x.strides[axis] // x.itemsize, "out_axis": y.strides[axis] // y.itemsize,
              "exclusive": int(exclusive), "reverse": int(reverse)}  # fmt: skip
    _run(isa, f"cumulative_{op}_any", params, x, y, (1, 5, 66))
    return y


def running(op: str, x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    """In the type itself for integers, which wrap, and in float64 for floats."""
    function = np.add if op == "sum" else np.multiply
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    wide = np.moveaxis(np.flip(wide, axis) if reverse else wide, axis, 0)
    y = function.accumulate(wide, axis=0, dtype=wide.dtype)
    if exclusive:
        y = np.concatenate([np.full_like(y[:1], function.identity), y[:-1]])
    y = np.moveaxis(y, 0, axis)
    return np.flip(y, axis) if reverse else y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("op", ["sum", "prod"])
@pytest.mark.parametrize("dtype", [t for t in TYPES if t not in ("bool", "float16")])
def test_cumulative(isa: str, dtype: str, op: str, exclusive: bool, reverse: bool, rng: np.random.Generator) -> None:
    for shape, axis in (((3, 40), 1), ((40, 3), 0), ((2, 7, 130), 1), ((2, 7, 65), 0), ((5, 1), 1)):
        if np.dtype(dtype).kind == "f":
            x = rng.uniform(0.5, 1.5, shape).astype(dtype)
        else:
            x = rng.integers(0, 256, shape, dtype=np.uint8).astype(dtype)
        got, want = cumulative(isa, op, x, axis, exclusive, reverse), running(op, x, axis, exclusive, reverse)
        if x.dtype.kind == "f":
            np.testing.assert_allclose(got, want, **lanes(1, float(np.abs(want).max())))
        else:
            np.testing.assert_array_equal(got, want)
        assert got.tobytes() == cumulative("scalar", op, x, axis, exclusive, reverse).tobytes()


def test_a_long_running_sum_has_the_error_of_one_rounding(isa: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0, 1, (1, 100_000)).astype(np.float32)
    got = cumulative(isa, "sum", x, 1, False, False)
    np.testing.assert_allclose(got, np.cumsum(x, 1, dtype=np.float64), rtol=HALF_ULP * EPS32, atol=0)


def reduce_integers(isa: str, kernel: str, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    kept = [d for d in range(x.ndim) if d not in axes]
    y = np.full([x.shape[d] for d in kept], 77, x.dtype)
    step = [s // x.itemsize for s in x.strides]
    params = {
        "type": x.dtype.name, "kept_rank": len(kept), "kept": [x.shape[d] for d in kept],
        "kept_stride": [step[d] for d in kept], "out_stride": [s // y.itemsize for s in y.strides],
        "reduced_rank": len(axes), "reduced": [x.shape[d] for d in axes], "reduced_stride": [step[d] for d in axes],
    }  # fmt: skip
    for begin, end in itertools.pairwise([0, *(c for c in (1, 3, 50) if c < y.size), y.size]):
        run_kernel(isa, kernel, params, [x], y, begin, end)
    return y


AXES: list[tuple[int, ...]] = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_reductions_of_integers_wrap(isa: str, dtype: str, rng: np.random.Generator) -> None:
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (4, 5, 70), dtype=dtype, endpoint=True)
    exact = x.astype(object)
    modulus = 2**info.bits
    for axes in AXES:
        for kernel, value in (
            ("reduce_sum_int", exact.sum(axis=axes)),
            ("reduce_prod_int", np.multiply.reduce(exact, axis=axes)),
            ("reduce_l1_int", np.abs(exact).sum(axis=axes)),
            ("reduce_sum_square_int", (exact * exact).sum(axis=axes)),
        ):
            got = reduce_integers(isa, kernel, x, axes)
            np.testing.assert_array_equal(got.astype(object) % modulus, np.asarray(value, object) % modulus)
        np.testing.assert_array_equal(reduce_integers(isa, "reduce_max_any", x, axes), x.max(axis=axes))
        np.testing.assert_array_equal(reduce_integers(isa, "reduce_min_any", x, axes), x.min(axis=axes))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_mean_of_integers_is_truncated(isa: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(-100 if np.iinfo(dtype).min else 0, 100, (4, 5, 70)).astype(dtype)
    for axes in AXES:
        want = np.trunc(x.astype(np.float64).mean(axis=axes))
        np.testing.assert_array_equal(reduce_integers(isa, "reduce_mean_int", x, axes), want)


def test_extremes_of_bools_and_of_nothing(isa: str) -> None:
    x = np.array([[[True, False], [False, False]]])
    for axes in AXES:
        np.testing.assert_array_equal(reduce_integers(isa, "reduce_max_any", x, axes), x.any(axis=axes))
        np.testing.assert_array_equal(reduce_integers(isa, "reduce_min_any", x, axes), x.all(axis=axes))
    for dtype in (*INTEGERS, "bool"):
        nothing = np.zeros((2, 0, 3), dtype)
        low, high = (False, True) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        assert (reduce_integers(isa, "reduce_max_any", nothing, (1,)) == low).all()
        assert (reduce_integers(isa, "reduce_min_any", nothing, (1,)) == high).all()
