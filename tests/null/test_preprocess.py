"""Preprocessing as a graph, by the definitions: against Pillow's pixels and the formulas of keras.applications."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.errors import FileError, InputError, UnsupportedError
from forwardpass.formats import npz
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.preprocess import MODES, Preprocessing, decode
from forwardpass.preprocess.prefix import with_preprocessing
from tolerance import PIXELS, PREPROCESSED

Array = np.ndarray[Any, Any]
F32 = np.dtype(np.float32)


def photograph(height: int, width: int, channels: int = 3) -> Array:
    """Smooth colours with an edge: uint8 [H, W, C]."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (5 + k)) * np.cos(y / (7 - k)) for k in range(channels)]
    picture = np.stack(waves, axis=-1) * 90 + 128
    picture[:, width // 2 :] *= 0.5
    return np.asarray(picture.astype(np.uint8))


def run(settings: Preprocessing, picture: Array, layout: str = "NHWC") -> Array:
    """One picture by the definitions."""
    graph = settings.graph(layout, picture.shape[-1])
    return np.asarray(evaluate(graph, {"image": picture[np.newaxis]})["pixels"][0])


def pillow(picture: Array, size: tuple[int, int], name: str, box: Any = None) -> Array:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [cli])")
    how = getattr(image.Resampling, name.upper())
    return np.asarray(image.fromarray(picture).resize(size[::-1], how, box=box), np.float32)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [(20, 31), (64, 80), (37, 40), (50, 53), (1, 1)])
def test_resize_is_that_of_pillow(interpolation: str, size: tuple[int, int]) -> None:
    picture = photograph(37, 53)
    found = run(Preprocessing.of(size=size, interpolation=interpolation), picture)
    wanted = pillow(picture, size, interpolation)
    assert found.shape == (*size, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if interpolation == "nearest" else PIXELS)
    assert 0 <= found.min() <= found.max() <= 255


def test_crop_resizes_the_shorter_side_and_cuts_the_middle() -> None:
    picture = photograph(40, 80)
    found = run(Preprocessing.of(size=(20, 20), fit="crop"), picture)
    np.testing.assert_allclose(found, pillow(picture, (20, 40), "bilinear")[:, 10:30], rtol=0, atol=PIXELS)
    found = run(Preprocessing.of(size=(16, 12), fit="crop", shorter=24, interpolation="bicubic"), picture)
    np.testing.assert_allclose(found, pillow(picture, (24, 48), "bicubic")[4:20, 18:30], rtol=0, atol=PIXELS)
    wide = run(Preprocessing.of(size=(10, 20), fit="crop"), photograph(40, 60))
    # One scale for both axes: 13 rows are those of 39, the middle ones.
    middle = pillow(photograph(40, 60), (13, 20), "bilinear", (0, 0.5, 60, 39.5))
    np.testing.assert_allclose(wide, middle[1:11], rtol=0, atol=PIXELS)


def test_pad_keeps_the_whole_picture() -> None:
    picture = photograph(40, 80)
    found = run(Preprocessing.of(size=(20, 20), fit="pad"), picture)
    np.testing.assert_allclose(found[5:15], pillow(picture, (10, 20), "bilinear"), rtol=0, atol=PIXELS)
    assert not found[:5].any()
    assert not found[15:].any()


def test_without_antialias_two_pixels_make_one() -> None:
    """As `tf.image.resize`: at half the size the mean of the two in the middle of four."""
    picture = photograph(16, 16)
    found = run(Preprocessing.of(size=(4, 4), antialias=False), picture)
    rows = picture.astype(np.float64)
    rows = (rows[1::4] + rows[2::4]) / 2
    np.testing.assert_allclose(found, (rows[:, 1::4] + rows[:, 2::4]) / 2, **PREPROCESSED)
    assert np.abs(found - run(Preprocessing.of(size=(4, 4)), picture)).max() > 1


