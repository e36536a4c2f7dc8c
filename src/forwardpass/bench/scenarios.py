"""The scenarios of MLPerf Inference, and the loop of its server: who asks when, and what counts.

single-stream
    The next query, one sample, is asked when the one before is answered. Counts: the 90th percentile of latency.
multi-stream
    The same with 8 samples in a query. Counts: the 99th percentile of latency.
server
    Queries of one sample arrive at random times, as a Poisson process. Counts: the highest rate at which the 99th
    percentile of latency, from arrival to answer, stays within a bound.
offline
    All samples are there from the start, and may be batched at will. Counts: samples per second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["SCENARIOS", "Scenario", "serve_poisson"]

_SPIN = 200e-6
"""Seconds before an arrival at which sleeping ends, since it takes longer than asked for."""


@dataclass(frozen=True)
class Scenario:
    """What a query is, and which figure counts.

    Attributes
    ----------
    samples
        Inputs per query, 0 for as many as the batch has.
    share
        The percentile of latency that counts; "" where throughput does.
    """

    name: str
    samples: int
    share: str
    metric: str
    unit: str


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("single-stream", 0, "p90", "p90 latency", "us"),
        Scenario("multi-stream", 8, "p99", "p99 latency of 8 samples", "us"),
        Scenario("server", 0, "p99", "queries per second within the bound", "1/s"),
        Scenario("offline", 0, "", "samples per second", "1/s"),
    )
}


def serve_poisson(call: Callable[[], Any], rate: float, seconds: float, seed: int) -> list[int]:
    """Answer queries that arrive at random, in the order of their arrival.

    Parameters
    ----------
    call
        Answers one.
    rate
        Arrivals per second on average.

    Returns
    -------
    list of int
        Nanoseconds from arrival to answer, of each query that arrived within `seconds`.
    """
    source = random.Random(seed)
    latencies: list[int] = []
    start = time.perf_counter()
    arrival = source.expovariate(rate)
    while arrival < seconds:
        wait = start + arrival - time.perf_counter()
        if wait > _SPIN:
            time.sleep(wait - _SPIN)
        while time.perf_counter() < start + arrival:
            pass
        call()
        latencies.append(int((time.perf_counter() - start - arrival) * 1e9))
        if latencies[-1] > 1e9 * seconds:
            break  # it has fallen behind for good
        arrival += source.expovariate(rate)
    return latencies
