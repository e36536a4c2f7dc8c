"""depthwise_f32 against the sum over its taps in float64."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass._native import run_kernel

GAP = 3  # elements between pixels and between rows that belong to nobody
UNTOUCHED = np.float32(-7777.0)


@dataclass(frozen=True)
class Depthwise:
    """A convolution of an image whose border is in memory, which is as large as the output needs."""

    out: tuple[int, int] = (3, 9)
    channels: int = 5
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    batch: int = 1
    activation: str | None = None
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def height(self) -> int:
        return (self.out[0] - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1

    @property
    def width(self) -> int:
        return (self.out[1] - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1


@dataclass(frozen=True)
class Data:
    x: NDArray[np.float32]
    w: NDArray[np.float32]
    bias: NDArray[np.float32] | None


def spaced(shape: tuple[int, ...], value: float) -> NDArray[np.float32]:
    """An array [N, H, W, C] with gaps of `value` between its pixels and between its rows."""
    n, h, w, c = shape
    whole = np.full((n, h, w * (c + GAP) + GAP), value, np.float32)
    return whole[:, :, : w * (c + GAP)].reshape(n, h, w, c + GAP)[..., :c]


def data(conv: Depthwise, rng: np.random.Generator, bias: bool = True) -> Data:
    """Random operands. What lies between the pixels is NaN, so a value from there shows in the result."""
    x = spaced((conv.batch, conv.height, conv.width, conv.channels), math.nan)
    x[...] = rng.standard_normal(x.shape)
    w = rng.standard_normal((*conv.kernel, conv.channels)).astype(np.float32)
    return Data(x, w, rng.standard_normal(conv.channels).astype(np.float32) if bias else None)


def params(conv: Depthwise, d: Data, y: NDArray[np.float32]) -> dict[str, Any]:
    step = [s // 4 for s in d.x.strides]
    out_step = [s // 4 for s in y.strides]
    return {
        "batch": conv.batch, "oh": conv.out[0], "ow": conv.out[1], "c": conv.channels,
        "kh": conv.kernel[0], "kw": conv.kernel[1],
        "in_batch": step[0], "in_row": step[1], "in_col": step[2],
        "stride_h": conv.strides[0], "stride_w": conv.strides[1],
        "dilation_h": conv.dilations[0], "dilation_w": conv.dilations[1],
        "out_batch": out_step[0], "out_row": out_step[1], "out_col": out_step[2],
        "weights": d.w, "bias": d.bias,
        "activation": conv.activation, "alpha": conv.alpha, "beta": conv.beta,
    }  # fmt: skip


def run(isa: str, conv: Depthwise, d: Data, cuts: tuple[int, ...] = (), dense: bool = False) -> NDArray[np.float32]:
    """The kernel's output, computed in one range or in ranges that end at `cuts`."""
    shape = (conv.batch, *conv.out, conv.channels)
    y = np.full(shape, UNTOUCHED) if dense else spaced(shape, UNTOUCHED)
    rows = conv.batch * conv.out[0]
    ends = [0, *(c for c in cuts if c < rows), rows]
    for begin, end in itertools.pairwise(ends):
        run_kernel(isa, "depthwise_f32", params(conv, d, y), [d.x], y, begin, end)
    if not dense:
        assert y.base is not None
        outside = np.ones(y.base.shape, bool)
        np.lib.stride_tricks.as_strided(outside, y.shape, [s // 4 for s in y.strides])[...] = False
        assert (y.base[outside] == UNTOUCHED).all(), "wrote outside the output"
    return y


def reference(conv: Depthwise, d: Data) -> NDArray[np.float64]:
    y = np.zeros((conv.batch, *conv.out, conv.channels))
    for ky in range(conv.kernel[0]):
        for kx in range(conv.kernel[1]):
            rows = ky * conv.dilations[0] + np.arange(conv.out[0]) * conv.strides[0]
            cols = kx * conv.dilations[1] + np.arange(conv.out[1]) * conv.strides[1]
            y += d.x[:, rows][:, :, cols].astype(np.float64) * d.w[ky, kx]
    return y if d.bias is None else y + d.bias


def check(isa: str, conv: Depthwise, d: Data) -> None:
    y = run(isa, conv, d)
    magnitude = reference(conv, Data(np.abs(d.x), np.abs(d.w), None if d.bias is None else np.abs(d.bias)))
    within = tolerance.dot(conv.kernel[0] * conv.kernel[1] + 1, float(magnitude.max()))
    np.testing.assert_allclose(y, reference(conv, d), **within)
    # The scalar ISA defines the bits, and a part of the rows has the bits that it has in the whole.
    assert y.tobytes() == run("scalar", conv, d).tobytes()
    assert y.tobytes() == run(isa, conv, d, cuts=(1, 2, 5)).tobytes()


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1), (2, 2), (3, 5), (7, 1)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1), (1, 3)])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_attributes(
    isa: str,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    conv = Depthwise((3, 9), 18, kernel, strides, dilations, batch=2)
    check(isa, conv, data(conv, rng))
    check(isa, conv, data(conv, rng, bias=False))


@pytest.mark.parametrize("width", [*range(1, 20), 21, 28])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_widths(isa: str, width: int, stride: int, size: int, rng: np.random.Generator) -> None:
    conv = Depthwise((2, width), 9, (size, size), (stride, stride))
    check(isa, conv, data(conv, rng))


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_channels(isa: str, channels: int, size: int, rng: np.random.Generator) -> None:
    conv = Depthwise((2, 9), channels, (size, size))
    check(isa, conv, data(conv, rng))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [1, 5, 7, 8, 10])
