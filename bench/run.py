"""Every problem with every contender, each in a process of its own, verified before it is timed.

    python bench/run.py [--only mlp,cifar] [--contenders forwardpass,onnxruntime] [--threads 1,2] [--batch 1,64]
                        [--isa avx2,avx512] [--rounds 5] [--seconds 0.3] [--json FILE] [--quick]

Exits with 1 if a contender gave a wrong result or failed. README.md here tells what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import report
from contenders import Options, contender_names, load_contender
from duel import LIMIT, Entry, Schedule, run_case
from forwardpass.bench.peak import Peak
from problems import Case, Problem, load_problems

SCHEMA = 1
"""Of the JSON; a higher number where readers have to change."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description="Time forwardpass against other engines.")
    words = {"type": lambda text: [t for t in text.split(",") if t], "metavar": "A,B"}
    numbers = {"type": lambda text: [int(t) for t in text.split(",")], "metavar": "N,M"}
    p.add_argument("--only", **words, default=[], help="problems whose names contain one of these")
    p.add_argument("--contenders", **words, help="names, or paths of .py files; default: all that are installed")
    p.add_argument("--threads", **numbers, default=[1], help="default 1")
    p.add_argument("--batch", **numbers, help="instead of each problem's own batch sizes")
    p.add_argument("--isa", **words, default=[""], help="run forwardpass once per ISA; default: the best")
    p.add_argument("--precision", default="float32", help="of forwardpass")
    p.add_argument("--rounds", type=int, default=5, help="turns per contender, default 5")
    p.add_argument("--seconds", type=float, default=0.3, help="per turn, default 0.3")
    p.add_argument("--cpus", **numbers, default=[], help="let workers run on these CPUs only")
    p.add_argument("--python", action="append", default=[], metavar="CONTENDER=EXE", help="its interpreter")
    p.add_argument("--json", metavar="FILE", help="write all figures there")
    p.add_argument("--quick", action="store_true", help="2 rounds of 0.05 s: does it work, roughly how fast")
    p.add_argument("--no-peak", action="store_true", help="do not measure the machine's ceilings")
    p.add_argument("--list", action="store_true", help="print problems and contenders")
    return p


def make_entries(args: argparse.Namespace, threads: int) -> list[Entry]:
    """The contenders that take part.

    Raises
    ------
    LookupError
        One does not exist.
    """
    pythons = dict(text.split("=", 1) for text in args.python)
    entries = []
    for given in args.contenders or contender_names():
        contender = str(Path(given).resolve()) if given.endswith(".py") else given
        takes_isa = getattr(load_contender(contender), "TAKES_ISA", False)
        label = Path(contender).stem
        python = pythons.get(label, sys.executable)
        for isa in args.isa if takes_isa else [""]:
            options = Options(threads, isa, args.precision)
            entries.append(Entry(f"{label}:{isa}" if isa else label, contender, options, python))
    return entries


def choose_problems(only: list[str]) -> list[Problem]:
    """The problems whose names contain one of the words, or all.

    Raises
    ------
    LookupError
        A word is in none.
    """
    problems = load_problems()
    for word in only:
        if not any(word in name for name in problems):
            raise LookupError(f"no problem {word!r}: one of {', '.join(problems)}")
    return [p for name, p in problems.items() if not only or any(word in name for word in only)]


def to_dict(case: Case, threads: int, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "problem": case.problem,
        "batch": case.batch,
        "threads": threads,
        "input": list(case.x.shape),
        "flops": case.flops,
        "weight_bytes": case.network.weight_bytes,
        "contenders": found,
    }


def run(args: argparse.Namespace, peak: Peak | None, console: Any) -> dict[str, Any]:
    """Everything that was asked for, as the JSON has it. Progress on the console."""
    problems = choose_problems(args.only)
    jobs = [(p, b, t) for p in problems for b, t in product(args.batch or p.batches, args.threads)]
    entries = {t: make_entries(args, t) for t in args.threads}
    schedule = Schedule(args.rounds, args.seconds, 0.02 if args.quick else 0.1, tuple(args.cpus))
    info = report.machine()
    done_cases = []
    total = sum(len(entries[t]) for _, _, t in jobs) * (1 + args.rounds)
    with console.progress("bench", total) as advance:
        done = 0

        def step(_: str) -> None:
            nonlocal done
            advance(done)
            done += 1

        for problem, batch, threads in jobs:
            case = problem.case(batch)
            compute_bound = peak is not None and report.is_compute_bound(case, peak)
            found = run_case(case, entries[threads], schedule, step, peak if compute_bound else None)
            if not args.contenders:  # nobody asked for these by name
                found = {k: v for k, v in found.items() if v["status"] != "missing"}
            if peak is not None:
                report.sample(found, case, peak)
            done_cases.append((case, threads, found))
        advance(total)
    for case, _, found in done_cases:
        report.annotate(found, case, peak)
    settings = {k: getattr(args, k) for k in ("rounds", "seconds", "precision", "threads", "isa", "cpus")}
    return {
        "schema": SCHEMA,
        "machine": info,
        "settings": {**settings, "limit": LIMIT},
        "peak": peak.to_dict() if peak else None,
        "results": [to_dict(*d) for d in done_cases],
    }


def show(found: dict[str, Any], peak: Peak | None, console: Any) -> None:
    entries = [(r, name, v) for r in found["results"] for name, v in r["contenders"].items()]
    versions = {name.partition(":")[0].partition("_")[0]: v["version"] for _, name, v in entries if "version" in v}
    for line in report.header(found["machine"], found["settings"], versions):
        console.line(line)
    for line in report.peak_lines(peak) if peak else []:
        console.line(line)
    console.line()
    rows = [report.row(r["problem"], r["batch"], r["threads"], name, v) for r, name, v in entries]
    console.table(report.COLUMNS, rows)
    for r, name, v in entries:
        for node, reason in v.get("details", {}).get("fallbacks", {}).items():
            console.line(f"note: {name} runs {node} of {r['problem']} without a native kernel: {reason}")


def main() -> int:
    args = parser().parse_args()
    if args.quick:
        args.rounds, args.seconds = min(args.rounds, 2), min(args.seconds, 0.05)
    from forwardpass.console import make_console

    console = make_console()
    if args.list:
        for name, problem in load_problems().items():
            console.line(f"{name:<22}batch {', '.join(map(str, problem.batches))}")
        console.line(f"contenders: {', '.join(contender_names())}")
        return 0
    peak = None if args.no_peak else Peak(*(5, 2.0) if args.quick else ())
    try:
        found = run(args, peak, console)
    except (LookupError, RuntimeError) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    show(found, peak, console)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    bad = [v for r in found["results"] for v in r["contenders"].values() if v["status"] in ("wrong", "failed")]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
