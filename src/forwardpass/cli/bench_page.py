"""The page of a benchmark: bars, distributions of latency, rooflines and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bench_report import COST, LATENCY, cost_rows, digits, latency_rows
from .page import page, table, text
from .plots import COLOURS, Point, bars, curves, roofline

__all__ = ["make_page"]


def make_page(report: dict[str, Any]) -> str:
    m, s = report["machine"], report["settings"]
    names = list(dict.fromkeys(name for r in report["results"] for name in r["engines"]))
    title = f"forwardpass bench: {', '.join(dict.fromkeys(r['model'] for r in report['results']))}"

    def colour(name: str) -> int:
        return names.index(name) % COLOURS

    caches = ", ".join(f"{k} {v // 1024} KiB" for k, v in m["caches"].items() if v)
    machine = f"{m['cpu'] or 'unknown CPU'}, {m['cpus']} CPUs ({caches}); {m['system']}"
    versions = f"Python {m['python']}, NumPy {m['numpy']}, forwardpass {m['forwardpass']}"
    method = (
        f"{s['scenario']}, {s['rounds']} rounds of {s['seconds']} s in turn, each engine in a process of its own, "
        "outputs verified before and after. Whiskers are the fastest and the slowest round."
    )
    parts = [
        f"<h1>{text(title)}</h1>",
        f"<p>{text(machine)}; {text(versions)}</p>",
        f'<p class="soft">{text(method)}</p>',
        table(LATENCY, latency_rows(report)),
    ]
    for result in report["results"]:
        parts += _result(result, report["ceilings"] or [], colour)
    if report["comparison"]:
        parts += ["<h2>Compared with the earlier report</h2>", _comparison(report["comparison"])]
    return page(title, "\n".join(parts))


def _result(result: dict[str, Any], ceilings: list[dict[str, Any]], colour: Callable[[str], int]) -> list[str]:
    done = {k: v for k, v in result["engines"].items() if v["status"] == "ok"}
    title = f"{result['model']}, batch {result['batch']}, threads {result['threads']}, {result['scenario']}"
    parts = [f"<h2>{text(title)}</h2>"]
    if not done:
        return [*parts, '<p class="soft">No engine gave a right result.</p>']
    rows = []
    for name, v in done.items():
        rounds = v["rounds_us"] or [v["latency_us"]["p50"]]
        value = v["median_us"] or v["latency_us"]["p50"]
        rival = v.get("rival")
        told = f"{digits(value)} us" + (f", {rival['ratio']:.2f}x" if rival else "")
        rows.append((name, value, min(rounds), max(rounds), told))
    parts += ["<p>Microseconds per query</p>", bars("Microseconds per query", rows, colour)]
    lines = [(name, v["quantiles_us"], colour(name)) for name, v in done.items()]
    parts.append("<p>Distribution of latency</p>")
    parts.append(curves("Distribution of latency", "% of the queries are as fast or faster", "us", lines))
    return [*parts, _roof(result, done, ceilings, colour), table(COST, cost_rows(result))]


def _roof(
    result: dict[str, Any], done: dict[str, Any], ceilings: list[dict[str, Any]], colour: Callable[[str], int]
) -> str:
    known = next((c for c in ceilings if c["threads"] == result["threads"] and c["fma_gflops"]), None)
    if known is None or not result["flops"] or not result["weight_bytes"]:
        return ""
    intensity = result["flops"] / result["weight_bytes"]
    points = [
        Point(intensity, v["gflops"], f"{name}: {v['gflops']:.1f} GFLOP/s", colour(name))
        for name, v in done.items()
        if "gflops" in v
    ]
    threads = known["threads"]
    reads = [(level, rate * threads) for level, rate in known["read_gbytes"].items()]
    return roofline("Roofline: operations over bytes of weights", known["fma_gflops"] * threads, reads, points)


def _comparison(found: list[dict[str, Any]]) -> str:
    columns = ["model", ">batch", ">threads", "engine", ">best now us", ">worst then us", ""]
    rows = [
        [
            *(c[k] for k in ("model", "batch", "threads", "engine")),
            digits(c["best_us"]),
            digits(c["worst_then_us"]),
            "slower" if c["slower"] else "",
        ]
        for c in found
    ]
    return table(columns, rows)
