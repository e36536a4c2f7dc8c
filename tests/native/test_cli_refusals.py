"""What commands refuse before they work, each in one line, and what names of files may hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from cli_tools import CNN, MLP, Page, as_json, called, onnx_model

import forwardpass as fp
from forwardpass.graph import Graph, Node, TensorType

QUICK = ("--rounds", "1", "--seconds", "0.01", "--no-peak")
WHOLE, SHARE, DURATION = "a whole number from 0 on", "a finite number from 0 on", "a finite number above 0"


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on stderr of a command that fails."""
    status, out, err = called(capsys, *words)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("commands", "option", "values", "expected"),
    [
        (("profile", "verify", "view", "bench"), "--seed", ("-1", "1.5", ""), WHOLE),
        (("profile", "bench"), "--seconds", ("0", "-1", "nan", "inf", "soon"), DURATION),
        (("bench",), "--latency-bound", ("0", "nan", "inf"), DURATION),
        (("bench",), "--rate", ("-1", "nan", "inf"), SHARE),
        (("verify", "bench"), "--tolerance", ("-1", "nan", "inf"), SHARE),
        (("run",), "--pixel-max", ("nan", "inf", "white"), "a finite number"),
    ],
)
def test_values_of_options(
    capsys: pytest.CaptureFixture[str],
    commands: tuple[str, ...],
    option: str,
    values: tuple[str, ...],
    expected: str,
) -> None:
    for words in ((c, MLP, option, v) for c in commands for v in values):
        with pytest.raises(SystemExit) as stop:
            called(capsys, *words)
        assert stop.value.code == 2, words
        assert f"argument {option}: expected {expected}, got {words[-1]!r}" in capsys.readouterr().err


def test_the_shortest_time_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Shares of it are too large for a whole number."""
    status, report = as_json(capsys, "profile", MLP, "--seconds", "1e-323", "--no-peak")
    assert (status, report["calls"] >= 3) == (0, True)


def test_an_empty_choice_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("completion", ""), ("",)):
        with pytest.raises(SystemExit) as stop:
            called(capsys, *words)
        assert stop.value.code == 2
        assert "invalid choice: ''" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["profile", "verify", "view", "bench"])
@pytest.mark.parametrize("batch", [10**15, 10**25])
def test_a_batch_that_does_not_fit_in_memory(capsys: pytest.CaptureFixture[str], command: str, batch: int) -> None:
    """Neither what no machine has, nor what NumPy calls a wrong value."""
    assert "this does not fit in memory: " in refused(capsys, command, MLP, "--batch", batch)


def test_memory_may_run_out_anywhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(fp, "load", load)
    assert refused(capsys, "info", MLP) == "error: this does not fit in memory\n"


@pytest.mark.parametrize("command", ["profile", "verify", "view", "bench"])
def test_a_batch_that_no_input_has(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    """It would be ignored beside `--shape` and `--input`."""
    np.save(tmp_path / "x.npy", np.zeros((3, 64), np.float32))
    for words in (("--shape", "3,64"), ("--input", f"pixels={tmp_path / 'x.npy'}")):
        err = refused(capsys, command, MLP, "--batch", "2", *words)
        assert "--batch: no input has this batch: expected the first size of pixels=3,64, got 2" in err


def test_a_batch_beside_the_shape_of_another_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It still sizes the inputs that have none."""
    kinds = {name: TensorType(np.dtype(np.float32), (first, 4)) for name, first in (("a", "N"), ("b", "M"))}
    graph = Graph(kinds, ["y"], [Node("ReduceSum", ["b"], ["s"]), Node("Mul", ["a", "s"], ["y"])])
    fp.save(graph, tmp_path / "m.npz")
    words = ("profile", tmp_path / "m.npz", "--shape", "b=3,4", "--batch", "2", "--seconds", "0.01", "--no-peak")
    assert as_json(capsys, *words)[0] == 0
    assert as_json(capsys, "verify", MLP, "--shape", "2,64", "--batch", "2")[0] == 0


@pytest.mark.parametrize("given", [("--shape", "x=4,8"), ("--input", "x=x.npy")])
@pytest.mark.parametrize(("scenario", "calls"), [("multi-stream", 2), ("offline", 1)])
def test_a_scenario_counts_the_samples_that_are_given(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, str],
    scenario: str,
    calls: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((4, 8), np.float32))
    model = onnx_model(tmp_path / "m.onnx", [("Tanh", ["x"], ["y"])])
    _, report = as_json(capsys, "bench", model, "--scenario", scenario, *given, *QUICK)
    (result,) = report["results"]
    assert (result["batch"], result["calls_per_query"]) == (4, calls)


