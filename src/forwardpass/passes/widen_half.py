"""float16 is stored, and float32 is computed with.

Every node gets a twin of each float16 operand in float32, and gives its results in both; where nobody reads the narrow
one, it goes. What rounds on purpose, such as a Cast of the model's own, stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graph import Graph, Node, TensorType
from ..ops import find, infer_types
from .log import Entry, Log

__all__ = ["widen"]

_HALF, _FLOAT = np.dtype(np.float16), np.dtype(np.float32)
_OWN = frozenset({"BitCast", "Cast", "CastLike", "DequantizeLinear", "EyeLike", "QuantizeLinear"})
"""Operators for which the dtype of their operands means something."""


def widen(graph: Graph, types_of_inputs: Mapping[str, TensorType] | None, log: Log) -> bool:
    """Compute in float32 where values are float16. Changes the graph; returns whether it did."""
    declared = {t.dtype.char for t in graph.inputs.values()} | {a.dtype.char for a in graph.constants.values()}
    casts = any(n.op == "Cast" and n.attributes.get("to") == 10 for n in graph.nodes)
    if not casts and _HALF.char not in declared:
        return False
    types = infer_types(graph, types_of_inputs)
    twins: dict[str, str] = {}
    taken = set(types)
    nodes: list[Node] = []

    def twin(value: str) -> str:
        name = twins.get(value)
        if name is None:
            name = twins[value] = _free(f"{value}.float32", taken)
            if value in graph.constants:
                graph.constants[name] = graph.constants[value].astype(_FLOAT)
            else:
                nodes.append(Node("Cast", [value], [name], {"to": 1}))
        return name

    widened = 0
    for node in graph.nodes:
        halves = {v for v in (*node.inputs, *node.outputs) if v and _is_half(types[v])}
        if halves.isdisjoint(node.inputs) or not _computes(node):
            nodes.append(node)
            continue
        widened += 1
        inputs = [twin(i) if i in halves else i for i in node.inputs]
        outputs = []
        for o in node.outputs:
            outputs.append(_free(f"{o}.float32", taken) if o in halves else o)
            if o in halves:
                twins[o] = outputs[-1]
        nodes.append(Node(node.op, inputs, outputs, dict(node.attributes), node.domain, node.name))
        nodes += [Node("Cast", [twins[o]], [o], {"to": 10}) for o in node.outputs if o in halves]
    graph.nodes = nodes
    graph.prune()
    if widened:
        log.entries.append(Entry("widen_half", f"{widened} nodes", True, "float16 is computed in float32"))
    return widened > 0


def _is_half(found: TensorType) -> bool:
    return found.dtype == _HALF and not found.container


def _computes(node: Node) -> bool:
    """Whether the node means the same in float32. Bodies have types of their own."""
    bodies = any(isinstance(a, Graph) for a in node.attributes.values())
    return not node.domain and node.op not in _OWN and not bodies and find(node).pure


def _free(stem: str, taken: set[str]) -> str:
    name, k = stem, 1
    while name in taken:
        name, k = f"{stem}_{k}", k + 1
    taken.add(name)
    return name
