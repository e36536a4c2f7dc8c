"""Time the other choices of algorithm and tile for every layer of models, and fail where one beats ours.

    python bench/picks.py MODEL... [--precision float32] [--seconds 10] [--slack 8]

The planner chooses by predicates and a cost model; this is their check. Each candidate is a plan of the whole model
with one choice forced, so layers meet the caches as they do in a run; plans take turns, and a layer's time is the
fastest of its runs. FORWARDPASS_ISA says for which ISA.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

import forwardpass as fp
from forwardpass.ops.lower_winograd import WINOGRAD_TILES, Scheme, schemes
from forwardpass.plan import Plan, make_plan
from forwardpass.text import aligned

TILES = ("lower_conv", "lower_linear", "lower_winograd")
LEAST_US = 5.0
"""Shorter steps are as long as the clock is wrong."""


@contextmanager
def forced(rows: int = 0, winograd: tuple[int, int] | None = None) -> Iterator[None]:
    """Plans made inside have tiles of so many rows, and Winograd's way by tiles of so many outputs wherever that
    applies and is accurate enough; (0, 0) for nowhere."""

    def scheme(height: int, width: int, channels: int, n: int, approximate: bool) -> Scheme | None:
        found = [s for s in schemes(channels, n, approximate) if (s.rows, s.cols) == winograd]
        return found[0] if found else None

    with ExitStack() as stack:
        for module in TILES if rows else ():
            stack.enter_context(patch(f"forwardpass.ops.{module}.tile_rows", lambda _, pixels, *__: min(rows, pixels)))
        if winograd is not None:
            stack.enter_context(patch("forwardpass.ops.lower_winograd.scheme", scheme))
        yield


def plans_of(model: fp.Model) -> dict[str, Plan]:
    """The plan that the model would run, and those with another choice."""
    shapes = {k: tuple(d if isinstance(d, int) else 1 for d in t.shape or ()) for k, t in model.inputs.items()}

    def made() -> Plan:
        return make_plan(model.optimized, shapes, model.settings, model._packed)

    plans = {"ours": made()}
    for tile in (*WINOGRAD_TILES, (0, 0)):
        with forced(winograd=tile):
            plans[f"Winograd {tile[0]}x{tile[1]}"] = made()
    most = len(model.settings.tile_panels)
    for rows in sorted({most, most * 6 // 7, most * 2 // 3, most // 2, most // 3}, reverse=True):
        with forced(rows=max(rows, 1)):
            plans[f"tiles of {max(rows, 1)}"] = made()
    return plans


def fastest(plans: dict[str, Plan], seconds: float) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Node -> our choice for its product or convolution, and node -> choice -> its fewest microseconds."""
    rng = np.random.default_rng(0)
    first = plans["ours"]
    inputs = [np.asarray(rng.random(t.sizes), t.dtype) for t in first.inputs.values()]
    outputs = [np.empty(t.sizes, t.dtype) for t in first.outputs.values()]
    best: dict[str, dict[str, float]] = {}
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turns < 3:
        turns += 1
        for plan in plans.values():
            plan.program.run_profiled(inputs, outputs)  # its own memory goes to the caches first
            times, _, _ = plan.program.run_profiled(inputs, outputs)
            totals = [0] * len(plan.steps)
            for entry, ns in zip(plan.tape, times):  # a step by blocks of rows has several
                totals[entry.index] += ns
            for step, ns in zip(plan.steps, totals):
                if choice := choice_of(step):
                    found = best.setdefault(step.node.name or step.node.outputs[0], {})
                    found[choice] = min(found.get(choice, np.inf), ns / 1e3)
    ours = {s.node.name or s.node.outputs[0]: choice_of(s) for s in first.steps if choice_of(s)}
    return ours, best


def choice_of(step: Any) -> str:
    """What the planner chose for a step; nothing where it had no choice."""
    if step.kernel not in ("brgemm_f32", "winograd_f32"):
        return ""
    p = step.params
    way = f"Winograd {p['rows']}x{p['cols']}, " if step.kernel == "winograd_f32" else ""
    return f"{way}tiles of {step.params['tile_m']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seconds", type=float, default=10.0, help="per model")
    parser.add_argument("--slack", type=float, default=8.0, help="percent that ours may be slower than the best")
    args = parser.parse_args()
    poor = 0
    for path in args.models:
        ours, best = fastest(plans_of(fp.load(path, threads=1, precision=args.precision)), args.seconds)
        rows: list[list[Any]] = []
        for node, choice in ours.items():
            name, us = min(best[node].items(), key=lambda item: item[1])
            slower = 100 * (best[node][choice] / us - 1)
            if slower > args.slack and best[node][choice] >= LEAST_US:
                rows.append([node, choice, f"{best[node][choice]:.1f}", name, f"{us:.1f}", f"{slower:.0f} %"])
        total = sum(best[node][choice] for node, choice in ours.items())
        lost = sum(float(r[2]) - float(r[4]) for r in rows)
        print(f"{path}: {len(ours)} layers, {len(rows)} poor picks, which cost {lost:.0f} of {total:.0f} us")
        print(
            *(f"  {line}" for line in aligned(["layer", "ours", ">us", "best", ">us", ">slower"], rows) if rows),
            sep="\n",
        )
        poor += len(rows)
    return int(poor > 0)


if __name__ == "__main__":
    sys.exit(main())
