"""What this machine can do at best: measured when asked for, and the least time that a step could take."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..bench.peak import Peak

__all__ = ["Ceilings"]


class Ceilings:
    """The rate of FMAs of an ISA, and the bandwidths of the levels of memory.

    Parameters
    ----------
    isa
        The one that the model runs on.
    nbytes
        What a model touches from one call to the next: it says which level its data comes from.

    Attributes
    ----------
    fma
        GFLOP/s of one thread, 0 where nothing could be measured.
    reads
        Level -> GB/s of one thread.
    why_not
        Why nothing could be measured.
    """

    def __init__(self, isa: str, nbytes: int) -> None:
        self.level = self.why_not = ""
        self.fma, self.reads = 0.0, dict[str, float]()
        try:
            self._measure(isa, nbytes)
        except (RuntimeError, OSError) as error:
            self.why_not = str(error).splitlines()[0]

    def _measure(self, isa: str, nbytes: int) -> None:
        from ..bench.peak import Peak

        with closing(Peak(5, 2.0)) as peak:
            self._keep(peak, isa, nbytes)

    def _keep(self, peak: Peak, isa: str, nbytes: int) -> None:
        # ISAs that only differ in special instructions have the FMAs of the base that they are named after.
        known = next((i for i in peak.isas if isa.startswith(i)), peak.isas[0])
        self.fma = peak.fma(known)["median"]
        self.reads = {level: peak.read(v["footprint"])["median"] for level, v in _levels(peak, nbytes).items()}
        self.level = peak.level_of(nbytes)

    def share(self, flops: int, nbytes: int, nanoseconds: float, threads: int) -> float | None:
        """The least time over the time that was taken, 1 at best; None where nothing is known of the step.

        Each thread has the rate of one core, which is more than cores that share a level of memory have.
        """
        if not self.fma or not nanoseconds or not (flops or nbytes):
            return None
        least = max(flops / self.fma, nbytes / self.reads[self.level]) / threads
        return min(least / nanoseconds, 1.0)

    def to_dict(self, threads: int) -> dict[str, Any]:
        return {
            "fma_gflops": self.fma or None,
            "read_gbytes": self.reads,
            "level": self.level or None,
            "threads": threads,
            "why_not": self.why_not,
        }


def _levels(peak: Peak, nbytes: int) -> dict[str, dict[str, int]]:
    """The levels that matter: memory takes long to measure, and says nothing of a model that fits into a cache."""
    found = peak.levels
    return found if peak.level_of(nbytes) == "memory" else {k: v for k, v in found.items() if k != "memory"}
