"""What an engine does to the program around it: the overhead of calls, memory and time under changing shapes,
processor time while idle, and what it and NumPy or PyTorch cost each other.

    python bench/behaviour.py [--engines forwardpass,onnxruntime] [--only memory,idle] [--threads 2] [--json FILE]

Each engine and each question has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.bench.engines import load_engine
from forwardpass.bench.timing import Timer
from forwardpass.bench.worker import memory

Call = Callable[[np.ndarray], Any]
SHAPES, RUNS = 60, 600
"""Batch sizes that come by turns at random, and calls with them."""
CALLS, LONGEST = 10_000, 256
"""Of a transformer, and the most tokens of a sequence."""
IDLE = 1.0
"""Seconds of doing nothing."""
TURNS = 30


def load(engine: str, path: str, threads: int) -> Call:
    """The model as a function of its input."""
    if engine == "forwardpass":
        import forwardpass as fp

        return fp.load(path, threads=threads)
    if engine == "onnxruntime":
        from forwardpass.bench.engines.onnxruntime import session

        made = session(path, threads)
        return lambda x: made.run(None, {"x": x})
    raise LookupError(f"no engine {engine!r} here: forwardpass or onnxruntime")


def nanoseconds(function: Callable[..., Any], *args: Any) -> float:
    """Of a call, the median of batches of calls."""
    timer = Timer(function, args)
    timer.warm_up(0.1)
    return statistics.median(timer.turn(0.3)["means"])


def call(engine: str, files: dict[str, str], threads: int) -> dict[str, float]:
    """Nanoseconds of every way to call the smallest network, most of which is overhead."""
    x = np.ones((1, 8), np.float32)
    model = load(engine, files["mlp-8-5-1"], 1)
    found = {"call": nanoseconds(model, x)}
    if engine == "forwardpass":
        import forwardpass as fp

        y = np.empty((1, 1), np.float32)
        own: Any = model
        ways: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "run_into": (own.run_into, (x, y)),
            "by keyword": (lambda v: own(x=v), (x,)),
            "run": (own.run, ({"x": x},)),
            "submit": (lambda v: own.submit(v).result(), (x,)),
        }
        found |= {name: nanoseconds(f, *args) for name, (f, args) in ways.items()}
        with fp.Batcher(own, max_delay=0) as batcher:
            found["Batcher"] = nanoseconds(batcher, x)
    return found


def changing(engine: str, files: dict[str, str], threads: int) -> dict[str, Any]:
    """Resident MB before, and after each tenth of calls with batch sizes that come by turns at random."""
    model = load(engine, files["cifar-cnn"], threads)
    source = np.random.default_rng(0)
    sizes = source.integers(1, SHAPES + 1, RUNS)
    pixels = source.standard_normal((SHAPES, 3, 32, 32), dtype=np.float32)
    model(pixels[:1])
    levels = [memory()["rss_mb"]]
    for k, size in enumerate(sizes):
        model(pixels[:size])
        if (k + 1) % (RUNS // 10) == 0:
            levels.append(memory()["rss_mb"])
    return {"rss_mb": levels, "growth_mb": levels[-1] - levels[0], "late_growth_mb": levels[-1] - levels[5]}


def lengths(engine: str, files: dict[str, str], threads: int) -> dict[str, Any]:
    """Resident MB of a transformer after each tenth of calls with sequences of random lengths and batches."""
    model = load(engine, files["encoder"], threads)
    source = np.random.default_rng(0)
    tokens = source.integers(0, 30000, (3, LONGEST))
    levels: list[float] = []
    for k in range(CALLS):
        model(tokens[: source.integers(1, 4), : source.integers(1, LONGEST + 1)])
        if (k + 1) % (CALLS // 10) == 0:
            levels.append(memory()["rss_mb"])
    return {"rss_mb": levels, "largest_to_smallest": max(levels) / min(levels), "peak_mb": memory()["peak_mb"]}


def shapes(engine: str, files: dict[str, str], threads: int) -> dict[str, Any]:
    """Microseconds of the first and the second call with a batch size that was not there before."""
    source = np.random.default_rng(0)
    found = {}
    for name, row in (("mlp-8-5-1", (8,)), ("cifar-cnn", (3, 32, 32))):
        model = load(engine, files[name], threads)
        batches = [np.ones((size, *row), np.float32) for size in source.permutation(np.arange(2, 2 + SHAPES))]
        for x in batches[: SHAPES // 2]:  # whatever is learned from the first ones
            model(x)
        first, second = _first_and_second(model, batches[SHAPES // 2 :])
        found[name] = {"new": 1e6 * first, "seen": 1e6 * second}
    return found


def _first_and_second(model: Call, batches: list[np.ndarray]) -> tuple[float, float]:
    """Median seconds of the first call of each, and of one more after another batch."""
    times: tuple[list[float], list[float]] = ([], [])
    other, *rest = batches
    for x in rest:
        for into in times:
            model(other)
            start = time.perf_counter()
            model(x)
            into.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def idle(engine: str, files: dict[str, str], threads: int) -> dict[str, float]:
    """Processor time that is spent while nothing is asked, right after a call and with a call every 10 ms."""
    model, x = load(engine, files["cifar-cnn"], threads), np.ones((8, 3, 32, 32), np.float32)
    for _ in range(20):
        model(x)
    before = time.process_time()
    time.sleep(IDLE)
    asleep = time.process_time() - before
    start, before = time.perf_counter(), time.process_time()
    for _ in range(100):
        model(x)
    busy, each = time.process_time() - before, (time.perf_counter() - start) / 100
    before = time.process_time()
    for _ in range(100):
        model(x)
        time.sleep(0.01)
    paced = time.process_time() - before
    return {"idle_cpu_s": asleep, "call_ms": 1e3 * each, "cpu_ms": 10 * busy, "cpu_ms_paced": 10 * paced}


def neighbours(engine: str, files: dict[str, str], threads: int) -> dict[str, Any]:
    """How many times as long a call, and matrix products of others with pools of their own, take by turns as alone."""
    model, x = load(engine, files["cifar-cnn"], threads), np.ones((8, 3, 32, 32), np.float32)
    a = np.random.default_rng(0).standard_normal((384, 384), dtype=np.float32)
    works: dict[str, Callable[[], Any]] = {"numpy": lambda: a @ a}
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(threads)
        tensor = torch.from_numpy(a)
        works["torch"] = lambda: tensor @ tensor
    found = {}
    for name, work in works.items():
        own = _alone(lambda: model(x)), _alone(work)
        mixed = _by_turns(lambda: model(x), work)
        found[name] = {"engine": mixed[0] / own[0], "other": mixed[1] / own[1]}
    return found


def _alone(work: Callable[[], Any]) -> float:
    return _by_turns(work, lambda: None)[0]


def _by_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of each, called one after the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for k in range(2 * TURNS):
        for work, into in zip((first, second), times):
            start = time.perf_counter()
            work()
            if k >= TURNS:
                into.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


QUESTIONS = {
    "call": call,
    "memory": changing,
    "lengths": lengths,
    "shapes": shapes,
    "idle": idle,
    "neighbours": neighbours,
}


def ask(engine: str, question: str, files: dict[str, str], threads: int) -> dict[str, Any]:
    """The answer, from a process of its own; `error` where that failed."""
    job = json.dumps([engine, question, files, threads])
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, __file__, "--job", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def versions(engines: list[str]) -> dict[str, str]:
    """Of the engines that are installed, and of PyTorch, which shares a process with them."""
    found = {}
    for name in dict.fromkeys(("torch", *engines)):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(load_engine(name).PACKAGES[0])
    return found


def told(found: dict[str, Any]) -> str:
    def value(v: Any) -> str:
        if isinstance(v, dict):
            return "(" + told(v) + ")"
        return f"{v:,.4g}" if isinstance(v, float) else str([round(i) for i in v]) if isinstance(v, list) else str(v)

    return ", ".join(f"{k} {value(v)}" for k, v in found.items())


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = {"type": lambda text: [t for t in text.split(",") if t], "metavar": "A,B"}
    p.add_argument("--engines", **words, default=["forwardpass", "onnxruntime"], help="default: both")
    p.add_argument("--only", **words, default=list(QUESTIONS), choices=None, help=", ".join(QUESTIONS))
    p.add_argument("--threads", type=int, default=2, help="default 2")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    p.add_argument("--job", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.job:
        engine, question, files, threads = json.loads(args.job)
        print(json.dumps(QUESTIONS[question](engine, files, threads)))
        return 0
    from model_files import encoder, write

    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="forwardpass-behaviour-") as folder:
        files = {name: str(write(Path(folder), name)) for name in ("mlp-8-5-1", "cifar-cnn")}
        small = Path(folder) / "encoder.onnx"
        small.write_bytes(encoder(2, 64, 4, 128, "length")("encoder").SerializeToString())
        files["encoder"] = str(small)
        for question in args.only:
            print(f"{question}: {QUESTIONS[question].__doc__.splitlines()[0]}")
            for engine in args.engines:
                results.setdefault(question, {})[engine] = found = ask(engine, question, files, args.threads)
                print(f"  {engine:<12} {told(found)}")
    if args.json:
        from forwardpass.cli.bench_report import machine

        written = {"machine": machine(), "threads": args.threads, "versions": versions(args.engines), **results}
        args.json.write_text(json.dumps(written, indent=1) + "\n")
    return int(any("error" in found for answers in results.values() for found in answers.values()))


if __name__ == "__main__":
    sys.exit(main())
