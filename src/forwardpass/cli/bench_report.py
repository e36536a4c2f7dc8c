"""What the figures of `bench` mean: shares of what the machine can do, regressions, and the tables."""

from __future__ import annotations

import os
import platform
from typing import Any

from ..console import Console

__all__ = ["annotate", "compare", "cost_rows", "digits", "latency_rows", "machine", "show"]

LATENCY = ["model", ">batch", ">threads", "engine", ">p50", ">p90", ">p99", ">p99.9", ">max", ">samples/s", "ratio"]
COST = ["engine", ">import ms", ">load ms", ">first ms", ">MB", ">CPU us", ">GFLOP/s", ">% of ceiling", ">error"]


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was."""
    from ..explanation import show_config

    config = show_config()
    return {
        "cpu": config.cpu,
        "caches": config.caches,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isas": [i["name"] for i in config.isas if i["available"]],
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": config.numpy,
        "forwardpass": config.version,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def annotate(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add `gflops` to all entries and `of_ceiling` to those of one call; returns the ceilings that were measured."""
    from .ceilings import Ceilings

    measured: dict[tuple[str, int], Ceilings] = {}
    told: dict[tuple[str, int, int], dict[str, Any]] = {}
    for result in results:
        flops, nbytes = result["flops"], result["weight_bytes"]
        for v in result["engines"].values():
            if v["status"] != "ok" or not flops or v["median_us"] is None:
                continue
            isa = v["details"].get("isa") or next(
                (o["details"]["isa"] for o in result["engines"].values() if "isa" in o.get("details", {})), "scalar"
            )
            if (isa, nbytes) not in measured:
                measured[isa, nbytes] = Ceilings(isa, nbytes)
            ceilings, threads = measured[isa, nbytes], result["threads"]
            told[isa, nbytes, threads] = {"isa": isa, **ceilings.to_dict(threads)}
            each = 1e3 * v["median_us"] / result["calls_per_query"]
            if result["scenario"] != "server":
                v["gflops"] = flops / each
                v["of_ceiling"] = ceilings.share(flops, nbytes, each, threads)
    return list(told.values())


def compare(new: dict[str, Any], old: dict[str, Any]) -> list[dict[str, Any]]:
    """Entry by entry, what became of an earlier report's times.

    Of forwardpass, an entry has `regressed` where its best round took longer than the worst one then. Other engines are
    compared too, since they tell whether it is the machine that is slower, but never fail.
    """
    from ..bench.stats import regressed

    def entries(report: dict[str, Any]) -> dict[tuple[Any, ...], list[float]]:
        return {
            (*(r[k] for k in ("model", "batch", "threads", "scenario")), name): v["rounds_us"]
            for r in report["results"]
            for name, v in r["engines"].items()
            if v["status"] == "ok" and v.get("rounds_us")
        }

    before = entries(old)
    found = []
    for key, rounds in entries(new).items():
        if key not in before:
            continue
        model, batch, threads, scenario, name = key
        slower = regressed(rounds, before[key])
        found.append(
            {
                "model": model,
                "batch": batch,
                "threads": threads,
                "scenario": scenario,
                "engine": name,
                "best_us": min(rounds),
                "worst_then_us": max(before[key]),
                "slower": slower,
                "regressed": slower and name.startswith("forwardpass"),
            }
        )
    return found


def digits(microseconds: float | None) -> str:
    """Three or more significant digits, no exponent."""
    if microseconds is None:
        return "-"
    decimals = 3 if microseconds < 10 else 2 if microseconds < 100 else 1 if microseconds < 1000 else 0
    return f"{microseconds:,.{decimals}f}"


def latency_rows(report: dict[str, Any]) -> list[list[str]]:
    """Lines for `LATENCY`."""
    rows = []
    for r in report["results"]:
        for name, v in r["engines"].items():
            start = [r["model"], str(r["batch"]), str(r["threads"]), name]
            if v["status"] != "ok":
                rows.append([*start, *["-"] * 6, f"{v['status']}: {v['message']}"])
                continue
            figures = [digits(v["latency_us"][k]) for k in ("p50", "p90", "p99", "p99.9", "max")]
            rows.append([*start, *figures, f"{v['throughput']:,.0f}", _ratio(v.get("rival"))])
    return rows


def _ratio(rival: dict[str, Any] | None) -> str:
    if rival is None:
        return ""
    interval = "" if rival["low"] is None else f" ({rival['low']:.2f}-{rival['high']:.2f})"
    return f"{rival['ratio']:.2f}x{interval} {rival['name']}"


def cost_rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines for `COST`."""

    def number(value: float | None, form: str = ",.1f") -> str:
        return "-" if value is None else format(value, form)

    return [
        [
            name,
            *(number(v[k]) for k in ("import_ms", "load_ms", "first_ms")),
            number(v.get("rss_mb"), ",.0f"),
            digits(1e6 * v["cpu_seconds"]),
            number(v.get("gflops")),
            number(None if v.get("of_ceiling") is None else 100 * v["of_ceiling"], ".0f"),
            number(v["error"], ".1e"),
        ]
        for name, v in result["engines"].items()
        if v["status"] == "ok"
    ]


def show(console: Console, report: dict[str, Any]) -> None:
    m, s = report["machine"], report["settings"]
    console.line(f"{m['cpu'] or 'unknown CPU'}, {m['cpus']} CPUs; {m['system']}", strong=True)
    console.line(f"{s['scenario']}, {s['rounds']} rounds of {s['seconds']} s in turn; {_versions(report)}")
    if m["load_average"] and m["load_average"] > 0.5:
        console.line(f"the machine is not idle (load average {m['load_average']:.1f}): trust ratios, not times")
    console.heading("microseconds per query; ratio to the fastest other, and the interval of 95 %")
    console.table(LATENCY, latency_rows(report))
    for r in report["results"]:
        console.heading(f"{r['model']}, batch {r['batch']}, threads {r['threads']}")
        console.table(COST, cost_rows(r))
        for name, v in r["engines"].items():
            if v["status"] == "ok":
                console.line(f"  {name}: {v['metric']['name']} {v['metric']['value']:,.1f} {v['metric']['unit']}")
            for node, reason in v.get("details", {}).get("fallbacks", {}).items():
                console.line(f"  note: {name} runs {node} without a native kernel: {reason}")
    for c in report["comparison"]:
        word = "SLOWER" if c["slower"] else "not slower"
        console.line(
            f"  {c['engine']} on {c['model']}, batch {c['batch']}, threads {c['threads']}: {word}, best "
            f"{digits(c['best_us'])} us, worst then {digits(c['worst_then_us'])} us"
        )


def _versions(report: dict[str, Any]) -> str:
    found = {
        name.partition(":")[0]: v["version"]
        for r in report["results"]
        for name, v in r["engines"].items()
        if "version" in v
    }
    return ", ".join(f"{k} {v}" for k, v in found.items())
