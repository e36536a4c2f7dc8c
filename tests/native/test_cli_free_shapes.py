"""Models whose free sizes cannot be 1: commands say what they could not do, and which option helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from graphs import Maker
from small_graphs import F32

import forwardpass as fp
from forwardpass.cli import main


@pytest.fixture
def file(tmp_path: Path) -> str:
    m = Maker(dtype=F32)
    pooled = m("MaxPool", m.input("x", "N", 3, "H", "W"), kernel_shape=[2, 2], strides=[2, 2], out="y")
    fp.save(m.graph(pooled), tmp_path / "m.npz")
    return str(tmp_path / "m.npz")


def test_info_shows_what_needs_no_shapes(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", file]) == 0
    out = capsys.readouterr().out
    assert "MaxPool" in out
    assert "give --shape for the plan" in out
    assert main(["info", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["flops"], found["steps"], found["memory"]) == (None, [], {})
    assert "window" in found["no_plan"]


def test_info_with_shapes_plans(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", file, "--shape", "x=1,3,4,4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"]
    assert "no_plan" not in found
    assert main(["info", file, "--shape", "x=1,3,1,1"]) == 1


def test_sizes_that_were_made_up_are_told(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", file]) == 1
    told = capsys.readouterr().err
    assert "taken as 1,3,1,1; --shape x=... gives other sizes" in told
    assert main(["verify", file, "--shape", "x=1,3,4,4"]) == 0
    assert "taken as" not in capsys.readouterr().err
