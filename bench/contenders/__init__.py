"""The contenders: every file of this folder makes problems ready for one engine.

A file defines

    version() -> str                            ImportError where the engine is not installed
    setup(network, x, options) -> Ready         the network loaded and bound to the input x
    TAKES_ISA = True                            only where `options.isa` is obeyed
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from network import Array


@dataclass(frozen=True)
class Options:
    """How to set up: threads, and for forwardpass the ISA ("" for the best) and the precision."""

    threads: int = 1
    isa: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class Ready:
    """A network that waits to be called as `function(*args)`; that call alone is timed.

    Attributes
    ----------
    result
        What the function returned -> the output as an array in the layout of the problem (channels-last).
    details
        What else a reader should know; goes into the JSON.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    result: Callable[[Any], Array]
    details: dict[str, Any] = field(default_factory=dict)


def contender_names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load_contender(name: str) -> ModuleType:
    """The module of a contender: a file of this folder by its name, or any `.py` file by its path.

    Raises
    ------
    LookupError
        There is none, listing those there are.
    """
    if name.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError:
            raise LookupError(f"no contender file {name}") from None
        return module
    if name not in contender_names():
        raise LookupError(f"no contender {name!r}: one of {', '.join(contender_names())}, or the path of a .py file")
    return importlib.import_module(f"{__name__}.{name}")


def family(contender: str) -> str:
    """Contenders of one engine are no rivals of each other: `forwardpass_into:avx2` -> `forwardpass`."""
    return Path(contender.partition(":")[0]).stem.partition("_")[0]
