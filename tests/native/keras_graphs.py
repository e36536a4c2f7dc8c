"""Random Keras networks whose layers are more than a chain. Needs Keras, as keras_layers.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812 - which the networks are full of
from keras_layers import BOOLS, SMALL, Draw, cell

Network = tuple[Any, list[np.ndarray[Any, Any]]]
"""A model, and an array for each of its inputs."""


GRAPHS: dict[str, Callable[[Draw], Network]] = {}
"""Name -> what makes a whole network."""


def graph(function: Callable[[Draw], Network]) -> None:
    GRAPHS[function.__name__] = function


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@graph
def merging(draw: Draw) -> Network:
    x, y = keras.Input((3, 4), name="x"), keras.Input(draw(st.sampled_from([(3, 4), (1, 4), (4,)])), name="y")
    kind = draw(st.sampled_from([L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum]))
    return keras.Model([x, y], kind()([x, y])), [floats(2, *x.shape[1:]), floats(2, *y.shape[1:])]


@graph
def concatenation(draw: Draw) -> Network:
    x = keras.Input((3, 4), name="x")
    parts = [x, L.Activation("relu")(x), L.Activation("tanh")(x)]
    return keras.Model(x, L.Concatenate(axis=draw(st.sampled_from([1, 2, -1])))(parts)), [floats(2, 3, 4)]


@graph
def dot(draw: Draw) -> Network:
    x, y = keras.Input((3, 4), name="x"), keras.Input((3, 4), name="y")
    axes = draw(st.sampled_from([1, 2, (1, 1), (2, 2), -1]))
    return keras.Model([x, y], L.Dot(axes, normalize=draw(BOOLS))([x, y])), [floats(2, 3, 4), floats(3, 3, 4)[:2]]


@graph
def dot_of_vectors(draw: Draw) -> Network:
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    return keras.Model([x, y], L.Dot(1, normalize=draw(BOOLS))([x, y])), [floats(2, 4), floats(3, 4)[:2]]


@graph
def states(draw: Draw) -> Network:
    """An encoder whose states begin a decoder."""
    x, y = keras.Input((4, 3), name="x"), keras.Input((None, 2), name="y")
    kind = draw(st.sampled_from([L.LSTM, L.GRU]))
    _, *last = kind(3, return_state=True)(x)
    z = kind(3, return_sequences=True)(y, initial_state=last)
    return keras.Model([x, y], [L.Dense(2)(z), last[0]]), [floats(2, 4, 3), floats(2, 5, 2)]


@graph
def states_of_both_directions(draw: Draw) -> Network:
    x = keras.Input((4, 3), name="x")
    made = L.Bidirectional(L.LSTM(2, return_state=True, return_sequences=draw(BOOLS)))(x)
    return keras.Model(x, [L.Activation("linear")(m) for m in made]), [floats(2, 4, 3)]


TOKENS = np.array([[1, 2, 3, 0, 0], [0, 0, 4, 5, 6], [1, 0, 2, 0, 3], [4, 5, 6, 7, 8]], np.int32)
"""Padded at the end, at the beginning, in between, and not at all."""


@graph
def masked_recurrence(draw: Draw) -> Network:
    x = keras.Input((5,), dtype="int32", name="tokens")
    y = L.Dropout(0.1)(L.Embedding(9, 3, mask_zero=True)(x))
    made = cell(draw, return_sequences=draw(BOOLS), go_backwards=draw(BOOLS))
    two = draw(BOOLS)
    y = made(y)
    if made.return_sequences and two:
        y = L.GRU(2)(L.Dense(3)(y))
    return keras.Model(x, y), [TOKENS]


@graph
def masked_both_directions(draw: Draw) -> Network:
    x = keras.Input((None, 3), name="x")
    y = L.Bidirectional(cell(draw, return_sequences=draw(BOOLS)))(L.Masking(0.0)(x))
    return keras.Model(x, y), [floats(4, 5, 3) * (TOKENS != 0)[..., None]]


@graph
def masked_mean(draw: Draw) -> Network:
    x = keras.Input((5,), dtype=draw(st.sampled_from(["int32", "float32"])), name="tokens")
    y = L.Embedding(9, 3, mask_zero=draw(BOOLS))(x)
    y = L.Concatenate()([y, L.Dense(2)(y)])
    y = L.Add()([y, L.LayerNormalization()(y)])
    return keras.Model(x, L.GlobalAveragePooling1D()(y)), [TOKENS.astype(x.dtype)]


@graph
def masked_merging(draw: Draw) -> Network:
    """Two masks that differ, and perhaps none."""
    x, y = (keras.Input((5,), dtype="int32", name=k) for k in "xy")
    a, b = L.Embedding(9, 3, mask_zero=True)(x), L.Embedding(9, 3, mask_zero=draw(BOOLS))(y)
    kind = draw(st.sampled_from([L.Add, L.Multiply, L.Maximum, L.Average]))
    z = draw(st.sampled_from([L.GlobalAveragePooling1D(), L.LSTM(2)]))(kind()([a, b]))
    return keras.Model([x, y], z), [TOKENS, TOKENS[::-1].copy()]


@graph
def heads(draw: Draw) -> Network:
    """With values of another size only where scores are returned: Keras' own way on JAX has no other."""
    x, y = keras.Input((5, 4), name="x"), keras.Input((3, 6), name="y")
    scores = draw(BOOLS)
    depth = draw(st.sampled_from([None, 2])) if scores else None
    made = L.MultiHeadAttention(draw(SMALL), draw(SMALL), value_dim=depth, use_bias=draw(BOOLS))
    results = made(x, y, return_attention_scores=True) if scores else made(x, y, y)
    return keras.Model([x, y], results), [floats(2, 5, 4), floats(2, 3, 6)]


