"""Every example on every page is run, each page in a process and an empty folder of its own (`pages.py` says how)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import INSTALLS, ROOT, RUN, Block, blocks, pages

RUNNER = Path(__file__).with_name("pages.py")
# Frameworks use deprecated parts of each other and of Python; other pages have no excuse.
OF_OTHERS = [f"-Wignore::{kind}Warning" for kind in ("Deprecation", "Future", "User")]


def examples(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language in RUN and not b.why_not and not b.file]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_page(page: Path, folder: Path, packages: tuple[str, ...]) -> None:
    # Relative ones would not be found from there.
    paths = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-Werror", *(OF_OTHERS if packages else []), str(RUNNER), str(page), *packages]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", [p for p in pages() if any(not b.needs for b in examples(p))], ids=page_id)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path, ())


def is_there(name: str) -> bool:
    """Whether there is what a block needs: a package, or `models`, the folder of the real models."""
    return bool(os.environ.get("FORWARDPASS_MODELS")) if name == "models" else find_spec(name) is not None


OF_TESTS = {"models", "Cython", "PIL", "h5py", "onnx", "onnxruntime", "setuptools"}
"""What blocks need that the extra `test` brings: their pages run with it, and not once more beside frameworks."""


def with_packages(page: Path) -> list[object]:
    """A page with each of the sets of packages that its blocks need. One that is part of another set that is there runs
    only with --exhaustive, since its blocks run with that one's."""
    needed = {b.needs for b in examples(page) if b.needs}
    there = [set(needs) for needs in needed if all(map(is_there, needs))]
    found = []
    for needs in sorted(needed):
        marks = [] if OF_TESTS.issuperset(needs) else [pytest.mark.frameworks]
        if any(set(needs) < other for other in there):
            marks.append(pytest.mark.exhaustive)
        found.append(pytest.param(page, needs, marks=marks, id=f"{page_id(page)}-{','.join(needs)}"))
    return found


@pytest.mark.parametrize(("page", "needs"), [case for page in pages() for case in with_packages(page)])
def test_examples_with_packages_run(page: Path, needs: tuple[str, ...], tmp_path: Path) -> None:
    missing = [name for name in needs if not is_there(name)]
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    run_page(page, tmp_path, needs)


@pytest.mark.parametrize("page", pages(), ids=page_id)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    unknown = [f"line {b.line - 1}: {b.kind!r}" for b in blocks(page) if not b.known]
    assert not unknown, f"see {RUNNER.name} for what may stand behind a fence: {'; '.join(unknown)}"


def test_the_readme_begins_with_the_two_commands() -> None:
    found = blocks(ROOT / "README.md")
    assert [(b.kind, b.text) for b in found[:2]] == [("sh", command) for command in INSTALLS]
    assert found[1].line < 20


def test_a_wrong_example_fails(tmp_path: Path) -> None:
    """Of Python and of the shell, with the line of the page."""
    page = tmp_path / "wrong.md"
    for number, block in enumerate(
        ("python\n\nassert 1 == 2\n", "sh\nforwardpass info nowhere.npz\n", "sh\nfalse\ntrue\n")
    ):
        page.write_text(f"# Wrong\n\n```{block}```\n")
        (tmp_path / str(number)).mkdir()
        with pytest.raises(AssertionError, match="line 5" if number == 0 else "line 4"):
            run_page(page, tmp_path / str(number), ())
