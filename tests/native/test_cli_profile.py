"""`forwardpass profile`: the figures belong together, and the files can be read."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from cli_tools import CNN, Page, as_json, called, onnx_model

import forwardpass as fp
from forwardpass.cli.plots import Point, bars, roofline
from networks import build


def test_figures_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("profile", CNN, "--seconds", "0.05", "--no-peak", "--threads", "1", "--batch", "4")
    status, report = as_json(capsys, *words)
    assert status == 0
    assert report["calls"] >= 3
    assert report["ceilings"] is None
    assert math.isclose(sum(s["share"] for s in report["steps"]), 1, rel_tol=1e-9)
    assert math.isclose(sum(s["us"] for s in report["steps"]), report["us"], rel_tol=1e-6)
    plan = fp.explain(fp.load(CNN, threads=1), {"pixels": (4, 8, 8, 1)})
    assert [(s["node"], s["kernel"], s["flops"]) for s in report["steps"]] == [
        (s["node"], s["kernel"], s["flops"]) for s in plan.steps
    ]
    for s in report["steps"]:
        assert math.isclose(s["gflops"], s["flops"] / s["us"] / 1e3, rel_tol=1e-9)
        assert s["of_ceiling"] is None
        assert s["why"]
    assert report["native_share"] == 1


def test_what_the_passes_made_of_a_node_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fp.save(build("cifar cnn"), tmp_path / "m.npz")
    status, report = as_json(capsys, "profile", str(tmp_path / "m.npz"), "--seconds", "0.05", "--no-peak")
    assert status == 0
    assert "nhwc.Conv" in report["steps"][0]["why"]


def test_a_definition_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "det.onnx", [("MatMul", ["x", "w"], ["a"]), ("Det", ["a"], ["y"])], shape=[8, 8])
    status, report = as_json(capsys, "profile", model, "--seconds", "0.02", "--no-peak")
    assert status == 0
    (step,) = [s for s in report["steps"] if s["node"] == "Y"]
    assert step["kernel"] == "definition"
    assert step["why"].startswith("no native kernel: ")
    assert 0 < report["native_share"] < 1


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
def test_ceilings_trace_and_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace, page = tmp_path / "t.json", tmp_path / "p.html"
    words = ("profile", CNN, "--seconds", "0.05", "--batch", "16", "--trace", trace, "--html", page)
    status, report = as_json(capsys, *words)
    assert status == 0
    assert report["ceilings"]["fma_gflops"] > 0
    assert report["ceilings"]["level"] in report["ceilings"]["read_gbytes"]
    shares = [s["of_ceiling"] for s in report["steps"] if s["flops"]]
    assert shares
    assert all(0 < share <= 1 for share in shares)
    events = json.loads(trace.read_text())["traceEvents"]
    assert {e["ph"] for e in events} == {"X"}
    assert all(e["dur"] >= 0 for e in events)
    found = Page(page)
    assert found.count("circle") == sum(s["flops"] > 0 and s["bytes"] > 0 for s in report["steps"])
    for step in report["steps"]:
        assert step["node"] in found.source


def test_a_machine_without_a_compiler_has_no_ceilings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    page = tmp_path / "p.html"
    status, report = as_json(capsys, "profile", CNN, "--seconds", "0.02", "--html", page)
    assert status == 0
    assert "compiler" in report["ceilings"]["why_not"]
    assert "compiler" in Page(page).source
    status, out, _ = called(capsys, "profile", CNN, "--seconds", "0.02")
    assert status == 0
    assert "compiler" in out


def test_inputs_from_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for words, part in (
        (("--input", "nothing"), "--input"),
        (("--shape", "1,8"), "pixels"),
        (("--input", "pixels=none.npy"), "none.npy"),
    ):
        status, out, err = called(capsys, "profile", CNN, "--no-peak", *words)
        assert (status, out) == (1, ""), words
        assert part in err


def test_plots_put_values_in_their_place() -> None:
    made = bars("times", [("short", 1.0, 1.0, 1.0, "1"), ("long", 2.0, 2.0, 2.0, "2")])
    widths = [float(part.split('"')[1]) for part in made.split("width=")[1:] if part.startswith('"')][-2:]
    assert math.isclose(widths[1], 2 * widths[0], rel_tol=0.01)
    assert "<script" not in bars("times", [("<script>", 1.0, 1.0, 1.0, "&")])
    assert roofline("roof", 100.0, [("L1", 400.0)], []) == ""
    made = roofline("roof", 100.0, [("L1", 400.0)], [Point(1.0, 50.0, "a <b>"), Point(0.0, 0.0, "none")])
    assert made.count("<circle") == 1
    assert "a &lt;b&gt;" in made
