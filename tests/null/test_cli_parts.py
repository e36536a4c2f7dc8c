"""The parts of the command line that need no engine: drawing, tables, arguments, files, measuring."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass import labels
from forwardpass.cli import inputs, make_parser, measure
from forwardpass.cli.demo import choose, panel
from forwardpass.cli.draw import bar, beside, image
from forwardpass.cli.info import count_weights
from forwardpass.console import PlainConsole
from forwardpass.errors import Error, FileError, InputError, UnsupportedError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.text import aligned, human_bytes


def test_terminal_shows_progress_without_rich() -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with PlainConsole(io.StringIO()).progress("classifying", 10) as advance:
            advance(5)
            advance(10)
    assert "] 5/10" in terminal.getvalue()
    assert terminal.getvalue().endswith("] 10/10\n")


def test_parser_has_json_everywhere() -> None:
    assert make_parser().parse_args(["demo", "--json"]).json
    assert make_parser().parse_args(["info", "m.npz", "--json"]).json
    assert make_parser().parse_args(["run", "m.npz", "--json"]).json


def kind(*shape: Any, dtype: str = "float32") -> TensorType:
    return TensorType(np.dtype(dtype), shape)


def test_assign_matches_files_to_inputs() -> None:
    two = {"a": kind("N", 3), "b": kind("N", 4)}
    assert inputs.assign(["1", "2"], [], two) == {"a": "1", "b": "2"}
    assert inputs.assign(["1"], ["a=2"], two) == {"a": "2", "b": "1"}
    for files, named in (
        ([], ["a=1"]),
        (["1"], []),
        ([], ["c=1"]),
        ([], ["a"]),
        ([], ["a=1", "a=2"]),
        (["1"] * 3, []),
    ):
        with pytest.raises(InputError):
            inputs.assign(files, named, two)


def test_fit_adds_only_what_is_missing() -> None:
    notes: list[str] = []
    wanted = kind("N", 8, 8, 1)
    assert inputs.fit(np.zeros((8, 8, 1), np.float32), "x", wanted, notes.append).shape == (1, 8, 8, 1)
    assert len(notes) == 1
    fine = np.zeros((2, 8, 8, 1), np.float32)
    assert inputs.fit(fine, "x", wanted, notes.append) is fine
    assert len(notes) == 1
    assert inputs.fit(np.zeros((9, 8, 1), np.float32), "x", wanted, notes.append).shape == (9, 8, 1)
    assert inputs.fit(np.zeros((2, 3), np.float64), "x", kind("N", 3), notes.append).dtype == np.float32
    assert len(notes) == 2
    for unfit in (np.zeros((2, 3), np.complex64), np.zeros((2, 3), "U1")):
        assert inputs.fit(unfit, "x", kind("N", 3), notes.append) is unfit
    floats = np.zeros((2, 3), np.float32)
    assert inputs.fit(floats, "x", kind("N", 3, dtype="int64"), notes.append) is floats


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.float32(3), np.arange(6).reshape(2, 3).T])
def test_read_array_takes_every_shape(array: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(inputs.read_array(tmp_path / "a.npy"), array)


def test_read_array_refuses_a_false_header(tmp_path: Path) -> None:
    """A header that claims 2^62 values in a file of 200 bytes is an error, not an allocation."""
    file = tmp_path / "huge.npy"
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**31, 2**31)})
        stream.write(bytes(100))
    with pytest.raises(FileError, match=r"huge\.npy"):
        inputs.read_array(file)


def test_read_image_layouts(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pillow is not installed (extra [test])")
    file = tmp_path / "rgb.png"
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    pillow.fromarray(pixels).save(file)
    options, notes = inputs.ImageOptions(), list[str]()

    def read(wanted: TensorType, options: inputs.ImageOptions = options) -> Any:
        return inputs.read(file, "x", wanted, options, notes.append)

    np.testing.assert_array_equal(read(kind("N", 4, 6, 3))[0], pixels.astype(np.float32))
    np.testing.assert_array_equal(read(kind("N", None, None, 3))[0], pixels.astype(np.float32))
    np.testing.assert_array_equal(read(kind("N", 3, 4, 6))[0], pixels.transpose(2, 0, 1).astype(np.float32))
    inverted = read(kind("N", 4, 6, 3, dtype="uint8"), inputs.ImageOptions(255.0, invert=True))
    np.testing.assert_array_equal(inverted[0], 255 - pixels)
    assert not notes
    assert read(kind("N", 9)).shape == (1, 9)
    assert notes
    for wanted in (kind("N", 10), kind("N", 7, 6, 5), TensorType(np.dtype("float32"), None)):
        with pytest.raises(InputError, match="does not take an image"):
            read(wanted)
    file.write_bytes(b"not a png")
    with pytest.raises(FileError, match=r"rgb\.png"):
        read(kind("N", 4, 6, 3))
    with pytest.raises(UnsupportedError):
        inputs.read(tmp_path / "x.mat", "x", kind("N", 3), options, notes.append)


def test_class_names_and_top() -> None:
    assert labels.class_names({"labels": '["cat", "dog"]'}, 2) == ["cat", "dog"]
    assert labels.class_names({"labels": "cat\ndog"}, 2) == ["cat", "dog"]
    for text, count in (("", 2), ('["cat"]', 2), ('{"a": 1}', 1), ("7", 1)):
        assert labels.class_names({"labels": text} if text else {}, count) is None or text == "7"
    assert labels.top(np.array([0.1, np.nan, 0.7, 0.7], np.float32), 3) == [2, 3, 0]


def test_image_spans_blank_to_full() -> None:
    pixels = np.array([[0, 4], [8, 16], [-3, 99]])
    assert image(pixels, 16.0) == ["  ░░", "▒▒██", "  ██"]
    assert image(pixels, 16.0, unicode=False) == ["  ..", "::##", "  ##"]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "    "), (1, "████"), (0.5, "██  "), (1 / 32, "▏   "), (2.0, "████"), (float("nan"), "    ")],
)
def test_bar_is_to_scale(share: float, text: str) -> None:
    assert bar(share, 4) == text
    assert len(bar(share, 4, unicode=False)) == 4


def test_beside_pads_to_the_tallest() -> None:
    assert beside([["ab", "c"], ["x"]], gap=1) == ["ab x", "c"]
    assert beside([]) == []


def test_panel_marks_mistakes() -> None:
    names = list("0123456789")
    scores = np.full(10, 0.05, np.float32)
    scores[4] = 0.55
    assert panel(np.zeros((8, 8)), scores, names, "4")[0] == "written 4, read 4: right"
    wrong = panel(np.zeros((8, 8)), scores, names, "9")
    assert wrong[0] == "written 9, read 4: WRONG"
    assert len(wrong) == 11
    assert "55.0 % <" in wrong[5]


def test_choose_shows_a_mistake() -> None:
    right = np.ones(100, bool)
    assert choose(right, 4) == [0, 25, 50, 75]
    right[33] = False
    assert choose(right, 4) == [0, 25, 50, 33]
    assert choose(right[:2], 9) == [0, 1]


def test_aligned_columns() -> None:
    assert aligned(["name", ">n"], [("a", 10), ("bcdef", 1)]) == [
        "name    n",
        "-----  --",
        "a      10",
        "bcdef   1",
    ]
    assert aligned(["name"], []) == ["name", "----"]


def test_percentiles_are_nearest_rank() -> None:
    values = [float(v) for v in range(1, 1001)]
    assert [measure.percentile(values, p) for p in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert measure.percentile([3.0], 0.999) == 3.0


def test_latency_counts_its_calls() -> None:
    seen = []
    result = measure.latency(lambda: seen.append(1), calls=100)
    assert result.calls == 100
    assert len(seen) == 110
    assert 0 < result.p50 <= result.p99 <= result.p999
    assert measure.rate(lambda: None, seconds=0.01) > 1000


def test_human_bytes() -> None:
    assert [human_bytes(b) for b in (0, 1023, 1536, 1 << 20, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1 MiB",
        "5.12e+03 GiB",
    ]


def test_info_counts_weights() -> None:
    constants = {"w": np.zeros((2, 3), np.float32), "shape": np.zeros(4, np.int64)}
    graph = Graph({"x": kind("N", 2)}, ["y"], [Node("MatMul", ["x", "w"], ["y"])], constants)
    assert count_weights(graph) == {"parameters": 6, "bytes": 24 + 32}


def test_shapes_of_inputs() -> None:
    one, two = {"x": kind("N", 3)}, {"a": kind("N", 3), "b": kind("N", 3)}
    assert inputs.shapes(["2,3"], one) == inputs.shapes(["x=2x3"], one) == {"x": (2, 3)}
    assert inputs.shapes([], one) == {}
    for words in (["2,3"], ["c=1"], ["a=-1,3"], ["a="]):
        with pytest.raises(Error):
            inputs.shapes(words, two)
