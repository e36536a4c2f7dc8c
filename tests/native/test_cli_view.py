"""`forwardpass view`: the page has every node once, is whole, and needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
import webbrowser
from pathlib import Path

import pytest
from browser import needs_browser, shown
from cli_tools import CNN, MLP, Page, as_json, called, onnx_model

import forwardpass as fp
from forwardpass.cli.layers import HEIGHT, WIDTH, arrange


def boxes(model: fp.Model) -> int:
    return sum(len(g.inputs) + len(g.nodes) + len(g.outputs) for g in (model.graph, model.optimized))


@pytest.mark.parametrize("model", [CNN, MLP])
def test_every_node_is_on_the_page(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str) -> None:
    file = tmp_path / "view.html"
    status, report = as_json(capsys, "view", model, "-o", file, "--batch", "2")
    assert (status, report["page"], report["opened"]) == (0, str(file), False)
    loaded = fp.load(model)
    page = Page(file)
    assert page.count("g", class_="box") == boxes(loaded)
    assert page.count("div", class_="graph") == 2
    (details,) = re.findall(r'<script type="application/json" id="details">(.*?)</script>', page.source, re.S)
    told = json.loads(details)
    assert len(told) == boxes(loaded)
    assert {a["id"] for t, a in page.tags if t == "g" and a.get("class") == "box"} == set(told)
    assert sum("time: " in text for text in told.values()) >= len(report["times_us"]) - 1
    assert page.count("rect", class_="heat") > 0
    assert any("float32[2, 10]" in text for text in told.values())
    assert (report["nodes_before"], report["nodes_after"]) == (len(loaded.graph.nodes), len(loaded.optimized.nodes))


@needs_browser
def test_the_script_runs_in_a_browser(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of the two graphs one is shown; a search marks nodes, and a chosen node is told with its edges."""
    file = tmp_path / "view.html"
    assert called(capsys, "view", CNN, "-o", file, "--no-time")[0] == 0
    steps = (
        "$('#search').value = 'nhwc.conv'; search(); choose($$('.box.hit', shown())[0]);"
        "document.title = [$$('.hit').length, $$('.chosen').length, $$('.edge.near').length].join();"
    )
    file.write_text(file.read_text().replace("show('after');", f"show('after');{steps}"))
    done = shown(file, tmp_path / "profile")
    assert "<title>3,1,2</title>" in done.stdout
    assert '<div class="graph" id="before" hidden="">' in done.stdout
    assert '<div class="graph" id="after">' in done.stdout
    assert "<pre>nhwc.Conv  conv1/conv" in done.stdout


def test_names_are_escaped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nasty = "</script><b>&\"'"
    model = onnx_model(tmp_path / "nasty.onnx", [("Relu", ["x"], [nasty]), ("Tanh", [nasty], ["y"])])
    file = tmp_path / "view.html"
    assert called(capsys, "view", model, "-o", file)[0] == 0
    page = Page(file)
    assert page.count("b") == 0
    assert nasty not in page.source


def test_a_model_that_cannot_run_is_shown_without_times(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Sizes of 1 do not fit: the graph is drawn all the same, and a note says why there are no times."""
    model = onnx_model(tmp_path / "one.onnx", [("MatMul", ["x", "w"], ["y"])], shape=["N", "M"])
    file = tmp_path / "view.html"
    status, _, err = called(capsys, "view", model, "-o", file)
    assert status == 0
    assert "without times" in err
    assert Page(file).count("rect", class_="heat") == 0
    assert called(capsys, "view", model, "-o", file, "--shape", "1,7")[0] == 1
    assert called(capsys, "view", model, "-o", file, "--shape", "1,8")[0] == 0
    assert Page(file).count("rect", class_="heat") > 0


def test_the_browser_is_opened_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    _, report = as_json(capsys, "view", MLP, "--no-time")
    assert report["opened"]
    assert opened == [Path(report["page"]).as_uri()]
    assert report["times_us"] == {}
    _, report = as_json(capsys, "view", MLP, "--no-open", "--no-time")
    assert not report["opened"]
    assert Path(report["page"]).exists()
    as_json(capsys, "view", MLP, "--no-time", "-o", tmp_path / "v.html")
    assert len(opened) == 1


def test_boxes_do_not_overlap_and_edges_go_down() -> None:
    graph = fp.load(CNN).graph
    drawing = arrange(graph)
    places = [(b.x, b.y) for b in drawing.boxes]
    assert len(set(places)) == len(places)
    for k, (x, y) in enumerate(places):
        assert 0 <= x <= drawing.width - WIDTH
        assert 0 <= y <= drawing.height - HEIGHT
        assert not any(y == v and abs(x - u) < WIDTH for u, v in places[k + 1 :])
    assert drawing.edges
    for a, b, _ in drawing.edges:
        assert drawing.boxes[a].y + HEIGHT < drawing.boxes[b].y
