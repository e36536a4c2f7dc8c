"""Nodes that read constants alone, and integers that follow from known shapes, become constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node
from ..memory import is_repeated
from ..ops import evaluate_node
from ..ops.evaluate import is_pure
from .merge_views import VIEWS
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_MOST = 64 << 20
"""Bytes of a folded constant at most."""

_SMALL = 1 << 20
"""Bytes below which it does not matter how much larger than its inputs a folded constant is."""

_GROWTH = 1000

_REPEATED = 1 << 30
"""Bytes of all constants of one number each, as if they were in memory. Each call makes and packs weights that stay a
ConstantOfShape."""

_MOVES = frozenset({*VIEWS, "Transpose"})
"""Operators whose results have the elements of the first input, each once."""


def _size(view: View, node: Node) -> int | None:
    """Bytes of the outputs, None where unknown."""
    total = 0
    for o in node.outputs:
        if o:
            found = view.type(o)
            if found.shape is None or not all(isinstance(d, int) for d in found.shape):
                return None
            total += math.prod(d for d in found.shape if isinstance(d, int)) * found.dtype.itemsize
    return total


@rule()
def fold(view: View, node: Node) -> Result:
    """Evaluate a node by its NumPy definition."""
    fixed = all(i in view.graph.constants for i in node.inputs if i)
    known = bool(view.known) and all(o in view.known for o in node.outputs if o)
    if not fixed and not known:
        return None
    values = [o for o in node.outputs if o]
    inputs = [view.constant(i) if i else None for i in node.inputs]
    if any(view.is_output(o) for o in values):
        return Declined(f"value {next(o for o in values if view.is_output(o))!r} is a graph output")
    if known:
        return Patch("follows from shapes", [node], constants={o: view.known[o] for o in values})
    size = _size(view, node)
    given = sum(a.itemsize if is_repeated(a) else a.nbytes for a in inputs if a is not None)
    if size is None:
        return Declined("the size of the result is unknown")
    number = _number(node, inputs) if size > _SMALL else None
    if number is not None:
        return _repeated(view, node, size, number)
    if size > _MOST or size > max(_SMALL, _GROWTH * given):
        return Declined(f"the result would have {size} bytes")
    if not is_pure(node):
        return Declined("the result is random")
    results = evaluate_node(node, inputs)
    made = {o: r for o, r in zip(node.outputs, results) if o and isinstance(r, np.ndarray)}
    if len(made) < len(values):
        return Declined("the result is no tensor")
    return Patch("evaluated", [node], constants=made)


def _number(node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """What all elements of the result are, where that follows without making them."""
    if node.qualified == "ConstantOfShape":
        (made,) = evaluate_node(node, [np.zeros(0, np.int64)])
        return np.asarray(made)
    if node.qualified in _MOVES and inputs[0] is not None and is_repeated(inputs[0]):
        return inputs[0].reshape(-1)[0]  # type: ignore[no-any-return]
    return None


def _repeated(view: View, node: Node, size: int, number: Array) -> Result:
    """One number in memory, wherever the constant is read."""
    if view.repeated + size > _REPEATED:
        return Declined(f"results like this one would have {view.repeated + size} bytes")
    shape: Any = view.type(node.outputs[0]).shape
    return Patch("evaluated", [node], constants={node.outputs[0]: np.broadcast_to(number, shape)})


PASS = Pass("fold_constants", (fold,))