def _keras(picture: Array, mode: str) -> Array:
    """`preprocess_input` of keras.applications, in float64."""
    x = picture.astype(np.float64)
    if mode == "tf":
        return x / 127.5 - 1
    if mode == "torch":
        return (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    if mode == "caffe":
        return x[..., ::-1] - [103.939, 116.779, 123.68]
    return x / 255 if mode == "unit" else x


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_those_of_keras(mode: str) -> None:
    picture = photograph(9, 11)
    picture[0, :2] = [[0] * 3, [255] * 3]
    np.testing.assert_allclose(run(Preprocessing.of(mode), picture), _keras(picture, mode), **PREPROCESSED)
    first = run(Preprocessing.of(mode), picture, "NCHW")
    np.testing.assert_array_equal(first.transpose(1, 2, 0), run(Preprocessing.of(mode), picture))


def test_settings_come_before_those_of_the_mode() -> None:
    picture = photograph(5, 6)
    found = run(Preprocessing.of("tf", mean=127, std=128, scale=1), picture)
    np.testing.assert_allclose(found, (picture.astype(np.float64) - 127) / 128, **PREPROCESSED)
    grey = photograph(5, 6, 1)
    np.testing.assert_allclose(run(Preprocessing.of("unit"), grey), grey / 255, **PREPROCESSED)


@pytest.mark.parametrize(
    ("mode", "settings", "words"),
    [
        ("tff", {}, "did you mean 'tf'"),
        ("none", {"sise": 3}, "unknown setting: .* got sise .*did you mean 'size'"),
        ("none", {"size": (0, 3)}, "wrong size: expected height and width"),
        ("none", {"size": 1.5}, "wrong size"),
        ("none", {"fit": "zoom"}, "wrong fit: expected stretch or crop or pad, got 'zoom'"),
        ("none", {"shorter": 30, "size": 20}, "only a picture that is cropped has it"),
        ("none", {"shorter": 10, "size": 20, "fit": "crop"}, "expected at least 20, the size, got 10"),
        ("none", {"interpolation": "area"}, "wrong interpolation"),
        ("none", {"mean": "a"}, "wrong mean: expected a number, or one per channel"),
        ("none", {"std": 0}, "no number can be divided by it"),
        ("none", {"scale": (1, 2)}, "wrong scale: expected a number"),
        ("none", {"scale": float("nan")}, "wrong scale"),
    ],
)
def test_settings_that_make_no_sense(mode: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Preprocessing.of(mode, **settings)


# ---- before a network


def network(shape: tuple[Any, ...], name: str = "x", dtype: Any = F32) -> Graph:
    """A network whose answer is its input."""
    inputs = {"other": TensorType(F32, ()), name: TensorType(np.dtype(dtype), shape)}
    nodes = [Node("Identity", [name], ["y"]), Node("Neg", ["other"], ["z"])]
    return Graph(inputs, ["y", "z"], nodes, metadata={"labels": "a\nb"})


@pytest.mark.parametrize("shape", [("N", 8, 6, 3), ("N", 3, 8, 6), (2, 3, None, "W"), (None, "H", "W", 3)])
def test_a_network_takes_pictures_of_any_size(shape: tuple[Any, ...]) -> None:
    graph = with_preprocessing(network(shape), Preprocessing.of("tf", size=(8, 6)), "x")
    assert graph.inputs == {
        "other": TensorType(F32, ()),
        "image": TensorType(np.dtype(np.uint8), (shape[0], None, None, 3)),
    }
    again = npz.from_bytes(npz.to_bytes(graph))
    pictures = np.stack([photograph(21, 17), photograph(21, 17)[::-1]])
    found = evaluate(again, {"image": pictures, "other": np.float32(1)})["y"]
    wanted = np.stack(
        [run(Preprocessing.of("tf", size=(8, 6)), p, "NCHW" if shape[1] == 3 else "NHWC") for p in pictures]
    )
    np.testing.assert_array_equal(found, wanted)
    assert again.metadata["labels"] == "a\nb"
    assert '"size": [8, 6]' in again.metadata["preprocessing"]


def test_the_size_is_that_of_the_input() -> None:
    graph = with_preprocessing(network(("N", 8, 6, 3)), Preprocessing.of(), "x")
    found = evaluate(graph, {"image": photograph(20, 30)[np.newaxis], "other": np.float32(1)})
    assert found["y"].shape == (1, 8, 6, 3)


def test_half_precision_and_names_that_are_taken() -> None:
    graph = with_preprocessing(network((1, 4, 4, 3), "image", np.float16), Preprocessing.of("unit"), "image")
    assert list(graph.inputs) == ["other", "picture"]
    found = evaluate(graph, {"picture": photograph(4, 4)[np.newaxis], "other": np.float32(1)})["y"]
    assert found.dtype == np.float16


def test_inputs_that_take_no_pictures() -> None:
    done = with_preprocessing(network(("N", 8, 6, 3)), Preprocessing.of(), "x")
    for graph, name, settings, words in (
        (network(("N", 8)), "x", {}, "this input does not take an image"),
        (network(("N", 64)), "x", {}, "this input takes no pixels"),
        (done, "image", {}, "this input takes no pixels: .*it has preprocessing already"),
        (network(("N", 8, 6, 3)), "xx", {}, "unknown input: expected other, x, got xx .did you mean 'x'"),
        (network(("N", 8, 6, 3)), "x", {"size": (8, 7)}, "not the width of the network: expected 6, got 7"),
        (network(("N", 8, 6, 1)), "x", {"mean": (1, 2, 3)}, "mean: not one per channel: expected 1 or 1, got 3"),
    ):
        with pytest.raises(InputError, match=words):
            with_preprocessing(graph, Preprocessing.of(**settings), name)


# ---- files


def test_decode(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [cli])")
    picture = photograph(5, 7)
    file, memory = tmp_path / "a.png", io.BytesIO()
    image.fromarray(picture).save(file)
    image.fromarray(picture).save(memory, "PNG")
    for source in (file, str(file), memory.getvalue()):
        np.testing.assert_array_equal(decode(source), picture)
    assert decode(file, 1).shape == (5, 7, 1)
    assert decode(file, 4)[0, 0, 3] == 255
    with pytest.raises(FileError, match="not a readable image"):
        decode(b"not a picture")
    with pytest.raises(FileError, match=r"none\.png"):
        decode(tmp_path / "none.png")
    with pytest.raises(InputError, match="expected 1, 3 or 4, got 2"):
        decode(file, 2)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedError, match=r"reading images needs Pillow \(pip install 'forwardpass\[cli\]'\)"):
        decode("a.png")
