"""The rows of unary.def on every ISA: accuracy against float64, special values, tails, strides, ranges and bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass import _native
from forwardpass._native import run_kernel
from forwardpass.ops.activations import ACTIVATIONS, activate

ROWS = {activation.row: name for name, activation in ACTIVATIONS.items()}
SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97]
UNTOUCHED = np.float32(-7777.0)
ATTRIBUTES = [(0.25, 0.75), (float(np.float32(1.7)), float(np.float32(-0.4)))]
SPECIALS = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3.4028235e38, -3.4028235e38, 1.1754944e-38, -1.1754944e-38,
     88.72283, 88.72284, -87.33654, -87.33655, -103.9, 20.0, -20.0, 1e-20, -1e-20, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5,
     8388609.0],
    np.float32,
)  # fmt: skip
Floats = NDArray[np.float32]
Wide = NDArray[np.float64]


def run(
    isa: str,
    row: str,
    x: Floats,
    y: Floats | None = None,
    attributes: tuple[float, float] = ATTRIBUTES[0],
    cuts: Sequence[int] = (),
) -> Floats:
    """The kernel's output for a view of any strides, computed in one range or in ranges that end at `cuts`."""
    if y is None:
        y = np.full(x.shape, UNTOUCHED)
    params = {
        "rank": x.ndim, "shape": list(x.shape), "in_stride": [s // 4 for s in x.strides],
        "out_stride": [s // 4 for s in y.strides], "alpha": attributes[0], "beta": attributes[1],
    }  # fmt: skip
    ends = [0, *(c for c in cuts if c < x.size), x.size]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, f"{row}_f32", params, [x], y, begin, end)
    return y


def same_bits(a: Floats, b: Floats) -> bool:
    """Equal to the bit; one NaN is as good as another."""
    nan = np.isnan(a)
    if not np.array_equal(nan, np.isnan(b)):
        return False
    return np.array_equal(np.ascontiguousarray(a).view(np.int32)[~nan], np.ascontiguousarray(b).view(np.int32)[~nan])


def definition(row: str, x: Floats, attributes: tuple[float, float]) -> Wide:
    return activate(ROWS[row], x.astype(np.float64), *attributes)


def ulps(got: Floats, want: Wide) -> Wide:
    """The error in units in the last place of the float32 nearest to `want`; infinite where only one is finite."""
    with np.errstate(all="ignore"):
        near = want.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(near), np.float32(2.0**-126))).astype(np.float64)
        error = np.abs(got.astype(np.float64) - want) / unit
        same = (np.isnan(got) & np.isnan(want)) | (np.isinf(near) & (got == near))
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))


def rounded_argument(row: str, x: Floats, alpha: float) -> Wide:
    """The size of an argument that is rounded before the exponential, which multiplies its relative error."""
    a = np.abs(x.astype(np.float64))
    with np.errstate(all="ignore"):
        if row == "swish":
            return np.maximum(1.0, abs(alpha) * a)
        if row == "gelu_tanh":
            return np.maximum(1.0, 2 * math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))
    return np.ones_like(a)


def sample(rng: np.random.Generator) -> Floats:
    """Normal floats of every exponent and sign, denser where activations do something."""
    steps = np.arange(0, 2**32, 2**17, dtype=np.uint64)
    every = (steps + rng.integers(0, 2**17, steps.size, dtype=np.uint64)).astype(np.uint32).view(np.float32)
    every = every[np.isfinite(every) & (np.abs(every) >= np.float32(2.0**-126))]
    near = [rng.uniform(-s, s, 4096).astype(np.float32) for s in (1.0, 8.0, 100.0)]
    return np.concatenate([every, *near])


@pytest.mark.parametrize("attributes", ATTRIBUTES)
@pytest.mark.parametrize("row", ROWS)
def test_accuracy(row: str, attributes: tuple[float, float], isa: str, rng: np.random.Generator) -> None:
    x = sample(rng)
    got = run(isa, row, x, attributes=attributes)
    want = definition(row, x, attributes)
    allowed = tolerance.UNARY_ULPS.get(row, tolerance.UNARY_ULPS_OTHERS) * rounded_argument(row, x, attributes[0])
    flushed = (np.abs(want) < tolerance.FLUSHED) & (np.abs(got) < tolerance.FLUSHED)
    excess = np.where(flushed, 0.0, ulps(got, want) - allowed)
    worst = int(np.argmax(excess))
    assert excess[worst] <= 0, f"{row}({x[worst]!r}) = {got[worst]!r}, {want[worst]!r} is right"


