"""Objects as a notebook and pandas see them."""

from __future__ import annotations

import builtins
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32, mlp

import forwardpass as fp
from forwardpass.errors import UnsupportedError
from forwardpass.run import Model


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers the text of the cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(mlp(), threads=1)


def hybrid() -> Model:
    m = Maker(dtype=F32)
    x = m("Relu", m.input("<x>", "N", 4), out="before")
    return Model(m.graph(m("Sigmoid", m("tests.Doubled", x, out="twice & more"), out="after")), threads=1)


def reports(model: Model) -> dict[str, Any]:
    with model.profile() as profile:
        model(*(np.ones((2, *t.shape[1:]), t.dtype) for t in model.inputs.values() if t.shape))
    return {
        "summary": model.summary(),
        "memory": model.memory_plan(),
        "profile": profile,
        "explanation": fp.explain(model),
        "plan": model.plan(),
    }


@pytest.mark.parametrize("make", [lambda: Model(mlp(), threads=1), hybrid], ids=["native", "hybrid"])
def test_reports_are_tables_in_notebooks(make: Any) -> None:
    model = make()
    for name, report in reports(model).items():
        page = Page(report._repr_html_())
        text = " ".join(str(report).split())
        assert page.cells or (name, report.tensors) == ("memory", []), name
        for cell in page.cells:
            assert " ".join(cell.split()) in text, (name, cell)


def test_names_are_escaped() -> None:
    model = hybrid()
    assert "<x>" not in model._repr_html_()
    page = Page(model._repr_html_())
    assert page.cells[3:6] == ["input", "<x>", "float32[N, 4]"]
    assert "twice &amp; more" in model.summary()._repr_html_()


def test_a_model_in_a_notebook(model: Model) -> None:
    page = Page(model._repr_html_())
    assert page.cells == ["", "name", "type", "input", "x", "float32[N, 8]", "output", "y", "float32[N, 3]"]
    assert "60 parameters" in page.words
    assert "1 thread" in page.words


def test_plans_show_their_steps(model: Model) -> None:
    plan = model.plan({"x": (5, 8)})
    assert repr(plan) == "<Plan x: float32[5, 8] -> y: float32[5, 3]>"
    assert str(plan).startswith(repr(plan))
    for step in plan.steps:
        assert step.kernel in str(plan)
    assert repr(hybrid().plan()).startswith("<Hybrid <x>: float32[1, 4] -> after")


def test_the_rest_prints_itself() -> None:
    config = fp.show_config()
    assert config.numpy in Page(config._repr_html_()).words
    log = Model(mlp()).log
    assert Page(log._repr_html_()).words == str(log)


@pytest.mark.frameworks  # shap brings pandas
def test_data_frames(model: Model) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    found = reports(model)
    frame = found["summary"].to_dataframe()
    assert list(frame["name"]) == [r["name"] for r in found["summary"].rows]
    assert frame["parameters"].sum() == 60
    frame = found["profile"].to_dataframe()
    assert frame["nanoseconds"].sum() == found["profile"].nanoseconds
    assert list(found["plan"].to_dataframe()["kernel"]) == [s.kernel for s in found["plan"].steps]
    assert list(found["memory"].to_dataframe()["bytes"]) == [t["bytes"] for t in found["memory"].tensors]
    assert set(fp.show_config().to_dataframe()["name"]) == {i["name"] for i in fp.show_config().isas}


def test_without_pandas(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UnsupportedError, match="pip install pandas"):
        model.summary().to_dataframe()
