"""Self-contained pages of HTML: no resource is loaded from anywhere, and light and dark are the reader's choice."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

__all__ = ["data", "page", "short", "table", "text"]

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2024; --soft: #60646c; --line: #d9dbe0; --card: #f6f7f9;
  --c0: #2563c9; --c1: #c2570c; --c2: #15803d; --c3: #9333a8; --c4: #b4232c; --c5: #0e7490;
  --c6: #6b6f00; --c7: #475569; }
@media (prefers-color-scheme: dark) { :root { --ground: #14161a; --ink: #e8eaed; --soft: #a0a6b0; --line: #363b44;
  --card: #1d2026; --c0: #78a9ff; --c1: #f5a15b; --c2: #5fc784; --c3: #d48be6; --c4: #ff8a8a; --c5: #5cc8dd;
  --c6: #c9cc4a; --c7: #a9b4c4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); } p.soft, span.soft { font-size: .9rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td:first-child:not(.n) { min-width: 9rem; white-space: normal; overflow-wrap: anywhere; }
td:last-child:not(.n) { min-width: 14rem; white-space: normal; }
th.n, td.n { text-align: right; } th { color: var(--soft); font-weight: 600; }
svg { display: block; width: 100%; height: auto; min-width: 22rem; max-width: 48rem;
  font: 12px system-ui, sans-serif; }
@media (max-width: 600px) { .wide > svg { min-width: 32rem; font-size: 13px; } }
svg text { fill: var(--ink); } .wide > svg text { paint-order: stroke; stroke: var(--ground); stroke-width: 3px; }
svg .soft { fill: var(--soft); } svg .rule { stroke: var(--line); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); } .key { white-space: nowrap; }
"""


def text(value: object) -> str:
    """A value as the text of an element or of a quoted attribute."""
    return html.escape(str(value))


def short(name: str, most: int = 24) -> str:
    """The end of a long name, which tells more than its beginning."""
    return name if len(name) <= most else f"...{name[3 - most :]}"


def data(name: str, value: Any) -> str:
    """A value as an element that a script of the page can read."""
    content = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{text(name)}">{content}</script>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; a column whose title starts with ">" is right-aligned."""

    def line(tag: str, cells: Sequence[object]) -> str:
        kinds = (' class="n"' if c.startswith(">") else "" for c in columns)
        return "<tr>" + "".join(f"<{tag}{k}>{text(v)}</{tag}>" for k, v in zip(kinds, cells)) + "</tr>"

    head = line("th", [c.removeprefix(">") for c in columns])
    body = "".join(line("td", r) for r in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page. Names of files may hold bytes that are no text; these are shown as escapes, as on a terminal."""
    made = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{body}\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )
    return made.encode("utf-8", "backslashreplace").decode("utf-8")
