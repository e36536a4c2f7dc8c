"""Where commands write, and where `predict` shows its progress: rich on a terminal, aligned text elsewhere.

rich is optional (`pip install forwardpass[cli]`). Output that goes to a file or a pipe is always aligned
text, whole and uncoloured, so that it can be searched and compared.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from .text import aligned

if TYPE_CHECKING:
    import rich.console

__all__ = ["Advance", "Column", "Console", "PlainConsole", "SilentConsole", "make_console"]

Advance = Callable[[int], None]
"""Tells a progress display how many units are done in all."""

Column = str
"""A table column's title; one that starts with ">" is right-aligned."""


class Console(Protocol):
    @property
    def unicode(self) -> bool:
        """Whether block characters can be written."""

    def heading(self, text: str) -> None: ...

    def line(self, text: str = "", *, strong: bool = False) -> None: ...

    def note(self, text: str) -> None:
        """Something that was done for the user and should be known; on stderr."""

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None: ...

    def progress(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def make_console(*, quiet: bool = False) -> Console:
    """What suits stdout: silence where `quiet`, rich on a terminal if installed, plain text else."""
    if quiet:
        return SilentConsole()
    if sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
        try:
            return RichConsole()
        except ImportError:
            pass
    return PlainConsole(sys.stdout)


class SilentConsole:
    """Says nothing on stdout."""

    unicode = False

    def heading(self, text: str) -> None:
        pass

    def line(self, text: str = "", *, strong: bool = False) -> None:
        pass

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        pass

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        yield lambda done: None


class PlainConsole(SilentConsole):
    """Aligned text on `stream`; progress redraws one line of stderr where that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.unicode = _can_encode(stream)

    def heading(self, text: str) -> None:
        print(f"\n{text}", file=self.stream)

    def line(self, text: str = "", *, strong: bool = False) -> None:
        print(text, file=self.stream)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        for line in aligned(columns, rows):
            print(f"  {line}", file=self.stream)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        live = sys.stderr.isatty()
        width = 30

        def advance(done: int) -> None:
            if live:
                filled = "#" * (width * done // max(total, 1))
                print(f"\r{label} [{filled:.<{width}}] {done}/{total}", end="", file=sys.stderr, flush=True)

        advance(0)
        yield advance
        if live:
            print(file=sys.stderr)


class RichConsole:
    """Tables, styles and progress by rich, which itself honours NO_COLOR, FORCE_COLOR and TERM.

    Raises
    ------
    ImportError
        rich is not installed.
    """

    def __init__(self) -> None:
        import rich.console

        self.out: rich.console.Console = rich.console.Console(highlight=False)
        self.unicode = _can_encode(sys.stdout)

    def heading(self, text: str) -> None:
        self.out.print()
        self.out.print(text, style="bold cyan", markup=False)

    def line(self, text: str = "", *, strong: bool = False) -> None:
        self.out.print(text, style="bold" if strong else None, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        import rich.box
        import rich.table
        import rich.text

        box = rich.box.SIMPLE_HEAD if self.unicode else rich.box.ASCII
        table = rich.table.Table(box=box, pad_edge=False, show_edge=False)
        for column in columns:
            right = column.startswith(">")
            table.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(rich.text.Text(str(value)) for value in row))
        self.out.print(table)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        err = Console(stderr=True)
        with Progress(*parts, console=err, disable=not err.is_terminal) as display:
            task = display.add_task(label, total=total)
            yield lambda done: display.update(task, completed=done)


def _can_encode(stream: TextIO) -> bool:
    try:
        "█░▒▓▌".encode(stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
