"""The chart of the README: how many times as long other engines take, from a report of suite.py.

    python bench/chart.py bench/results/NAME.json [-o bench/results/NAME.svg] [--threads 1] [--every-batch]

One picture for readers in light and in dark: the colours are the reader's choice.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

OWN = "forwardpass"
WIDTH, LEFT, RIGHT, TOP, ROW, FOOT = 760, 230, 30, 62, 30, 28
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
STYLE = """
svg { --ground: #fff; --ink: #1c2024; --soft: #60646c; --line: #d9dbe0;
  --c0: #2563c9; --c1: #c2570c; --c2: #15803d; --c3: #9333a8; --c4: #b4232c; --c5: #0e7490; }
@media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --ink: #e8eaed; --soft: #a0a6b0; --line: #363b44;
  --c0: #78a9ff; --c1: #f5a15b; --c2: #5fc784; --c3: #d48be6; --c4: #ff8a8a; --c5: #5cc8dd; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 12px; }
.title { font-weight: 600; font-size: 15px; } .line { stroke: var(--line); }
.own { stroke: var(--ink); stroke-width: 2; }
"""
SHAPES = (
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>',
    '<rect x="{left:.1f}" y="{top:.1f}" width="10" height="10"/>',
    '<path d="M{x:.1f} {high:.1f}l6.5 11.5h-13z"/>',
    '<path d="M{x:.1f} {high:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"/>',
    '<path d="M{x:.1f} {low:.1f}l6.5 -11.5h-13z"/>',
    '<path d="M{left:.1f} {top:.1f}l10 10m0 -10l-10 10" stroke="currentColor" stroke-width="3"/>',
)
"""A mark per engine, so that colours are not all that tells them apart."""

Row = tuple[str, dict[str, float]]


def rows_of(report: dict[str, Any], threads: int, every_batch: bool) -> Iterator[Row]:
    """A label, and engine -> its time over ours: the median of the ratios of rounds."""
    for result in report["results"]:
        engines = {k: v for k, v in result["engines"].items() if v["status"] == "ok" and v.get("rounds_us")}
        if result["threads"] != threads or OWN not in engines or not (every_batch or result["batch"] == 1):
            continue
        own = engines.pop(OWN)["rounds_us"]
        ratios = {k: _median([o / w for o, w in zip(v["rounds_us"], own)]) for k, v in engines.items()}
        if ratios:
            yield result["model"] + (f", batch {result['batch']}" if every_batch else ""), ratios


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _short(label: str) -> str:
    return label if len(label) <= 30 else f"...{label[-27:]}"


def chart(rows: list[Row], foot: list[str]) -> str:
    """The picture."""
    values = [v for _, ratios in rows for v in ratios.values()]
    low = max([t for t in TICKS if t <= min([1.0, *values])], default=TICKS[0])
    high = min([t for t in TICKS if t >= max([2.0, *values])], default=TICKS[-1])
    engines = list(dict.fromkeys(k for _, ratios in rows for k in ratios))
    bottom = TOP + len(rows) * ROW

    def place(value: float) -> float:
        share = (math.log(min(max(value, low), high)) - math.log(low)) / (math.log(high) - math.log(low))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def mark(engine: str, x: float, y: float) -> str:
        k = engines.index(engine) % len(SHAPES)
        shape = SHAPES[k].format(x=x, y=y, left=x - 5, top=y - 5, high=y - 6.5, low=y + 6.5)
        return f'<g fill="var(--c{k})" color="var(--c{k})">{shape}</g>'

    parts = [f'<text class="title" x="12" y="22">Time of one inference, {OWN} = 1</text>']
    x = 12.0
    for engine in engines:
        parts.append(mark(engine, x + 6, 42) + f'<text x="{x + 18:.0f}" y="46">{escape(engine)}</text>')
        x += 34 + 7.5 * len(engine)
    for tick in (t for t in TICKS if low <= t <= high):
        style = "own" if tick == 1 else "line"
        at = f"{place(tick):.1f}"
        parts.append(f'<path class="{style}" d="M{at} {TOP - 4}V{bottom}"/>')
        parts.append(f'<text class="soft" x="{at}" y="{bottom + 17}" text-anchor="middle">{tick:g}x</text>')
    for k, (label, ratios) in enumerate(rows):
        y = TOP + (k + 0.5) * ROW
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4:.0f}" text-anchor="end">{escape(_short(label))}</text>')
        for engine, ratio in ratios.items():
            title = f"<title>{escape(label)}: {escape(engine)} takes {ratio:.2f} times as long</title>"
            parts.append(f"<g>{title}{mark(engine, place(ratio), y)}</g>")
    for k, line in enumerate(foot):
        parts.append(f'<text class="soft" x="12" y="{bottom + 36 + 16 * k}">{escape(line)}</text>')
    height = bottom + FOOT + 16 * len(foot)
    told = "; ".join(f"{n}: {', '.join(f'{e} {r:.2f}' for e, r in ratios.items())}" for n, ratios in rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Times as long as {OWN}. {escape(told)}"><style>{STYLE}</style>'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="var(--ground)"/>{"".join(parts)}</svg>\n'
    )


def foot_of(report: dict[str, Any], threads: int, every_batch: bool) -> list[str]:
    versions = {k: v["version"] for r in report["results"] for k, v in r["engines"].items() if "version" in v}
    said = ", ".join(f"{k} {re.split('[-+]', v)[0]}" for k, v in versions.items())
    kind = "" if every_batch else "batch 1, "
    return [f"{report['machine']['cpu']}, {kind}{threads} thread{'s' * (threads > 1)}", *textwrap.wrap(said, 110)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="default: beside the report")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every-batch", action="store_true", help="not batch 1 alone")
    args = parser.parse_args()
    report = json.loads(args.report.read_text(encoding="utf-8"))
    rows = list(rows_of(report, args.threads, args.every_batch))
    if not rows:
        parser.error("the report has no such results with another engine")
    output = args.output or args.report.with_suffix(".svg")
    output.write_text(chart(rows, foot_of(report, args.threads, args.every_batch)), encoding="utf-8")
    print(output)


if __name__ == "__main__":
    main()
