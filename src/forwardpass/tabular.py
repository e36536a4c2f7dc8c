"""What reports have in common: text for a terminal, a table for a notebook, a data frame for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .errors import UnsupportedError
from .text import aligned

__all__ = ["Parts", "Report", "html_table"]


class Parts(NamedTuple):
    """Lines of text, a table, and lines below it. A column whose title starts with ">" is right-aligned."""

    before: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    after: Sequence[str]


class Report:
    """Printable; a table in notebooks; `to_dataframe` has the same rows with their full values.

    A report has `parts()` and `records()`.
    """

    __slots__ = ()

    def parts(self) -> Parts:
        """What is shown."""
        raise NotImplementedError

    def records(self) -> list[dict[str, Any]]:
        """The rows of the table: column -> value."""
        raise NotImplementedError

    def to_dataframe(self) -> Any:
        """The rows as a `pandas.DataFrame`.

        Raises
        ------
        UnsupportedError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            hint = "pip install pandas"
            raise UnsupportedError("needs the package pandas", where="to_dataframe", hint=hint) from None
        return pandas.DataFrame(self.records())

    def __str__(self) -> str:
        before, columns, rows, after = self.parts()
        return "\n".join([*before, *(aligned(columns, rows) if columns else []), *after])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        before, columns, rows, after = self.parts()
        table = html_table(columns, rows) if columns else ""
        return f"<div>{_text(before)}{table}{_text(after)}</div>"


def html_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table without colours, so that it looks like the page that it is in."""
    from html import escape

    sides = ["right" if c.startswith(">") else "left" for c in columns]

    def line(tag: str, cells: Sequence[object]) -> str:
        made = (f'<{tag} style="text-align:{s}">{escape(str(v))}</{tag}>' for s, v in zip(sides, cells))
        return f"<tr>{''.join(made)}</tr>"

    head = line("th", [c.removeprefix(">") for c in columns])
    body = "".join(line("td", r) for r in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _text(lines: Sequence[str]) -> str:
    from html import escape

    text = "\n".join(lines).strip("\n")
    return f'<pre style="white-space:pre-wrap">{escape(text)}</pre>' if text else ""