@pytest.mark.parametrize(
    "words",
    [
        ("bench", MLP, "-o"),
        ("profile", MLP, "--html"),
        ("profile", MLP, "--trace"),
        ("view", MLP, "-o"),
        ("features", CNN, "x.npy", "-o"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Before the model is loaded, not after all was timed."""
    monkeypatch.setattr("forwardpass.run.load", lambda *_, **__: pytest.fail("it worked first"))
    monkeypatch.setattr(fp, "load", lambda *_, **__: pytest.fail("it worked first"))
    (tmp_path / "folder.html").mkdir()
    missing, folder = tmp_path / "missing" / "x.json", tmp_path / "folder.html"
    err = refused(capsys, *words, missing)
    assert f"{missing}: cannot be written: expected a folder that exists, got {missing.parent}" in err
    assert f"{folder}: cannot be written: expected a file, got a folder" in refused(capsys, *words, folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["x.npy", "x.png"])
def test_an_input_that_is_a_pipe(tmp_path: Path, name: str) -> None:
    """In a process of its own, which can be stopped where it waits for ever."""
    if name.endswith("png"):
        pytest.importorskip("PIL.Image", reason="pillow is not installed (extra [test])")
    os.mkfifo(tmp_path / name)
    words = [sys.executable, "-m", "forwardpass", "run", CNN, str(tmp_path / name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path / name}: not a regular file\n")


def test_names_that_stdout_cannot_encode(tmp_path: Path) -> None:
    (tmp_path / "é.npz").write_bytes(Path(MLP).read_bytes())
    for name, stream in (("é.npz", "stdout"), ("ü.npz", "stderr")):
        done = subprocess.run(
            [sys.executable, "-m", "forwardpass", "info", name],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
            timeout=60,
        )
        assert done.returncode == (stream == "stderr"), done.stderr
        assert b"\\x" in getattr(done, stream)
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
@pytest.mark.parametrize("command", ["view", "profile"])
def test_pages_of_names_that_are_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    model = tmp_path / os.fsdecode(b"\xff.npz")
    model.write_bytes(Path(MLP).read_bytes())
    option = {"view": ("--no-time", "-o"), "profile": ("--seconds", "0.01", "--no-peak", "--html")}[command]
    assert as_json(capsys, command, model, *option, tmp_path / "page.html")[0] == 0
    assert "\\udcff" in Page(tmp_path / "page.html").source


@pytest.mark.parametrize(
    ("source", "name", "parts"),
    [
        (b"def build(:\n", "build", ("SyntaxError: invalid syntax", "line 1")),
        (b"\x89PNG\r\n\x00\x1a", "build", ("SyntaxError",)),
        (b"def build(size):\n  pass\n", "build", ("TypeError", "missing 1 required positional argument: 'size'")),
        (b"x = 1\n1 / 0\n", "x", ("net.py, line 2: ", "ZeroDivisionError: division by zero")),
        (b"def build():\n  import no_such_module\n", "build", ("net.py, line 2: ", "No module named 'no_such_module'")),
        (b"import sys\nsys.exit()\n", "build", ("net.py, line 2: ", "SystemExit")),
        (b"x = 1\n", "x", ("not a network", "x: int")),
    ],
)
def test_python_files_that_make_no_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, source: bytes, name: str, parts: tuple[str, ...]
) -> None:
    file, target = tmp_path / "net.py", tmp_path / "m.npz"
    file.write_bytes(source)
    np.savez(tmp_path / "w.npz", w=np.zeros(1))
    err = refused(capsys, "convert", tmp_path / "w.npz", target, "--network", f"{file}:{name}")
    for part in ("--network", *parts):
        assert part in err
    assert not target.exists()


def test_a_layer_by_a_name_that_several_have(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nodes = [Node("Relu", ["x"], ["r"], name="one/act"), Node("Relu", ["r"], ["y"], name="two/act")]
    kind = TensorType(np.dtype(np.float32), ("N", 3, 4, 4))
    fp.save(Graph({"x": kind}, ["y"], nodes), tmp_path / "m.npz")
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4), np.float32))
    err = refused(capsys, "features", tmp_path / "m.npz", tmp_path / "x.npy", "--layer", "act")
    assert err == "error: --layer: several layers match: expected one of one/act, two/act, got 'act'\n"


def test_white_pixels_of_a_model_that_are_no_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    graph = fp.load(MLP).graph
    graph.metadata["pixel_max"] = "nan"
    fp.save(graph, tmp_path / "m.npz")
    np.save(tmp_path / "x.npy", np.zeros((1, 64), np.float32))
    assert "metadata 'pixel_max': not a number" in refused(capsys, "run", tmp_path / "m.npz", tmp_path / "x.npy")
