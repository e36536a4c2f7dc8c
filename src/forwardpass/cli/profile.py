"""`forwardpass profile`: where the time of a model goes, and what the machine would allow."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from .feeds import add_feed_arguments, make_feeds
from .options import add_engine_arguments, check_output, duration

if TYPE_CHECKING:
    from ..profile import Profile
    from ..run import Model
    from .ceilings import Ceilings

__all__ = ["HELP", "add_arguments", "cells", "profiled", "run"]

HELP = "time a model step by step: rates, share of what the machine can do, kernels and why they were picked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .npz or .onnx")
    add_feed_arguments(parser)
    parser.add_argument("--seconds", type=duration, default=1.0, metavar="S", help="how long to run (default: 1)")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace, for Perfetto")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with a roofline plot")
    parser.add_argument("--no-peak", action="store_true", help="do not measure what the machine can do")
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import forwardpass as fp

    check_output(args.trace, args.html)
    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    feeds = make_feeds(model.graph, args, console.note)
    found = profiled(model, feeds, args.seconds, console)
    shapes = {k: x.shape for k, x in feeds.items()}
    plan = fp.explain(model, shapes)
    ceilings = None
    if not args.no_peak:
        from .ceilings import Ceilings

        with console.progress("measuring the machine", 1) as advance:
            ceilings = Ceilings(model.settings.isa, model.memory_plan(shapes).total)
            advance(1)
    report = _report(args, model, found, plan, ceilings)
    if args.trace:
        found.save_trace(args.trace)
    if args.html:
        from .profile_page import make_page

        args.html.write_text(make_page(report), encoding="utf-8")
    _show(console, report, args)
    return report


def profiled(model: Model, feeds: dict[str, Any], seconds: float, console: Console) -> Profile:
    """The profile of calls for so long, at least 3, after a warm-up of a tenth of that."""
    end = time.perf_counter() + seconds / 10
    model.run(feeds)
    while time.perf_counter() < end:
        model.run(feeds)
    with model.profile() as found, console.progress("profiling", 100) as advance:
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds or found.calls < 3:
            advance(int(min(100 * passed / seconds, 100)))
            for _ in range(10):
                model.run(feeds)
                if time.perf_counter() - start > seconds and found.calls >= 3:
                    break
        advance(100)
    return found


def _report(
    args: argparse.Namespace, model: Model, found: Profile, plan: Any, ceilings: Ceilings | None
) -> dict[str, Any]:
    reasons: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for step in plan.steps:
        reasons[step["node"], step["kernel"]].append(step)
    declined = {n.title: plan.fallbacks[n.label] for n in model.optimized.nodes if n.label in plan.fallbacks}
    typical = found.typical
    steps = []
    for s in found.steps:
        each = s["median"]
        known = reasons[s["node"], s["kernel"]]
        planned = known.pop(0) if known else {}
        steps.append(
            {
                **{k: s[k] for k in ("node", "kernel", "calls", "flops", "bytes")},
                "us": each / 1e3,
                "share": each * s["calls"] / max(typical * found.calls, 1),
                "gflops": s["flops"] / each if each else 0.0,
                "gbytes": s["bytes"] / each if each else 0.0,
                "of_ceiling": ceilings.share(s["flops"], s["bytes"], each, plan.threads) if ceilings else None,
                "isa": planned.get("isa", "-"),
                "threads": planned.get("threads", 1),
                "why": _why(s, planned, declined, model),
            }
        )
    return {
        "model": str(args.model),
        "precision": model.settings.precision,
        "isa": model.settings.isa,
        "threads": plan.threads,
        "calls": found.calls,
        "us": typical / 1e3,
        "flops": sum(s["flops"] * s["calls"] for s in found.steps) // max(found.calls, 1),
        "native_share": 1 - sum(s["share"] for s in steps if s["kernel"] == "definition"),
        "ceilings": ceilings.to_dict(plan.threads) if ceilings else None,
        "steps": steps,
    }


def _why(step: dict[str, Any], planned: dict[str, Any], declined: dict[str, str], model: Model) -> str:
    """Why the kernel was picked: what declined the others, how it goes about its work, what the passes made."""
    if step["kernel"] == "definition":
        return f"no native kernel: {declined.get(step['node'], 'it runs in the body of another node')}"
    rewrites = [e.detail for e in model.log.fired() if f"'{step['node']}'" in e.node]
    return "; ".join(filter(None, [planned.get("algorithm", ""), *dict.fromkeys(rewrites)])) or "the operator's kernel"


def cells(step: dict[str, Any]) -> list[str]:
    """What the tables of a terminal and of a page say of a step: node, kernel, us, %, GFLOP/s, GB/s, % of ceiling."""
    return [
        step["node"],
        step["kernel"],
        f"{step['us']:.3f}",
        f"{100 * step['share']:.1f}",
        f"{step['gflops']:.1f}",
        f"{step['gbytes']:.1f}",
        "-" if step["of_ceiling"] is None else f"{100 * step['of_ceiling']:.0f}",
    ]


def _show(console: Console, report: dict[str, Any], args: argparse.Namespace) -> None:
    settings = f"{report['precision']}, {report['isa']}, threads: {report['threads']}"
    console.line(f"{report['model']}  ({settings})", strong=True)
    console.heading("steps")
    columns = ["node", "kernel", ">us", ">%", ">GFLOP/s", ">GB/s", ">% of ceiling", "why"]
    rows = [[*cells(s), s["why"]] for s in report["steps"]]
    console.table(columns, rows)
    console.line()
    console.line(f"{report['calls']} calls, {report['us']:.3f} us each in kernels and definitions", strong=True)
    ceilings = report["ceilings"]
    if ceilings and ceilings["why_not"]:
        console.line(f"ceilings: {ceilings['why_not']}")
    elif ceilings:
        reads = ", ".join(f"{k} {v:.0f}" for k, v in ceilings["read_gbytes"].items())
        told = f"FMA {ceilings['fma_gflops']:.0f} GFLOP/s; read {reads} GB/s"
        console.line(f"ceilings, one thread: {told}; the model's data comes from {ceilings['level']}")
    for what, file in (("a trace", args.trace), ("a page", args.html)):
        if file:
            console.line(f"wrote {what} to {file}")
