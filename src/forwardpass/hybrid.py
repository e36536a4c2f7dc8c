"""Graphs in which some nodes have no native kernel: native stretches, and definitions in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache import Cache
from .graph import Array, Graph, Node, TensorType
from .ops.evaluate import evaluate_node
from .plan import Declined, Plan

if TYPE_CHECKING:
    from .profile import Profile

__all__ = ["Hybrid"]

_MAX_PLANS = 16

Shapes = Mapping[str, tuple[int, ...]]
Planner = Callable[[Graph, Shapes], Plan]


class _Stretch:
    """Nodes that run natively together, planned for every combination of input shapes that they meet."""

    def __init__(self, graph: Graph, planner: Planner) -> None:
        self.graph = graph
        self.plan: Cache[tuple[tuple[int, ...], ...], Plan] = Cache(
            lambda shapes: planner(graph, dict(zip(graph.inputs, shapes))), _MAX_PLANS
        )

    def run(self, values: Mapping[str, Array], profile: Profile | None) -> dict[str, Array]:
        # Not ascontiguousarray, which makes vectors of scalars.
        arrays = [np.require(values[k], requirements=["C", "A"]) for k in self.graph.inputs]
        plan = self.plan(tuple(a.shape for a in arrays))
        return dict(zip(self.graph.outputs, plan.run(arrays, profile=profile)))


class Hybrid:
    """Runs a graph that has nodes without native kernels.

    Parameters
    ----------
    declined
        A graph for given input shapes, and what of it has no native kernel.
    planner
        Makes the plan of a stretch of native nodes for its input shapes.

    Attributes
    ----------
    reasons
        The nodes that run by their definitions, and why.
    inputs, outputs
        Name -> type; the shapes of outputs may be unknown.
    """

    def __init__(self, declined: Declined, planner: Planner) -> None:
        self.graph, self.reasons = declined.graph, declined.reasons
        self._types = declined.types
        self.inputs = {k: self._types[k] for k in self.graph.inputs}
        self.outputs = {o: self._types[o] for o in self.graph.outputs}
        self._parts: list[_Stretch | Node] = []
        native: list[Node] = []
        for node in self.graph.nodes:
            if node in self.reasons:
                self._close(native, planner)
                self._parts.append(node)
            else:
                native.append(node)
        self._close(native, planner)
        self._last = self._last_uses()

    def _close(self, native: list[Node], planner: Planner) -> None:
        """Make a stretch of the collected nodes."""
        if not native:
            return
        made = {o for n in native for o in n.outputs if o}
        read = dict.fromkeys(i for n in native for i in n.inputs if i and i not in made)
        constants = {k: self.graph.constants[k] for k in read if k in self.graph.constants}
        inputs = {k: TensorType(self._types[k].dtype, None) for k in read if k not in constants}
        inside = set(map(id, native))
        wanted = {i for n in self.graph.nodes if id(n) not in inside for i in n.inputs} | set(self.graph.outputs)
        outputs = [o for n in native for o in n.outputs if o in wanted]
        graph = Graph(inputs, outputs, list(native), constants, name=self.graph.name)
        self._parts.append(_Stretch(graph, planner))
        native.clear()

    def _last_uses(self) -> list[list[str]]:
        """Per part, the values that nothing after it reads."""
        seen = set(self.graph.outputs) | self.graph.constants.keys()
        drop: list[list[str]] = []
        for part in reversed(self._parts):
            inputs = part.inputs if isinstance(part, Node) else part.graph.inputs
            outputs = part.outputs if isinstance(part, Node) else part.graph.outputs
            gone = [v for v in dict.fromkeys((*inputs, *outputs)) if v and v not in seen]
            seen.update(gone)
            drop.append(gone)
        return drop[::-1]

    def run(self, inputs: Mapping[str, Array], profile: Profile | None = None) -> list[Array]:
        """The outputs of the graph: new arrays."""
        values: dict[str, Any] = {**self.graph.constants, **inputs}
        for part, gone in zip(self._parts, self._last):
            if isinstance(part, Node):
                start = perf_counter_ns()
                results = evaluate_node(part, [values[i] if i else None for i in part.inputs])
                values.update((o, r) for o, r in zip(part.outputs, results) if o)
                if profile is not None:
                    profile.record_definition(part, perf_counter_ns() - start)
            else:
                values.update(part.run(values, profile))
            for name in gone:
                del values[name]
        # A definition may return a view of an input or of a constant.
        return [np.array(values[o], order="C") for o in self.graph.outputs]

    def planned(self) -> Iterator[Plan | Node]:
        """The nodes that run by their definitions, and in between the plans of the native stretches, without those
        whose input shapes depend on data."""
        for part in self._parts:
            if isinstance(part, Node):
                yield part
                continue
            types = [self._types[k] for k in part.graph.inputs]
            if all(t.is_known for t in types):
                yield part.plan(tuple(t.sizes for t in types))

    def constants_of(self, node: Node) -> list[Array]:
        """The constants that a node reads."""
        return [self.graph.constants[i] for i in node.inputs if i in self.graph.constants]
