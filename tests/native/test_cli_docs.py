"""The page of the command line: its examples run, and it names every command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import CNN, onnx_model

from forwardpass.cli import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not part of this installation")


def examples() -> list[str]:
    """The lines of the blocks that are run."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", examples() if PAGE.is_file() else [])
def test_examples_run(tmp_path: Path, line: str) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copy(CNN, tmp_path / "model.npz")
    onnx_model(tmp_path / "model.onnx", [("MatMul", ["x", "w"], ["a"]), ("Tanh", ["a"], ["y"])])
    shell = f'set -e\nforwardpass() {{ "{sys.executable}" -m forwardpass "$@"; }}\n{line}\n'
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for file in re.findall(r"(?:-o|--trace|--html|>) (\S+)", line):
        assert (tmp_path / file).stat().st_size > 0, file


def test_every_command_is_in_the_table() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().split("What all")[0], re.M)) == COMMANDS


def test_examples_are_there() -> None:
    assert len(examples()) > 8
