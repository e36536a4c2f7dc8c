"""The builder: every layer against plain NumPy in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain import Values, conv, erf, identity, pad_same, randomise, relu, run, sigmoid, softmax, windows

from forwardpass.builder import (
    Activation,
    AveragePool2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    Input,
    LeakyReLU,
    MaxPool2D,
    Multiply,
    Network,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    ZeroPadding2D,
)
from tolerance import EXACT, NETWORK_FLOAT64


@pytest.mark.parametrize("size", [(5, 6), (8, 7), (1, 9)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 3), (4, 1)])
@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (2, 4)])
@pytest.mark.parametrize("free", [False, True])
def test_same_padding(
    size: tuple[int, int],
    strides: tuple[int, int],
    taps: tuple[int, int],
    free: bool,
    rng: np.random.Generator,
) -> None:
    """Convolution and both poolings, with sizes known when the graph is made, and not."""
    x = Input((None, None, 2) if free else (*size, 2))
    ends = [
        Conv2D(3, taps, strides, "same")(x),
        MaxPool2D(taps, strides, "same")(x),
        AveragePool2D(taps, strides, "same")(x),
    ]
    net = Network(x, ends)
    w = randomise(net, rng)
    v = rng.standard_normal((2, *size, 2))
    found = run(net, v)
    expected = conv(v, w["conv2d/kernel"], w["conv2d/bias"], strides, "same")
    np.testing.assert_allclose(found[0], expected, **NETWORK_FLOAT64)
    largest = windows(pad_same(v, taps, strides, -np.inf), taps, strides).max((-1, -2))
    np.testing.assert_allclose(found[1], largest, **EXACT)
    mean = np.nanmean(windows(pad_same(v, taps, strides, np.nan), taps, strides), (-1, -2))
    np.testing.assert_allclose(found[2], mean, **NETWORK_FLOAT64)
    for t, y in zip(ends, found):
        assert all(d in (None, "N", n) for d, n in zip(t.shape, y.shape))
    assert free == any("auto_pad" in n.attributes for n in net.graph().nodes)


@pytest.mark.parametrize("step", [(1, 1), (2, 3)])
@pytest.mark.parametrize("strides", [1, 2])
def test_valid_padding_dilation_and_groups(step: tuple[int, int], strides: int, rng: np.random.Generator) -> None:
    x = Input((9, 11, 6))
    y = Conv2D(4, (3, 2), strides, dilation_rate=step, groups=2, activation="softmax")(x)
    z = DepthwiseConv2D((3, 2), strides, depth_multiplier=2, dilation_rate=step, activation="relu6")(x)
    net = Network(x, [y, z])
    w = randomise(net, rng)
    v = rng.standard_normal((2, 9, 11, 6))
    seen = windows(v, (3, 2), (strides, strides), step)
    halves = [
        np.einsum("nhwcij,ijco->nhwo", seen[:, :, :, 3 * g : 3 * g + 3], w["conv2d/kernel"][..., 2 * g : 2 * g + 2])
        for g in (0, 1)
    ]
    found = run(net, v)
    np.testing.assert_allclose(found[0], softmax(np.concatenate(halves, -1) + w["conv2d/bias"]), **NETWORK_FLOAT64)
    depth = np.einsum("nhwcij,ijcm->nhwcm", seen, w["depthwise_conv2d/depthwise_kernel"])
    depth = depth.reshape(*depth.shape[:3], 12) + w["depthwise_conv2d/bias"]
    np.testing.assert_allclose(found[1], np.clip(depth, 0, 6), **NETWORK_FLOAT64)
    assert found[0].shape[1:] == y.shape[1:]
    assert found[1].shape[1:] == z.shape[1:]


# ONNX has them rounded to float32.
SELU_ALPHA, SELU_GAMMA = float(np.float32(1.6732632423543772)), float(np.float32(1.0507009873554805))

KERAS: dict[str, Callable[[Values], Values]] = {
    "linear": identity,
    "relu": relu,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "selu": lambda x: SELU_GAMMA * np.where(x < 0, SELU_ALPHA * np.expm1(x), x),
    "celu": lambda x: np.where(x < 0, np.expm1(x), x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "exponential": np.exp,
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
}


def test_every_activation_has_a_test() -> None:
    from forwardpass.builder.core import ACTIVATIONS

    assert ACTIVATIONS.keys() == KERAS.keys()


@pytest.mark.parametrize("name", KERAS)
def test_activations(name: str) -> None:
    x = np.linspace(-8, 8, 35).reshape(5, 7)
    found = run(Sequential([Input((7,)), Activation(name)]), x)[0]
    np.testing.assert_allclose(found, KERAS[name](x), **NETWORK_FLOAT64)


def zero_pad(x: Values) -> Values:
    return np.pad(x, [(0, 0), (1, 2), (0, 3), (0, 0)])


LAYERS: dict[str, tuple[Any, Callable[[Values], Values]]] = {
    "relu": (ReLU(), relu),
    "relu max": (ReLU(max_value=1.5), lambda x: np.clip(x, 0, 1.5)),
    "relu slope": (ReLU(negative_slope=0.1), lambda x: np.where(x < 0, 0.1 * x, x)),
    "relu both": (ReLU(1.5, 0.1), lambda x: np.minimum(np.where(x < 0, 0.1 * x, x), 1.5)),
    "leaky relu": (LeakyReLU(), lambda x: np.where(x < 0, 0.3 * x, x)),
    "softmax": (Softmax(), softmax),
    "softmax of rows": (Softmax(1), lambda x: np.moveaxis(softmax(np.moveaxis(x, 1, -1)), -1, 1)),
    "dropout": (Dropout(0.5), identity),
    "flatten": (Flatten(), lambda x: x.reshape(len(x), 60)),
    "reshape": (Reshape((15, 4)), lambda x: x.reshape(len(x), 15, 4)),
    "reshape rest": (Reshape((2, -1, 3)), lambda x: x.reshape(len(x), 2, 10, 3)),
    "zero padding": (ZeroPadding2D(((1, 2), (0, 3))), zero_pad),
    "zero padding 1": (ZeroPadding2D(), lambda x: np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])),
    "global average": (GlobalAveragePool2D(), lambda x: x.mean((1, 2))),
    "global max": (GlobalMaxPool2D(), lambda x: x.max((1, 2))),
    "global average, kept": (GlobalAveragePool2D(keepdims=True), lambda x: x.mean((1, 2), keepdims=True)),
    "max pool": (MaxPool2D(), lambda x: windows(x, (2, 2), (2, 2)).max((-1, -2))),
    "average pool": (AveragePool2D(3, 1), lambda x: windows(x, (3, 3), (1, 1)).mean((-1, -2))),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_layers(name: str, batch: int, rng: np.random.Generator) -> None:
    layer, expected = LAYERS[name]
    x = Input((4, 5, 3))
    y = layer(x)
    v = rng.standard_normal((batch, 4, 5, 3)) * 2
    found = run(Network(x, y), v)[0]
    if batch:
        np.testing.assert_allclose(found, expected(v), **NETWORK_FLOAT64)
    assert found.shape == (batch, *y.shape[1:])


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (True, False), (False, False)])
def test_batch_normalization(shape: tuple[int, ...], center: bool, scale: bool, rng: np.random.Generator) -> None:
    net = Sequential([Input(shape), BatchNormalization(epsilon=0.01, center=center, scale=scale, name="b")])
    w = randomise(net, rng)
    assert list(w) == [f"b/{n}" for n in ["gamma"] * scale + ["beta"] * center + ["moving_mean", "moving_variance"]]
    x = rng.standard_normal((3, *shape))
    y = (x - w["b/moving_mean"]) / np.sqrt(w["b/moving_variance"] + 0.01)
    y = y * w.get("b/gamma", 1.0) + w.get("b/beta", 0.0)
    np.testing.assert_allclose(run(net, x)[0], y, **NETWORK_FLOAT64)


def test_batch_normalization_of_another_axis(rng: np.random.Generator) -> None:
    net = Sequential([Input((3, 4, 5)), BatchNormalization(axis=2)])
    w = {k.split("/")[1]: v.reshape(4, 1) for k, v in randomise(net, rng).items()}
    x = rng.standard_normal((2, 3, 4, 5))
    y = (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 0.001) * w["gamma"] + w["beta"]
    np.testing.assert_allclose(run(net, x)[0], y, **NETWORK_FLOAT64)


def test_dense_on_the_last_of_many_dimensions(rng: np.random.Generator) -> None:
    net = Sequential([Input((4, 6)), Dense(3, use_bias=False)])
    w = randomise(net, rng)
    x = rng.standard_normal((2, 4, 6))
    np.testing.assert_allclose(run(net, x)[0], x @ w["dense/kernel"], **NETWORK_FLOAT64)


def test_merging_broadcasts(rng: np.random.Generator) -> None:
    x, s = Input((4, 5, 3)), Input((1, 1, 3))
    net = Network([x, s], Multiply()([x, s]))
    a, b = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((2, 1, 1, 3))
    np.testing.assert_allclose(run(net, a, b)[0], a * b, **NETWORK_FLOAT64)
