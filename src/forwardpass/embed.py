"""What `fp_api.load` of include/forwardpass.h calls: a model file bound to fixed shapes."""

from __future__ import annotations

from typing import Any

from .errors import UnsupportedError
from .plan.hybrid import Hybrid
from .run import load

__all__ = ["bind"]


def bind(path: str, precision: str, threads: int, batch: int) -> Any:
    """The native program of a model, for `batch` in place of its symbolic dimensions.

    Raises
    ------
    Error
        As `load` does; `UnsupportedError` where a node has no native kernel.
    """
    model = load(path, threads=threads or None, precision=precision)
    shapes = {
        name: tuple(d if isinstance(d, int) else batch for d in t.shape or ()) for name, t in model.inputs.items()
    }
    plan = model.plan(shapes)
    if isinstance(plan, Hybrid):
        raise UnsupportedError("a model with nodes that have no native kernel cannot be embedded", where=path)
    return plan.program
