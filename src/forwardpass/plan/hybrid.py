"""Graphs in which some nodes have no native kernel: native stretches, and definitions in between.

A stretch is planned when it runs, for the shapes that it meets. So what comes after a node whose shape depends on data
runs natively too, and so do the bodies of control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..cache import Cache
from ..graph import Array, Graph, Node, TensorType, Value
from ..ops import find
from ..ops.evaluate import evaluate_node, type_of
from ..passes import optimize
from . import Declined, Plan, Planned

if TYPE_CHECKING:
    from ..profile import Profile

__all__ = ["AnyPlan", "Hybrid", "plan_any", "run_any"]

_MAX_PLANS = 16

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
AnyPlan: TypeAlias = "Plan | Hybrid"
Planner: TypeAlias = Callable[[Graph, Shapes], Plan]


def plan_any(graph: Graph, shapes: Shapes, planner: Planner) -> AnyPlan:
    """A plan for a graph whether or not all of its nodes have kernels."""
    try:
        return planner(graph, shapes)
    except Declined as declined:
        known = declined.graph
        if any(n.qualified == "If" and n.inputs[0] in known.constants for n in declined.reasons):
            # The shapes decide which branch is taken: the passes inline it, and may then do more.
            inputs = {k: declined.types[k] for k in known.inputs}
            return plan_any(optimize(known, inputs)[0], shapes, planner)
        return Hybrid(declined, planner)


def run_any(plan: AnyPlan, values: Mapping[str, Any], profile: Profile | None) -> list[Any]:
    """The outputs of a plan for its inputs by name, which fit it."""
    if isinstance(plan, Hybrid):
        return plan.run(values, profile)
    # Not ascontiguousarray, which makes vectors of scalars.
    return plan.run([np.require(values[k], requirements=["C", "A"]) for k in plan.inputs], profile=profile)


def _met(value: Value, declared: TensorType) -> TensorType:
    """The type of a value; what is empty does not know what it could hold."""
    if isinstance(value, np.ndarray):
        return TensorType.of(value)
    return declared if isinstance(value, list) and not value else type_of(value) or declared


class _Stretch:
    """Nodes that run together, planned for every combination of input types that they meet."""

    def __init__(self, graph: Graph, planner: Planner) -> None:
        self.graph = graph

        def make(types: tuple[TensorType, ...]) -> AnyPlan:  # without self: a cycle would keep the plans' memory
            given = dict(zip(graph.inputs, types))
            met = graph
            if any(
                t.dtype != graph.inputs[k].dtype or t.container != graph.inputs[k].container for k, t in given.items()
            ):
                met = graph.copy()
                met.inputs = {k: TensorType(t.dtype, None, t.container) for k, t in given.items()}
            return plan_any(met, {k: t.sizes if t.is_known else () for k, t in given.items()}, planner)

        self.plan: Cache[tuple[TensorType, ...], AnyPlan] = Cache(make, _MAX_PLANS)

    def run(self, values: Mapping[str, Value], profile: Profile | None) -> dict[str, Value]:
        plan = self.plan(tuple(_met(values[k], declared) for k, declared in self.graph.inputs.items()))
        return dict(zip(self.graph.outputs, run_any(plan, values, profile)))


class _Body:
    """A body of control flow, as a callable that `ops.evaluate.run_body` takes in place of the graph."""

    def __init__(self, graph: Graph, stretches: _Stretches, profile: Profile | None = None) -> None:
        self.graph = graph
        self._stretches, self._profile = stretches, profile

    @classmethod
    def of(cls, graph: Graph, planner: Planner) -> _Body:
        def make(met: tuple[TensorType, ...]) -> _Stretch:
            inputs = dict(zip(graph.inputs, met))
            return _Stretch(optimize(graph, inputs)[0], planner)

        return cls(graph, Cache(make, _MAX_PLANS))

    def profiled(self, profile: Profile) -> _Body:
        """The same body, its steps timed."""
        return _Body(self.graph, self._stretches, profile)

    def __call__(self, values: Sequence[Value]) -> list[Value]:
        # What a body says of its inputs need not be so: its types are those that it meets, of whatever shape.
        met = (_met(v, declared) for v, declared in zip(values, self.graph.inputs.values()))
        stretch = self._stretches(tuple(TensorType(t.dtype, None, t.container) for t in met))
        found = stretch.run(dict(zip(self.graph.inputs, values)), self._profile)
        return [found[o] for o in self.graph.outputs]


_Stretches: TypeAlias = "Cache[tuple[TensorType, ...], _Stretch]"


class _Definition:
    """A node that runs by its definition; its bodies, if it has any, are compiled."""

    def __init__(self, node: Node, planner: Planner) -> None:
        self.node = node
        self._bodies = {k: _Body.of(v, planner) for k, v in node.attributes.items() if isinstance(v, Graph)}

    def run(self, values: Mapping[str, Value], profile: Profile | None) -> dict[str, Value]:
        node = self.node
        given = [values[i] if i else None for i in node.inputs]
        if profile is None:
            return dict(zip(node.outputs, evaluate_node(node, given, replaced=self._bodies)))
        # The bodies' own steps are profiled where they run; what remains is this node's.
        inner = profile.nanoseconds
        start = perf_counter_ns()
        bodies = {k: b.profiled(profile) for k, b in self._bodies.items()}
        results = evaluate_node(node, given, replaced=bodies)
        profile.record_definition(node, perf_counter_ns() - start - (profile.nanoseconds - inner if bodies else 0))
        return dict(zip(node.outputs, results))


def _own(value: Any) -> Any:
    """An output of its own memory: a definition may return a view of an input or of a constant."""
    if isinstance(value, list):
        return [_own(v) for v in value]
    return np.array(value, order="C") if isinstance(value, np.ndarray) else value


class Hybrid(Planned):
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
    late
        Those of them that run natively after all once their shapes are known, while the graph runs.
    inputs, outputs
        Name -> type; the shapes of outputs may be unknown.
    """

    def __init__(self, declined: Declined, planner: Planner) -> None:
        self.graph, self.reasons = declined.graph, declined.reasons
        self._types, self._planner = declined.types, planner
        self.inputs = {k: self._types[k] for k in self.graph.inputs}
        self.outputs = {o: self._types[o] for o in self.graph.outputs}
        self._parts: list[_Stretch | _Definition] = []
        self.late = {n for n in self.reasons if self._is_late(n)}
        readers = self.graph.consumers()
        nodes: list[Node] = []
        for node in self.graph.nodes:
            kind = self._kind(node)
            if nodes and kind != self._kind(nodes[0]):
                self._close(nodes, readers)
            if kind == "definition":
                self._parts.append(_Definition(node, planner))
            else:
                nodes.append(node)
        self._close(nodes, readers)
        self._last = self._last_uses()

    def _is_late(self, node: Node) -> bool:
        """Whether a kernel is missing only because shapes that go into the node are not known yet."""
        op = find(node)
        types = [self._types[i] for i in node.inputs if i]
        unknown = any(not t.is_known and not t.container for t in types)
        return unknown and (op.view or op.lower is not None) and not any(t.container for t in types)

    def _kind(self, node: Node) -> str:
        return "late" if node in self.late else "definition" if node in self.reasons else "native"

    def _close(self, nodes: list[Node], readers: Mapping[str, list[Node]]) -> None:
        """Make a stretch of the collected nodes. `readers`: of each value of the graph."""
        if not nodes:
            return
        made = dict.fromkeys(o for n in nodes for o in n.outputs if o)
        read = dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made)
        constants = {k: self.graph.constants[k] for k in read if k in self.graph.constants}
        inputs = {k: TensorType(self._types[k].dtype, None) for k in read if k not in constants}
        inside = set(nodes)
        outputs = [o for o in made if o in self.outputs or not inside.issuperset(readers.get(o, ()))]
        if outputs:
            graph = Graph(inputs, outputs, list(nodes), constants, name=self.graph.name)
            self._parts.append(_Stretch(graph, self._planner))
        nodes.clear()

    def _last_uses(self) -> list[list[str]]:
        """Per part, the values that nothing after it reads."""
        seen = set(self.graph.outputs) | self.graph.constants.keys()
        drop: list[list[str]] = []
        for part in reversed(self._parts):
            inputs = part.node.inputs if isinstance(part, _Definition) else part.graph.inputs
            outputs = part.node.outputs if isinstance(part, _Definition) else part.graph.outputs
            gone = [v for v in dict.fromkeys((*inputs, *outputs)) if v and v not in seen]
            seen.update(gone)
            drop.append(gone)
        return drop[::-1]

    def run(self, inputs: Mapping[str, Any], profile: Profile | None = None) -> list[Any]:
        """The outputs of the graph: new arrays, lists of them for sequences, dicts, or None for an empty optional."""
        values: dict[str, Any] = {**self.graph.constants, **inputs}
        for part, gone in zip(self._parts, self._last):
            values.update((k, v) for k, v in part.run(values, profile).items() if k)
            for name in gone:
                values.pop(name, None)
        return [_own(values[o]) for o in self.graph.outputs]

    def planned(self) -> Iterator[Plan | Node]:
        """The nodes that run by their definitions, and in between the plans of the native stretches, without those
        whose input shapes depend on data."""
        for part in self._parts:
            if isinstance(part, _Definition):
                yield part.node
                continue
            types = [self._types[k] for k in part.graph.inputs]
            if all(t.is_known for t in types):
                plan = part.plan(tuple(types))
                yield from [plan] if isinstance(plan, Plan) else plan.planned()

    def constants_of(self, node: Node) -> list[Array]:
        """The constants that a node reads."""
        return [self.graph.constants[i] for i in node.inputs if i in self.graph.constants]
