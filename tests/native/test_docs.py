"""The pages: their paths and links are real, and what they copy from the code is still true.

`PYTHONPATH=tests python tests/native/test_docs.py` writes the plan of the digits network into the page that shows it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pages import ROOT, blocks, pages

import forwardpass as fp
from forwardpass import Model, _native, errors
from forwardpass.formats import archive, npy, npz, schema, schema_dump
from forwardpass.ops import activations
from forwardpass.passes import PIPELINE

PAGES = pages()
PLAN = re.compile(r"(?<=<!-- explain: digits_cnn, avx512 -->\n```text\n).*?(?=\n```\n)", re.S)


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


README = (ROOT / "README.md").read_text()
LAYOUT = README.split("## How the code is laid out")[1].split("\n## ")[0]


def test_every_path_of_the_layout_exists() -> None:
    rows = [line.split("|")[1] for line in LAYOUT.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 30
    for name in [*named, *re.findall(r"`((?:tests|bench|csrc|src)/[\w./]*)`", README)]:
        assert (ROOT / name).is_dir() if name.endswith("/") else (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "pattern", ["src/forwardpass/*.py", "src/forwardpass/plan/*.py", "csrc/core/*.cpp", "csrc/kernels/*.def"]
)
def test_the_layout_names_every_module(pattern: str) -> None:
    found = {p.relative_to(ROOT).as_posix() for p in ROOT.glob(pattern)} - {"src/forwardpass/__main__.py"}
    assert len(found) > 3
    missing = {name for name in found if f"`{name}`" not in LAYOUT}
    assert not missing


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        to = page.parent / target if target else page
        assert target.startswith("https://") or to.exists(), target
        assert not anchor or anchor in anchors(to), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    sources = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py"))
    text = page.read_text()
    for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in sources, name


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    left = [f"{k}: {line}" for k, line in enumerate(page.read_text().splitlines(), 1) if "TODO" in line]
    assert not left, "\n".join(left)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_page_knows_a_machine(page: Path) -> None:
    found = re.findall(r"(?<![\w.~-])/(?:work|tmp|home|root|Users|opt|mnt|usr)\b\S*", page.read_text())
    assert not found


def test_the_readme_lists_every_error() -> None:
    for name in errors.__all__:
        assert f"`{name}`" in README or f"`forwardpass.{name}`" in README, name


def test_the_limits_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    limits = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text.split("## Limits")[1].split("##")[0], re.M))
    assert limits["Entries"] == f"{archive.MAX_MEMBERS:,}"
    assert limits["Bytes of an entry's name"] == f"{archive.MAX_NAME_BYTES:,}"
    assert limits["Ratio that a compressed entry may claim"] == f"{archive.MAX_RATIO:,} : 1"
    assert limits["Bytes that all compressed entries together may claim"] == (
        f"{archive.INFLATED_BASE >> 20} MiB + {archive.INFLATED_PER_BYTE} x the size of the file"
    )
    assert limits["Rank of an array"] == str(npy.MAX_RANK)
    assert npy.MAX_ELEMENTS == 2**62
    assert limits["Bytes of an array"].startswith("2^62")
    assert limits["Bytes of an array's header"] == f"{npy.MAX_HEADER_BYTES:,}"
    assert limits["Bytes of `graph.json`"] == f"{schema.MAX_BYTES >> 20} MiB"
    assert limits["Nesting in `graph.json`"] == str(schema.MAX_DEPTH)
    assert npz.LISTED_BASE == 2**20
    assert limits["Elements of lists that are stored as arrays"].startswith("2^20")


def test_the_graph_of_the_format_page_is_what_is_written() -> None:
    page = ROOT / "docs" / "file-format.md"
    (shown,) = [b.text for b in blocks(page) if b.kind == "json"]
    from forwardpass.builder import Dense, Input, Sequential

    net = Sequential([Input((2,), name="x"), Dense(3, "relu"), Dense(1)], name="tiny").init(seed=0)
    assert schema_dump.dump(net.graph())[0].decode() == shown


def test_the_index_leads_to_every_page() -> None:
    """In its text, and in the contents of the site."""
    docs = ROOT / "docs"
    text = (docs / "index.md").read_text()
    contents = {line for b in blocks(docs / "index.md") for line in b.text.splitlines()}
    for page in sorted([*docs.glob("*.md"), *docs.glob("tutorials/*.md")]):
        name = page.relative_to(docs).with_suffix("").as_posix()
        if name != "index":
            assert f"({name}.md)" in text, page
            assert name in contents or (name.startswith("tutorials/") and "tutorials/*" in contents), page


@pytest.mark.parametrize("module", [fp, fp.builder, fp.metrics, fp.preprocess, errors], ids=lambda m: m.__name__)
def test_the_api_pages_have_every_public_name(module: ModuleType) -> None:
    listed = "\n".join(p.read_text() for p in (ROOT / "docs" / "api").glob("*.md"))
    at = "forwardpass" if module is errors else module.__name__
    names = {f"{at}.{name}" for name in module.__all__} - {
        "forwardpass.builder",
        "forwardpass.metrics",
        "forwardpass.preprocess",
    }
    assert names <= set(re.findall(r"^   (forwardpass[\w.]+)$", listed, re.M))


def test_the_activation_that_the_page_adds_is_not_there() -> None:
    """And its row of NumPy is one, so that the page can be followed."""
    text = (ROOT / "docs" / "extending.md").read_text()
    name = re.search(r"<!-- rows: (\w+) -->", text)[1]  # type: ignore[index]
    row = next(b.text for b in blocks(ROOT / "docs" / "extending.md") if b.text.startswith(f'"{name}": _row('))
    made = eval(f"{{{row}}}", {"_row": activations._row, "np": np})[name]
    assert name not in activations.ACTIVATIONS
    assert f"UNARY({made.row}, " in text
    assert made.reference(np.float64(0.5), *made.parameters.values()) == np.tanh(0.5)


def test_the_passes_that_the_plan_names_exist() -> None:
    shown = PLAN.search((ROOT / "docs" / "architecture.md").read_text())
    assert shown is not None
    named = set(re.findall(r"^  (\w+)$", shown[0].split("\nplan\n")[0], re.M))
    assert named
    assert named <= {p.name for p in PIPELINE}


def test_every_public_name_is_reached_in_any_order(tmp_path: Path) -> None:
    """The module `explain` and the function of that name must not take each other's place."""
    for first in ("show_config", "explain", "load", "Model"):
        code = f"import forwardpass as fp; fp.{first}; assert callable(fp.explain), type(fp.explain)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def _plan() -> str:
    """Of the network that the page makes."""
    names: dict[str, Any] = {}
    exec(next(b.text for b in blocks(ROOT / "docs" / "architecture.md") if "network = " in b.text), names)
    return str(fp.explain(Model(names["network"], threads=1, isa="avx512"))).rstrip()


@pytest.mark.skipif("avx512" not in _native.available_isas(), reason="the page shows the plan for AVX-512")
def test_the_plan_of_the_architecture_page_is_that_of_today() -> None:
    shown = PLAN.search((ROOT / "docs" / "architecture.md").read_text())
    assert shown is not None
    assert shown[0] == _plan(), "run `PYTHONPATH=tests python tests/native/test_docs.py` to write it anew"


def _write_plan() -> None:
    page = ROOT / "docs" / "architecture.md"
    text = page.read_text()
    page.write_text(PLAN.sub(lambda _: _plan(), text))


if __name__ == "__main__":
    _write_plan()
