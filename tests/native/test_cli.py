"""The command `forwardpass` as a user meets it: a process of its own, what it prints and how it exits."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forwardpass.cli import COMMANDS, main
from forwardpass.data import digits, path

CNN, MLP = str(path("digits_cnn.npz")), str(path("digits_mlp.npz"))

WITHOUT = """
import sys
hidden = {names!r}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
from forwardpass.cli import main
raise SystemExit(main())
"""


def command(
    *words: str, hide: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `forwardpass words`, in a Python that cannot import the packages in `hide`."""
    start = ["-c", WITHOUT.format(names=hide)] if hide else ["-m", "forwardpass"]
    clean = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "PYTHONIOENCODING")}
    clean |= {"PYTHONIOENCODING": "utf-8", **(env or {})}
    return subprocess.run(
        [sys.executable, *start, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=clean,
        timeout=120,
    )


def on_terminal(*words: str, env: dict[str, str]) -> str:
    """What `forwardpass words` writes to a terminal of 100 columns."""
    leader, follower = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "forwardpass", *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**clean, "TERM": "xterm-256color", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8", **env},
    )
    os.close(follower)
    written = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # Linux reports the end of a terminal as an input/output error.
            break
        if not block:
            break
        written += block
    os.close(leader)
    assert process.wait(timeout=120) == 0, written.decode()
    return written.decode()


def fails(result: subprocess.CompletedProcess[str], *parts: str, status: int = 1) -> None:
    """The command failed with one line on stderr that holds `parts`, and nothing on stdout."""
    assert result.returncode == status, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    if status == 1:
        errors = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: ")


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    """The first held-out digit as a .npy of shape [8, 8, 1]: one image, no batch dimension."""
    images, _ = digits()
    file = tmp_path / "digit.npy"
    np.save(file, images[0][..., None])
    return file


def test_help_lists_every_command() -> None:
    result = command("--help")
    assert result.returncode == 0
    for name in COMMANDS:
        assert name in result.stdout
        assert command(name, "--help").returncode == 0


def test_help_does_not_import_numpy() -> None:
    code = (
        "import sys; from forwardpass.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'numpy' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_version_is_that_of_the_package() -> None:
    import forwardpass as fp

    result = command("--version")
    assert (result.returncode, result.stdout.split()) == (0, ["forwardpass", fp.__version__])


@pytest.mark.parametrize("words", [(), ("nonsense",), ("demo", "--model", "rnn"), ("run",), ("info", CNN, "--bad")])
def test_usage_errors_exit_with_2(words: tuple[str, ...]) -> None:
    fails(command(*words), "usage:", status=2)


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_demo_prints_accuracy_latency_and_plan(kind: str) -> None:
    result = command("demo", "--model", kind, "--calls", "500")
    assert result.returncode == 0, result.stderr
    for part in (
        "accuracy",
        "p50",
        "p99.9",
        "batch 64",
        "images per second",
        "kernel",
        "ISA",
        "█",
        "written",
    ):
        assert part in result.stdout
    assert "\x1b" not in result.stdout


def test_demo_json_agrees_with_the_model() -> None:
    import forwardpass as fp

    result = command("demo", "--json", "--calls", "500")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    images, truth = digits()
    scores = fp.load(CNN)(images[..., None].astype(np.float32))
    assert report["correct"] == int((scores.argmax(axis=1) == truth).sum())
    assert report["accuracy"] == report["correct"] / len(images)
    latency = report["latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"]
    assert report["batch"]["images_per_second"] == 64 * report["batch"]["calls_per_second"] > 0
    assert report["steps"]
    assert all(step["kernel"] and step["isa"] for step in report["steps"])


def test_demo_without_rich_is_the_same_text() -> None:
    """Into a pipe the drawing and the tables do not depend on whether rich is there."""
    plain, rich = command("demo", "--calls", "50", hide=("rich",)), command("demo", "--calls", "50")
    assert plain.returncode == rich.returncode == 0, plain.stderr

    def fixed(text: str) -> list[str]:
        return [line for line in text.splitlines() if " us" not in line and "per second" not in line]

    # Measured figures differ between runs, and the column that holds them may change its width.
    assert [" ".join(x.replace("-", " ").split()) for x in fixed(plain.stdout)] == [
        " ".join(x.replace("-", " ").split()) for x in fixed(rich.stdout)
    ]


def test_terminal_gets_styles_unless_no_color() -> None:
    pytest.importorskip("rich", reason="rich is not installed (extra [cli])")
    styled = on_terminal("info", CNN, env={})
    assert "\x1b[1" in styled
    bare = on_terminal("info", CNN, env={"NO_COLOR": "1"})
    assert "\x1b[36" not in bare
    assert ";36m" not in bare
    assert "Conv" in styled
    assert "Conv" in bare


def test_ascii_terminal_gets_ascii() -> None:
    result = command("demo", "--calls", "50", env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert "####" in result.stdout


def test_run_names_the_digit(image_file: Path) -> None:
    _, truth = digits()
    result = command("run", CNN, str(image_file), "--json", "--top", "4")
    assert result.returncode == 0, result.stderr
    assert "batch dimension" in result.stderr
    assert "uint8" in result.stderr
    report = json.loads(result.stdout)
    (output,) = report["outputs"].values()
    assert output["shape"] == [1, 10]
    classes = output["top"][0]
    assert len(classes) == 4
    assert classes[0]["label"] == str(truth[0])
    assert [c["score"] for c in classes] == sorted((c["score"] for c in classes), reverse=True)


def test_run_prints_a_table_and_saves_the_output(image_file: Path, tmp_path: Path) -> None:
    import forwardpass as fp

    saved = tmp_path / "y.npy"
    result = command("run", CNN, str(image_file), "--output", str(saved))
    assert result.returncode == 0, result.stderr
    assert "top 1" in result.stdout
    assert "top 3" in result.stdout
    images, _ = digits()
    np.testing.assert_array_equal(np.load(saved), fp.load(CNN)(images[:1, ..., None].astype(np.float32)))


def test_run_saves_all_outputs_by_name(image_file: Path, tmp_path: Path) -> None:
    import forwardpass as fp

    saved = tmp_path / "y.npz"
    (name,) = fp.load(CNN).inputs
    result = command("run", CNN, "--input", f"{name}={image_file}", "--output", str(saved))
    assert result.returncode == 0, result.stderr
    with np.load(saved, allow_pickle=False) as archive:
        assert sorted(archive) == sorted(fp.load(CNN).outputs)


@pytest.mark.parametrize("model", [CNN, MLP])
def test_run_reads_an_image(model: str, tmp_path: Path) -> None:
    """A digit enlarged fourfold, dark on white as on paper, is read like the pixels themselves."""
    pillow = pytest.importorskip("PIL.Image", reason="pillow is not installed (extra [test])")
    images, truth = digits()
    pixels = 255 - np.round(images[1].astype(float) * 255 / 16)
    file = tmp_path / "digit.png"
    pillow.fromarray(np.kron(pixels, np.ones((4, 4))).astype(np.uint8)).save(file)
    result = command("run", model, str(file), "--invert", "--json")
    assert result.returncode == 0, result.stderr
    assert "resized 32 x 32 to 8 x 8" in result.stderr
    (output,) = json.loads(result.stdout)["outputs"].values()
    assert output["top"][0][0]["label"] == str(truth[1])


def test_json_has_null_for_nan(tmp_path: Path) -> None:
    file = tmp_path / "nan.npy"
    np.save(file, np.full((1, 64), np.nan, np.float32))
    result = command("run", MLP, str(file), "--json")
    assert result.returncode == 0, result.stderr

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    (output,) = json.loads(result.stdout, parse_constant=refuse)["outputs"].values()
    assert output["values"] == [None] * 8


def test_run_without_pillow_says_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "digit.png"
    file.write_bytes(b"")
    fails(command("run", CNN, str(file), hide=("PIL",)), "Pillow", "forwardpass[cli]")


def test_run_failures_are_one_line(tmp_path: Path, image_file: Path) -> None:
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.zeros((2, 9, 8, 1), np.float32))
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([None, 1]), allow_pickle=True)
    text = tmp_path / "text.npy"
    text.write_text("not an array")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(Path(CNN).read_bytes()[:5000])
    fails(command("run", str(tmp_path / "none.npz"), str(image_file)), "none.npz")
    fails(command("run", CNN, str(tmp_path / "none.npy")), "none.npy")
    fails(command("run", CNN, str(wrong)), "9")
    fails(command("run", CNN, str(objects)), "objects.npy")
    fails(command("run", CNN, str(text)), "text.npy")
    fails(command("run", str(broken), str(image_file)), "broken.npz")
    fails(command("run", CNN, str(image_file), str(image_file)), "too many input files")
    fails(command("run", CNN, "--input", f"nonsense={image_file}"), "nonsense")
    fails(command("run", CNN), "no file for input")
    fails(command("run", CNN, str(image_file), "--precision", "float3"), "float3")


