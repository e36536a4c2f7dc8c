"""`forwardpass bench`: models timed against other engines, verified first."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import FileError, suggest
from .options import check_output, duration, positive, share, whole

if TYPE_CHECKING:
    from ..bench.match import Entry, Job, Schedule
    from ..run import Model

__all__ = ["HELP", "SCHEMA", "add_arguments", "run"]

HELP = "time models against other engines, each in a process of its own, in turn, outputs verified first"
SCHEMA = 1
"""Of the JSON; a higher number where readers have to change."""
_SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
_OFFLINE_BATCH = 32
_TOLERANCE = 1e-3


def _numbers(text: str) -> list[int]:
    return [positive(t) for t in text.split(",")]


def _words(text: str) -> list[str]:
    return [t for t in text.split(",") if t]


def _engines(text: str) -> list[str]:
    for name in (words := _words(text)):
        _engine(name)
    return words


def _engine(name: str) -> str:
    from ..bench.engines import engine_names

    known = engine_names()
    if name not in known:
        nearest = suggest(name, known)
        hint = f" ({nearest})" if nearest else ""
        raise argparse.ArgumentTypeError(f"unknown engine {name!r}, expected one of {', '.join(known)}{hint}")
    return name


def _interpreter(text: str) -> tuple[str, str]:
    engine, _, path = text.partition("=")
    return _engine(engine), path


def _report_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".html", ".json"):
        raise argparse.ArgumentTypeError(f"expected a path that ends in .html or .json, got {text!r}")
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help="models: .onnx; .tflite for litert; or any other for forwardpass alone",
    )
    add(
        "--against",
        type=_engines,
        default=[],
        metavar="A,B",
        help="engines: onnxruntime, openvino, torch, mnn, litert, ncnn",
    )
    add("--threads", type=_numbers, default=[1], metavar="N,M", help="default: 1")
    add("--batch", type=_numbers, default=[], metavar="N,M", help="sizes of a free first dimension (default: 1)")
    add("--precision", type=_words, default=["float32"], metavar="A,B", help="of forwardpass (default: float32)")
    add("--scenario", choices=_SCENARIOS, default="single-stream", help="of MLPerf (default: single-stream)")
    add("--latency-bound", type=duration, default=15.0, metavar="MS", help="of p99 of the server (default: 15)")
    add("--rate", type=share, default=0.0, metavar="QPS", help="queries per second of the server (default: the most)")
    add("--rounds", type=positive, default=5, metavar="N", help="turns per engine (default: 5)")
    add("--seconds", type=duration, default=0.3, metavar="S", help="per turn (default: 0.3)")
    add("--shape", action="append", default=[], metavar="[NAME=]SIZES", help="an input's shape, such as x=1,3,224,224")
    add("--input", action="append", default=[], metavar="NAME=FILE", help="an input's values (default: random)")
    add("--seed", type=whole, default=0, metavar="N", help="of random inputs (default: 0)")
    add("--tolerance", type=share, default=_TOLERANCE, metavar="T", help=f"of outputs (default: {_TOLERANCE:g})")
    add(
        "--python",
        action="append",
        type=_interpreter,
        default=[],
        metavar="ENGINE=EXE",
        help="the interpreter that has an engine",
    )
    add("--cpus", type=lambda text: [int(t) for t in text.split(",")], default=[], metavar="N,M", help="run there only")
    add("--no-peak", action="store_true", help="do not measure what the machine can do")
    add("-o", "--output", action="append", type=_report_file, default=[], metavar="FILE", help="report: .html or .json")
    add("--compare", type=Path, metavar="OLD.json", help="fail where the best is worse than the worst was then")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..bench.match import Schedule
    from .bench_report import annotate, compare, machine, show

    check_output(*args.output)
    old = _old(args.compare)
    models = {path: _load(path) for path in args.models}
    batches = args.batch or [None]
    entries = {t: _entries(args, t) for t in args.threads}
    schedule = Schedule(args.rounds, args.seconds, min(0.1, args.seconds), tuple(args.cpus))
    results = []
    turns = len(models) * len(batches) * sum(map(len, entries.values())) * (1 + args.rounds)
    with console.progress("bench", turns) as advance:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            advance(done)

        for path, batch in product(models, batches):
            job = _job(args, path, models[path], batch, console)
            results += [_run(args, path, job, t, entries[t], schedule, step) for t in args.threads]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine(),
        "settings": {k: getattr(args, k) for k in ("scenario", "rounds", "seconds", "seed", "tolerance", "cpus")},
        "results": results,
    }
    report["settings"]["latency_bound_ms"] = args.latency_bound
    report["ceilings"] = None if args.no_peak else annotate(results)
    report["comparison"] = compare(report, old) if old else []
    report["ok"] = not any(c["regressed"] for c in report["comparison"]) and not any(
        v["status"] in ("wrong", "failed", "missing") for r in results for v in r["engines"].values()
    )
    show(console, report)
    _tell_missing(results, console)
    _write(args.output, report, console)
    return report


def _load(path: Path) -> Model:
    from ..run import load

    return load(path, threads=1)


def _old(path: Path | None) -> dict[str, Any] | None:
    """An earlier report."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
    except ValueError:
        raise FileError(
            "not a report", where=str(path), expected="what `forwardpass bench -o FILE.json` writes"
        ) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("results"), list):
        raise FileError("not a report of this version", where=str(path), expected=f"schema {SCHEMA}")
    return found


