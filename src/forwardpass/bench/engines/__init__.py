"""The engines that a model file can be timed with: one module each.

A module defines

    version() -> str                                the engine's; ImportError where it is not installed
    load(path, inputs, options) -> Call             the model, ready for inputs of these shapes
    READS = (".onnx",)                              suffixes of the files that it takes
    PACKAGES = ("onnxruntime",)                     what pip installs it by

and imports its engine inside of these. What a `Call` returns belongs to the engine until the next call.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Call", "NotApplicable", "Options", "engine_names", "load_engine"]

Array = npt.NDArray[Any]


class NotApplicable(Exception):  # noqa: N818 - no fault: the engine sits this model out
    """What an engine's `load` raises for a model or for inputs that it cannot run, with the reason."""


@dataclass(frozen=True)
class Options:
    """How to load: threads, and the precision in the engine's own words ("" for float32)."""

    threads: int = 1
    precision: str = ""


@dataclass(frozen=True)
class Call:
    """A model that waits to be called as `function(*args)`; that call alone is timed.

    Attributes
    ----------
    outputs
        What the function returned -> the outputs by name.
    details
        Gives what else a reader should know.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    outputs: Callable[[Any], Mapping[str, Array]]
    details: Callable[[], dict[str, Any]] = dict


def engine_names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load_engine(name: str) -> ModuleType:
    """The module of an engine.

    Raises
    ------
    LookupError
        There is none, listing those there are.
    """
    if name not in engine_names():
        raise LookupError(f"no engine {name!r}: one of {', '.join(engine_names())}")
    return importlib.import_module(f"{__name__}.{name}")


def by_name(names: list[str], values: Any) -> dict[str, Array]:
    """Outputs in order -> by name."""
    return {name: np.asarray(value) for name, value in zip(names, values)}
