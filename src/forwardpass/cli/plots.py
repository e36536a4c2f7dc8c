"""Plots as SVG inside a page, in its colours: `c0` to `c7` of its style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .page import short, text

__all__ = ["COLOURS", "Point", "bars", "curves", "roofline"]

COLOURS = 8
_WIDTH = 560
_ROW = 26


@dataclass(frozen=True)
class Point:
    """A point of a plot: where, what is told of it, and the number of its colour."""

    x: float
    y: float
    label: str
    colour: int = 0


def _svg(height: float, label: str, content: str) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{text(label)}">'
        f"{content}</svg></div>"
    )


def bars(
    label: str, rows: Sequence[tuple[str, float, float, float, str]], colour: Callable[[str], int] = lambda _: 0
) -> str:
    """Horizontal bars with an interval.

    Parameters
    ----------
    rows
        Name, value, low, high, and what stands behind the bar.
    """
    left, right = 140, 130
    most = max((high for *_, high, _ in rows), default=0.0) or 1.0
    scale = (_WIDTH - left - right) / most
    parts = []
    for k, (name, value, low, high, told) in enumerate(rows):
        y = k * _ROW + 4
        middle = y + _ROW / 2 - 4
        title = f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{text(short(name, 20))}</text>'
        parts.append(
            f'<g class="c{colour(name)}">{title}'
            f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="{_ROW - 8}" rx="2" fill="currentColor"/>'
            f'<path d="M{left + low * scale:.1f} {middle}H{left + high * scale:.1f}" stroke="var(--ink)"/>'
            f'<text x="{left + high * scale + 8:.1f}" y="{middle + 4}">{text(told)}</text></g>'
        )
    return _svg(len(rows) * _ROW + 8, label, "".join(parts))


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of each power of ten in a range, or its powers of ten where it is wide."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [s * 10.0**e for e in range(first, last + 1) for s in steps]
    return [v for v in found if low * 0.999 <= v <= high * 1.001]


@dataclass(frozen=True)
class _Axes:
    """A frame with a horizontal range and a logarithmic vertical one."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool
    height: float = 340.0
    box: tuple[float, float, float, float] = field(default=(48.0, 12.0, 550.0, 296.0))

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self.box

        def share(value: float, ends: tuple[float, float], log: bool) -> float:
            if log:
                return math.log(value / ends[0]) / math.log(ends[1] / ends[0])
            return (value - ends[0]) / (ends[1] - ends[0])

        x, y = share(x, self.x, self.log_x), share(y, self.y, True)
        return left + x * (right - left), bottom - y * (bottom - top)

    def frame(self, x_ticks: Sequence[float], x_label: str, y_label: str) -> str:
        left, top, right, bottom = self.box
        parts = []
        for v in _ticks(*self.y):
            y = self.at(self.x[0], v)[1]
            parts.append(
                f'<path class="rule" d="M{left} {y:.1f}H{right}"/>'
                f'<text class="soft" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{v:g}</text>'
            )
        for v in x_ticks:
            x = self.at(v, self.y[0])[0]
            parts.append(
                f'<path class="rule" d="M{x:.1f} {top}V{bottom}"/>'
                f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>'
            )
        parts.append(f'<text class="soft" x="{right}" y="{bottom + 34}" text-anchor="end">{text(x_label)}</text>')
        parts.append(f'<text class="soft" x="{left + 6}" y="{top + 12}">{text(y_label)}</text>')
        return "".join(parts)


def curves(label: str, x_label: str, y_label: str, lines: Sequence[tuple[str, Sequence[float], int]]) -> str:
    """Curves over shares from 0 to 100 %, on a logarithmic axis: name, values at equal steps, colour."""
    values = [v for _, ys, _ in lines for v in ys if v > 0]
    if not values:
        return ""
    axes = _Axes((0.0, 100.0), (min(values) * 0.9, max(values) * 1.1), log_x=False)
    parts = [axes.frame([0, 25, 50, 75, 90, 100], x_label, y_label)]
    for k, (name, ys, colour) in enumerate(lines):
        steps = max(len(ys) - 1, 1)
        points = [axes.at(100 * i / steps, max(v, axes.y[0])) for i, v in enumerate(ys)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(
            f'<g class="c{colour}"><path d="M{path}" fill="none" stroke="currentColor" stroke-width="2"/>'
            f'<rect x="64" y="{34 + 18 * k}" width="12" height="3" fill="currentColor"/>'
            f'<text x="82" y="{40 + 18 * k}">{text(name)}</text></g>'
        )
    return _svg(axes.height, label, "".join(parts))


def roofline(label: str, peak: float, bandwidths: Sequence[tuple[str, float]], points: Sequence[Point]) -> str:
    """Points below the roof that the rate of FMAs (GFLOP/s) and the bandwidths (GB/s) make.

    Parameters
    ----------
    bandwidths
        Name and GB/s, fastest first.
    points
        x is FLOP per byte, y is GFLOP/s.
    """
    shown = [p for p in points if p.x > 0 and p.y > 0]
    slopes = [rate for _, rate in bandwidths if rate > 0]
    xs = [p.x for p in shown] + [peak / r for r in slopes]
    ys = [p.y for p in shown] + [peak]
    if not shown or not xs:
        return ""
    axes = _Axes((min(xs) / 2, max(xs) * 4), (min(ys) / 2, peak * 2), log_x=True)
    parts = [axes.frame(_ticks(*axes.x), "operations per byte", "GFLOP/s")]
    for name, rate in bandwidths:
        start, end = max(axes.x[0], axes.y[0] / rate), peak / rate
        (x1, y1), (x2, y2) = axes.at(start, start * rate), axes.at(end, peak)
        parts.append(
            f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="var(--soft)" fill="none"/>'
            f'<text class="soft" x="{x1 + 4:.1f}" y="{y1 - 6:.1f}">{text(name)} {rate:.0f} GB/s</text>'
        )
    first = min((peak / r for r in slopes), default=axes.x[0])
    (x1, y1), (x2, _) = axes.at(max(first, axes.x[0]), peak), axes.at(axes.x[1], peak)
    parts.append(
        f'<path d="M{x1:.1f} {y1:.1f}H{x2:.1f}" stroke="var(--soft)" stroke-width="2"/>'
        f'<text class="soft" x="{x2:.1f}" y="{y1 - 6:.1f}" text-anchor="end">FMA {peak:.0f} GFLOP/s</text>'
    )
    for p in shown:
        x, y = axes.at(p.x, p.y)
        parts.append(
            f'<circle class="c{p.colour}" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="currentColor" fill-opacity=".75">'
            f"<title>{text(p.label)}</title></circle>"
        )
    return _svg(axes.height, label, "".join(parts))
