"""The pages of HTML in a real browser: desktop and phone, light and dark.

Needs Chromium (`apt-get install chromium` on Debian). The site of the documentation is looked at too where it has been
built, by `make -C docs html`.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, shown
from cli_tools import CNN, onnx_model
from pages import ROOT

SITE = ROOT / "docs" / "_build" / "html"
WIDTHS = [1280, 390]
SCHEMES = {"dark": 0, "light": 1}
READABLE = 4.5
"""The contrast that WCAG 2 asks of text, level AA."""
SMALLEST = 11
"""Pixels of the smallest text of a plot."""

pytestmark = needs_browser


def looked_at(pages: list[Path], scheme: str, folder: Path) -> list[dict[str, Any]]:
    """What the browser found of each page at each width; nothing may be said on its console."""
    script = Path(__file__).with_name("browser.html").read_text()
    script = script.replace("PAGES)", f"{json.dumps([p.as_uri() for p in pages])})")
    (folder / "look.html").write_text(script.replace("WIDTHS)", f"{WIDTHS})"))
    done = shown(folder / "look.html", folder / scheme, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}")
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and '"[PST]: ' not in line]
    assert not said, "\n".join(said)
    found = re.search(r'<body><pre id="found">(.+)</pre>', done.stdout, re.S)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return list(json.loads(html.unescape(found[1])))


def check(found: list[dict[str, Any]], pages: list[Path], scheme: str) -> None:
    assert len(found) == len(pages) * len(WIDTHS)
    for page in found:
        assert page["title"], page
        assert page["dark"] == (scheme == "dark"), page
        assert (page["ground"] < 0.2) == (scheme == "dark"), page
        assert page["scrolled"] <= page["width"], page
    assert {page["width"] for page in found} == set(WIDTHS)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pages that the commands write."""
    from forwardpass.cli import main

    folder = tmp_path_factory.mktemp("reports")
    model = onnx_model(folder / "model.onnx", [("MatMul", ["x", "w"], ["a"]), ("Tanh", ["a"], ["y"])], size=64)
    names = [folder / f"{name}.html" for name in ("bench", "profile", "view")]
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    quick = ["--rounds", "2", "--seconds", "0.05", "--batch", "1,8", "-o", str(names[0])]
    assert main(["bench", str(model), "--against", "onnxruntime", *quick]) == 0
    assert main(["profile", CNN, "--batch", "8", "--seconds", "0.1", "--html", str(names[1])]) == 0
    assert main(["view", CNN, "-o", str(names[2])]) == 0
    return names


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reports(reports: list[Path], scheme: str, tmp_path: Path) -> None:
    found = looked_at(reports, scheme, tmp_path)
    check(found, reports, scheme)
    for page in found:
        assert page["faintest"]["ratio"] >= READABLE, page
        assert page["smallest"] >= SMALLEST, page


@pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="the site is not built (make -C docs html)")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_site(scheme: str, tmp_path: Path) -> None:
    pages = [*SITE.glob("*.html"), *SITE.glob("api/*.html")]
    pages.append(SITE / "api" / "generated" / "forwardpass.Model.html")
    check(looked_at(pages, scheme, tmp_path), pages, scheme)


def test_a_bad_page_is_found(tmp_path: Path) -> None:
    """One that is too wide and faint, and one with an error in its script."""
    bad = tmp_path / "bad.html"
    bad.write_text('<!DOCTYPE html><title>bad</title><p style="width: 2000px; color: #ccc; background: #fff">faint')
    found = looked_at([bad], "light", tmp_path)
    assert all(page["scrolled"] > page["width"] for page in found)
    assert found[0]["faintest"] == {"ratio": pytest.approx(1.605, abs=0.01), "text": "faint"}
    bad.write_text("<!DOCTYPE html><title>bad</title><script>nothing();</script>")
    with pytest.raises(AssertionError, match="nothing is not defined"):
        looked_at([bad], "light", tmp_path)
