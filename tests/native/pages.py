"""The examples of a page, and running them: `python pages.py PAGE.md [PACKAGE...]` in an empty folder.

Behind the fence of a block stands its language, and then, where it is not just run, what becomes of it:

    python                          is run, in one namespace with those before it
    python needs torch, models      is run where these packages are among the arguments; `models` are the real models
    sh                              is run by bash; `python` and `forwardpass` are those of this interpreter
    sh no-run: it takes an hour     is not run, for that reason
    cpp file: race.cpp              is written to that file, for the blocks after it

A table under the comment `<!-- last column: python needs onnx -->` is a block too: of all code in its last column.
The folder `bench` of the checkout is there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLS = [
    'python3 -m venv .venv && .venv/bin/pip install ".[cli]" && .venv/bin/forwardpass demo\n',
    'python3 -m venv .venv && .venv/bin/pip install ".[test,cli]" && .venv/bin/python -m pytest\n',
]
"""The commands with which the README begins. `.ci/run` runs the second, and with it all else."""
RUN = ("python", "sh")
"""The languages of examples; all else is text, or a file."""
OTHER = ("", "text", "json", "toml", "cython", "cpp", "yaml", "{toctree}", "{eval-rst}")
_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.M | re.S)
_TABLE = re.compile(r"^<!-- last column: ([^\n]*) -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", re.M)
_WRITES = re.compile(r"(?:-o|--trace|--html|[^&]>) ([\w./-]+)")
_SHELL = 'python() {{ "{0}" "$@"; }}\nforwardpass() {{ "{0}" -m forwardpass "$@"; }}\n'


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, the text, and the line where the text begins."""

    kind: str
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.kind.partition(" ")[0]

    @property
    def needs(self) -> tuple[str, ...]:
        """The packages without which it is not run."""
        return tuple(re.findall(r"[\w.]+", self._after("needs ")))

    @property
    def file(self) -> str:
        """What it is written to."""
        return self._after("file: ")

    @property
    def why_not(self) -> str:
        """The reason for which it is not run."""
        return "it installs the package" if self.text in INSTALLS else self._after("no-run: ")

    @property
    def known(self) -> bool:
        """Whether the line of the fence is one of those above."""
        marked = self.file or (self.language in RUN and (self.needs or self.why_not))
        return self.language in RUN + OTHER and (self.kind == self.language or bool(marked))

    def _after(self, word: str) -> str:
        mark = self.kind.removeprefix(self.language).strip()
        return mark.removeprefix(word).strip() if mark.startswith(word) else ""


def pages() -> list[Path]:
    """All pages that have examples, or may."""
    docs = [p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md", *docs]


def blocks(page: Path) -> list[Block]:
    """What is fenced, and the tables whose last column is code, as they stand on the page."""
    text = page.read_text(encoding="utf-8")
    found = [(m.start(2), m[1].strip(), m[2]) for m in _BLOCK.finditer(text)]
    found += [(m.start(2), m[1], _last_column(m[2])) for m in _TABLE.finditer(text)]
    return [Block(kind, code, text.count("\n", 0, start) + 1) for start, kind, code in sorted(found)]


def _last_column(rows: str) -> str:
    """The code of a table's last column, a line for each row, so that tracebacks name the right one."""
    cells = [row.rstrip(" |").rpartition(" | ")[2] for row in rows.splitlines()]
    for row, cell in zip(rows.splitlines(), cells):
        assert "`" in cell, f"no code in the last column of {row}"
    return "".join("; ".join(re.findall(r"`([^`]+)`", cell)) + "\n" for cell in cells)


def run(page: Path, packages: list[str]) -> None:
    """Run the examples of a page in the current folder, and of those that need packages the ones whose are given."""
    names: dict[str, object] = {"__name__": "page"}
    Path("bench").symlink_to(ROOT / "bench")
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.why_not or not set(block.needs) <= set(packages):
            continue
        elif block.language == "python":
            # Empty lines before the text, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        elif block.language == "sh":
            _shell(page, block)


def _shell(page: Path, block: Block) -> None:
    command = ["bash", "-euo", "pipefail", "-c", _SHELL.format(sys.executable) + block.text]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"{page}, line {block.line}: exit status {done.returncode} of\n{block.text}")
    for name in _WRITES.findall(block.text):
        if not Path(name).stat().st_size:
            sys.exit(f"{page}, line {block.line}: {name} is empty")


if __name__ == "__main__":
    sys.path[0] = ""  # modules that the page makes, and not those of the tests
    run(Path(sys.argv[1]), sys.argv[2:])
