"""Tables and sizes as plain text, for the `str` of reports."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned", "human_bytes"]


def aligned(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table as lines of text: two spaces between columns, a rule under the titles, no trailing spaces.

    A column whose title starts with ">" is right-aligned.
    """
    titles = [c.removeprefix(">") for c in columns]
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells)]

    def join(row: Sequence[str]) -> str:
        parts = (
            text.rjust(width) if column.startswith(">") else text.ljust(width)
            for text, width, column in zip(row, widths, columns)
        )
        return "  ".join(parts).rstrip()

    return [join(titles), "  ".join("-" * w for w in widths), *map(join, cells)]


def human_bytes(count: float) -> str:
    """A size with three digits and a binary unit: `1.21 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
