"""Timing calls of any length, from a fraction of a microsecond to seconds."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import cache
from itertools import repeat
from typing import Any

BATCH_NS = 100_000
"""Calls shorter than this are timed in batches about so long, so that reading the clock does not count."""
MAX_SAMPLES = 20_000
"""Per turn and kind."""
SLICE = 0.01
"""Seconds of calls between two bursts of something else: long enough for the clock to settle at what they ask of it."""

Loop = Callable[[int, Callable[..., Any], tuple[Any, ...]], int]


@cache
def _loop(arguments: int) -> Loop:
    """A function that calls `f(*args)` n times and returns the nanoseconds.

    It is made for the number of arguments, as `timeit` does, because unpacking them would cost as much as the
    shortest calls. The result is kept until the next one, as a caller's variable keeps it.
    """
    names = [f"a{k}" for k in range(arguments)]
    unpack = f"    ({', '.join(names)},) = args\n" if names else ""
    source = (
        f"def loop(n, f, args):\n{unpack}    start = clock()\n"
        f"    for _ in repeat(None, n):\n        y = f({', '.join(names)})\n    return clock() - start\n"
    )
    space: dict[str, Any] = {"clock": time.perf_counter_ns, "repeat": repeat}
    exec(source, space)  # a constant text but for the number of arguments
    return space["loop"]  # type: ignore[no-any-return]


class Timer:
    """Times one function with one set of arguments, in turns."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function, self.args, self.loop = function, args, _loop(len(args))
        self.calls = 1

    def warm_up(self, seconds: float) -> None:
        """Call until caches and clock speed have settled, at least twice; learn how many calls make a batch."""
        end = time.perf_counter() + seconds
        calls, took = 1, self._run(1)
        while time.perf_counter() < end or calls == 1:
            calls = min(2 * calls, max(2, int(2 * BATCH_NS * calls / max(took, 1))))
            took = self._run(calls)
        per_call = max(took / calls, 1.0)
        self.calls = max(1, round(BATCH_NS / per_call)) if per_call < BATCH_NS / 2 else 1

    def _run(self, calls: int) -> int:
        return self.loop(calls, self.function, self.args)

    def turn(self, seconds: float) -> dict[str, Any]:
        """One turn.

        Returns
        -------
        dict
            `means`: ns per call of each batch; `singles`: ns of calls that were clocked one by one, which includes
            reading the clock; `calls`: calls per batch.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            singles = self._sample(1, seconds / 2 if self.calls > 1 else seconds)
            means = [t / self.calls for t in self._sample(self.calls, seconds / 2)] if self.calls > 1 else singles
        finally:
            if collecting:
                gc.enable()
        return {"means": means, "singles": singles, "calls": self.calls}

    def against(self, burst: Callable[[], float], seconds: float) -> dict[str, list[float]]:
        """Calls, and something else that has the same core, by turns (A B A B).

        Parameters
        ----------
        burst
            Runs the other for a moment and gives its rate.

        Returns
        -------
        dict
            `means`: ns per call of each slice; `rates`: of the burst right behind it.
        """
        found: dict[str, list[float]] = {"rates": [], "means": []}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(found["rates"]) < 3:
            found["means"].append(statistics.median(self._sample(self.calls, SLICE)) / self.calls)
            found["rates"].append(burst())
        return found

    def _sample(self, calls: int, seconds: float) -> list[int]:
        samples: list[int] = []
        end = time.perf_counter() + seconds
        while len(samples) < 3 or (len(samples) < MAX_SAMPLES and time.perf_counter() < end):
            samples.append(self._run(calls))
        return samples


def clock_ns() -> float:
    """What clocking an empty call costs, at best: part of every single-call time."""
    timer = Timer(int, ())
    timer.warm_up(0.002)
    empty = min(timer._sample(timer.calls, 0.005)) / timer.calls
    return max(0.0, min(timer._sample(1, 0.005)) - empty)
