"""Times per step of the calls made inside `with model.profile() as p:`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from .graph import Array
from .text import aligned

if TYPE_CHECKING:
    from .plan import Plan
    from .run import Model

__all__ = ["Profile"]


class Profile:
    """Times of a model's calls, step by step. Print it for a table.

    Attributes
    ----------
    calls : int
        Calls that were timed.
    steps : list of dict
        Per step: node, kernel, calls, nanoseconds (all calls together), flops and bytes (of one call).
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0
        self._plans: dict[int, tuple[Plan, list[int], int]] = {}
        self._events: list[tuple[Plan, list[int]]] = []

    def __enter__(self) -> Profile:
        self.model._set_last(None)
        self.model._profile = self
        return self

    def __exit__(self, *exception: object) -> None:
        self.model._profile = None

    def record(self, plan: Plan, inputs: list[Array], outputs: list[Array]) -> None:
        """Run a plan and add its times."""
        times = plan.program.run_profiled(inputs, outputs).tolist()
        self.calls += 1
        _, sums, count = self._plans.get(id(plan), (plan, [0] * len(times), 0))
        self._plans[id(plan)] = (plan, [a + b for a, b in zip(sums, times)], count + 1)
        if len(self._events) < 1000:  # enough for a trace; a long profile must not grow without end
            self._events.append((plan, times))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Per step of every plan that ran."""
        return [
            {
                "node": s.node.name or s.node.outputs[0],
                "kernel": s.kernel,
                "calls": count,
                "nanoseconds": ns,
                "flops": s.flops,
                "bytes": s.nbytes,
            }
            for plan, sums, count in self._plans.values()
            for s, ns in zip(plan.steps, sums)
        ]

    @property
    def nanoseconds(self) -> int:
        """All steps of all calls together."""
        return sum(s["nanoseconds"] for s in self.steps)

    def __str__(self) -> str:
        total = max(self.nanoseconds, 1)
        rows = []
        for s in self.steps:
            each = s["nanoseconds"] / s["calls"]
            rate = s["flops"] / each if each else 0.0
            share = 100 * s["nanoseconds"] / total
            bandwidth = s["bytes"] / each if each else 0.0
            rows.append(
                [
                    s["node"],
                    s["kernel"],
                    f"{each / 1e3:.3f}",
                    f"{share:.1f}",
                    f"{rate:.1f}",
                    f"{bandwidth:.1f}",
                ]
            )
        table = aligned(["node", "kernel", ">us", ">%", ">GFLOP/s", ">GB/s"], rows)
        mean = self.nanoseconds / max(self.calls, 1) / 1e3
        return "\n".join([*table, "", f"{self.calls} calls, {mean:.3f} us each in kernels"])

    __repr__ = __str__

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a Chrome trace (chrome://tracing, Perfetto) of the first 1,000 calls, one after another."""
        events = []
        now = 0
        for plan, times in self._events:
            for s, ns in zip(plan.steps, times):
                name = f"{s.node.name or s.node.outputs[0]} ({s.kernel})"
                args = {"flops": s.flops, "bytes": s.nbytes}
                events.append(
                    {
                        "name": name,
                        "ph": "X",
                        "ts": now / 1e3,
                        "dur": ns / 1e3,
                        "pid": 0,
                        "tid": 0,
                        "args": args,
                    }
                )
                now += ns
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, f)
