"""Where the nodes of a graph stand on a page: in layers from top to bottom, with few crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..graph import Graph

__all__ = ["Box", "Drawing", "arrange"]

WIDTH, HEIGHT, GAP = 180, 56, 34
_GAP_X, _MARGIN = 26, 70
_SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """A node, an input or an output of the graph: where its upper left corner is."""

    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """Boxes of inputs, nodes and outputs, in this order, and the edges between them by index."""

    boxes: list[Box]
    edges: list[tuple[int, int, str]]
    width: float
    height: float


def arrange(graph: Graph) -> Drawing:
    """Lay a graph out: every box one layer below the lowest that it depends on."""
    edges = _edges(graph)
    count = len(graph.inputs) + len(graph.nodes) + len(graph.outputs)
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for a, b, _ in edges:
        before[b].append(a)
        after[a].append(b)
    layer = [0] * count
    for k in range(count):  # the order of the boxes is one in which they can run
        layer[k] = max((layer[a] + 1 for a in before[k]), default=0)
    rows: list[list[int]] = [[] for _ in range(max(layer, default=0) + 1)]
    for k in range(count):
        rows[layer[k]].append(k)
    place = _ordered(rows, before, after, count)
    widest = max(map(len, rows), default=1)
    boxes = [Box(0, 0)] * count
    for depth, row in enumerate(rows):
        indent = (widest - len(row)) * (WIDTH + _GAP_X) / 2
        for k in row:
            boxes[k] = Box(indent + place[k] * (WIDTH + _GAP_X) + _MARGIN, depth * (HEIGHT + GAP) + GAP)
    return Drawing(boxes, edges, widest * (WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN, len(rows) * (HEIGHT + GAP) + GAP)


def _edges(graph: Graph) -> list[tuple[int, int, str]]:
    home = {name: k for k, name in enumerate(graph.inputs)}
    first = len(home)
    for k, node in enumerate(graph.nodes):
        home.update((o, first + k) for o in node.outputs if o)
    edges = [
        (home[i], first + k, i) for k, n in enumerate(graph.nodes) for i in dict.fromkeys(n.inputs) if i and i in home
    ]
    last = first + len(graph.nodes)
    return edges + [(home[o], last + k, o) for k, o in enumerate(graph.outputs) if o in home]


def _ordered(rows: list[list[int]], before: Sequence[list[int]], after: Sequence[list[int]], count: int) -> list[int]:
    """The place of each box in its row, by the mean place of its neighbours in turns downwards and upwards."""
    place = [0] * count

    def note(row: list[int]) -> None:
        for p, k in enumerate(row):
            place[k] = p

    for row in rows:
        note(row)
    for sweep in range(_SWEEPS):
        near = before if sweep % 2 == 0 else after
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            row.sort(key=lambda k: sum(place[a] for a in near[k]) / len(near[k]) if near[k] else place[k])
            note(row)
    return place
