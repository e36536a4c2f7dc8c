"""The kernel that normalises rows, and LRN: any length, layout of scales, range and ISA, against NumPy in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from planned import run as run_graph

from forwardpass._native import run_kernel
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import lanes, native

UNTOUCHED = np.float32(-7777.0)
LENGTHS = [*range(1, 36), 47, 63, 64, 65, 79, 80, 81, 127, 128, 129, 200, 768, 1000, 4099]
Floats = NDArray[np.float32]
USUAL: dict[str, Any] = {
    "blocks": 1, "centred": 1, "norm": 0, "epsilon": 1e-5,
    "groups": 1, "group_stride": 0, "block_stride": 0, "inner_stride": 0,
    "image": 0, "made_batch": 0, "made_block": 0,
}  # fmt: skip


def run(
    isa: str,
    x: Floats,
    scale: Floats | None = None,
    shift: Floats | None = None,
    kernel: str = "normalize_f32",
    cuts: tuple[int, ...] = (),
    **fields: Any,
) -> Floats:
    """The rows of x [rows, length], in one range or in ranges that end at `cuts`; nothing around them is written."""
    params = {**USUAL, "inner": x.shape[1], **fields}
    shape = x.shape if kernel == "normalize_f32" else x.shape[:1]
    size = int(np.prod(shape))
    memory = np.full(size + 32, UNTOUCHED)
    y = memory[16 : 16 + size].reshape(shape)
    ends = [0, *(c for c in cuts if c < len(x)), len(x)]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, kernel, params, [x, scale, shift], y, begin, end)
    assert (memory[:16] == UNTOUCHED).all()
    assert (memory[16 + size :] == UNTOUCHED).all()
    return y


def expected(x: Floats, norm: int, centred: bool, epsilon: float) -> NDArray[np.float64]:
    """The normalised rows in float64."""
    wide = x.astype(np.float64)
    d = wide - wide.mean(1, keepdims=True) if centred else wide
    square = np.square(d)
    size = [
        np.sqrt(square.mean(1, keepdims=True) + epsilon), np.sqrt(square.mean(1, keepdims=True)) + epsilon,
        np.sqrt(square.sum(1, keepdims=True)), np.abs(d).sum(1, keepdims=True),
    ][norm]  # fmt: skip
    with np.errstate(all="ignore"):
        return np.asarray(np.where((size == 0) & (norm > 1), 0.0, d / size))


@pytest.mark.parametrize("norm", range(4))
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(isa: str, length: int, norm: int, rng: np.random.Generator) -> None:
    # Neighbours differ: what is left of two near values beside their mean is mostly rounding, here as anywhere.
    x = (np.arange(length) % 7 + 0.3 * rng.uniform(-1, 1, (5, length))).astype(np.float32)
    scale, shift = rng.standard_normal((2, length)).astype(np.float32)
    fields = {"norm": norm, "centred": int(norm < 2), "epsilon": 1e-3}
    plain = expected(x, norm, norm < 2, 1e-3)
    wants = (
        ((None, None), 0, plain),
        ((scale, None), 1, plain * scale.astype(np.float64)),
        ((scale, shift), 1, plain * scale.astype(np.float64) + shift),
        ((scale[:1], shift[:1]), 0, plain * scale[0].astype(np.float64) + shift[0]),
    )
    for (a, b), inner_stride, want in wants:
        y = run(isa, x, a, b, inner_stride=inner_stride, **fields)
        np.testing.assert_allclose(y, want, **native(want))
        assert y.tobytes() == run("scalar", x, a, b, inner_stride=inner_stride, **fields).tobytes()
        assert y.tobytes() == run(isa, x, a, b, cuts=(1, 3, 4), inner_stride=inner_stride, **fields).tobytes()
        alone = run(isa, x[2:3], a, b, inner_stride=inner_stride, **fields)
        assert y[2:3].tobytes() == alone.tobytes(), "the row alone"


@pytest.mark.parametrize("inner", [1, 3, 16, 17, 50])
def test_blocks_and_groups(isa: str, inner: int, rng: np.random.Generator) -> None:
    """Rows of 4 blocks, of 3 groups: a scale per block of a group, or per element of it."""
    x = rng.standard_normal((6, 4 * inner)).astype(np.float32)
    plain = expected(x, 0, True, 1e-5).reshape(2, 3, 4, inner)
    scale, shift = rng.standard_normal((2, 3, 4, inner)).astype(np.float32)
    layout = {"blocks": 4, "inner": inner, "groups": 3}
    y = run(isa, x, scale, shift, group_stride=4 * inner, block_stride=inner, inner_stride=1, **layout)
    want = plain * scale + shift
    np.testing.assert_allclose(y.reshape(want.shape), want, **native(want))
    y = run(isa, x, scale.ravel(), shift.ravel(), group_stride=4, block_stride=1, **layout)
    a, b = (v.ravel()[:12].reshape(3, 4, 1) for v in (scale, shift))
    want = plain * a + b
    np.testing.assert_allclose(y.reshape(want.shape), want, **native(want))


def test_a_large_mean_does_not_swamp_the_deviation(isa: str, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((3, 1000)) + 4096).astype(np.float32)
    want = expected(x, 0, True, 1e-5)
    np.testing.assert_allclose(run(isa, x), want, **lanes(1000, 4096.0))


def test_special_rows(isa: str) -> None:
    x = np.ones((4, 70), np.float32)
    x[1, 5], x[2, 69], x[3] = np.nan, np.inf, 0
    y = run(isa, x)
    assert (y[0] == 0).all()
    assert np.isnan(y[1:3]).all()
    assert (y[3] == 0).all()
    for norm in (2, 3):
        y = run(isa, x, norm=norm, centred=0)
        assert (y[3] == 0).all()
        assert np.isnan(y[1]).all()


@pytest.mark.parametrize("cuts", [(), (1, 20, 21)])
def test_an_operand_beside_the_result(isa: str, cuts: tuple[int, ...], rng: np.random.Generator) -> None:
    """What a step that splits the result makes of it, images and numbers that round to none included."""
    batch, rows, n = 2, 19, 96
    x = rng.standard_normal((batch * rows, n), dtype=np.float32)
    x[3, 5] = np.inf
    x[30, 9] = np.uint32(0x7FFFFFFF).view(np.float32)
    scale = np.ones(n, np.float32)
    scale[40] = 3.4e38
    fields = {
        **USUAL,
        "inner": n,
        "inner_stride": 1,
        "image": rows,
        "made_batch": 3 * rows * 16,
        "made_block": rows * 16,
    }
    y, words = np.zeros_like(x), np.zeros((batch, 3, rows, 16), np.uint32)
    for begin, end in itertools.pairwise([0, *cuts, len(x)]):
        run_kernel(isa, "normalize_f32", fields, [x, scale, None, words], y, begin, end)
    assert y.tobytes() == run(isa, x, scale, inner_stride=1).tobytes()
    split = {
        "terms": 1, "batch": batch, "h": 1, "w": rows, "c": n, "in_batch": rows * n, "in_row": rows * n, "in_col": n,
        "pad_top": 0, "pad_left": 0, "pad_bottom": 0, "pad_right": 0, "border_only": 0, "factor_batch": 0,
        "activation": None, "alpha": 0.0, "beta": 0.0, "in_channel": 0, "pixels": 0,
    }  # fmt: skip
    want = np.zeros_like(words)
    run_kernel(isa, "split_f32", split, [y], want, 0, batch)
    assert np.array_equal(words, want)


def test_inverse_deviation(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 45)).astype(np.float32)
    y = run(isa, x, kernel="inverse_deviation_f32", cuts=(2, 5))
    want = 1 / np.sqrt(x.astype(np.float64).var(1) + 1e-5)
    np.testing.assert_allclose(y, want, **native(want))
    assert np.isnan(run(isa, np.ones((2, 0), np.float32), kernel="inverse_deviation_f32")).all()


def test_in_place_after_its_input_was_made_by_a_step(isa: str, rng: np.random.Generator) -> None:
    """The normalisation may overwrite its input, and its mean, of the same shape, may not."""
    nodes = [
        Node("Neg", ["x"], ["n"]),
        Node("LayerNormalization", ["n", "s", "b"], ["y", "m", "i"]),
        Node("Add", ["m", "i"], ["z"]),
        Node("Relu", ["y"], ["r"]),
    ]
    for length in (1, 40):
        constants = {k: rng.standard_normal(length).astype(np.float32) for k in ("s", "b")}
        graph = Graph({"x": TensorType(np.dtype(np.float32), (3, length))}, ["r", "z"], nodes, constants)
        x = rng.standard_normal((3, length)).astype(np.float32)
        want = evaluate(graph, {"x": x}, dtype=np.float64)
        for name, got in run_graph(graph, {"x": x}, isa).items():
            np.testing.assert_allclose(got, want[name], **native(want[name]))


def _lrn(isa: str, x: Floats, size: int, cuts: tuple[int, ...] = ()) -> Floats:
    """x [batch, channels, inner] with alpha = size / 2, beta = 0.75 and bias = 2."""
    y = np.full(x.shape, UNTOUCHED)
    params = {"channels": x.shape[1], "inner": x.shape[2], "before": (size - 1) // 2, "after": size // 2,
              "alpha": 0.5, "beta": 0.75, "bias": 2.0}  # fmt: skip
    units = x.shape[0] * x.shape[2]
    for begin, end in itertools.pairwise([0, *(c for c in cuts if c < units), units]):
        run_kernel(isa, "lrn_f32", params, [x], y, begin, end)
    return y


@pytest.mark.parametrize("inner", [1, 3, 8, 16, 17, 33, 255, 256, 257, 300])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_lrn(isa: str, inner: int, size: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 9, inner)).astype(np.float32)
    square = np.square(x.astype(np.float64))
    total = np.stack(
        [square[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1) for c in range(x.shape[1])], axis=1
    )
    want = x / (2 + 0.5 * total) ** 0.75
    y = _lrn(isa, x, size)
    np.testing.assert_allclose(y, want, **native(want))
    assert y.tobytes() == _lrn("scalar", x, size).tobytes()
    assert y.tobytes() == _lrn(isa, x, size, cuts=(1, 5, 64, 300)).tobytes()
