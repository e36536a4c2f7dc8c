"""The builder: networks, their names, weights, text and graphs, and their results against plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import Values, cifar, conv, identity, randomise, relu, run, sigmoid, softmax, windows

from forwardpass.builder import (
    Activation,
    Add,
    AveragePool2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool2D,
    Input,
    LeakyReLU,
    MaxPool2D,
    Multiply,
    Network,
    ReLU,
    Sequential,
)
from forwardpass.errors import Error, InputError
from forwardpass.formats import npz
from forwardpass.ops.evaluate import evaluate
from tolerance import EXACT, NETWORK_FLOAT64


def mlp(
    x: Values, w: dict[str, Values], last: Callable[[Values], Values], hidden: Callable[[Values], Values]
) -> Values:
    kernels = [k for k in w if k.endswith("kernel")]
    for k in kernels:
        x = x @ w[k] + w[k.replace("kernel", "bias")]
        x = last(x) if k == kernels[-1] else hidden(x)
    return x


TUTORIALS: dict[str, tuple[list[int], str | None, str | None]] = {
    "linear regression": ([8, 1], None, None),
    "8-5-1": ([8, 5, 1], "sigmoid", "sigmoid"),
    "100-10-20-1": ([100, 10, 20, 1], "relu", "sigmoid"),
    "13-64-32-1": ([13, 64, 32, 1], "relu", None),
}
FUNCTIONS: dict[str | None, Callable[[Values], Values]] = {None: identity, "relu": relu, "sigmoid": sigmoid}


@pytest.mark.parametrize("name", TUTORIALS)
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_tutorial_mlps(name: str, batch: int, rng: np.random.Generator) -> None:
    sizes, hidden, last = TUTORIALS[name]
    activations = [hidden] * (len(sizes) - 2) + [last]
    layers = [Dense(n, a) for n, a in zip(sizes[1:], activations)]
    net = Sequential([Input((sizes[0],)), *layers])
    w = randomise(net, rng)
    x = rng.standard_normal((batch, sizes[0]))
    (y,) = run(net, x)
    assert y.shape == (batch, sizes[-1])
    np.testing.assert_allclose(y, mlp(x, w, FUNCTIONS[last], FUNCTIONS[hidden]), **NETWORK_FLOAT64)
    operators = [n.op for n in net.graph().nodes]
    assert operators.count("Gemm") == len(layers)


def test_cifar_cnn(rng: np.random.Generator) -> None:
    net = cifar()
    w = randomise(net, rng)
    x = rng.standard_normal((2, 32, 32, 3))
    h = relu(conv(x, w["conv2d/kernel"], w["conv2d/bias"]))
    h = windows(h, (2, 2), (2, 2)).max((-1, -2))
    h = relu(conv(h, w["conv2d_1/kernel"], w["conv2d_1/bias"]))
    h = windows(h, (2, 2), (2, 2)).max((-1, -2)).reshape(2, -1)
    expected = softmax(h @ w["dense/kernel"] + w["dense/bias"])
    np.testing.assert_allclose(run(net, x)[0], expected, **NETWORK_FLOAT64)


def test_cifar_cnn_structure() -> None:
    net = cifar().init(0)
    graph = net.graph()
    assert [n.op for n in graph.nodes if n.op != "Transpose"] == [
        *("Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Softmax"),
    ]
    perms = [n.attributes["perm"] for n in graph.nodes if n.op == "Transpose"]
    assert perms == [[0, 3, 1, 2], *[[0, 2, 3, 1]] * 4], "one in, and one out for the name of every layer"
    pruned = graph.copy()
    pruned.prune()
    assert [n.op for n in pruned.nodes].count("Transpose") == 2, "image layers read each other without any"
    assert str(graph.inputs["input_layer"]) == "float32[N, 32, 32, 3]"
    assert graph.constants["conv2d/kernel"].shape == (32, 3, 3, 3)
    assert graph.constants["conv2d/kernel"].flags.c_contiguous
    assert graph.outputs == ["dense"]
    assert graph.name == "sequential"
    assert set(net.layers) < set(graph.inputs) | set(graph.producers()), "a layer's output has the layer's name"
    assert net.weights == {
        "conv2d/kernel": (3, 3, 3, 32),
        "conv2d/bias": (32,),
        "conv2d_1/kernel": (3, 3, 32, 64),
        "conv2d_1/bias": (64,),
        "dense/kernel": (2304, 10),
        "dense/bias": (10,),
    }


def test_image_layers_read_past_each_others_transposes(rng: np.random.Generator) -> None:
    """Through a batch normalisation and a branch; the layers between two still have outputs of their names."""
    x = Input((6, 5, 3))
    y = BatchNormalization(name="norm")(Conv2D(4, 3, padding="same", name="conv")(x))
    z = Add(name="sum")([MaxPool2D(1, name="pool")(y), y])
    net = Network(x, GlobalAveragePool2D(name="mean")(z))
    w = randomise(net, rng)
    graph = net.graph()
    made = graph.producers()
    assert [made[k].op for k in ("conv", "norm", "pool")] == ["Transpose"] * 3
    assert made["norm/batchnormalization"].inputs[0] == made["conv/conv"].outputs[0]
    assert made["pool/maxpool"].inputs[0] == "norm/batchnormalization"
    assert "sum" in made["mean/transpose"].inputs, "what is no image operator is channels-last"
    image = rng.standard_normal((2, 6, 5, 3))
    h = conv(image, w["conv/kernel"], w["conv/bias"], padding="same")
    scale = w["norm/gamma"] / np.sqrt(w["norm/moving_variance"] + 1e-3)
    h = (h - w["norm/moving_mean"]) * scale + w["norm/beta"]
    np.testing.assert_allclose(run(net, image)[0], (2 * h).mean((1, 2)), **NETWORK_FLOAT64)


def test_functional_with_branches_and_several_ends(rng: np.random.Generator) -> None:
    a, b = Input((6,), name="left"), Input((4,), name="right")
    h = Dense(4, "tanh", name="h")(a)
    s = Add()([h, b, h])
    m = Multiply()([s, b])
    y = Dense(3)(Concatenate()([m, a]))
    net = Network([a, b], [y, s], name="two")
    w = randomise(net, rng)
    xa, xb = rng.standard_normal((5, 6)), rng.standard_normal((5, 4))
    hidden = np.tanh(xa @ w["h/kernel"] + w["h/bias"])
    total = hidden + xb + hidden
    expected = np.concatenate([total * xb, xa], 1) @ w["dense/kernel"] + w["dense/bias"]
    found = run(net, xa, xb)
    np.testing.assert_allclose(found[0], expected, **NETWORK_FLOAT64)
    np.testing.assert_allclose(found[1], total, **NETWORK_FLOAT64)
    assert net.graph().outputs == ["dense", "add"]
    assert list(net.graph().inputs) == ["left", "right"]


def test_residual_block(rng: np.random.Generator) -> None:
    x = Input((6, 5, 8))
    h = Conv2D(8, 3, padding="same", use_bias=False)(x)
    h = BatchNormalization()(h)
    h = ReLU()(h)
    y = GlobalAveragePool2D()(Add()([h, x]))
    net = Network(x, y)
    w = randomise(net, rng)
    v = rng.standard_normal((3, 6, 5, 8))
    c = conv(v, w["conv2d/kernel"], np.zeros(8), padding="same")
    bn = {k.split("/")[1]: a for k, a in w.items() if k.startswith("batch")}
    c = (c - bn["moving_mean"]) / np.sqrt(bn["moving_variance"] + 1e-3) * bn["gamma"] + bn["beta"]
    np.testing.assert_allclose(run(net, v)[0], (relu(c) + v).mean((1, 2)), **NETWORK_FLOAT64)


def test_a_shared_layer_has_one_set_of_weights(rng: np.random.Generator) -> None:
    x = Input((4,))
    shared = Dense(4)
    net = Network(x, shared(shared(x)))
    w = randomise(net, rng)
    assert list(w) == ["dense/kernel", "dense/bias"]
    v = rng.standard_normal((2, 4))
    once = v @ w["dense/kernel"] + w["dense/bias"]
    np.testing.assert_allclose(run(net, v)[0], once @ w["dense/kernel"] + w["dense/bias"], **NETWORK_FLOAT64)
    assert len(net.graph().constants) == 2


def test_a_very_deep_network() -> None:
    x = y = Input((2,))
    for _ in range(1200):
        y = Activation("linear")(y)
    assert len(Network(x, y).layers) == 1201


def test_names_are_those_of_keras() -> None:
    x = Input((8, 8, 4))
    h = Conv2D(4, 3)(x)
    h = Conv2D(4, 3, name="mine")(h)
    h = Conv2D(4, 1)(h)
    h = BatchNormalization()(h)
    h = LeakyReLU()(h)
    h = AveragePool2D()(h)
    h = Dense(2)(Flatten()(h))
    h = Dense(2)(h)
    net = Network(x, h)
    assert list(net.layers) == [
        *("input_layer", "conv2d", "mine", "conv2d_1", "batch_normalization", "leaky_re_lu"),
        *("average_pooling2d", "flatten", "dense", "dense_1"),
    ]
    late, early = Dense(2), Dense(2)
    assert list(Network(x, early(late(h))).layers)[-2:] == ["dense_2", "dense_3"], "numbered as they are created"
    again = Sequential([Input((3,)), Dense(2)])
    assert list(again.layers) == ["input_layer", "dense"], "the names of a network do not depend on others"


def test_weights_from_a_bare_file(tmp_path: Path, rng: np.random.Generator) -> None:
    net = cifar()
    arrays = {k: rng.standard_normal(s).astype(np.float32) for k, s in net.weights.items()}
    np.savez(tmp_path / "w.npz", **arrays)  # type: ignore[arg-type]
    for source in (tmp_path / "w.npz", str(tmp_path / "w.npz"), arrays, list(arrays.values())):
        found = cifar().set_weights(source).get_weights()
        assert all(np.array_equal(found[k], v) for k, v in arrays.items())


def test_given_weights_are_copied_and_converted() -> None:
    net = Sequential([Input((2,)), Dense(2)])
    kernel = np.arange(4, dtype=">f8").reshape(2, 2).T
    net.set_weights({"dense/kernel": kernel, "dense/bias": [1, 2]})
    expected = kernel.astype(np.float32)
    kernel[:] = 9
    found = net.get_weights()
    assert np.array_equal(found["dense/kernel"], expected)
    assert {(a.dtype, a.flags.c_contiguous) for a in found.values()} == {(np.dtype(np.float32), True)}


def test_all_that_is_wrong_with_weights_is_said_at_once() -> None:
    net = Sequential([Input((8,)), Dense(5), Dense(1)])
    given = {
        "dense/kernal": np.zeros((8, 5)),
        "dense/bias": np.zeros(5),
        "dense_1/kernel": np.zeros((1, 5)),
        "dense_1/bias": np.array(["a"]),
        "other": np.zeros(3),
    }
    with pytest.raises(InputError) as e:
        net.set_weights(given)
    assert str(e.value) == (
        "network 'sequential': the weights do not fit the network (1 missing, 2 not known, 2 of another "
        "shape or kind): expected 'dense/kernel' (8, 5), 'dense_1/kernel' (5, 1), 'dense_1/bias' (1,), got "
        "'dense/kernal' (8, 5), 'other' (3,), 'dense_1/kernel' (1, 5), 'dense_1/bias' that is no array of "
        "numbers ('dense/kernal' may be 'dense/kernel', 'dense_1/kernel' may be transposed)"
    )
    with pytest.raises(InputError, match="no weights yet"):
        net.get_weights()


@pytest.mark.parametrize(
    ("change", "expected", "got"),
    [
        (lambda w: w.pop("dense/bias"), "'dense/bias' (3,)", "none of these"),
        (lambda w: w.update(extra=np.zeros(1)), "no others", "'extra' (1,)"),
        (lambda w: w.update({"dense/bias": np.zeros((1, 3))}), "'dense/bias' (3,)", "'dense/bias' (1, 3)"),
        (
            lambda w: w.update({"dense/bias": [[1, 2], [3]]}),
            "'dense/bias' (3,)",
            "'dense/bias' that is no array",
        ),
    ],
)
def test_one_wrong_weight(change: Any, expected: str, got: str) -> None:
    weights: dict[str, Any] = {"dense/kernel": np.zeros((2, 3)), "dense/bias": np.zeros(3)}
    change(weights)
    with pytest.raises(InputError) as e:
        Sequential([Input((2,)), Dense(3)]).set_weights(weights)
    assert e.value.expected == expected
    assert e.value.got.startswith(got)


def test_wrong_sources_of_weights(tmp_path: Path) -> None:
    net = Sequential([Input((2,)), Dense(3)])
    with pytest.raises(InputError, match=r"expected 2, got 1 \(their order is dense/kernel, dense/bias\)"):
        net.set_weights([np.zeros((2, 3))])
    with pytest.raises(InputError, match="expected a mapping, a list or a path, got int"):
        net.set_weights(3)  # type: ignore[arg-type]
    with pytest.raises(Error, match=r"nothing\.npz"):
        net.set_weights(tmp_path / "nothing.npz")
    np.savez(tmp_path / "w.npz", a=np.zeros(1))
    with pytest.raises(InputError, match=r"w\.npz: the weights do not fit"):
        net.set_weights(tmp_path / "w.npz")


def test_random_weights() -> None:
    one, same, other = (cifar().init(s).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(v, same[k]) for k, v in one.items())
    assert not np.array_equal(one["dense/kernel"], other["dense/kernel"])
    limit = math.sqrt(6 / (3 * 3 * 3 + 3 * 3 * 32))
    drawn = np.abs(one["conv2d/kernel"])
    assert 0.95 * limit < drawn.max() <= limit
    assert not one["conv2d/bias"].any()


def test_the_graph_survives_a_file(tmp_path: Path, rng: np.random.Generator) -> None:
    net = cifar().init(3)
    npz.write(net.graph(), tmp_path / "m.npz")
    x = rng.standard_normal((1, 32, 32, 3)).astype(np.float32)
    found = evaluate(npz.read(tmp_path / "m.npz"), {"input_layer": x})
    np.testing.assert_allclose(found["dense"], evaluate(net.graph(), {"input_layer": x})["dense"], **EXACT)


def test_summary() -> None:
    assert Sequential([Input((8,)), Dense(5, "sigmoid"), Dense(1)]).summary() == (
        "network 'sequential'\n"
        "Layer                     Output shape  Weights\n"
        "-----------------------------------------------\n"
        "input_layer (InputLayer)  (N, 8)              0\n"
        "dense (Dense)             (N, 5)             45\n"
        "dense_1 (Dense)           (N, 1)              6\n"
        "-----------------------------------------------\n"
        "51 weights, 204 bytes"
    )
    x = Input((3,), batch_size=4)
    net = Network(x, Add()([Dense(3)(x), x]))
    assert "add (Add)                 (4, 3)              0  dense, input_layer" in repr(net)
    assert repr(Sequential()) == "network 'sequential'\nLayer  Output shape  Weights\n" + ("-" * 28 + "\n") * 2 + (
        "0 weights, 0 bytes"
    )
    assert repr(Conv2D(3, 5, padding="same", name="c")) == "Conv2D(3, 5, name='c', padding='same')"


def test_sequential_grows() -> None:
    net = Sequential()
    net.add(Dense(5, input_shape=(8,)))
    net.init(0).graph()
    net.add(Dense(1))
    assert list(net.weights) == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
    with pytest.raises(InputError, match="no weights yet"):
        net.graph()
    net.init(0).graph()


def test_an_input_that_is_an_output() -> None:
    x = Input((3,))
    net = Network(x, [x, Activation("linear")(x)])
    v = np.arange(6.0).reshape(2, 3)
    assert all(np.array_equal(y, v) for y in run(net, v))


def test_a_fixed_batch() -> None:
    net = Sequential([Input((3,), 4), Dense(2)]).init(0)
    assert str(net.graph().inputs["input_layer"]) == "float32[4, 3]"
