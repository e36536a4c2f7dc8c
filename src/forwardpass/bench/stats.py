"""What samples of times mean: percentiles, ratios with an interval, regressions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SHARES", "error_of", "percentiles", "quantiles", "ratio", "regressed"]

SHARES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
_RESAMPLES = 2000
_POINTS = 41


def percentiles(values: Sequence[float] | npt.NDArray[Any]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the maximum: each a value that was seen, not one between two."""
    found = np.percentile(values, list(SHARES.values()), method="higher")
    return dict(zip(SHARES, map(float, found)))


def quantiles(values: Sequence[float] | npt.NDArray[Any]) -> list[float]:
    """The values at 41 equally spaced shares from 0 to 1, for a plot of their distribution."""
    return [float(v) for v in np.quantile(values, np.linspace(0, 1, _POINTS))]


def ratio(own: Sequence[float], other: Sequence[float]) -> dict[str, float | None]:
    """How many times as long the other took, with the interval that holds 95 % of bootstrap resamples.

    Parameters
    ----------
    own, other
        Times per round. Rounds are resampled in pairs, since a machine that slows down for a while slows both.

    Returns
    -------
    dict
        `ratio` (the median over the rounds), `low`, `high`; these two are None where there is one round alone.
    """
    ratios = np.asarray(other, float) / np.asarray(own, float)
    if len(ratios) < 2:
        return {"ratio": float(ratios[0]), "low": None, "high": None}
    drawn = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return {"ratio": statistics.median(ratios.tolist()), "low": float(low), "high": float(high)}


def regressed(new: Sequence[float], old: Sequence[float]) -> bool:
    """Whether the best new round took longer than the worst old one: what noise alone hardly does."""
    return min(new) > max(old)


def error_of(outputs: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[float, str]:
    """The largest error of any output, and why it is infinite where it is.

    It is the largest difference relative to the largest value of the output; for whole numbers, the share of wrong
    ones.
    """
    worst, message = 0.0, ""
    for name, wanted in reference.items():
        if name not in outputs:
            return float("inf"), f"no output {name!r}"
        y = np.asarray(outputs[name])
        if y.shape != wanted.shape:
            return float("inf"), f"output {name!r} has the shape {list(y.shape)} instead of {list(wanted.shape)}"
        if y.dtype.kind not in "fiub" or wanted.dtype.kind not in "fiub" or not wanted.size:
            continue
        if wanted.dtype.kind != "f":
            worst = max(worst, float(np.mean(y != wanted)))
            continue
        if not np.array_equal(np.isfinite(y), np.isfinite(wanted)):
            return float("inf"), f"output {name!r} is not finite"
        finite = np.isfinite(wanted)
        difference = np.abs(y[finite].astype(np.float64) - wanted[finite])
        largest = float(np.abs(wanted[finite]).max(initial=0.0))
        worst = max(worst, float(difference.max(initial=0.0)) / (largest or 1.0))
    return worst, message
