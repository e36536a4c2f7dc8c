"""Operators of two operands, scale and shift, softmax and the kernels that move elements, on every ISA."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass._native import run_kernel

SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97]
UNTOUCHED = np.float32(-7777.0)
SPECIALS = np.array(
    [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, -1e-30,
     2.0**24 + 2, 2.0**23 + 1, -(2.0**23) - 1, 3.4e38, 1.5, -1.5, 1 - 2.0**-24, 1 + 2.0**-23],
    np.float32,
)  # fmt: skip
Array = NDArray[Any]
Floats = NDArray[np.float32]

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "prelu": lambda a, b: np.where(a < 0, a * b, a),
}


def steps(x: Array) -> list[int]:
    return [s // 4 for s in x.strides]


def call(
    isa: str, name: str, params: dict[str, Any], inputs: list[Any], out: Floats, n: int, cuts: Sequence[int]
) -> None:
    """The kernel over all n elements, in one range or in ranges that end at `cuts`."""
    ends = [0, *(c for c in cuts if c < n), n]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, name, params, inputs, out, begin, end)


def binary(isa: str, op: str, a: Floats, b: Floats, out: Floats | None = None, cuts: Sequence[int] = ()) -> Floats:
    shape = np.broadcast_shapes(a.shape, b.shape)
    if out is None:
        out = np.full(shape, UNTOUCHED)
    a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    params = {"rank": len(shape), "shape": list(shape), "a_stride": steps(a), "b_stride": steps(b),
              "out_stride": steps(out)}  # fmt: skip
    call(isa, f"{op}_f32", params, [a, b], out, out.size, cuts)
    return out


def same_bits(a: Floats, b: Floats) -> bool:
    """Equal to the bit; one NaN is as good as another."""
    nan = np.isnan(a)
    if a.shape != b.shape or not np.array_equal(nan, np.isnan(b)):
        return False
    return np.array_equal(np.ascontiguousarray(a).view(np.int32)[~nan], np.ascontiguousarray(b).view(np.int32)[~nan])


def check_binary(op: str, got: Floats, a: Floats, b: Floats) -> None:
    """Against the operator in float64, to the correctly rounded result of one operation (pow: a few ulp)."""
    with np.errstate(all="ignore"):
        want = BINARY[op](a.astype(np.float64), b.astype(np.float64))
        near = want.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(near), np.float32(2.0**-126)))
        error = np.abs(got.astype(np.float64) - want) / unit
    allowed = tolerance.POW_ULPS if op == "pow" else tolerance.HALF_ULP
    same = (np.isnan(got) & np.isnan(want)) | (np.isinf(near) & (got == near))
    flushed = (np.abs(want) < 2.0**-126) & (np.abs(got) <= 2.0**-126)
    wrong = ~(same | flushed | (error <= allowed))
    pairs = np.broadcast_arrays(a, b)
    assert not wrong.any(), list(zip(pairs[0][wrong], pairs[1][wrong], got[wrong], want[wrong], strict=True))[:5]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("op", BINARY)
def test_binary_tails(op: str, n: int, isa: str, rng: np.random.Generator) -> None:
    a = rng.uniform(-4, 4, n + 3).astype(np.float32)[3:]
    b = rng.uniform(-4, 4, n + 1).astype(np.float32)[1:]
    buffer = np.full(n + 33, UNTOUCHED)
    for x, y in ((a, b), (a, b[:1]), (a[:1], b), (a[:1].reshape(()), b[:1].reshape(()))):
        shape = np.broadcast_shapes(x.shape, y.shape)
        buffer[:] = UNTOUCHED
        count = int(np.prod(shape))
        got = binary(isa, op, x, y, buffer[5 : 5 + count].reshape(shape))
        check_binary(op, got, x, y)
        assert same_bits(got, binary("scalar", op, x, y))
        assert (buffer[:5] == UNTOUCHED).all()
        assert (buffer[5 + count :] == UNTOUCHED).all()


@pytest.mark.parametrize("op", BINARY)
def test_binary_special_values(op: str, isa: str) -> None:
    tiny = np.array([1, 0x7FFFFF, 0x80000001], np.uint32).view(np.float32)
    check_binary(op, binary(isa, op, SPECIALS[:, None], SPECIALS), SPECIALS[:, None], SPECIALS)
    every = np.concatenate([SPECIALS, tiny])
    assert same_bits(binary(isa, op, every[:, None], every), binary("scalar", op, every[:, None], every))


@pytest.mark.parametrize("op", ["min", "max"])
def test_a_nan_of_either_side_propagates(op: str, isa: str) -> None:
    a = np.array([np.nan, 1.0, np.nan, np.inf, np.nan], np.float32)
    b = np.array([1.0, np.nan, np.nan, np.nan, -np.inf], np.float32)
    assert np.isnan(binary(isa, op, a, b)).all()


def test_pow_is_accurate_over_its_range(isa: str, rng: np.random.Generator) -> None:
    n = 8192
    cases = [
        (np.exp(rng.uniform(-80, 80, n)), rng.uniform(-5, 5, n)),
        (rng.uniform(0.9, 1.1, n), rng.uniform(-600, 600, n)),
        (rng.uniform(-20, 20, n), rng.integers(-20, 20, n)),
        (1 + rng.integers(-50, 50, n) * 2.0**-24, rng.uniform(-2e8, 2e8, n)),
    ]
    for x, y in cases:
        a, b = x.astype(np.float32), y.astype(np.float32)
        got = binary(isa, "pow", a, b)
        check_binary("pow", got, a, b)
        assert same_bits(got, binary("scalar", "pow", a, b))


@pytest.mark.parametrize("op", ["sub", "prelu"])
def test_binary_broadcasting_strides_and_ranges(op: str, isa: str, rng: np.random.Generator) -> None:
    def draw(*shape: int) -> Floats:
        return rng.uniform(-4, 4, shape).astype(np.float32)

    pairs = [
        (draw(3, 4, 70), draw(70)), (draw(3, 4, 70), draw(4, 1)), (draw(3, 1, 70), draw(4, 1)),
        (draw(70), draw(3, 4, 1)), (draw(3, 4, 1), draw(3, 1, 1)), (draw(70, 4, 3).T, draw(3, 4, 70)),
        (draw(3, 4, 140)[..., ::2], draw(70)[::-1]),
        (draw(2, 3, 2, 3, 2, 5), draw(3, 1, 3, 1, 5)), (draw(0, 3), draw(3)),
    ]  # fmt: skip
    for a, b in pairs:
        want = binary(isa, op, np.ascontiguousarray(a), np.ascontiguousarray(b))
        check_binary(op, want, a, b)
        for cuts in ((), (1, 2, 69, 71, 200)):
            assert same_bits(binary(isa, op, a, b, cuts=cuts), want)
            wide = np.full((*want.shape[:-1], 2 * want.shape[-1]), UNTOUCHED)
            assert same_bits(binary(isa, op, a, b, wide[..., ::2], cuts), want)
            assert (wide[..., 1::2] == UNTOUCHED).all()
            backward = np.full(want.shape[::-1], UNTOUCHED)
            assert same_bits(binary(isa, op, a, b, backward.T, cuts), want)


def scale_shift(isa: str, x: Floats, scale: Floats, shift: Floats, cuts: Sequence[int] = (), **how: Any) -> Floats:
    out = np.full(x.shape, UNTOUCHED)
    wide = [np.broadcast_to(v, x.shape) for v in (scale, shift)]
    params = {"rank": x.ndim, "shape": list(x.shape), "in_stride": steps(x), "scale_stride": steps(wide[0]),
              "shift_stride": steps(wide[1]), "out_stride": steps(out), **how}  # fmt: skip
    call(isa, "scale_shift_f32", params, [x, *wide], out, out.size, cuts)
    return out


@pytest.mark.parametrize("shape", [(1,), (), (2, 3, 5), (4, 33), (2, 3, 4, 17), (3, 97), (0, 4)])
def test_scale_shift_is_one_fused_multiply_add(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    for axis in range(-1, len(shape)):
        narrow = tuple(n if d == axis else 1 for d, n in enumerate(shape))
        scale, shift = rng.standard_normal((2, *narrow)).astype(np.float32)
        views = [x, np.asfortranarray(x)] if x.ndim > 1 else [x]
        for view in views:
            got = scale_shift(isa, view, scale, shift, cuts=(1, 2, 19))
            exact = x.astype(np.longdouble) * scale + shift  # 64 bits: the product is exact
            assert np.array_equal(got, exact.astype(np.float32))
            for one, other in ((scale, got), (x, shift)):  # operands of other shapes than each other
                exact = x.astype(np.longdouble) * one + other
                assert np.array_equal(scale_shift(isa, view, one, other), exact.astype(np.float32))


@pytest.mark.parametrize("shape", [(3, 97), (2, 3, 4, 17), (5000,)])
def test_scale_shift_activates(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    scale, shift = rng.standard_normal((2, 1)).astype(np.float32)
    plain = scale_shift(isa, x, scale, shift)
    assert np.array_equal(scale_shift(isa, x, scale, shift, activation="relu"), np.maximum(plain, 0))
    clipped = scale_shift(isa, x.T, scale, shift, cuts=(1, 30), activation="clip", alpha=-0.5, beta=0.25)
    assert np.array_equal(clipped, np.clip(plain, np.float32(-0.5), np.float32(0.25)).T)


def softmax(isa: str, name: str, x: Floats, axis: int, out: Floats | None = None, cuts: Sequence[int] = ()) -> Floats:
    if out is None:
        out = np.full(x.shape, UNTOUCHED)
    rest = [d for d in range(x.ndim) if d != axis % x.ndim]
    a, b = steps(x), steps(out)
    params = {"length": x.shape[axis], "in_axis": a[axis], "out_axis": b[axis], "rank": len(rest),
              "shape": [x.shape[d] for d in rest], "in_stride": [a[d] for d in rest],
              "out_stride": [b[d] for d in rest]}  # fmt: skip
    call(isa, f"{name}_f32", params, [x], out, int(np.prod([x.shape[d] for d in rest])), cuts)
    return out


def check_softmax(name: str, got: Floats, x: Floats, axis: int) -> None:
    """Errors: exp of a rounded difference, a sum over 16 lanes of terms that are all positive, a division or a log."""
    wide = x.astype(np.float64)
    shifted = wide - wide.max(axis=axis, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=axis, keepdims=True)
    ulps = tolerance.SOFTMAX_ULPS + np.abs(shifted) / 2 + x.shape[axis] / 32 + 2.5
    if name == "softmax":
        want, scale = exps / total, exps / total
    else:
        want = shifted - np.log(total)
        scale = 1 + np.abs(shifted) + np.log(total)
        ulps = tolerance.SOFTMAX_ULPS + x.shape[axis] / 32 + 2.5
    assert (np.abs(got - want) <= ulps * tolerance.EPS32 * scale + tolerance.FLUSHED).all()


@pytest.mark.parametrize("n", [*SIZES, 1000])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name: str, n: int, isa: str, rng: np.random.Generator) -> None:
    x = rng.uniform(-30, 30, (5, n)).astype(np.float32)
    got = softmax(isa, name, x, 1)
    check_softmax(name, got, x, 1)
    assert same_bits(got, softmax("scalar", name, x, 1))
    assert same_bits(got, softmax(isa, name, x, 1, cuts=(1, 3)))
    for row in range(5):
        assert same_bits(got[row], softmax(isa, name, x[row], 0))
    # The layout changes no bit: strided axis, strided output, in place.
    tall = np.ascontiguousarray(x.T)
    assert same_bits(softmax(isa, name, tall, 0).T, got)
    spread = np.full((5, 3 * n), UNTOUCHED)
    assert same_bits(softmax(isa, name, tall.T, 1, spread[:, ::3]), got)
    assert (spread[:, 1::3] == UNTOUCHED).all()
    inplace = x.copy()
    assert same_bits(softmax(isa, name, inplace, 1, inplace), got)
    framed = np.full(n + 40, UNTOUCHED)
    assert same_bits(softmax(isa, name, x[2], 0, framed[3 : 3 + n]), got[2])
    assert (framed[:3] == UNTOUCHED).all()
    assert (framed[3 + n :] == UNTOUCHED).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_special_values(name: str, isa: str) -> None:
    inf, nan = np.inf, np.nan
    for n in (4, 19, 40):
        rows = np.zeros((6, n), np.float32)
        rows[0, 2] = nan
        rows[1, :] = -inf
        rows[2, 1] = inf
        rows[3, :3] = -inf
        rows[4, 0] = 3.4e38
        rows[4, 1:] = -3.4e38
        rows[5, n - 1] = nan
        for x in (rows, np.asfortranarray(rows)):
            got = softmax(isa, name, x, 1)
            assert np.isnan(got[[0, 1, 5]]).all()
            assert np.isnan(got[2]).all() if name == "softmax" else np.isnan(got[2, 1])
            zero, one = (0.0, 1.0) if name == "softmax" else (-inf, 0.0)
            assert (got[3, :3] == zero).all()
            assert np.isfinite(got[3, 3:]).all()
            assert got[4, 0] == one
            assert (got[4, 1:] == zero).all()
            assert same_bits(got, softmax("scalar", name, x, 1))


def test_softmax_of_nothing(isa: str) -> None:
    assert softmax(isa, "softmax", np.empty((3, 0), np.float32), 1).shape == (3, 0)
    assert softmax(isa, "softmax", np.empty((0, 3), np.float32), 1).shape == (0, 3)


def any_bits(rng: np.random.Generator, *shape: int) -> Floats:
    """Every kind of float: signalling NaN and denormal numbers too."""
    x = rng.integers(0, 2**32, shape, dtype=np.uint64).astype(np.uint32)
    kinds = np.array([0x7F800001, 0xFFC00123, 0x00000001, 0x807FFFFF, 0x80000000], np.uint32)
    x.reshape(-1)[: kinds.size] = kinds[: x.size]
    return x.view(np.float32)


def bits(x: Floats) -> NDArray[np.uint32]:
    return np.ascontiguousarray(x).view(np.uint32)


def copy(isa: str, x: Floats, out: Floats, cuts: Sequence[int] = ()) -> Floats:
    params = {"rank": x.ndim, "shape": list(x.shape), "in_stride": steps(x), "out_stride": steps(out)}
    call(isa, "copy_f32", params, [x], out, x.size, cuts)
    return out


@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 7), (1, 3, 18, 18), (2, 16, 9, 8), (3, 20, 1, 33), (2, 4, 4, 4), (1, 1, 1, 97)]
)
def test_copy_of_every_permutation(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    x = any_bits(rng, *shape)
    ranges: list[tuple[int, ...]] = [(), (1, 2, 50), tuple(np.sort(rng.integers(1, x.size, 9)).tolist())]
    for order in itertools.permutations(range(4)):
        view = x.transpose(order)
        for cuts in ranges:
            buffer = np.full(x.size + 64, UNTOUCHED)
            out = buffer[19 : 19 + x.size].reshape(view.shape)
            assert np.array_equal(bits(copy(isa, view, out, cuts)), bits(view))
            assert (buffer[:19] == UNTOUCHED).all()
            assert (buffer[19 + x.size :] == UNTOUCHED).all()


@pytest.mark.parametrize("n", SIZES)
def test_copy_of_slices_and_into_slices(n: int, isa: str, rng: np.random.Generator) -> None:
    x = any_bits(rng, 6, n + 40)
    for view in (x[:, 7 : 7 + n], x[::-1, n - 1 :: -1], x[::2, : 2 * n : 2][:, :n], np.broadcast_to(x[:1, :n], (4, n)),
                 np.broadcast_to(x[:, :1], (6, n))):  # fmt: skip
        out = np.full((view.shape[0], view.shape[1] + 9), UNTOUCHED)
        copy(isa, view, out[:, 4:-5], cuts=(1, 17))
        assert np.array_equal(bits(out[:, 4:-5]), bits(view))
        assert (out[:, :4] == UNTOUCHED).all()
        assert (out[:, -5:] == UNTOUCHED).all()
        spread = np.full((view.shape[1], 3 * view.shape[0]), UNTOUCHED)
        copy(isa, view, spread[:, ::3].T, cuts=(3,))
        assert np.array_equal(bits(spread[:, ::3].T), bits(view))
        assert (spread[:, 1::3] == UNTOUCHED).all()


@pytest.mark.parametrize("n", SIZES)
def test_fill(n: int, isa: str) -> None:
    out = np.full((4, n + 6), UNTOUCHED)
    for view in (out[1:3, 2 : 2 + n], out[::2, n::-1], out[:, 1 : 1 + n].T):
        out[:] = UNTOUCHED
        params = {"rank": 2, "shape": list(view.shape), "out_stride": steps(view), "value": 2.5}
        call(isa, "fill_f32", params, [], view, view.size, (1, n + 1))
        assert (view == np.float32(2.5)).all()
        view[:] = UNTOUCHED
        assert (out == UNTOUCHED).all()


def pad(isa: str, x: Floats, pads: Sequence[tuple[int, int]], mode: str, out: Floats, cuts: Sequence[int]) -> Floats:
    tables = []
    for size, (before, after) in zip(x.shape, pads, strict=True):
        index = np.arange(max(0, -before), size - max(0, -after), dtype=np.int64)
        grow = (max(0, before), max(0, after))
        tables.append(np.pad(index, grow, constant_values=-1) if mode == "constant" else np.pad(index, grow, mode=mode))
    params = {"rank": x.ndim, "shape": [t.size for t in tables], "in_stride": steps(x), "out_stride": steps(out),
              "index": np.concatenate(tables), "value": 0.75}  # fmt: skip
    call(isa, "pad_f32", params, [x], out, out.size, cuts)
    return out


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: Any, isa: str, rng: np.random.Generator) -> None:
    cases: list[tuple[tuple[int, ...], list[tuple[int, int]]]] = [
        ((1, 5, 6, 17), [(0, 0), (1, 2), (2, 1), (0, 0)]), ((2, 3, 4, 5), [(1, 1), (0, 2), (2, 0), (3, 4)]),
        ((3, 33), [(2, 2), (40, 90)]), ((7,), [(30, 31)]), ((4, 1), [(2, 3), (5, 6)]), ((2, 2), [(0, 0), (21, 22)]),
    ]  # fmt: skip
    for shape, pads in cases:
        x = any_bits(rng, *shape)
        # By index, since np.pad on the values themselves would compute with them.
        kwargs = {"constant_values": x.size} if mode == "constant" else {}
        source = np.pad(np.arange(x.size).reshape(shape), pads, mode=mode, **kwargs)
        want = np.append(bits(x).reshape(-1), bits(np.float32([0.75])))[source]
        for view in (x, np.asfortranarray(x)):
            for cuts in ((), (1, 5, 29, 30, 77)):
                out = np.full((*want.shape[:-1], want.shape[-1] + 3), UNTOUCHED)
                pad(isa, view, pads, mode, out[..., :-3], cuts)
                assert np.array_equal(bits(out[..., :-3]), want)
                assert (out[..., -3:] == UNTOUCHED).all()
                wide = np.full((*want.shape[:-1], 2 * want.shape[-1]), UNTOUCHED)
                assert np.array_equal(bits(pad(isa, view, pads, mode, wide[..., ::2], cuts)), want)
                assert (wide[..., 1::2] == UNTOUCHED).all()


def test_pad_with_negative_pads_crops(isa: str, rng: np.random.Generator) -> None:
    x = any_bits(rng, 6, 40)
    out = np.full((7, 32), UNTOUCHED)
    pad(isa, x, [(2, -1), (-5, -3)], "constant", out, (3, 100))
    want = np.full((7, 32), np.float32(0.75))
    want[2:] = x[:5, 5:37]
    assert np.array_equal(bits(out), bits(want))
