"""Which thread does which part of each step. Static, so that a core meets the same weights at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .tracked import call, total

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["split"]

_GFLOPS = 60.0
"""A cautious rate of one core, to turn operations into time."""
_STEP_US = 4.0
"""A step below this is not worth the wait of the other threads at its end."""
_PROGRAM_US = 20.0
"""A program below this is not worth waking threads for."""


def split(steps: Sequence[Step], threads: int) -> int:
    """Give every step its ranges; return the number of threads that the program uses.

    The parts never change a result: a kernel's output does not depend on the range that it is in.
    """
    # All at once, by functions of numbers: the sizes may be tracked.
    parts = [call(_parts, s.units, s.grain, s.flops, threads) for s in steps]
    if threads == 1 or _microseconds(total(s.flops for s in steps)) < _PROGRAM_US or call(_most, *parts) == 1:
        for s in steps:
            s.ranges = [(0, s.units)]
        return 1
    for s, n in zip(steps, _joined(steps, parts, threads)):
        cuts = call(_cuts, s.units, s.grain, n, threads)
        s.ranges = list(zip(cuts[::2], cuts[1::2]))
    return threads


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


def _microseconds(flops: int) -> float:
    return flops / _GFLOPS / 1e3


def _parts(units: int, grain: int, flops: int, threads: int) -> int:
    most = -(-units // grain)
    return max(1, min(threads, most)) if _microseconds(flops) >= _STEP_US else 1


def _most(*parts: int) -> int:
    return max(parts, default=1)


def _cuts(units: int, grain: int, parts: int, threads: int) -> tuple[int, ...]:
    """Begin and end for each thread."""
    blocks = -(-units // grain)
    cuts = [min(units, blocks * p // parts * grain) for p in range(parts + 1)]
    return (*(end for p in range(parts) for end in cuts[p : p + 2]), *[0] * 2 * (threads - parts))