def _entries(args: argparse.Namespace, threads: int) -> list[Entry]:
    from ..bench.engines import Options
    from ..bench.match import Entry

    pythons = dict(args.python)

    def entry(name: str, engine: str, precision: str) -> Entry:
        return Entry(name, engine, Options(threads, precision), pythons.get(engine, sys.executable))

    plain = args.precision == ["float32"]
    own = [entry("forwardpass" if plain else f"forwardpass:{p}", "forwardpass", p) for p in args.precision]
    others = [e for e in dict.fromkeys(args.against) if e != "forwardpass"]
    return own + [entry(e, e, "") for e in others]


def _run(
    args: argparse.Namespace,
    path: Path,
    job: Job,
    threads: int,
    entries: list[Entry],
    schedule: Schedule,
    step: Callable[[], None],
) -> dict[str, Any]:
    """All engines on one model, at one batch and number of threads."""
    from ..bench.engines import load_engine
    from ..bench.match import run_match

    unread = f"does not read {path.suffix} files"
    found: dict[str, dict[str, Any]] = {e.name: {"status": "unable", "message": unread} for e in entries}
    able = [e for e in entries if path.suffix.lower() in load_engine(e.engine).READS]
    for _ in range((len(entries) - len(able)) * (1 + schedule.rounds)):
        step()
    found.update(run_match(job, able, schedule, step))
    own: dict[str, Any] = next((v["details"] for v in found.values() if "flops" in v.get("details", {})), {})
    return {
        "model": path.stem,
        "file": str(path),
        "batch": job.samples // job.calls,
        "threads": threads,
        "scenario": args.scenario,
        "calls_per_query": job.calls,
        "inputs": {k: list(x.shape) for k, x in job.inputs.items()},
        "flops": own.get("flops"),
        "weight_bytes": own.get("weight_bytes"),
        "engines": found,
    }


def _tell_missing(results: list[dict[str, Any]], console: Console) -> None:
    """Note once how to get each engine that was asked for and is not there."""
    from ..bench.engines import load_engine

    missing = {k: v["message"] for r in results for k, v in r["engines"].items() if v["status"] == "missing"}
    for name, message in missing.items():
        packages = " ".join(load_engine(name).PACKAGES)
        console.note(f"{message}: pip install {packages}, or --python {name}=EXE where an interpreter has it")


def _job(args: argparse.Namespace, path: Path, model: Model, batch: int | None, console: Console) -> Job:
    """Inputs of the size that the scenario wants, and what must come out."""
    from ..bench.match import Job
    from ..bench.scenarios import SCENARIOS
    from .feeds import make_feeds

    scenario = SCENARIOS[args.scenario]
    told = args.shape or args.input  # whose sizes are the batch, whatever the scenario would like
    free = not told and all(t.shape and not isinstance(t.shape[0], int) for t in model.inputs.values())
    asked = batch
    if scenario.name == "multi-stream":
        asked = scenario.samples if free else None
    elif scenario.name == "offline" and batch is None and free:
        asked = _OFFLINE_BATCH
    feeds = make_feeds(model.graph, argparse.Namespace(**{**vars(args), "batch": asked}), console.note)
    sizes = {x.shape[0] for x in feeds.values() if x.ndim}
    size = asked or (sizes.pop() if len(sizes) == 1 else 1)
    calls = -(-scenario.samples // max(size, 1)) if scenario.name == "multi-stream" else 1
    reference = _reference(model, feeds, console)
    bound, rate = args.latency_bound, args.rate
    return Job(path.resolve(), feeds, reference, args.tolerance, scenario, calls, size * calls, bound, rate)


def _reference(model: Model, feeds: dict[str, Any], console: Console) -> dict[str, Any]:
    """The outputs by their definitions in float64, those that are arrays; empty where they have no such."""
    import numpy as np

    from ..errors import Error
    from ..ops.evaluate import evaluate

    try:
        found = evaluate(model.graph, feeds, dtype=np.float64)
    except Error as error:
        console.note(f"verified against the first engine, since the definitions cannot run in float64: {error}")
        return {}
    return {k: v for k, v in found.items() if isinstance(v, np.ndarray)}


def _write(files: list[Path], report: dict[str, Any], console: Console) -> None:
    from . import _finite
    from .bench_page import make_page

    for file in files:
        if file.suffix.lower() == ".json":
            file.write_text(json.dumps(_finite(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        else:
            file.write_text(make_page(report), encoding="utf-8")
        console.line(f"wrote {file}")
