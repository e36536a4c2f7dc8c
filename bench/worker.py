"""The process of one contender: sets the case up, then answers commands and sleeps in between.

    python bench/worker.py CASE.pickle OUTPUT.npy

Commands are lines of stdin, answers are lines of JSON on stdout: `result` (writes the output to OUTPUT.npy),
`warm SECONDS`, `turn SECONDS`. A closed stdin ends it. What the engine itself prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from typing import Any

import numpy as np

from contenders import Ready, load_contender
from timing import Timer, clock_ns


def private_stdout() -> Any:
    """The real stdout; whoever prints from now on, in C as well, prints to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


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


def main() -> None:
    answers = private_stdout()

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    with open(sys.argv[1], "rb") as file:
        job = pickle.load(file)  # written by the parent process just now
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    ready = set_up(job, answer)
    if ready is None:
        return
    timer = Timer(ready.function, ready.args)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "result":
            np.save(sys.argv[2], ready.result(ready.function(*ready.args)))
            answer({})
        elif command == "warm":
            timer.warm_up(float(argument))
            answer({})
        elif command == "turn":
            answer(timer.turn(float(argument)))


if __name__ == "__main__":
    main()
