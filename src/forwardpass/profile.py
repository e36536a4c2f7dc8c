"""Times per step of the calls made inside `with model.profile() as p:`."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from .errors import FileError
from .graph import Array, Node
from .tabular import Parts, Report

if TYPE_CHECKING:
    from .plan import Plan
    from .run import Model

__all__ = ["Profile"]

_MOST_EVENTS = 10_000
"""Of a trace: a long profile must not grow without end."""
_MOST_TIMES = 500
"""The latest times of a step, of which the median is taken."""


class Profile(Report):
    """Times of a model's calls, step by step. Print it for a table.

    Attributes
    ----------
    calls : int
        Calls that were timed.
    steps : list of dict
        Per step: node, kernel, calls, nanoseconds (all calls together), flops and bytes (of one call), and median: the
        nanoseconds of one call, of the latest 500. What else the machine does disturbs the sum, but hardly the median,
        which is what is printed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0
        self._rows: dict[int, tuple[Plan | Node, list[dict[str, Any]]]] = {}
        self._times: dict[int, list[deque[int]]] = {}
        self._nanoseconds = 0
        self._events: list[tuple[dict[str, Any], int]] = []
        self._lock = threading.Lock()
        self._outer: Profile | None = None

    def __enter__(self) -> Profile:
        self._outer, self.model._profile = self.model._profile, self
        self.model._set_last(None)
        return self

    def __exit__(self, *exception: object) -> None:
        self.model._profile = self._outer

    def count(self) -> None:
        """Note a call."""
        with self._lock:
            self.calls += 1

    def record(self, plan: Plan, inputs: list[Array], outputs: list[Array]) -> None:
        """Run a plan and add the times of its steps."""
        times, fault, _ = plan.program.run_profiled(inputs, outputs)
        if fault:
            raise plan.fault(fault - 1)
        totals = [0] * len(plan.steps)
        for entry, ns in zip(plan.tape, times):
            totals[entry.index] += ns
        self._add(plan, [(s.node, s.kernel, s.flops, s.nbytes) for s in plan.steps], totals)

    def record_definition(self, node: Node, nanoseconds: int) -> None:
        """Add the time of a node that ran by its definition."""
        self._add(node, [(node, "definition", 0, 0)], [nanoseconds])

    def _add(self, owner: Plan | Node, steps: list[tuple[Node, str, int, int]], times: list[int]) -> None:
        with self._lock:
            if id(owner) not in self._rows:  # the owner is kept, so that its id stays its own
                self._rows[id(owner)] = (
                    owner,
                    [
                        {"node": n.title, "kernel": kernel, "calls": 0, "nanoseconds": 0}
                        | {"flops": flops, "bytes": nbytes}
                        for n, kernel, flops, nbytes in steps
                    ],
                )
                self._times[id(owner)] = [deque(maxlen=_MOST_TIMES) for _ in steps]
            self._nanoseconds += sum(times)
            for row, latest, ns in zip(self._rows[id(owner)][1], self._times[id(owner)], times):
                row["calls"] += 1
                row["nanoseconds"] += ns
                latest.append(ns)
                if len(self._events) < _MOST_EVENTS:
                    self._events.append((row, ns))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Per step of every plan that ran, and per node that ran by its definition."""
        with self._lock:
            return [
                row | {"median": sorted(latest)[len(latest) // 2]}
                for key, (_, rows) in self._rows.items()
                for row, latest in zip(rows, self._times[key])
            ]

    @property
    def nanoseconds(self) -> int:
        """All steps of all calls together."""
        with self._lock:
            return self._nanoseconds

    @property
    def typical(self) -> float:
        """Nanoseconds of one call, from the medians of its steps."""
        total: float = sum(s["median"] * s["calls"] for s in self.steps)
        return total / max(self.calls, 1)

    def records(self) -> list[dict[str, Any]]:
        return self.steps

    def parts(self) -> Parts:
        typical = self.typical
        rows = []
        for s in self.steps:
            each = s["median"]
            figures = [f"{each / 1e3:.3f}", f"{100 * each * s['calls'] / max(typical * self.calls, 1):.1f}"]
            figures += [f"{s[k] / each if each else 0.0:.1f}" for k in ("flops", "bytes")]
            rows.append([s["node"], s["kernel"], *figures])
        columns = ["node", "kernel", ">us", ">%", ">GFLOP/s", ">GB/s"]
        return Parts([], columns, rows, ["", f"{self.calls} calls, {typical / 1e3:.3f} us each in kernels"])

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a Chrome trace (chrome://tracing, Perfetto) of the first 10,000 steps, one after another.

        Raises
        ------
        FileError
            The file cannot be written.
        """
        events = []
        now = 0
        for row, ns in self._events:
            event = {"name": f"{row['node']} ({row['kernel']})", "ph": "X", "ts": now / 1e3, "dur": ns / 1e3}
            args = {"flops": row["flops"], "bytes": row["bytes"]}
            events.append(event | {"pid": 0, "tid": 0, "args": args})
            now += ns
        try:
            with open(path, "w", encoding="utf-8") as f:
                json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, f)
        except OSError as e:
            raise FileError(f"cannot write the file ({e.strerror or e})", where=os.fsdecode(path)) from e
