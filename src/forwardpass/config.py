"""What a model runs with: ISA, threads and precision, from arguments, environment and machine."""

from __future__ import annotations

import operator
from typing import Any

from . import _native
from .errors import ConfigError, suggest
from .plan.planner import Settings

__all__ = ["PRECISIONS", "choose_isa", "default_threads", "settings"]

PRECISIONS = {
    "float32": "the fastest method that is never less accurate than a sequential float32 FMA sum (default): FMA, or "
    "six bfloat16 products on matrix tiles (AMX)",
    "portable": "float32 FMA in one fixed order: the same bits on every ISA",
    "fast": "at most 2e-5 relative error: three bfloat16 products on matrix tiles (AMX), elsewhere as float32",
    "bfloat16": "at most 0.4 % relative error per layer: large layers multiply numbers rounded to bfloat16 on matrix "
    "tiles (AMX), and add in float32; elsewhere as float32, but for large weights of few rows",
}
_MAX_THREADS = 1024


def choose_isa(forced: str = "") -> str:
    """The ISA to use: the forced one, else what `FORWARDPASS_ISA` says, else the best that this machine has.

    Raises
    ------
    ConfigError
        An unknown or unavailable ISA; the message lists what is available, and why the others are not.
    """
    name, problem = _native.select_isa(forced)
    if problem is not None:
        raise _error(problem)
    return str(name)


def default_threads() -> tuple[int, str]:
    """The number of threads where none is asked for, and the reason.

    Raises
    ------
    ConfigError
        `FORWARDPASS_NUM_THREADS` is not a positive number.
    """
    threads, problem = _native.environment_threads()
    if problem is not None:
        raise _error(problem)
    if threads:
        return threads, "FORWARDPASS_NUM_THREADS"
    host = _native.detect_host()
    return host["threads"], host["reason"]


def settings(threads: int | None, precision: str, isa: str | None = "") -> Settings:
    """Check and complete what a model was asked to run with; None is the default of threads and ISA.

    Raises
    ------
    ConfigError
        Naming the setting that is wrong.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ConfigError(
            "unknown precision",
            where="precision",
            expected=", ".join(PRECISIONS),
            got=repr(precision),
            hint=suggest(precision, PRECISIONS),
        )
    if threads is None:
        threads = default_threads()[0]
    number = -1 if isinstance(threads, bool) or not hasattr(threads, "__index__") else operator.index(threads)
    if not 1 <= number <= _MAX_THREADS:
        raise ConfigError(
            "wrong number of threads", where="threads", expected=f"1 to {_MAX_THREADS}", got=repr(threads)
        )
    name = choose_isa("" if isa is None else str(isa))
    info: dict[str, Any] = next(i for i in _native.isas() if i["name"] == name)
    return Settings(
        name, info["panel"], info["tile_panels"], number, precision, info["tiles"], _native.cache_sizes()[1]
    )


def _error(problem: dict[str, str]) -> ConfigError:
    message = problem.pop("message")
    return ConfigError(message, **problem)
