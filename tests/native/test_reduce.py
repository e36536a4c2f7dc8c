"""The reductions of floats against NumPy in float64, and against the order of operations that they promise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass._native import run_kernel

KINDS = ["sum", "mean", "max", "min", "l1", "sum_square"]
UNTOUCHED = np.float32(-7777.0)
TERMS = {"l1": np.abs, "sum_square": np.square}
Floats = NDArray[np.float32]


def params(x: Floats, axes: Sequence[int], y: Floats) -> dict[str, Any]:
    """`y` has the kept dimensions, in order."""
    kept = [d for d in range(x.ndim) if d not in axes]
    step = [s // 4 for s in x.strides]
    return {
        "kept_rank": len(kept), "kept": [x.shape[d] for d in kept], "kept_stride": [step[d] for d in kept],
        "out_stride": [s // 4 for s in y.strides],
        "reduced_rank": len(axes), "reduced": [x.shape[d] for d in axes],
        "reduced_stride": [step[d] for d in axes],
    }  # fmt: skip


def run(
    isa: str, kind: str, x: Floats, axes: Sequence[int], cuts: tuple[int, ...] = (), y: Floats | None = None
) -> Floats:
    """The kernel's output, computed in one range or in ranges that end at `cuts`."""
    if y is None:
        y = np.full([x.shape[d] for d in range(x.ndim) if d not in axes], UNTOUCHED)
    ends = [0, *(c for c in cuts if c < y.size), y.size]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, f"reduce_{kind}_f32", params(x, axes, y), [x], y, begin, end)
    return y


def ordered(kind: str, x: Floats, axes: Sequence[int]) -> Floats:
    """The promised order, in float32: element i to lane i mod 16, then lanes j and j + 8, 4, 2, 1."""
    kept = [d for d in range(x.ndim) if d not in axes]
    flat = x.transpose(*kept, *axes).reshape(*(x.shape[d] for d in kept), -1)
    fold = {"max": np.maximum, "min": np.minimum, "prod": np.multiply}.get(kind, np.add)
    flat = TERMS.get(kind, np.positive)(flat)
    n = flat.shape[-1]
    lanes = [flat[..., i].copy() for i in range(min(n, 16))]
    for i in range(16, n):
        lanes[i % 16] = fold(lanes[i % 16], flat[..., i])
    for half in (8, 4, 2, 1):
        for j in range(half):
            if j + half < len(lanes):
                lanes[j] = fold(lanes[j], lanes[j + half])
        lanes = lanes[:half]
    return np.asarray(lanes[0] / np.float32(n) if kind == "mean" else lanes[0], np.float32)


def check(isa: str, kind: str, x: Floats, axes: Sequence[int]) -> None:
    y = run(isa, kind, x, axes)
    terms = TERMS.get(kind, np.positive)(x.astype(np.float64))
    expected = getattr(np, "sum" if kind in TERMS else kind)(terms, axis=tuple(axes))
    if kind in ("max", "min"):
        np.testing.assert_array_equal(y, expected)
    else:
        n = math.prod(x.shape[d] for d in axes)
        magnitude = float(np.abs(terms).max(initial=0.0)) * (1 if kind == "mean" else n)
        np.testing.assert_allclose(y, expected, **tolerance.lanes(n, magnitude))
    assert y.tobytes() == ordered(kind, x, axes).tobytes()
    assert y.tobytes() == run("scalar", kind, x, axes).tobytes()
    assert y.tobytes() == run(isa, kind, x, axes, cuts=(1, 2, 3, 7, 24)).tobytes()


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [*range(1, 36), 47, 48, 49, 63, 64, 65, 255, 512, 513, 1000, 4099])
def test_lengths(isa: str, kind: str, n: int, rng: np.random.Generator) -> None:
    check(isa, kind, normal(rng, 6, n), [1])  # dense
    check(isa, kind, normal(rng, n, 6), [0])  # columns
    check(isa, kind, normal(rng, 3, n, 2)[:, :, 1:], [1])  # strided
    check(isa, kind, normal(rng, n), [0])  # one output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 127, 128, 129, 144, 300])
