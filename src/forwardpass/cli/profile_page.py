"""The page of a profile: a roofline plot, and the steps by the time that they take."""

from __future__ import annotations

from typing import Any

from .page import page, table, text
from .plots import COLOURS, Point, bars, roofline
from .profile import cells

__all__ = ["make_page"]

_MOST_BARS = 25


def make_page(report: dict[str, Any]) -> str:
    steps = sorted(report["steps"], key=lambda s: -s["us"])
    kernels = list(dict.fromkeys(s["kernel"] for s in steps))
    settings = f"{report['precision']}, {report['isa']}, threads: {report['threads']}"
    parts = [
        f"<h1>{text(report['model'])}</h1>",
        f"<p>{report['us']:.3f} us per call in kernels and definitions; {text(settings)}; {report['calls']} calls</p>",
        _roofline(report, kernels),
        "<h2>Time by step</h2>",
        bars(
            "Microseconds per step",
            [(s["node"], s["us"], s["us"], s["us"], f"{s['us']:.2f} us") for s in steps[:_MOST_BARS]],
        ),
        "<h2>All steps</h2>",
        _table(report["steps"]),
    ]
    return page(f"profile of {report['model']}", "\n".join(parts))


def _roofline(report: dict[str, Any], kernels: list[str]) -> str:
    ceilings = report["ceilings"]
    if not ceilings or not ceilings["fma_gflops"]:
        reason = ceilings["why_not"] if ceilings else "it was not asked for"
        return f'<p class="soft">No roofline, since the machine was not measured: {text(reason)}</p>'
    threads = ceilings["threads"]
    points = [
        Point(
            s["flops"] / s["bytes"] if s["bytes"] else 0.0,
            s["gflops"],
            f"{s['node']}: {s['kernel']}, {s['us']:.2f} us, {s['gflops']:.1f} GFLOP/s",
            kernels.index(s["kernel"]) % COLOURS,
        )
        for s in report["steps"]
    ]
    reads = [(level, rate * threads) for level, rate in ceilings["read_gbytes"].items()]
    plot = roofline("Roofline", ceilings["fma_gflops"] * threads, reads, points)
    if not plot:
        return '<p class="soft">No step has counted operations: there is no roofline to draw.</p>'
    names = "  ".join(f'<span class="key c{k % COLOURS}">&#9679; {text(name)}</span>' for k, name in enumerate(kernels))
    return f"<h2>Roofline</h2>{plot}<p>{names}</p>"


def _table(steps: list[dict[str, Any]]) -> str:
    columns = ["node", "kernel", ">us", ">%", ">GFLOP/s", ">GB/s", ">% of ceiling", ">threads", "why"]
    return table(columns, [[*cells(s), s["threads"], s["why"]] for s in steps])