@graph
def transformer(draw: Draw) -> Network:
    x = keras.Input((5,), dtype="int32", name="tokens")
    y = L.Embedding(9, 4, mask_zero=draw(BOOLS))(x)
    z = L.MultiHeadAttention(2, 3, dropout=draw(st.sampled_from([0.0, 0.1])))(y, y, use_causal_mask=draw(BOOLS))
    y = L.LayerNormalization(epsilon=1e-6)(L.Add()([y, z]))
    z = L.Dense(4)(L.Dense(8, activation="gelu")(y))
    return keras.Model(x, L.LayerNormalization()(L.Add()([y, z]))), [TOKENS]


@graph
def attention(draw: Draw) -> Network:
    x, y = keras.Input((5, 4), name="x"), keras.Input((3, 4), name="y")
    made = draw(st.sampled_from([L.Attention(), L.Attention(use_scale=True), L.AdditiveAttention()]))
    return keras.Model([x, y], made([x, y])), [floats(2, 5, 4), floats(2, 3, 4)]


@graph
def masked_attention(draw: Draw) -> Network:
    x = keras.Input((5,), dtype="int32", name="tokens")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    made = draw(st.sampled_from([L.Attention(), L.AdditiveAttention()]))
    return keras.Model(x, made([y, y])), [TOKENS]


@graph
def shared(draw: Draw) -> Network:
    """A layer and a model that are called twice, and models inside of models."""
    inner = keras.Sequential(
        [L.Dense(4, activation="relu", trainable=draw(BOOLS)), L.BatchNormalization()], name="inner"
    )
    a = keras.Input((4,), name="a")
    middle = keras.Model(a, L.Add()([inner(a), L.Dense(4)(a)]), name="middle")
    middle.trainable = draw(BOOLS)
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    one = L.Dense(4, name="one")
    return keras.Model([y, x], [one(middle(x)), one(middle(middle(y)))]), [floats(3, 4), floats(2, 4).repeat(2, 0)[:3]]


@graph
def operations(draw: Draw) -> Network:
    x = keras.Input((4, 6), name="x")
    k = keras.ops
    y = draw(
        st.sampled_from([
            (x + 1.0) * x - 2 / (k.abs(x) + 1), x[:, 1:, ::2], x[:, -1], x[:, 1, :3], k.reshape(x, (-1, 24)),
            k.mean(x, axis=1), k.sum(x, axis=-1, keepdims=True), k.max(x, axis=(1, 2)), k.transpose(x, (0, 2, 1)),
            k.concatenate([x, x * 2], axis=-1), k.relu(x), k.sigmoid(x), k.expand_dims(x, 1), k.square(x), k.softmax(x),
            k.squeeze(x[:, :1], 1), k.matmul(x, k.transpose(x, (0, 2, 1))), k.exp(-x), k.stack([x, x], axis=1),
            k.clip(x, -0.5, 0.5), k.maximum(x, 0.0), k.tanh(x), k.gelu(x), k.sqrt(k.abs(x)), k.cast(x > 0, "float32"),
            k.leaky_relu(x), k.silu(x),
        ])
    )  # fmt: skip
    return keras.Model(x, L.Activation("linear")(y)), [floats(2, 4, 6)]
