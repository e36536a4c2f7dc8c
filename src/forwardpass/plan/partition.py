"""Which thread does which part of each step. Static, so that a core meets the same weights at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..tracked import call, is_tracked

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["split"]

# Cautious estimates of one core, per microsecond, to turn what a step does into time: operations of what can be
# shared and of what cannot (mostly a single row), bytes of weights, and bytes of results, which is what steps without
# operations do.
_FLOPS = 150e3
_FLOPS_ALONE = 60e3
_BYTES = 60e3
_WRITTEN = 40e3
_STEP_US = 2.0
"""A step below this is not worth the wait of the other threads at its end."""
_PROGRAM_US = 5.0
"""What threads must save together, or it is not worth to start them."""
_PART = 0.15
"""And of the whole time at least: where the rest is longer than idle threads spin, each call has to wake them."""


def split(steps: Sequence[Step], threads: int) -> int:
    """Give every step its ranges; return the number of threads that the program uses.

    The parts never change a result: a kernel's output does not depend on the range that it is in.
    """
    if threads == 1:
        return _alone(steps)
    # All at once, by functions of numbers: the sizes may be tracked.
    times = [
        call(_microseconds, s.units, s.grain, s.flops, _weight_bytes(s), s.output.size * s.output.buffer.itemsize)
        for s in steps
    ]
    parts = [call(_parts, s.units, s.grain, t, threads) for s, t in zip(steps, times)]
    if not call(_pays, *times, *parts):
        return _alone(steps)
    for s, n in zip(steps, _joined(steps, parts, threads)):
        cuts = call(_cuts, s.units, s.grain, n, threads)
        s.ranges = list(zip(cuts[::2], cuts[1::2]))
    return threads


def _alone(steps: Sequence[Step]) -> int:
    for s in steps:
        s.ranges = [(0, s.units)]
    return 1


def _joined(steps: Sequence[Step], parts: Sequence[int], threads: int) -> list[int]:
    """The parts, where small steps between two that are cut are cut too: the threads wait for each other there anyway,
    and a cache line that one core has written takes another one longer to get than to compute."""
    found: list[int] = []
    for k, s in enumerate(steps):
        before = found[-1] if k else threads
        after = parts[k + 1] if k + 1 < len(steps) else threads
        if s.kernel == "halo_f32":  # nobody waits for a border before it is read
            after = before
        found.append(call(_beside, before, parts[k], after, s.units, s.grain, threads))
    return found


def _beside(before: int, own: int, after: int, units: int, grain: int, threads: int) -> int:
    return own if own > 1 or before == 1 or after == 1 else max(1, min(threads, -(-units // grain)))


def _weight_bytes(step: Step) -> int:
    found = [step.params.get(name) for name in ("b", "weights")]
    return sum(w.nbytes for w in found if w is not None and not is_tracked(w))


def _microseconds(units: int, grain: int, flops: int, weights: int, written: int) -> float:
    return flops / _FLOPS + weights / _BYTES + written / _WRITTEN if units > grain else flops / _FLOPS_ALONE


def _parts(units: int, grain: int, microseconds: float, threads: int) -> int:
    most = -(-units // grain)
    return max(1, min(threads, most)) if microseconds >= _STEP_US else 1


def _pays(*times_and_parts: float) -> bool:
    """Of the times of all steps, then their parts: whether threads save enough."""
    count = len(times_and_parts) // 2
    times, parts = times_and_parts[:count], times_and_parts[count:]
    saved = sum(t - t / n for t, n in zip(times, parts))
    return any(n > 1 for n in parts) and saved >= max(_PROGRAM_US, _PART * sum(times))


def _cuts(units: int, grain: int, parts: int, threads: int) -> tuple[int, ...]:
    """Begin and end for each thread."""
    blocks = -(-units // grain)
    cuts = [min(units, blocks * p // parts * grain) for p in range(parts + 1)]
    return (*(end for p in range(parts) for end in cuts[p : p + 2]), *[0] * 2 * (threads - parts))
