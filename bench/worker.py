"""The process of one contender: sets the case up, then answers commands and sleeps in between.

    worker.py CASE.pickle OUTPUT.npy

It is started by `forwardpass.bench.process`, which puts `forwardpass_bench` in place. Commands: `result` (writes the
output to OUTPUT.npy), `warm SECONDS`, `turn SECONDS`, `against ISA SECONDS LIBRARY` (the FMA loop and calls by turns).
What the engine itself prints goes to stderr.
"""

from __future__ import annotations

import os
import pickle
import statistics
import sys
import time
from functools import partial
from typing import Any

import numpy as np
from forwardpass_bench.peak import Loops
from forwardpass_bench.process import private_stdout, serve
from forwardpass_bench.timing import Timer, clock_ns

from contenders import Ready, load_contender


def set_up(job: dict[str, Any], answer: Any) -> Ready | None:
    """The contender, ready; None where its engine is not installed. Answers either way."""
    contender = load_contender(job["contender"])
    start = time.perf_counter()
    try:
        version = contender.version()
    except ImportError as error:
        answer({"status": "missing", "message": str(error)})
        return None
    imported = time.perf_counter()
    ready: Ready = contender.setup(job["network"], job["x"], job["options"])
    loaded = time.perf_counter()
    times = {"import_ms": (imported - start) * 1e3, "load_ms": (loaded - imported) * 1e3}
    answer({"status": "ready", "version": version, **times, "clock_ns": clock_ns(), "details": ready.details})
    return ready


BURST_FLOPS = 1e7
"""About 50 us of a fast core. Within a millisecond without loads a processor may raise its clock again."""


def fma_bursts(loops: Loops, isa: str) -> float:
    """GFLOP/s of FMAs: the median of three bursts, as others may want the core in one."""
    return statistics.median(loops.fma_burst(isa, BURST_FLOPS) for _ in range(3))


def main() -> None:
    answer = private_stdout()
    with open(sys.argv[1], "rb") as file:
        job = pickle.load(file)  # written by the parent process just now
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    ready = set_up(job, answer)
    if ready is None:
        return
    timer = Timer(ready.function, ready.args)

    def result() -> dict[str, Any]:
        np.save(sys.argv[2], ready.result(ready.function(*ready.args)))
        return {}

    def warm(seconds: str) -> dict[str, Any]:
        timer.warm_up(float(seconds))
        return {}

    def against(isa: str, seconds: str, library: str) -> dict[str, list[float]]:
        return timer.against(partial(fma_bursts, Loops(library), isa), float(seconds))

    turn = {"turn": lambda seconds: timer.turn(float(seconds))}
    serve(answer, {"result": result, "warm": warm, "against": against, **turn})


if __name__ == "__main__":
    main()
