"""Weights of Keras files for networks of the builder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")

import h5py
from keras_files import (
    draw,
    weights_by_order,
    weights_by_place,
)

from forwardpass.builder import GRU, LSTM, Bidirectional, Dense, Embedding, Input, Network, Sequential, SimpleRNN
from forwardpass.errors import InputError


def networks() -> list[tuple[Network, Sequence[str], Sequence[str]]]:
    """Network, the places of its weights in a file of Keras 3, and names of layers."""
    tokens = Input((5,))
    table = Embedding(7, 3)(tokens)
    parts = [LSTM(2, return_sequences=True), Bidirectional(GRU(2, return_sequences=True), "sum"), SimpleRNN(4)]
    y = table
    for part in parts:
        y = part(y)
    places = ["embedding", "lstm/cell", "bidirectional/forward_layer/cell", "bidirectional/backward_layer/cell"]
    one = (Network(tokens, Dense(2)(y)), [*places, "simple_rnn/cell", "dense"], ["e", "l", "b", "s", "d"])
    two = (Sequential([Input((4,)), Dense(4), Dense(4)]), ["dense", "dense_1"], ["first", "second"])
    return [one, two]


@pytest.mark.parametrize("k", [0, 1])
def test_weights_for_a_network(k: int, tmp_path: Path) -> None:
    network, places, names = networks()[k]
    want = network.init(seed=1).get_weights()
    arrays = list(want.values())
    sizes = [1, 3, 3, 3, 3, 2] if k == 0 else [2, 2]
    cut = np.cumsum([0, *sizes])
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        weights_by_place(file, {p: arrays[a:b] for p, a, b in zip(places, cut, cut[1:])})
    sizes = [1, 3, 6, 3, 2] if k == 0 else [2, 2]
    cut = np.cumsum([0, *sizes])
    with h5py.File(tmp_path / "m.h5", "w") as file:
        weights_by_order(file, {n: {str(j): arrays[j] for j in range(a, b)} for n, a, b in zip(names, cut, cut[1:])})
    for name in ("m.weights.h5", "m.h5"):
        got = networks()[k][0].set_weights(tmp_path / name).get_weights()
        assert got.keys() == want.keys()
        for key, array in want.items():
            np.testing.assert_array_equal(got[key], array)


def test_layers_are_found_by_their_names(tmp_path: Path) -> None:
    """In a file whose order is another one."""
    kernels = {name: np.full((4, 4), k, np.float32) for k, name in enumerate(("one", "two"))}
    stored = {n: {"kernel:0": kernels[n], "bias:0": np.zeros(4, np.float32)} for n in ("two", "one")}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        weights_by_order(file, stored)
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        weights_by_place(file, {"dense": list(stored["two"].values()), "dense_1": list(stored["one"].values())})
        for place, name in (("dense", "two"), ("dense_1", "one")):
            file[f"layers/{place}/vars"].attrs["name"] = name
    for name in ("m.h5", "m.weights.h5"):
        network = Sequential([Input((4,)), Dense(4, name="one"), Dense(4, name="two")])
        got = network.set_weights(tmp_path / name).get_weights()
        np.testing.assert_array_equal(got["one/kernel"], kernels["one"])
        np.testing.assert_array_equal(got["two/kernel"], kernels["two"])


def test_weights_that_do_not_fit_a_network(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        weights_by_order(file, {"a": {"kernel": draw(4, 3), "bias": draw(3)}})
    with pytest.raises(InputError, match="another number of layers"):
        Sequential([Input((4,)), Dense(3), Dense(3)]).set_weights(path)
    with pytest.raises(InputError, match="different numbers of weights"):
        Sequential([Input((4,)), Dense(3, use_bias=False)]).set_weights(path)
    with pytest.raises(InputError, match=r"'dense/kernel' \(4, 5\)"):
        Sequential([Input((4,)), Dense(5)]).set_weights(path)