def test_unrolled_kernels_have_the_bits_of_the_general_one(
    isa: str, size: int, stride: int, width: int, rng: np.random.Generator
) -> None:
    conv = Depthwise((2, width), 19, (size, size), (stride, stride))
    d = data(conv, rng)
    # One more row of taps makes the kernel a rectangle. fma(x, 0, sum) is the sum.
    taller = replace(conv, kernel=(size + 1, size))
    e = data(taller, rng)
    e.x[:, : conv.height] = d.x
    padded = Data(e.x, np.concatenate([d.w, np.zeros_like(d.w[:1])]), d.bias)
    assert run(isa, conv, d).tobytes() == run(isa, taller, padded).tobytes()


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"),
    [
        ("relu", 0, 0),
        ("clip", -0.5, 0.75),
        ("clip", 0.5, -0.5),
        ("leaky_relu", 0.1, 0),
        ("hard_swish", 0, 0),
        ("tanh", 0, 0),
    ],
)
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)])
@pytest.mark.parametrize("width", [1, 6, 9, 15])
def test_activation_is_the_unary_kernel(
    isa: str,
    activation: str,
    alpha: float,
    beta: float,
    dense: bool,
    kernel: tuple[int, int],
    width: int,
    rng: np.random.Generator,
) -> None:
    conv = Depthwise((2, width), 21, kernel)
    d = data(conv, rng)
    d.x[0, 1, 0, 2] = math.nan
    linear = run(isa, conv, d, dense=True)
    expected = np.empty_like(linear)
    unary = {
        "rank": 1, "shape": [linear.size], "in_stride": [1], "out_stride": [1], "alpha": alpha, "beta": beta
    }  # fmt: skip
    run_kernel(isa, f"{activation}_f32", unary, [linear], expected, 0, linear.size)
    fused = replace(conv, activation=activation, alpha=alpha, beta=beta)
    y = run(isa, fused, d, dense=dense)
    assert np.isnan(y).any()
    assert y.tobytes() == expected.tobytes()
    assert y.tobytes() == run("scalar", fused, d).tobytes()


@pytest.mark.parametrize("activation", [None, "relu", "clip"])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)])
def test_nan_at_every_place(
    isa: str, activation: str | None, kernel: tuple[int, int], rng: np.random.Generator
) -> None:
    conv = Depthwise((2, 5), 3, kernel, activation=activation, alpha=-1.0, beta=1.0)
    d = data(conv, rng)
    for place in np.ndindex(d.x.shape):
        kept = d.x[place]
        d.x[place] = math.nan
        np.testing.assert_array_equal(np.isnan(run(isa, conv, d)), np.isnan(reference(conv, d)))
        d.x[place] = kept


@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)])
def test_infinities(isa: str, kernel: tuple[int, int], rng: np.random.Generator) -> None:
    conv = Depthwise((2, 9), 17, kernel)
    d = data(conv, rng)
    d.x[0, 1, 3] = math.inf
    d.x[0, 0, 7] = -math.inf
    y = run(isa, conv, d)
    with np.errstate(invalid="ignore"):
        expected = reference(conv, d)
    special = ~np.isfinite(expected)
    assert special.any()
    np.testing.assert_array_equal(np.isfinite(y), ~special)
    np.testing.assert_array_equal(y[special], expected[special])


def test_image_of_a_batch_equals_itself_alone(isa: str, rng: np.random.Generator) -> None:
    conv = Depthwise((4, 10), 20, batch=3)
    d = data(conv, rng)
    whole = run(isa, conv, d)
    for i in range(3):
        alone = run(isa, replace(conv, batch=1), Data(d.x[i : i + 1], d.w, d.bias))
        assert whole[i].tobytes() == alone.tobytes()


def test_first_tap_does_not_keep_the_sign_of_zero(isa: str) -> None:
    # fma(-0, 1, +0) is +0: the sum starts from zero and not from the first product.
    for kernel in [(1, 1), (3, 3)]:
        conv = Depthwise((1, 9), 3, kernel)
        x = np.full((1, conv.height, conv.width, 3), -0.0, np.float32)
        y = run(isa, conv, Data(x, np.ones((*kernel, 3), np.float32), None))
        assert y.tobytes() == np.zeros_like(y).tobytes()
