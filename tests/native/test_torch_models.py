"""Real weights that PyTorch trained, on networks of the builder and on graphs: the answers that they must give."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from forwardpass.builder import Network
from tolerance import REAL_MODEL
from torch_networks import digit_cnn, efficientnet_lite0, silero_vad

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "grapheme_to_phoneme.py"
Array = np.ndarray[Any, Any]


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=REAL_MODEL * np.abs(want).max())


def digits(models: Path) -> tuple[Array, Array, Array]:
    with np.load(models / "digit_cnn_torch/expected.npz") as e:
        x = ((e["x_u8"] / 255 - 0.1307) / 0.3081).astype(np.float32)
        return x[..., None], e["labels"], e["logits"]


def test_digits(models: Path, isa: str) -> None:
    network = digit_cnn().set_weights(models / "digit_cnn_torch/handwriting_model.pth")
    x, labels, logits = digits(models)
    found = fp.Model(network, isa=isa)(x)
    close(found, logits)
    assert (found.argmax(axis=1) == labels).mean() > 0.85


def test_digits_by_names(models: Path) -> None:
    """The user's own map, on layers whose names are not PyTorch's."""
    path = models / "digit_cnn_torch/handwriting_model.pth"
    network = digit_cnn()
    layers = [name for name, layer in network.layers.items() if layer.weights]
    modules = ["conv_layers.0", "conv_layers.3", "conv_layers.6", "fc_layers.0", "fc_layers.2"]
    given = network.set_weights(path, names=dict(zip(layers, modules))).get_weights()
    for name, array in digit_cnn().set_weights(fp.read_weights(path)).get_weights().items():
        np.testing.assert_array_equal(array, given[name])
    for wrong in ({layers[0]: "conv_layers.0"}, dict(zip(layers, [*modules[:4], "fc_layers.9"]))):
        with pytest.raises(fp.InputError, match="names"):
            network.set_weights(path, names=wrong)
    swapped = dict(zip(layers, [modules[1], modules[0], *modules[2:]]))
    with pytest.raises(fp.InputError, match="do not fit"):
        network.set_weights(path, names=swapped)


def test_pictures(models: Path) -> None:
    network = efficientnet_lite0().set_weights(models / "efficientnet_lite0/efficientnet-lite0-57934424.pth")
    assert isinstance(network, Network)
    with np.load(models / "efficientnet_lite0/expected.npz") as e:
        pictures, logits = e["x_u8"], e["logits"]
    found = network.model()((pictures.astype(np.float32) - 127) / 128)
    close(found, logits)
    labels = (models / "inputs/imagenet_labels_1000.txt").read_text().splitlines()
    answers = [labels[k].split(",")[0] for k in found.argmax(axis=1)]
    assert answers == ["malamute", "kite", "zebra", "water buffalo", "tiger cat"]


def test_the_wrong_network(models: Path) -> None:
    with pytest.raises(fp.InputError, match="another number of modules"):
        digit_cnn().set_weights(models / "efficientnet_lite0/efficientnet-lite0-57934424.pth")


NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{k}.{leaf}": f"conv{k + 1}.{leaf}" for k in range(4) for leaf in ("weight", "bias")},
    **{f"output.{leaf}": f"final_conv.{leaf}" for leaf in ("weight", "bias")},
    "onnx::LSTM_209": "weight_ih",
    "onnx::LSTM_210": "weight_hh",
    "onnx::LSTM_211": "bias",
}
"""Constant of the ONNX file -> name in the safetensors file, whose weights are those of another training."""


def gates(array: Array, order: tuple[int, ...]) -> Array:
    parts = np.split(array, 4)
    return np.concatenate([parts[k] for k in order])


def other_weights(constants: dict[str, Array], shapes: dict[str, Array]) -> dict[str, Array]:
    """The weights of the ONNX file by the names of the safetensors file."""
    made = {name: constants[key] for key, name in NAMES.items() if name in shapes}
    back = (0, 2, 3, 1)  # i o f c to i f c o
    w, r, b = (constants[f"onnx::LSTM_{k}"][0] for k in (209, 210, 211))
    parts = {"weight_ih": w, "weight_hh": r, "bias_ih": b[:512], "bias_hh": b[512:]}
    return made | {f"lstm_cell.{k}": gates(v, back) for k, v in parts.items()}


def test_speech(models: Path, isa: str) -> None:
    """The network by its weights' names, with the weights of its ONNX twin: the answers of that."""
    weights = fp.read_weights(models / "silero_vad/silero_vad_16k.safetensors")
    twin = fp.load(models / "silero_vad/silero_vad_16k_sequence.onnx").graph
    model = fp.Model(silero_vad(other_weights(twin.constants, weights)), isa=isa)
    with np.load(models / "silero_vad/expected.npz") as e:
        frames, want, hn, cn = e["X"], e["sequence"], e["sequence_hn"], e["sequence_cn"]
    state = np.zeros((1, 1, 128), np.float32)
    found = model(frames, state, state)
    close(found.speech_probs, want)
    close(found.hn, hn)
    close(found.cn, cn)
    assert found.speech_probs[:30].max() <= 0.009  # a second of silence
    h = c = state
    for k in range(40):  # frame by frame, with the state handed on
        score, h, c = model(frames[k : k + 1], h, c)
        np.testing.assert_allclose(score[0], found.speech_probs[k], rtol=0, atol=REAL_MODEL)


