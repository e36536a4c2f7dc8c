"""Contenders against each other on one case: a process each, verified first, then timed in turns (A B A B ...)."""

from __future__ import annotations

import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contenders import Options
from forwardpass.bench.peak import Peak
from forwardpass.bench.process import Process, WorkerError, script_command
from network import Array
from problems import Case

LIMIT = 2e-5
"""Largest error of an output that counts as float32, relative to the largest output: 168 ulp. Sums of a few thousand
products stay under 1e-6, bfloat16 and reduced-precision modes are above 1e-3."""
PAUSE = 0.02
"""Seconds between turns, in which threads that spin for more work go to sleep."""


@dataclass(frozen=True)
class Entry:
    """A contender as it takes part: `name` is what the table shows, `contender` what to load."""

    name: str
    contender: str
    options: Options
    python: str = sys.executable


@dataclass(frozen=True)
class Schedule:
    """How long and how often, where, and when to give up on a worker."""

    rounds: int = 5
    seconds: float = 0.3
    warm: float = 0.1
    cpus: tuple[int, ...] = ()
    patience: float = 120.0


class Worker(Process):
    """The process of one entry."""

    def __init__(self, entry: Entry, case: Case, schedule: Schedule, folder: Path) -> None:
        self.entry, self.case, self.output = entry, case, folder / "y.npy"
        job = {
            "contender": entry.contender, "network": case.network, "x": case.x, "options": entry.options,
            "cpus": schedule.cpus,
        }  # fmt: skip
        with open(folder / "case.pickle", "wb") as file:
            pickle.dump(job, file)
        script = str(Path(__file__).with_name("worker.py"))
        command = script_command(entry.python, script, str(folder / "case.pickle"), str(self.output))
        super().__init__(command, folder, entry.options.threads, schedule.patience)

    def result(self) -> Array:
        """The output of one more call."""
        self.output.unlink(missing_ok=True)
        self.ask("result")
        return np.load(self.output)


def error_of(y: Array, reference: Array) -> float:
    """The largest difference, relative to the largest output; infinite where shape, dtype or finiteness are wrong."""
    if y.shape != reference.shape or y.dtype != np.float32 or not np.isfinite(y).all():
        return float("inf")
    return float(np.abs(y - reference).max() / np.abs(reference).max())


def _verify(worker: Worker, when: str) -> dict[str, Any]:
    y = worker.result()
    error = error_of(y, worker.case.reference)
    if error <= LIMIT:
        return {"error": error}
    wanted = worker.case.reference.shape
    if y.shape != wanted or y.dtype != np.float32:
        what = f"{y.dtype.name}{list(y.shape)} instead of float32{list(wanted)}"
    elif not np.isfinite(error):
        what = "not finite"
    else:
        what = f"relative error {error:.1e}, allowed {LIMIT:.0e}"
    # JSON has no infinity.
    return {"status": "wrong", "error": error if np.isfinite(error) else None, "message": f"wrong {when}: {what}"}


def run_case(
    case: Case,
    entries: Sequence[Entry],
    schedule: Schedule,
    step: Callable[[str], None] = lambda text: None,
    peak: Peak | None = None,
) -> dict[str, dict[str, Any]]:
    """Time all entries on a case.

    Parameters
    ----------
    step
        Told what happens next: once per entry set up and once per turn.
    peak
        Its FMA loop takes turns with the calls of every entry of one thread, after the rounds.

    Returns
    -------
    dict of str to dict
        Entry name -> `status` ("ok", "missing", "wrong", "failed"), `message`, `version`, and of those that are ok
        the times: see `_times`.
    """
    found: dict[str, dict[str, Any]] = {e.name: {"status": "missing", "message": ""} for e in entries}
    workers: dict[str, Worker] = {}
    turns: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
        try:
            for k, entry in enumerate(entries):
                step(f"set up {entry.name}")
                path = Path(folder, str(k))
                path.mkdir()
                found[entry.name] = _start(entry, case, schedule, path, workers)
            for turn in range(schedule.rounds):
                names = list(workers)
                for name in names[turn % max(len(names), 1) :] + names[: turn % max(len(names), 1)]:
                    step(f"time {name}")
                    time.sleep(PAUSE)
                    samples = turns.setdefault(name, [])
                    _guard(found, workers, name, lambda w, to=samples: to.append(_turn(w, schedule)))
            for name in list(workers):
                if peak is not None and found[name]["threads"] == 1:
                    _guard(found, workers, name, lambda w: _against(w, found[w.entry.name], schedule, peak))
            for name in list(workers):
                _guard(found, workers, name, lambda w: found[w.entry.name].update(_verify(w, "after timing")))
                if found[name]["status"] == "ok":
                    found[name].update(_times(turns[name]))
        finally:
            for worker in workers.values():
                worker.close()
    return found


def _start(entry: Entry, case: Case, schedule: Schedule, folder: Path, workers: dict[str, Worker]) -> dict[str, Any]:
    """Start a worker and verify it; it joins `workers` only if its result is right."""
    try:
        worker = Worker(entry, case, schedule, folder)
    except WorkerError as error:
        return {"status": "failed", "message": str(error)}
    found = {**worker.first, "threads": entry.options.threads}
    if found["status"] == "ready":
        try:
            found = {**found, "status": "ok", **_verify(worker, "before timing")}
        except WorkerError as error:
            found = {**found, "status": "failed", "message": str(error)}
    if found["status"] == "ok":
        workers[entry.name] = worker
    else:
        worker.close()
    return found


def _guard(
    found: dict[str, dict[str, Any]], workers: dict[str, Worker], name: str, action: Callable[[Worker], None]
) -> None:
    """Do it; a worker that dies of it is out, and the others go on."""
    try:
        action(workers[name])
    except WorkerError as error:
        found[name].update(status="failed", message=str(error))
        workers.pop(name).close()


def _turn(worker: Worker, schedule: Schedule) -> dict[str, Any]:
    worker.ask("warm", schedule.warm)
    return worker.ask("turn", schedule.seconds)


def _against(worker: Worker, found: dict[str, Any], schedule: Schedule, peak: Peak) -> None:
    """Add what the FMA loop of the ISA and the calls reach in turn."""
    time.sleep(PAUSE)
    isa = found["details"].get("isa") or peak.isas[0]
    worker.ask("warm", schedule.warm)
    in_turn = worker.ask("against", isa, 2 * schedule.seconds, peak.library)
    rates = [worker.case.flops / ns for ns in in_turn["means"]]
    fractions = [rate / fma for rate, fma in zip(rates, in_turn["rates"])]
    found["in_turn"] = {"fma_gflops": in_turn["rates"], "gflops": rates, "fraction": statistics.median(fractions)}


def _times(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Microseconds per call: the median of the turns' medians, the turns' medians, and percentiles of single calls."""
    medians = [statistics.median(t["means"]) / 1e3 for t in turns]
    singles = np.concatenate([t["singles"] for t in turns]) / 1e3
    p50, p99, p999 = np.percentile(singles, [50, 99, 99.9])
    return {
        "median_us": statistics.median(medians),
        "best_us": min(min(t["means"]) for t in turns) / 1e3,
        "rounds_us": medians,
        "calls_per_reading": [t["calls"] for t in turns],
        "single_us": {"p50": p50, "p99": p99, "p99.9": p999, "count": len(singles)},
    }
