"""The embedded digit networks: accurate, small, and equal to the NumPy definitions in float64."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
import tolerance
from forwardpass.data import digits, path
from forwardpass.errors import FileError
from forwardpass.formats import npz
from forwardpass.ops import evaluate

NETWORKS = ["cnn", "mlp"]
FILES = ["digits_cnn.npz", "digits_mlp.npz", "digits_test.npz"]


def pixels(kind: str) -> Any:
    images, _ = digits()
    return images.reshape((-1, 64) if kind == "mlp" else (-1, 8, 8, 1)).astype(np.float32)


def test_held_out_images_are_real_pixels() -> None:
    images, labels = digits()
    assert images.shape == (359, 8, 8)
    assert images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 16
    # Every digit is there in about its share, and no image twice: the split did not go wrong.
    assert min(np.bincount(labels, minlength=10)) >= 34
    assert len(np.unique(images.reshape(359, -1), axis=0)) == 359


def test_files_are_small_and_plain() -> None:
    assert sum(path(f).stat().st_size for f in FILES) < 300_000
    for f in FILES:
        with np.load(path(f), allow_pickle=False) as archive:
            assert all(archive[k] is not None for k in archive)


@pytest.mark.parametrize(("kind", "least"), [("cnn", 0.98), ("mlp", 0.96)])
def test_accuracy_on_held_out_images(kind: str, least: float) -> None:
    _, labels = digits()
    scores = fp.load(path(f"digits_{kind}.npz"))(pixels(kind))
    assert scores.shape == (359, 10)
    accuracy = float(np.mean(scores.argmax(axis=1) == labels))
    assert accuracy >= least
    claimed = npz.read(path(f"digits_{kind}.npz")).metadata["accuracy"]
    assert float(claimed.split()[0]) == pytest.approx(accuracy, abs=5e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_result_equals_the_definition_in_float64(kind: str) -> None:
    model = fp.load(path(f"digits_{kind}.npz"))
    x = pixels(kind)
    (name,) = model.inputs
    (expected,) = evaluate(model.graph, {name: x}, dtype=np.float64).values()
    np.testing.assert_allclose(model(x), expected, **tolerance.PROBABILITIES)


@pytest.mark.parametrize("kind", NETWORKS)
def test_metadata_says_where_it_comes_from(kind: str) -> None:
    metadata = npz.read(path(f"digits_{kind}.npz")).metadata
    assert json.loads(metadata["labels"]) == list("0123456789")
    assert metadata["training"] == "docs/examples/train_digits.py"
    assert "10.24432/C50P49" in metadata["data"]
    assert "CC BY 4.0" in metadata["data"]


def test_unknown_file_lists_those_there_are() -> None:
    with pytest.raises(FileError, match=r"digits_cnn\.npz"):
        path("cats.npz")