def test_run_failures_of_output(tmp_path: Path, image_file: Path) -> None:
    missing = tmp_path / "no" / "such" / "folder" / "y.npy"
    assert command("run", CNN, str(image_file), "--output", str(missing)).returncode == 1
    result = command("run", CNN, str(image_file), "--output", str(tmp_path / "y.txt"))
    assert result.returncode == 1
    assert ".npy or .npz" in result.stderr


def test_info_counts_what_the_model_has() -> None:
    import forwardpass as fp

    result = command("info", CNN, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    graph = fp.load(CNN).graph
    assert sum(report["operators"].values()) == len(graph.nodes)
    assert report["operators"]["nhwc.Conv"] == 3
    # Two 3 x 3 convolutions after the first, 9 * inputs * filters + filters each, and two dense layers.
    assert report["parameters"] == 160 + 4640 + 9248 + 8256 + 650
    assert report["bytes"] >= 4 * report["parameters"]
    assert list(report["inputs"]) == list(graph.inputs)
    assert report["memory"]["total"] >= report["memory"]["arena"] > 0
    assert "CC BY 4.0" in report["metadata"]["data"]


def test_info_memory_grows_with_the_batch() -> None:
    def arena(batch: int) -> int:
        result = command("info", CNN, "--shape", f"{batch},8,8,1", "--json")
        assert result.returncode == 0, result.stderr
        return int(json.loads(result.stdout)["memory"]["arena"])

    assert arena(64) > arena(1)
    fails(command("info", CNN, "--shape", "1,8,eight,1"), "--shape")
    fails(command("info", CNN, "--shape", "other=1,8,8,1"), "other")


def test_info_text_names_operators_and_memory() -> None:
    result = command("info", MLP)
    assert result.returncode == 0, result.stderr
    for part in ("float32", "parameters", "plan", "arena", "native", "digits_mlp"):
        assert part in result.stdout


def test_closed_pipe_ends_quietly() -> None:
    shell = f"{sys.executable} -m forwardpass info {CNN} | head -c 1"
    result = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120)
    assert result.stderr == ""


def test_main_returns_1_and_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "/no/such/model.npz"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
