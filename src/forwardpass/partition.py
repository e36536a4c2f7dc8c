"""Which thread does which part of each step. Static, so that a core meets the same weights at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    total = sum(_microseconds(s) for s in steps)
    if threads == 1 or total < _PROGRAM_US or not any(_parts(s, threads) > 1 for s in steps):
        for s in steps:
            s.ranges = [(0, s.units)]
        return 1
    for s in steps:
        s.ranges = _ranges(s, _parts(s, threads), threads)
    return threads


def _microseconds(step: Step) -> float:
    return step.flops / _GFLOPS / 1e3


def _parts(step: Step, threads: int) -> int:
    most = -(-step.units // step.grain)
    return max(1, min(threads, most)) if _microseconds(step) >= _STEP_US else 1


def _ranges(step: Step, parts: int, threads: int) -> list[tuple[int, int]]:
    blocks = -(-step.units // step.grain)
    cuts = [min(step.units, blocks * p // parts * step.grain) for p in range(parts + 1)]
    return [(cuts[p], cuts[p + 1]) for p in range(parts)] + [(0, 0)] * (threads - parts)