@pytest.mark.parametrize("row", ROWS)
def test_special_values(row: str, isa: str) -> None:
    got = run(isa, row, SPECIALS)
    want = definition(row, SPECIALS, ATTRIBUTES[0])
    allowed = tolerance.UNARY_ULPS.get(row, tolerance.UNARY_ULPS_OTHERS)
    allowed = allowed * rounded_argument(row, SPECIALS, ATTRIBUTES[0][0])
    flushed = (np.abs(want) < tolerance.FLUSHED) & (np.abs(got) < tolerance.FLUSHED)
    wrong = ~flushed & (ulps(got, want) > np.where(np.isfinite(allowed), allowed, 0.0))
    assert not wrong.any(), list(zip(SPECIALS[wrong], got[wrong], want[wrong]))


@pytest.mark.parametrize("row", ROWS)
def test_denormals_count_as_zero_or_as_themselves(row: str, isa: str) -> None:
    x = np.array([1, 2, 0x7FFFFF, 0x400000], np.uint32).view(np.float32)
    x = np.concatenate([x, -x])
    got = run(isa, row, x)
    for y, zero, value in zip(got, np.copysign(np.float32(0), x), x):
        candidates = [definition(row, np.array([v], np.float32), ATTRIBUTES[0])[0] for v in (zero, value)]
        near = [ulps(np.array([y]), np.array([c]))[0] <= 1 or abs(y - c) < tolerance.DENORMAL for c in candidates]
        assert any(near), (value, y, candidates)


@pytest.mark.parametrize("row", ROWS)
def test_every_isa_gives_the_same_bits(row: str, isa: str, rng: np.random.Generator) -> None:
    tiny = rng.integers(0, 2**23, 64, dtype=np.uint32).view(np.float32)
    x = np.concatenate([SPECIALS, tiny, -tiny, sample(np.random.default_rng(1))])
    for attributes in ATTRIBUTES:
        assert same_bits(run(isa, row, x, attributes=attributes), run("scalar", row, x, attributes=attributes))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("row", ROWS)
def test_tails(row: str, n: int, isa: str, rng: np.random.Generator) -> None:
    """Any length at any address, in place or not: the bits of the same elements elsewhere, and nothing beyond."""
    x = np.concatenate([rng.uniform(-9, 9, 128), SPECIALS]).astype(np.float32)
    whole = run(isa, row, x)
    for offset in (0, 1, 3, 16, 155 - n):
        buffer = np.full(n + 48, UNTOUCHED)
        run(isa, row, x[offset : offset + n], buffer[offset % 17 :][:n])
        first = offset % 17
        assert same_bits(buffer[first : first + n], whole[offset : offset + n])
        assert (np.delete(buffer, slice(first, first + n)) == UNTOUCHED).all()
        inplace = x.copy()
        run(isa, row, inplace[offset : offset + n], inplace[offset : offset + n])
        assert same_bits(inplace[offset : offset + n], whole[offset : offset + n])
        assert same_bits(np.delete(inplace, slice(offset, offset + n)), np.delete(x, slice(offset, offset + n)))


@pytest.mark.parametrize("row", ["relu", "gelu"])
def test_strides_and_ranges(row: str, isa: str, rng: np.random.Generator) -> None:
    x = rng.uniform(-9, 9, (4, 6, 5, 33)).astype(np.float32)
    want = run(isa, row, x)
    views = [
        (slice(None), ...), (slice(None), slice(1, 5), ...), (..., slice(2, 31)), (..., slice(None, None, 3)),
        (..., slice(None, None, -1)), (slice(None, None, 2), slice(None, None, -2), slice(1, 4), slice(5, 30, 2)),
    ]  # fmt: skip
    for view in views:
        for order in ((0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0)):
            part = x[view].transpose(order)
            for cuts in ((), (1, 2, 40, 41, 333)):
                assert same_bits(run(isa, row, part, cuts=cuts), want[view].transpose(order))
            out = np.full(x.shape, UNTOUCHED)
            run(isa, row, part, out[view].transpose(order), cuts=(7, 100))
            assert same_bits(out[view], want[view])
            out[view] = UNTOUCHED
            assert (out == UNTOUCHED).all()


def test_broadcast_input_and_rank_zero(isa: str) -> None:
    one = np.array(1.5, np.float32)
    assert run(isa, "neg", one)[()] == np.float32(-1.5)
    assert (run(isa, "neg", np.broadcast_to(one, (3, 70))) == np.float32(-1.5)).all()
    column = np.arange(5, dtype=np.float32)[:, None]
    assert np.array_equal(run(isa, "neg", np.broadcast_to(column, (5, 9))), np.broadcast_to(-column, (5, 9)))
    assert run(isa, "neg", np.empty((3, 0), np.float32)).size == 0


def test_every_activation_is_a_kernel() -> None:
    assert {f"{row}_f32" for row in ROWS} <= set(_native.kernel_names())