def test_columns(isa: str, kind: str, columns: int, rng: np.random.Generator) -> None:
    check(isa, kind, normal(rng, 7, 7, columns), [0, 1])
    check(isa, kind, normal(rng, 2, 5, columns), [1])
    check(isa, kind, normal(rng, 2, 5, columns + 3)[..., :columns], [1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [a for r in range(1, 5) for a in itertools.combinations(range(4), r)])
def test_axes(isa: str, kind: str, axes: tuple[int, ...], rng: np.random.Generator) -> None:
    check(isa, kind, normal(rng, 3, 5, 4, 6), axes)
    check(isa, kind, normal(rng, 3, 1, 1, 18), axes)


@pytest.mark.parametrize("kind", KINDS)
def test_views(isa: str, kind: str, rng: np.random.Generator) -> None:
    x = normal(rng, 6, 10, 9, 8)
    turned = x.transpose(3, 2, 1, 0)[:, ::2]
    for view in (x[::2, 1:8, ::3], x.transpose(0, 2, 3, 1), turned, x[..., ::-1], x[:, ::-2]):
        for axes in ([0], [1], [3], [1, 2], [0, 3], [1, 3]):
            check(isa, kind, view, axes)
    broadcast = np.broadcast_to(normal(rng, 3, 1, 5), (3, 20, 5))
    check(isa, kind, broadcast, [1])
    check(isa, kind, broadcast, [0, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_six_dimensions_none_of_which_merge(isa: str, kind: str, rng: np.random.Generator) -> None:
    x = normal(rng, 3, 3, 4, 3, 4, 3)[:2, :, :3, :2, :, :2]
    for axes in ([0, 2, 4], [1, 3, 5], [0, 1, 2, 3, 4, 5], [5], [0]):
        check(isa, kind, x, axes)


@pytest.mark.parametrize("kind", KINDS)
def test_output_with_gaps(isa: str, kind: str, rng: np.random.Generator) -> None:
    x = normal(rng, 4, 21, 10)
    for axes, shape in (([1], (4, 10)), ([2], (4, 21))):
        whole = np.full((4, 30, 2), UNTOUCHED)
        for y in (whole[:, : shape[1], 0], whole.reshape(4, 60)[:, : shape[1]]):
            whole[...] = UNTOUCHED
            expected = ordered(kind, x, axes)
            assert run(isa, kind, x, axes, y=y).tobytes() == expected.tobytes()
            assert (whole != UNTOUCHED).sum() == expected.size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [3, 16, 37])
def test_special_values_at_every_place(isa: str, kind: str, value: float, n: int, rng: np.random.Generator) -> None:
    for place in range(n):
        rows = normal(rng, 5, n)
        rows[2, place] = value
        for x, axes in ((rows, [1]), (np.ascontiguousarray(rows.T), [0])):
            y = run(isa, kind, x, axes)
            np.testing.assert_array_equal(y, ordered(kind, x, axes))
            assert np.isfinite(np.delete(y, 2)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_signed_zeros(isa: str, kind: str) -> None:
    for n in (1, 5, 16, 20):
        for axes, shape in (([1], (3, n)), ([0], (n, 3))):
            x = np.full(shape, -0.0, np.float32)
            y = run(isa, kind, x, axes)
            assert y.tobytes() == np.full(3, 0.0 if kind in TERMS else -0.0, np.float32).tobytes()


def test_reduction_of_nothing(isa: str) -> None:
    values = (("sum", 0.0), ("mean", math.nan), ("max", -math.inf), ("min", math.inf), ("prod", 1.0), ("l1", 0.0))
    for kind, value in values:
        for shape, axes in (((3, 0), [1]), ((0, 3), [0]), ((2, 0, 4), [0, 1])):
            y = run(isa, kind, np.empty(shape, np.float32), axes)
            np.testing.assert_array_equal(y, np.full(y.shape, value))
    for axes in ([0], [1]):  # no outputs
        run(isa, "sum", np.empty((0, 0, 3), np.float32), axes)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_reduce(isa: str, kind: str, rng: np.random.Generator) -> None:
    x = normal(rng, 3, 1, 40)
    term = TERMS.get(kind, np.positive)
    np.testing.assert_array_equal(run(isa, kind, x, [1]), term(x[:, 0]))
    np.testing.assert_array_equal(run(isa, kind, x, []), term(x))
    np.testing.assert_array_equal(run(isa, kind, np.full((1, 1), 2.5, np.float32), [0, 1]), term(2.5))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 64, 130, 513])
def test_products(isa: str, n: int, rng: np.random.Generator) -> None:
    """Of factors near 1, whose products are normal numbers."""
    x = (rng.uniform(0.9, 1.1, (6, n)) * rng.choice([-1, 1], (6, n))).astype(np.float32)
    for view, axes in ((x, [1]), (np.ascontiguousarray(x.T), [0]), (x[:, ::2], [1]), (x, [0, 1])):
        y = run(isa, "prod", view, axes)
        assert y.tobytes() == ordered("prod", view, axes).tobytes()
        assert y.tobytes() == run(isa, "prod", view, axes, cuts=(1, 2)).tobytes()
        want = view.astype(np.float64).prod(axis=tuple(axes))
        np.testing.assert_allclose(y, want, rtol=view.size * tolerance.EPS32, atol=0)


def test_row_does_not_depend_on_the_others(isa: str, rng: np.random.Generator) -> None:
    x = normal(rng, 9, 100)
    for kind in KINDS:
        whole = run(isa, kind, x, [1])
        for i in range(9):
            assert whole[i].tobytes() == run(isa, kind, x[i : i + 1], [1]).tobytes()


def log_sum_exp(isa: str, x: Floats, axis: int) -> Floats:
    """Along one axis of a matrix of any strides."""
    kept = 1 - axis
    y = np.full(x.shape[kept], UNTOUCHED)
    params = {
        "length": x.shape[axis], "in_axis": x.strides[axis] // 4, "out_axis": 0, "rank": 1, "shape": [x.shape[kept]],
        "in_stride": [x.strides[kept] // 4], "out_stride": [1],
    }  # fmt: skip
    for begin, end in ((0, 1), (1, x.shape[kept])):
        run_kernel(isa, "log_sum_exp_f32", params, [x], y, begin, end)
    return y


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 100, 1000])
def test_log_sum_exp(isa: str, n: int, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((6, n)) * 30).astype(np.float32)
    for view, axis in ((x, 1), (x.T, 0), (np.ascontiguousarray(x.T), 0), (x[:, ::-1], 1)):
        y = log_sum_exp(isa, view, axis)
        want = np.logaddexp.reduce(view.astype(np.float64), axis=axis)
        np.testing.assert_allclose(y, want, **tolerance.native(want))
        assert y.tobytes() == log_sum_exp("scalar", view, axis).tobytes()


def test_log_sum_exp_of_special_values(isa: str) -> None:
    inf, nan = np.inf, np.nan
    rows = np.array(
        [[1, -inf], [inf, 1], [-inf, -inf], [inf, -inf], [1, nan], [3e38, 3e38], [-3e38, -3e38]], np.float32
    )
    want = np.array([1, inf, -inf, inf, nan, 3e38, -3e38], np.float32)
    np.testing.assert_array_equal(log_sum_exp(isa, rows, 1), want)
    assert (log_sum_exp(isa, np.empty((3, 0), np.float32), 1) == -inf).all()
