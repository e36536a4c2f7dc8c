"""Types that the passes know, which a plan need not infer again: of graphs of which all sizes are known, or all but the
number of rows."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph import Graph, Node, TensorType
from ..ops import find

__all__ = ["KnownTypes"]

_BY_ROWS = frozenset(
    ["nhwc.Conv", "nhwc.MaxPool", "nhwc.AveragePool", "nhwc.GlobalAveragePool", "fused.Linear", "Flatten", "Softmax"]
)
"""Operators that neither look at the first size of their input nor change it, however large it is. Their inputs 1 and 2
are weights."""
_SIZE = frozenset({int})


class KnownTypes:
    """The types of all values of a graph, for shapes of its inputs.

    Parameters
    ----------
    declared
        What the passes found out about all values.
    """

    def __init__(self, graph: Graph, declared: Mapping[str, TensorType]) -> None:
        self._graph, self._declared = graph, declared
        self._found: dict[str, TensorType] | None = None
        self._open: list[str] = []  # values of which the number of rows is not known
        self._asked = False

    def __call__(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorType] | None:
        """The types; None where they have to be inferred."""
        if not self._asked:
            self._find()
            self._asked = True
        found = self._found
        if found is None:
            return None
        rows = {shapes[k][:1] for k in self._graph.inputs if not found[k].is_known}
        if len(rows) > 1:
            return None
        if self._open:
            first = rows.pop()
            found = dict(found)
            for name in self._open:
                t = found[name]
                found[name] = TensorType(t.dtype, first + t.shape[1:])  # type: ignore[index]
        return found if all(found[k].shape == s for k, s in shapes.items()) else None

    def _find(self) -> None:
        graph, declared = self._graph, self._declared
        if any(declared[n.outputs[0]].dtype.kind in "iub" for n in graph.nodes if n.outputs[0]):
            return  # values may follow from shapes alone
        names = [*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs if o)]
        found = {name: declared[name] for name in names}
        left = [name for name, t in found.items() if not t.is_known]
        rows = {t.shape[0] if t.shape else None for t in (found[name] for name in left)}
        if len(rows) > 1 or None in rows or not all(_is_open(found[name]) for name in left):
            return
        opened = set(left)
        if opened and not all(_by_rows(n, opened, found) for n in graph.nodes):
            return
        self._found, self._open = found, left


def _is_open(t: TensorType) -> bool:
    """Whether just the first size is missing."""
    return bool(t.shape) and not t.container and _SIZE.issuperset(map(type, t.shape[1:]))  # type: ignore[index]


def _by_rows(node: Node, opened: set[str], types: Mapping[str, TensorType]) -> bool:
    """Whether the types of the outputs are the same for any number of rows: where a rule compares it, then with itself.
    Another size that it may be compared with is in a weight, in an operand of another shape, or in an attribute."""
    inputs = node.inputs
    if opened.isdisjoint(inputs):
        return opened.isdisjoint(node.outputs)
    if node.qualified in _BY_ROWS:
        return opened.issuperset(filter(None, inputs[:1] + inputs[3:])) and opened.isdisjoint(inputs[1:3])
    if not opened.issuperset(inputs):
        return False
    alike = find(node).elementwise and len({types[i].shape for i in inputs}) == 1
    return alike or node.qualified == "Concat"
