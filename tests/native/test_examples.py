"""The examples of docs/examples on text and speech give the answers that are known of them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from tolerance import REAL_MODEL

FOLDER = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> dict[str, Any]:
    """What an example defines."""
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def test_generation() -> None:
    names = example("generate")
    model = fp.Model(names["network"]())
    assert names["generate"](model, "monday, mond", 14) == "monday, monday, monday, mo"
    assert names["generate"](model, "qwerty.qwe", 11) == "qwerty.qwerty.qwerty."


def test_generation_reads_the_prompt_as_it_would_read_the_letters() -> None:
    names = example("generate")
    model = fp.Model(names["network"]())
    tokens = np.array([[names["LETTERS"].index(c) for c in "abcabdabcab"]])
    places = np.arange(tokens.shape[1])[None]
    whole = model.stream().push(tokens, places)
    stream = model.stream()
    for k in range(tokens.shape[1]):
        one = stream.push(tokens[:, k : k + 1], places[:, k : k + 1])
        np.testing.assert_array_equal(one[:, 0], whole[:, k])


def test_speech(models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    names = example("speech_detection")
    model = fp.load(models / "silero_vad/silero_vad_16k_sequence.onnx")
    with np.load(models / "silero_vad/expected.npz") as expected:
        recording = expected["X"][:, -names["FRAME"] :].reshape(-1)
        want = expected["sequence"]
    found = names["probabilities"](model, names["frames"](recording))
    np.testing.assert_allclose(found, want, rtol=0, atol=REAL_MODEL)
    assert found[:31].max() < 0.009  # a second of silence
    assert (found > 0.5).mean() == pytest.approx(0.497, abs=0.01)
    ((start, end), *others) = names["spoken"](found)
    assert not others
    assert 1 < start < 1.4
    assert 3 < end < len(recording) / names["RATE"] - 1


def test_speech_of_a_file(models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    files = [str(models / "silero_vad/silero_vad_16k_sequence.onnx"), str(models / "inputs/cards_001.wav")]
    monkeypatch.setattr("sys.argv", ["speech_detection.py", *files])
    example("speech_detection")["main"]()
    assert capsys.readouterr().out == "   0.22 s to    0.99 s\n"


def embedded(models: Path, ids: Any, mask: Any) -> Any:
    names = example("sentence_similarity")
    return names["embed"](fp.load(models / "minilm_int8/model.onnx"), ids, mask)


def test_sentences(models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    with np.load(models / "minilm_int8/expected.npz") as expected:
        ids, mask, want = expected["input_ids"], expected["attention_mask"], expected["embedding"]
    found = embedded(models, ids, mask)
    np.testing.assert_allclose(found, want, rtol=0, atol=REAL_MODEL)
    near = found @ found.T
    assert near[0, 1] == pytest.approx(0.685, abs=2e-3)
    assert near[2, 3] == pytest.approx(0.731, abs=2e-3)
    assert near[0, 2] < 0.08


def test_a_sentence_alone_and_in_a_batch(models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    with np.load(models / "minilm_int8/expected.npz") as expected:
        ids, mask = expected["input_ids"], expected["attention_mask"]
    whole = embedded(models, ids, mask)
    for k in range(len(ids)):
        length = int(mask[k].sum())
        alone = embedded(models, ids[k : k + 1, :length], mask[k : k + 1, :length])
        np.testing.assert_array_equal(alone[0], whole[k])


def test_sentences_of_text(models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed (extra [text])")
    with np.load(models / "minilm_int8/expected.npz") as expected:
        sentences, ids = [str(s) for s in expected["sentences"]], expected["input_ids"]
    names = example("sentence_similarity")
    found, mask = names["tokenize"](str(models / "minilm_int8/tokenizer.json"), sentences)
    np.testing.assert_array_equal(found, ids)
    assert mask.shape == ids.shape
