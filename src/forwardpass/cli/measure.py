"""How long calls take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Latency", "latency", "percentile", "rate"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that a `share` (0 to 1) of the ascending values do not exceed (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


@dataclass(frozen=True)
class Latency:
    """Percentiles over single calls, in microseconds; each includes reading the clock once."""

    calls: int
    p50: float
    p99: float
    p999: float


def latency(call: Callable[[], object], *, calls: int = 20_000, seconds: float = 2.0) -> Latency:
    """Time up to `calls` single calls, for about `seconds` at most, after a warm-up of a tenth of that."""
    for n in (calls // 10, calls):
        times: list[int] = []
        clock = time.perf_counter_ns
        end = clock() + int(1e9 * seconds * n / calls)
        before = clock()
        while len(times) < n and before < end:
            call()
            after = clock()
            times.append(after - before)
            before = clock()
    ordered = sorted(t / 1e3 for t in times)
    return Latency(len(ordered), *(percentile(ordered, share) for share in (0.5, 0.99, 0.999)))


def rate(call: Callable[[], object], *, seconds: float = 0.5) -> float:
    """Calls per second, back to back: the median of five slices of `seconds` / 5, after a warm-up call."""
    import statistics  # with fractions and decimals: `--help` shall not wait for those

    call()
    rates = []
    for _ in range(5):
        start = now = time.perf_counter()
        done = 0
        while now - start < seconds / 5:
            call()
            done += 1
            now = time.perf_counter()
        rates.append(done / (now - start))
    return statistics.median(rates)
