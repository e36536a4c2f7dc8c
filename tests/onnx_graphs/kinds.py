"""Every kind of node that a graph may get."""

from __future__ import annotations

import contextlib

from onnx_graphs import control, elementwise, layers, moves
from onnx_graphs.grower import Grower
from onnx_graphs.older import Skip

__all__ = ["KINDS", "grow"]

KINDS = (*elementwise.ADDERS, *moves.ADDERS, *layers.ADDERS, *control.ADDERS)


def grow(g: Grower) -> bool:
    """Add a node of some kind, or a few that belong together. Returns whether what was drawn is valid."""
    adder = g.one_of(*KINDS)
    before = len(g.made)
    with contextlib.suppress(Skip):
        adder(g)
    return len(g.made) > before
