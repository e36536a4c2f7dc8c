"""Graphs in which some nodes have no native kernel: native stretches, and definitions in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Array, Graph, Node, TensorType
from .ops.evaluate import evaluate_node, infer_types

__all__ = ["Hybrid"]

Runner = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(slots=True)
class _Stretch:
    """Nodes that run natively together."""

    graph: Graph
    run: Runner


class Hybrid:
    """Runs a graph of which `reasons` names the nodes that have no native kernel.

    Parameters
    ----------
    make_runner
        Makes the function that runs a graph of native nodes.
    """

    program = None

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        reasons: Mapping[Node, str],
        make_runner: Callable[[Graph], Runner],
    ) -> None:
        self.graph = graph
        self.reasons = dict(reasons)
        self.inputs = {k: TensorType(t.dtype, shapes[k]) for k, t in graph.inputs.items()}
        self.types = infer_types(graph, self.inputs)
        self.parts: list[_Stretch | Node] = []
        native: list[Node] = []
        for node in graph.nodes:
            if node in reasons:
                self._close(native, make_runner)
                self.parts.append(node)
            else:
                native.append(node)
        self._close(native, make_runner)

    def _close(self, native: list[Node], make_runner: Callable[[Graph], Runner]) -> None:
        """Make a stretch of the collected nodes."""
        if not native:
            return
        made = {o for n in native for o in n.outputs if o}
        read = dict.fromkeys(i for n in native for i in n.inputs if i and i not in made)
        constants = {k: self.graph.constants[k] for k in read if k in self.graph.constants}
        inputs = {k: TensorType(self._type(k).dtype, None) for k in read if k not in constants}
        inside = set(map(id, native))
        later = {i for n in self.graph.nodes if id(n) not in inside for i in n.inputs}
        outputs = [o for n in native for o in n.outputs if o in later or o in self.graph.outputs]
        stretch = Graph(inputs, outputs, list(native), constants, name=self.graph.name)
        self.parts.append(_Stretch(stretch, make_runner(stretch)))
        native.clear()

    def _type(self, name: str) -> TensorType:
        return self.types.get(name) or TensorType(np.dtype(np.float32), None)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the graph."""
        values: dict[str, Any] = {**self.graph.constants, **inputs}
        for part in self.parts:
            if isinstance(part, Node):
                results = evaluate_node(part, [values[i] if i else None for i in part.inputs])
                values.update((o, r) for o, r in zip(part.outputs, results) if o)
            else:
                values.update(part.run({k: np.ascontiguousarray(values[k]) for k in part.graph.inputs}))
        return {o: values[o] for o in self.graph.outputs}
