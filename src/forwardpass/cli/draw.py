"""Pictures in text: an image in shades, a probability as a bar, and panels side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["bar", "beside", "image", "rows_of"]

_SHADES = " ░▒▓█"
_SHADES_ASCII = " .:*#"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def image(pixels: Array, high: float, *, unicode: bool = True) -> list[str]:
    """A grey image [H, W] as H lines, two characters a pixel since those are twice as tall as wide.

    Values up to 0 are blank, from `high` on full.
    """
    shades = _SHADES if unicode else _SHADES_ASCII
    last = len(shades) - 1
    return ["".join(shades[min(max(round(last * float(p) / high), 0), last)] * 2 for p in row) for row in pixels]


def bar(share: float, width: int, *, unicode: bool = True) -> str:
    """A bar for `share` (0 to 1), padded to `width` characters; to an eighth of one with Unicode."""
    share = min(max(share, 0.0), 1.0) if share == share else 0.0
    if not unicode:
        return ("#" * round(share * width)).ljust(width)
    full, eighth = divmod(round(8 * share * width), 8)
    return ("█" * full + (_EIGHTHS[eighth] if eighth else "")).ljust(width)


def beside(blocks: Iterable[Sequence[str]], gap: int = 3) -> list[str]:
    """Blocks of lines set side by side, each padded to its own width and the height of the tallest."""
    parts = [list(b) for b in blocks]
    height = max((len(p) for p in parts), default=0)
    widths = [max(map(len, p), default=0) for p in parts]
    full = [p + [""] * (height - len(p)) for p in parts]
    return [
        (" " * gap).join(line.ljust(w) for line, w in zip(row, widths, strict=True)).rstrip()
        for row in zip(*full, strict=True)
    ]


def rows_of(blocks: Sequence[Sequence[str]], columns: int, *, indent: str = "  ") -> list[str]:
    """Blocks in rows of `columns`, with an empty line between the rows."""
    lines: list[str] = []
    for first in range(0, len(blocks), columns):
        if lines:
            lines.append("")
        lines.extend(textwrap.indent(line, indent) for line in beside(blocks[first : first + columns]))
    return lines
