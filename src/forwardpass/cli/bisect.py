"""The first node of a graph whose value two computations do not agree about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..graph import Graph, Node

__all__ = ["first_disagreement"]

Compare = Any


def first_disagreement(
    graph: Graph, output: str, known: set[str], agrees: Callable[[str], bool], step: Callable[[], None]
) -> tuple[Node, str] | None:
    """The node that makes a wrong value of right ones.

    Values on the way to `output` are compared by bisection. That finds a value that is wrong after one that is right in
    the order of the nodes; where it stands on another branch, the search goes on among what leads to a wrong input of
    it, until all inputs of the node are right.

    Parameters
    ----------
    output
        A value that is wrong.
    known
        The values that can be compared.
    agrees
        Whether a value is right; asked once per value.
    step
        Told after each comparison.

    Returns
    -------
    tuple of Node and str, or None
        The node and its wrong value; None where no value can be compared.
    """
    seen: dict[str, bool] = {}

    def right(name: str) -> bool:
        if name not in seen:
            seen[name] = agrees(name)
            step()
        return seen[name]

    producers = graph.producers()
    wrong = output if output in producers else None
    found: str | None = None
    while wrong is not None:
        seen[wrong] = False
        found = _bisect([v for v in _leading_to(graph, wrong) if v in known or v == wrong], right)
        wrong = next((i for i in _inputs(graph, producers, found, known) if not right(i)), None)
    return (producers[found], found) if found is not None else None


def _bisect(values: Sequence[str], right: Callable[[str], bool]) -> str:
    """A wrong value whose predecessor in the list is right, or the first one; the last of the list is wrong."""
    low, high = -1, len(values) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if right(values[middle]):
            low = middle
        else:
            high = middle
    return values[high]


def _leading_to(graph: Graph, value: str) -> list[str]:
    """The values that a value depends on and itself, in the order of the nodes: the first output of each node, and
    of the last node the value."""
    needed = {value}
    found = []
    for node in reversed(graph.nodes):
        made = [o for o in node.outputs if o in needed]
        if made:
            found.append(value if value in made else made[0])
            needed.update(i for i in node.inputs if i)
    return found[::-1]


def _inputs(graph: Graph, producers: dict[str, Node], value: str, known: set[str]) -> list[str]:
    """The nearest values before a node that can be compared: its inputs, or what those are made of."""
    found: dict[str, None] = {}
    stack = list(producers[value].inputs)
    while stack:
        name = stack.pop()
        if name in known:
            found[name] = None
        elif name in producers:
            stack += producers[name].inputs
    return list(found)
