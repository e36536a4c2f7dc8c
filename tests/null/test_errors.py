"""What an error says besides its sentence: the node and the input that it concerns, and the nearest name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Maker

from forwardpass import errors
from forwardpass.builder import GRU, Dense
from forwardpass.cli import main
from forwardpass.formats.files import opened
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.passes import optimize

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("where", "message", "node", "given"),
    [
        ("input 'x'", "wrong rank", "", "x"),
        ("node 'conv/1' (Conv)", "wrong number of inputs", "conv/1", ""),
        ("node Conv -> 'y'", "input 'w' is undefined", "y", "w"),
        ("file.onnx: node 'it\\'s' (ai.onnx.ml.Scaler)", "bad", "it's", ""),
        ('file.npz: input "it\'s"', "bad", "", "it's"),
        ("call", "input 'a' is given twice", "", "a"),
        ("call", "missing inputs", "", ""),
        ("threads", "wrong number", "", ""),
    ],
)
def test_node_and_input(where: str, message: str, node: str, given: str) -> None:
    error = errors.InputError(message, where=where, expected="this", got="that", hint="do so")
    for e in (error, copy.copy(error)):
        assert (e.node, e.input) == (node, given)
        assert (e.message, e.where, e.expected, e.got, e.hint) == (message, where, "this", "that", "do so")


def test_labels_of_nodes_are_found() -> None:
    for node in (Node("Relu", ["x"], ["y"], name="act 'one'"), Node("Relu", ["x"], ["y"], {}, "nhwc")):
        assert errors.GraphError("bad", where=node.label).node == (node.name or "y")


def _graph(op: str, **attributes: Any) -> Graph:
    return Graph({"image": TensorType(F32, ("N", 4))}, ["y"], [Node(op, ["image"], ["y"], attributes)])


def _relu() -> Graph:
    m = Maker(dtype=F32)
    return m.graph(m("Relu", m.input("image", "N", 4), out="y"))


@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        (lambda: Dense(3, activation="rellu"), "relu"),
        (lambda: GRU(3, recurrent_activation="sigmod"), "sigmoid"),
        (lambda: optimize(_graph("Relv")), "Relu"),
        (lambda: evaluate(_graph("Softmax", axes=1), {"image": np.ones((1, 4), np.float32)}), "axis"),
        (lambda: evaluate(_relu(), {"imge": np.ones((1, 4), np.float32)}), "image"),
        (lambda: evaluate(_relu(), {"image": np.ones((1, 4), np.float32)}, outputs=["imagee"]), "image"),
        (lambda: optimize(_relu(), stop_after="fold_paad"), "fold_pad"),
    ],
)
def test_nearest_name(act: Callable[[], Any], wanted: str) -> None:
    with pytest.raises(errors.Error) as e:
        act()
    assert e.value.hint == f"did you mean {wanted!r}?"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["benhc"], "bench"),
        (["info", "--jsn", "m.npz"], "--json"),
        (["info", "--shap=x=1", "m.npz"], "--shape"),
        (["bench", "--scenario", "ofline", "m.npz"], "offline"),
    ],
)
def test_nearest_word_of_the_command_line(words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(words)
    assert e.value.code == 2
    assert f"(did you mean {wanted!r}?)" in capsys.readouterr().err


def test_a_misspelt_file_is_told_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "digits_cnn.onnx").write_bytes(b"")
    for name, hint in (("digit_cnn.onnx", "did you mean 'digits_cnn.onnx'?"), ("other.bin", "")):
        with pytest.raises(errors.FileError, match="cannot open") as e, opened(tmp_path / name):
            pass
        assert e.value.hint == hint
    with pytest.raises(errors.FileError) as e, opened(tmp_path / "none" / "digit_cnn.onnx"):
        pass
    assert e.value.hint == ""
