"""The process of one engine with one model file: loads it, then answers commands and sleeps in between.

Commands: `result` (writes the outputs to a file), `warm SECONDS`, `turn SECONDS`, `server SECONDS RATE SEED`, `memory`.
What the engine itself prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .engines import Call, NotApplicable, Options, load_engine
from .process import private_stdout, serve
from .scenarios import serve_poisson
from .timing import Timer, clock_ns

__all__ = ["main", "memory"]


def memory() -> dict[str, float]:
    """MB of this process that are resident, and the most that ever were; empty where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError:
        return {}
    return {name: int(fields[key].split()[0]) / 1e3 for name, key in (("rss_mb", "VmRSS"), ("peak_mb", "VmHWM"))}


def main(arguments: Sequence[str]) -> None:
    """Work as the job says: a file of JSON, next to which the inputs lie and the outputs will."""
    answer = private_stdout()
    with open(arguments[0], encoding="utf-8") as file:
        job = json.load(file)
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    with np.load(job["inputs"], allow_pickle=False) as archive:
        inputs = {name: archive[key] for name, key in job["names"].items()}
    made = _load(job, inputs, answer)
    if made is not None:
        serve(answer, _commands(made, job))


def _load(job: Mapping[str, Any], inputs: Mapping[str, Any], answer: Callable[..., None]) -> Call | None:
    """The model, called once; None where the engine is not installed, or not for this model. Answers either way."""
    engine = load_engine(job["engine"])
    start = time.perf_counter()
    try:
        version = engine.version()
    except ImportError as error:
        answer({"status": "missing", "message": f"{job['engine']} is not installed ({error})"})
        return None
    imported, before = time.perf_counter(), memory()
    try:
        made: Call = engine.load(job["model"], inputs, Options(job["threads"], job["precision"]))
    except NotApplicable as reason:
        answer({"status": "unable", "message": str(reason), "version": version})
        return None
    loaded = time.perf_counter()
    made.function(*made.args)
    first = time.perf_counter()
    times = {"import_ms": imported - start, "load_ms": loaded - imported, "first_ms": first - loaded}
    answer(
        {
            "status": "ready",
            "version": version,
            **{k: 1e3 * v for k, v in times.items()},
            "engine_mb": before.get("rss_mb"),
            "clock_ns": clock_ns(),
            "details": made.details(),
        }
    )
    return made


def _commands(made: Call, job: Mapping[str, Any]) -> dict[str, Callable[..., dict[str, Any]]]:
    function, args = made.function, made.args
    if job["calls"] > 1:  # a query is so many calls, one after another
        once, calls = made.function, range(job["calls"])

        def function(*args: Any) -> Any:
            for _ in calls:
                result = once(*args)
            return result

    timer = Timer(function, args)

    def result() -> dict[str, Any]:
        found = made.outputs(made.function(*made.args))
        arrays = {k: np.asarray(v) for k, v in found.items()}
        kept = {k: v for k, v in arrays.items() if v.dtype.kind in "fiub"}
        np.savez(job["outputs"], **{f"a{k}": v for k, v in enumerate(kept.values())})  # type: ignore[arg-type]
        return {"names": list(kept)}

    def warm(seconds: str) -> dict[str, Any]:
        timer.warm_up(float(seconds))
        return {}

    def turn(seconds: str) -> dict[str, Any]:
        start = time.process_time()
        found = timer.turn(float(seconds))
        batched = len(found["means"]) * timer.calls if timer.calls > 1 else 0
        return {**found, "cpu_seconds": time.process_time() - start, "queries": len(found["singles"]) + batched}

    def server(seconds: str, rate: str, seed: str) -> dict[str, Any]:
        start = time.process_time()
        found = serve_poisson(lambda: function(*args), float(rate), float(seconds), int(seed))
        return {"singles": found, "cpu_seconds": time.process_time() - start, "queries": len(found)}

    return {"result": result, "warm": warm, "turn": turn, "server": server, "memory": memory}