def test_speech_from_safetensors(models: Path) -> None:
    """The weights of the file, against onnxruntime with the same weights in the twin."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    weights = fp.read_weights(models / "silero_vad/silero_vad_16k.safetensors")
    proto = onnx.load(models / "silero_vad/silero_vad_16k_sequence.onnx")
    cell = {k.removeprefix("lstm_cell."): gates(v, (0, 3, 1, 2)) for k, v in weights.items() if "lstm" in k}
    cell["bias"] = np.concatenate([cell["bias_ih"], cell["bias_hh"]])
    for constant in proto.graph.initializer:
        name = NAMES[constant.name]
        array = weights[name] if name in weights else cell[name][None]
        constant.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), constant.name))
    judge = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.load(models / "silero_vad/expected.npz") as e:
        frames, others = e["X"], e["sequence"]
    state = np.zeros((1, 1, 128), np.float32)
    found = fp.Model(silero_vad(weights))(frames, state, state)
    for got, want in zip(found, judge.run(None, {"input": frames, "h": state, "c": state})):
        close(got, want)
    assert found.speech_probs[:30].max() < 0.05
    assert ((found.speech_probs > 0.5) == (others > 0.5)).mean() > 0.9


WORDS = ["activationist", "transformer", "tensorflow", "inference", "neuralnet", "hyperparameter"]


def test_phonemes(models: Path) -> None:
    example = runpy.run_path(str(EXAMPLE))
    weights = fp.read_weights(models / "g2p_en_gru/checkpoint20.npz")
    encoder, decoder = example["networks"](weights)
    assert " ".join(example["phonemes"]("transformer", encoder, decoder)) == "T R AE0 N S F AO1 R M ER0"
    with np.load(models / "g2p_en_gru/expected.npz") as e:
        for word in WORDS:
            found = example["phonemes"](word, encoder, decoder)
            assert [example["PHONEMES"].index(p) for p in found] == e[f"ids_{word}"].tolist()
            ids = [example["LETTERS"].index(c) for c in word] + [2]
            close(encoder(np.array([ids]))[0], e[f"enc_{word}"])


def test_the_example_prints(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLE))
    example["main"](str(models / "g2p_en_gru/checkpoint20.npz"), "tensorflow")
    assert capsys.readouterr().out.split() == ["tensorflow", "T", "EH1", "N", "S", "ER0", "L", "OW0", "F"]
