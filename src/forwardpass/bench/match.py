"""Engines against each other on one model: a process each, verified first, then timed in turns (A B A B ...)."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .engines import Array, Options
from .process import Process, WorkerError, worker_command
from .scenarios import Scenario
from .stats import error_of, percentiles, quantiles, ratio

__all__ = ["Entry", "Job", "Schedule", "run_match"]

_PAUSE = 0.02
"""Seconds between turns, in which threads that spin for more work go to sleep."""


@dataclass(frozen=True)
class Entry:
    """An engine as it takes part: `name` is what tables show, `engine` what to load."""

    name: str
    engine: str
    options: Options
    python: str = sys.executable


@dataclass(frozen=True)
class Schedule:
    """How long and how often, where, and when to give up on a worker."""

    rounds: int = 5
    seconds: float = 0.3
    warm: float = 0.1
    cpus: tuple[int, ...] = ()
    patience: float = 300.0


@dataclass(frozen=True)
class Job:
    """What the engines do.

    Attributes
    ----------
    inputs
        In the order of the model.
    reference
        The outputs that count as right, or empty: then those of the first engine do.
    tolerance
        The largest `error_of` an output.
    calls
        Calls that make a query.
    samples
        Inputs in a query.
    bound_ms, rate
        Of the server scenario: the bound of the 99th percentile; the arrivals per second, 0 to look for the most.
    """

    model: Path
    inputs: Mapping[str, Array]
    reference: Mapping[str, Array]
    tolerance: float
    scenario: Scenario
    calls: int = 1
    samples: int = 1
    bound_ms: float = 15.0
    rate: float = 0.0


class _Worker(Process):
    """The process of one entry, and what it has measured."""

    def __init__(self, entry: Entry, job: Job, schedule: Schedule, folder: Path) -> None:
        self.entry, self.job = entry, job
        self.outputs = folder / "outputs.npz"
        self.turns: list[dict[str, Any]] = []
        self.search = _Search(job)
        names = {name: f"a{k}" for k, name in enumerate(job.inputs)}
        np.savez(folder / "inputs.npz", **{names[k]: v for k, v in job.inputs.items()})  # type: ignore[arg-type]
        told = {
            "engine": entry.engine,
            "model": str(job.model),
            "names": names,
            "inputs": str(folder / "inputs.npz"),
            "outputs": str(self.outputs),
            "threads": entry.options.threads,
            "precision": entry.options.precision,
            "calls": job.calls,
            "cpus": list(schedule.cpus),
        }
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
        command = worker_command(entry.python, str(folder / "job.json"))
        super().__init__(command, folder, entry.options.threads, schedule.patience)

    def result(self) -> dict[str, Array]:
        """The outputs of one more call."""
        names = self.ask("result")["names"]
        with np.load(self.outputs, allow_pickle=False) as archive:
            return {name: archive[f"a{k}"] for k, name in enumerate(names)}

    def turn(self, schedule: Schedule) -> None:
        """Warm up, and measure once more."""
        self.ask("warm", schedule.warm)
        if self.job.scenario.name != "server":
            self.turns.append(self.ask("turn", schedule.seconds))
            return
        if not self.search.rate:
            self.search.begin(1e9 / statistics.median(self.ask("turn", schedule.seconds / 4)["singles"]))
        found = self.ask("server", schedule.seconds, self.search.rate, len(self.turns))
        self.turns.append({**found, "rate": self.search.rate, "valid": self.search.note(found["singles"])})


class _Search:
    """The highest rate of queries at which the bound holds, by bisection: one probe per round."""

    def __init__(self, job: Job) -> None:
        self.bound_ns, self.fixed = 1e6 * job.bound_ms, bool(job.rate)
        self.rate, self._valid, self._invalid = job.rate, 0.0, float("inf")

    def begin(self, most: float) -> None:
        """With three quarters of what could be answered back to back."""
        self.rate = 0.75 * most

    def note(self, latencies: Sequence[int]) -> bool:
        """Whether these are within the bound; the next rate to try follows from it."""
        valid = not latencies or percentiles(latencies)["p99"] <= self.bound_ns
        if self.fixed:
            return valid
        if valid:
            self._valid = max(self._valid, self.rate)
        else:
            self._invalid = min(self._invalid, self.rate)
        bounded = self._invalid < float("inf")
        self.rate = (self._valid + self._invalid) / 2 if bounded else 1.2 * self.rate
        return valid


def run_match(
    job: Job, entries: Sequence[Entry], schedule: Schedule, step: Callable[[], None] = lambda: None
) -> dict[str, dict[str, Any]]:
    """Time all entries.

    Parameters
    ----------
    step
        Told when an entry is set up and when a turn is over.

    Returns
    -------
    dict of str to dict
        Entry name -> `status` ("ok", "missing": not installed, "unable": not for this model, "wrong", "failed"),
        `message`, `version`, and of those that are ok the figures: see `_figures`.
    """
    found: dict[str, dict[str, Any]] = {e.name: {"status": "missing", "message": ""} for e in entries}
    workers: dict[str, _Worker] = {}
    reference = dict(job.reference)
    with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
        try:
            for k, entry in enumerate(entries):
                path = Path(folder, str(k))
                path.mkdir()
                found[entry.name] = _start(entry, job, schedule, path, workers, reference)
                step()
            for turn in range(schedule.rounds):
                names = list(workers)
                first = turn % max(len(names), 1)
                for name in names[first:] + names[:first]:
                    time.sleep(_PAUSE)
                    _guard(found, workers, name, lambda w: w.turn(schedule))
                    step()
            for name in list(workers):
                _guard(found, workers, name, lambda w: found[w.entry.name].update(_verify(w, reference, "after")))
                if found[name]["status"] == "ok":
                    _guard(found, workers, name, lambda w: found[w.entry.name].update(w.ask("memory")))
                    found[name].update(_figures(job, workers[name].turns))
        finally:
            for worker in workers.values():
                worker.close()
    _compare(found)
    return found


def _start(
    entry: Entry,
    job: Job,
    schedule: Schedule,
    folder: Path,
    workers: dict[str, _Worker],
    reference: dict[str, Array],
) -> dict[str, Any]:
    """Start a worker and verify it; it joins `workers` only if its outputs are right."""
    try:
        worker = _Worker(entry, job, schedule, folder)
    except WorkerError as error:
        return {"status": "failed", "message": str(error)}
    found = {**worker.first, "threads": entry.options.threads}
    if found["status"] == "ready":
        try:
            if not reference:
                reference.update(worker.result())
            found = {**found, "status": "ok", **_verify(worker, reference, "before")}
        except WorkerError as error:
            found = {**found, "status": "failed", "message": str(error)}
    if found["status"] == "ok":
        workers[entry.name] = worker
    else:
        worker.close()
    return found


def _verify(worker: _Worker, reference: Mapping[str, Array], when: str) -> dict[str, Any]:
    error, message = error_of(worker.result(), reference)
    if error <= worker.job.tolerance:
        return {"error": error}
    told = message or f"error {error:.1e}, allowed {worker.job.tolerance:.0e}"
    # JSON has no infinity.
    kept = error if np.isfinite(error) else None
    return {"status": "wrong", "error": kept, "message": f"wrong {when} timing: {told}"}


def _guard(
    found: dict[str, dict[str, Any]], workers: dict[str, _Worker], name: str, action: Callable[[_Worker], None]
) -> None:
    """Do it; a worker that dies of it is out, and the others go on."""
    try:
        action(workers[name])
    except WorkerError as error:
        found[name].update(status="failed", message=str(error))
        workers.pop(name).close()


def _figures(job: Job, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Times per query in microseconds: over all calls, and per round; what counts in the scenario."""
    server = job.scenario.name == "server"
    valid = [t for t in turns if t["valid"]] if server else turns
    best = [max(valid, key=lambda t: t["rate"])] if valid and server else valid
    singles = np.concatenate([np.asarray(t["singles"], float) for t in best or turns]) / 1e3
    if not singles.size:
        return {"status": "failed", "message": "no query arrived: more seconds or a higher rate are needed"}
    cpu = sum(t["cpu_seconds"] for t in turns) / max(sum(t["queries"] for t in turns), 1)
    latency = percentiles(singles)
    if server:
        rate = best[0]["rate"] if best else 0.0
        rounds = [1e6 / rate] if rate else []
        metric, throughput = rate, rate * job.samples
    else:
        rounds = [statistics.median(t["means"]) / 1e3 for t in turns]
        mean = statistics.median(statistics.fmean(t["means"]) for t in turns) / 1e9
        throughput = job.samples / mean
        metric = latency[job.scenario.share] if job.scenario.share else throughput
    return {
        "median_us": statistics.median(rounds) if rounds else None,
        "best_us": min(min(t["means"]) for t in turns) / 1e3 if not server else min(rounds, default=None),
        "rounds_us": rounds,
        "latency_us": latency,
        "quantiles_us": quantiles(singles),
        "count": int(singles.size),
        "throughput": throughput,
        "metric": {"name": job.scenario.metric, "value": metric, "unit": job.scenario.unit},
        "cpu_seconds": cpu / job.samples,
    }


def _compare(found: Mapping[str, dict[str, Any]]) -> None:
    """Add to every entry how it compares with the fastest one of another engine."""
    done = {k: v for k, v in found.items() if v["status"] == "ok" and v["rounds_us"]}
    for name, own in done.items():
        others = {k: v for k, v in done.items() if k.partition(":")[0] != name.partition(":")[0]}
        if others:
            rival = min(others, key=lambda k: others[k]["median_us"])
            count = min(len(own["rounds_us"]), len(others[rival]["rounds_us"]))
            pair = own["rounds_us"][:count], others[rival]["rounds_us"][:count]
            own["rival"] = {"name": rival, **ratio(*pair)}
