"""Layers of Keras files against float64 arithmetic written out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")

from keras_files import (
    Array,
    call,
    close,
    draw,
    entry,
    functional,
    given,
    run,
    sequential,
    tensor,
    written,
)

from forwardpass.formats.keras.weights import place_names


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def conv1d(x: Array, kernel: Array, bias: Array) -> Array:
    steps = x.shape[1] - kernel.shape[0] + 1
    return np.stack([np.einsum("nkc,kcf->nf", x[:, t : t + kernel.shape[0]], kernel) for t in range(steps)], 1) + bias


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta


def lstm(x: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    n = recurrent.shape[0]
    h = c = np.zeros((len(x), n))
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def gru(x: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    """With reset_after where the bias has two rows."""
    h = np.zeros((len(x), recurrent.shape[0]))
    kz, kr, kh = np.split(kernel, 3, axis=1)
    rz, rr, rh = np.split(recurrent, 3, axis=1)
    after = bias.ndim == 2
    bz, br, bh = np.split(bias[0] if after else bias, 3)
    sz, sr, sh = np.split(bias[1] if after else np.zeros_like(bias), 3)
    for t in range(x.shape[1]):
        z = sigmoid(x[:, t] @ kz + h @ rz + bz + sz)
        r = sigmoid(x[:, t] @ kr + h @ rr + br + sr)
        new = np.tanh(x[:, t] @ kh + bh + (r * (h @ rh + sh) if after else (r * h) @ rh))
        h = z * h + (1 - z) * new
    return h


def rnn(x: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    h = np.zeros((len(x), recurrent.shape[0]))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias)
    return h


Case = tuple[str, dict[str, Any], list[Array], Array, Callable[..., Any]]
ONE: dict[str, Case] = {
    "dense": ("Dense", {"units": 3, "activation": "relu"}, [draw(4, 3), draw(3)], draw(2, 4),
              lambda x, k, b: np.maximum(x @ k + b, 0)),
    "dense without bias": ("Dense", {"units": 3, "use_bias": False}, [draw(4, 3)], draw(2, 5, 4),
                           lambda x, k: x @ k),
    "softmax": ("Dense", {"units": 3, "activation": "softmax"}, [draw(4, 3), draw(3)], draw(2, 4),
                lambda x, k, b: np.exp(x @ k + b) / np.exp(x @ k + b).sum(-1, keepdims=True)),
    "activation": ("Activation", {"activation": "hard_sigmoid"}, [], draw(2, 4), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "activation object": (
        "Activation", {"activation": {"module": "keras.activations", "class_name": "function", "config": "glu"}},
        [], draw(2, 4), lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    "relu": ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.25}, [], draw(2, 9),
             lambda x: np.where(x > 0.25, np.minimum(x, 1), 0.1 * (x - 0.25))),
    "leaky relu of Keras 2": ("LeakyReLU", {"alpha": 0.25}, [], draw(2, 9), lambda x: np.where(x > 0, x, 0.25 * x)),
    "prelu": ("PReLU", {"shared_axes": [1]}, [draw(1, 4)], draw(2, 3, 4), lambda x, a: np.where(x > 0, x, a * x)),
    "conv1d": ("Conv1D", {"filters": 3, "kernel_size": [2]}, [draw(2, 4, 3), draw(3)], draw(2, 5, 4), conv1d),
    "causal": ("Conv1D", {"filters": 3, "kernel_size": [2], "padding": "causal"}, [draw(2, 4, 3), draw(3)],
               draw(2, 5, 4), lambda x, k, b: conv1d(np.pad(x, ((0, 0), (1, 0), (0, 0))), k, b)),
    "conv1d channels first": (
        "Conv1D", {"filters": 3, "kernel_size": [2], "data_format": "channels_first"}, [draw(2, 4, 3), draw(3)],
        draw(2, 4, 5), lambda x, k, b: conv1d(x.transpose(0, 2, 1), k, b).transpose(0, 2, 1)),
    "conv2d of one pixel": ("Conv2D", {"filters": 3, "kernel_size": 1}, [draw(1, 1, 4, 3), draw(3)], draw(2, 5, 6, 4),
                            lambda x, k, b: x @ k[0, 0] + b),
    "depthwise of one pixel": ("DepthwiseConv2D", {"kernel_size": [1, 1]}, [draw(1, 1, 4, 1), draw(4)],
                               draw(2, 5, 6, 4), lambda x, k, b: x * k[0, 0, :, 0] + b),
    "separable of one pixel": (
        "SeparableConv2D", {"kernel_size": [1, 1], "filters": 3}, [draw(1, 1, 4, 1), draw(1, 1, 4, 3), draw(3)],
        draw(2, 5, 6, 4), lambda x, d, p, b: (x * d[0, 0, :, 0]) @ p[0, 0] + b),
    "transposed of one step": (
        "Conv1DTranspose", {"kernel_size": [2], "filters": 3, "strides": [2]}, [draw(2, 3, 4), draw(3)], draw(2, 5, 4),
        lambda x, k, b: np.einsum("ntc,kfc->ntkf", x, k).reshape(2, 10, 3) + b),
    "max pooling": ("MaxPooling1D", {"pool_size": [2], "strides": [2]}, [], draw(2, 6, 3),
                    lambda x: x.reshape(2, 3, 2, 3).max(2)),
    "average pooling": ("AveragePooling2D", {"pool_size": [2, 2], "strides": None}, [], draw(2, 4, 6, 3),
                        lambda x: x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))),
    "global pooling": ("GlobalMaxPooling2D", {"keepdims": True}, [], draw(2, 4, 6, 3),
                       lambda x: x.max((1, 2), keepdims=True)),
    "batch normalisation": (
        "BatchNormalization", {"axis": [2], "epsilon": 0.01}, [draw(3), draw(3), draw(3), np.abs(draw(3))],
        draw(2, 4, 3), lambda x, g, b, m, v: (x - m) / np.sqrt(v + 0.01) * g + b),
    "layer normalisation": ("LayerNormalization", {"axis": -1}, [draw(3), draw(3)], draw(2, 4, 3), layer_norm),
    "group normalisation": (
        "GroupNormalization", {"groups": 3}, [draw(3), draw(3)], draw(2, 4, 3),
        lambda x, g, b: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-3) * g + b),
    "unit normalisation": ("UnitNormalization", {"axis": [-1]}, [], draw(2, 4, 3),
                           lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True))),
    "normalisation": ("Normalization", {"axis": [-1]}, [draw(3), np.abs(draw(3)), np.int32(5)], draw(2, 4, 3),
                      lambda x, m, v, _: (x - m) / np.sqrt(v)),
    "rescaling": ("Rescaling", {"scale": 0.5, "offset": -1.0}, [], draw(2, 4), lambda x: x * 0.5 - 1),
    "dropout": ("Dropout", {"rate": 0.5}, [], draw(2, 4), lambda x: x),
    "flatten": ("Flatten", {}, [], draw(2, 4, 3), lambda x: x.reshape(2, 12)),
    "reshape": ("Reshape", {"target_shape": [3, -1]}, [], draw(2, 4, 3), lambda x: x.reshape(2, 3, 4)),
    "permute": ("Permute", {"dims": [2, 1]}, [], draw(2, 4, 3), lambda x: x.transpose(0, 2, 1)),
    "repeat": ("RepeatVector", {"n": 3}, [], draw(2, 4), lambda x: np.repeat(x[:, None], 3, 1)),
    "padding": ("ZeroPadding2D", {"padding": [[1, 0], [2, 1]]}, [], draw(2, 4, 5, 3),
                lambda x: np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)))),
    "cropping": ("Cropping1D", {"cropping": [1, 2]}, [], draw(2, 6, 3), lambda x: x[:, 1:-2]),
    "up sampling": ("UpSampling2D", {"size": [2, 3]}, [], draw(2, 4, 5, 3), lambda x: x.repeat(2, 1).repeat(3, 2)),
}  # fmt: skip


def snake(kind: str) -> str:
    return place_names([kind])[0]


@pytest.mark.parametrize("name", ONE)
def test_one_layer(name: str, tmp_path: Path) -> None:
    kind, config, weights, x, judge = ONE[name]
    model = sequential(given("x", *x.shape[1:]), entry(kind, "it", **config))
    (got,) = run(written(tmp_path, model, {snake(kind): weights} if weights else {}), x)
    close(got, judge(x.astype(np.float64), *(np.asarray(w, np.float64) for w in weights)))


RECURRENT: dict[str, tuple[str, dict[str, Any], list[Array], Callable[..., Array]]] = {
    "lstm": ("LSTM", {}, [draw(3, 8), draw(2, 8), draw(8)], lstm),
    "gru": ("GRU", {"reset_after": True}, [draw(3, 6), draw(2, 6), draw(2, 6)], gru),
    "gru of Keras 1": ("GRU", {}, [draw(3, 6), draw(2, 6), draw(6)], gru),
    "rnn": ("SimpleRNN", {}, [draw(3, 2), draw(2, 2), draw(2)], rnn),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str, tmp_path: Path) -> None:
    kind, config, weights, judge = RECURRENT[name]
    model = sequential(given("x", 5, 3), entry(kind, "it", units=2, **config))
    (got,) = run(written(tmp_path, model, {f"{snake(kind)}/cell": weights}), draw(2, 5, 3))
    close(got, judge(draw(2, 5, 3).astype(np.float64), *(w.astype(np.float64) for w in weights)))


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("known", [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
def test_masked_steps_count_for_nothing(name: str, known: list[int], tmp_path: Path) -> None:
    kind, config, weights, judge = RECURRENT[name]
    x = draw(2, 5, 3) * np.array(known, np.float32)[:, None]
    layers = [entry("Masking", "mask", mask_value=0.0), entry(kind, "it", units=2, **config)]
    (got,) = run(written(tmp_path, sequential(given("x", None, 3), *layers), {f"{snake(kind)}/cell": weights}), x)
    close(got, judge(x[:, np.array(known, bool)].astype(np.float64), *(w.astype(np.float64) for w in weights)))


def test_masked_outputs_repeat_what_was_before(tmp_path: Path) -> None:
    weights = RECURRENT["lstm"][2]
    tokens = np.array([[0, 3, 0, 4, 0]], np.int32)
    table = draw(5, 3)
    for zeros in (False, True):
        layers = [
            entry("Embedding", "table", input_dim=5, output_dim=3, mask_zero=True),
            entry("LSTM", "it", units=2, return_sequences=True, zero_output_for_mask=zeros),
        ]
        model = sequential(given("x", 5, dtype="int32"), *layers)
        (got,) = run(written(tmp_path, model, {"embedding": [table], "lstm/cell": weights}), tokens)
        wide = [w.astype(np.float64) for w in weights]
        first = lstm(table[None, [3]].astype(np.float64), *wide)
        second = lstm(table[None, [3, 4]].astype(np.float64), *wide)
        none = np.zeros_like(first)
        close(got[:, 0], none)
        close(got[:, 1], first)
        close(got[:, 2], none if zeros else first)
        close(got[:, 3], second)
        close(got[:, 4], none if zeros else second)


def test_both_directions(tmp_path: Path) -> None:
    weights, more = RECURRENT["lstm"][2], [w * np.float32(0.5) for w in RECURRENT["lstm"][2]]
    inner = entry("LSTM", "inner", units=2)
    model = sequential(given("x", 5, 3), entry("Bidirectional", "it", layer=inner, merge_mode="concat"))
    stored = {"bidirectional/forward_layer/cell": weights, "bidirectional/backward_layer/cell": more}
    (got,) = run(written(tmp_path, model, stored), draw(2, 5, 3))
    x = draw(2, 5, 3).astype(np.float64)
    one, two = ([w.astype(np.float64) for w in ws] for ws in (weights, more))
    close(got, np.concatenate([lstm(x, *one), lstm(x[:, ::-1], *two)], axis=1))


def test_heads(tmp_path: Path) -> None:
    """Two heads of size 3 over a time of 4, with and without a look at the future."""
    heads, size, width = 2, 3, 5
    names = ["query_dense", "key_dense", "value_dense", "output_dense"]
    kernels = [draw(width, heads, size) * np.float32(k + 1) for k in range(3)] + [draw(heads, size, width)]
    biases = [draw(heads, size)] * 3 + [draw(width)]
    stored = {f"multi_head_attention/{n}": [k, b] for n, k, b in zip(names, kernels, biases)}
    for causal in (False, True):
        made = entry(
            "MultiHeadAttention",
            "it",
            [call(tensor("x"), tensor("x"), use_causal_mask=causal)],
            num_heads=heads,
            key_dim=size,
        )
        model = functional([given("x", 4, width), made], [["x", 0, 0]], [["it", 0, 0]])
        (got,) = run(written(tmp_path, model, stored), draw(2, 4, width))
        x = draw(2, 4, width).astype(np.float64)
        q, k, v = (np.einsum("nte,ehd->nhtd", x, w) + b[:, None] for w, b in zip(kernels[:3], biases))
        scores = np.einsum("nhtd,nhsd->nhts", q, k) / np.sqrt(size)
        scores = np.where(np.tri(4, dtype=bool), scores, -np.inf) if causal else scores
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        want = np.einsum("nhts,nhsd,hde->nte", weights, v, kernels[3]) + biases[3]
        close(got, want)


def test_time_distributed(tmp_path: Path) -> None:
    inner = entry("Dense", "inner", units=2, activation="linear")
    model = sequential(given("x", None, 3, 4), entry("TimeDistributed", "it", layer=inner))
    (got,) = run(written(tmp_path, model, {"time_distributed/layer": [draw(4, 2), draw(2)]}), draw(2, 5, 3, 4))
    close(got, draw(2, 5, 3, 4).astype(np.float64) @ draw(4, 2) + draw(2))


MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "Add": lambda x, y: x + y,
    "Subtract": lambda x, y: x - y,
    "Multiply": lambda x, y: x * y,
    "Average": lambda x, y: (x + y) / 2,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Concatenate": lambda x, y: np.concatenate([x, y], -1),
}


@pytest.mark.parametrize("kind", MERGES)
def test_merging(kind: str, tmp_path: Path) -> None:
    made = entry(kind, "it", [call([tensor("y"), tensor("x")])], **({"axis": -1} if kind == "Concatenate" else {}))
    model = functional([given("x", 3, 4), given("y", 3, 4), made], [["x", 0, 0], ["y", 0, 0]], [["it", 0, 0]])
    x, y = draw(2, 3, 4), draw(3, 3, 4)[:2]
    (got,) = run(written(tmp_path, model, {}), x, y)
    close(got, MERGES[kind](y.astype(np.float64), x.astype(np.float64)))


def test_operations(tmp_path: Path) -> None:
    """`x[:, 1:] * 2 + 1`, as Keras writes functions between layers."""
    ops = "keras.src.ops.numpy"
    none = {"start": None, "stop": None, "step": None}
    index = [{"class_name": "__slice__", "config": c} for c in (none, {**none, "start": 1})]
    layers = [
        given("x", 3),
        entry("GetItem", "cut", [call(tensor("x"), index)], ops),
        entry("Multiply", "twice", [call(tensor("cut"), 2)], ops),
        entry("Add", "more", [call(tensor("twice"), x2=1.0)], ops),
    ]
    model = functional(layers, ["x", 0, 0], ["more", 0, 0])
    (got,) = run(written(tmp_path, model, {}), draw(2, 3))
    close(got, draw(2, 3)[:, 1:].astype(np.float64) * 2 + 1)
