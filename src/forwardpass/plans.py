"""The plans of a model: those used last, and templates that make the plan for new shapes without planning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _native
from .cache import Cache
from .graph import Array, Graph, TensorType
from .hybrid import AnyPlan, plan_any
from .ops import infer_types
from .plan import Plan, Settings, make_plan
from .planner import FIXED_STEPS
from .template import Template, make_template

__all__ = ["PlanMaker", "Plans"]

_MAX_PLANS = 16
_MAX_TEMPLATES = 16
_FIRST = 3
"""The plan, counted from one, for which a template is tried: two shapes are no sign that there will be more."""

_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})

Key = tuple[tuple[int, ...], ...]


class Plans(Cache[Key, AnyPlan]):
    """Shapes of the inputs, in order -> the plan for them. Any number of threads may ask.

    Parameters
    ----------
    types
        Of all values of the graph, where no input may have another shape.
    """

    def __init__(
        self, graph: Graph, settings: Settings, packed: dict[Any, Array], types: Mapping[str, TensorType] | None = None
    ) -> None:
        # No method of this object: a cycle would keep the plans' memory until a garbage collection.
        self.maker = PlanMaker(graph, settings, packed, types)
        super().__init__(self.maker, _MAX_PLANS)


def _fixed_steps(graph: Graph) -> dict[Any, Array]:
    """What `Lowering.fixed_steps` says of the recurrent layers, as entries of a model's packed arrays."""
    layers = [n for n in graph.nodes if n.qualified in _RECURRENT]
    types = infer_types(graph) if layers else {}
    found: dict[Any, Array] = {}
    for n in layers:
        shape = types[n.inputs[0]].shape
        steps = shape[1 if n.attributes.get("layout") else 0] if shape else None
        if isinstance(steps, int):
            found[FIXED_STEPS, n.inputs[0]] = np.array(steps)
    return found


class PlanMaker:
    """Makes plans, one at a time.

    Attributes
    ----------
    planned, filled
        How many plans the planner made, and how many templates.
    """

    def __init__(
        self, graph: Graph, settings: Settings, packed: dict[Any, Array], types: Mapping[str, TensorType] | None
    ) -> None:
        self.graph, self.settings, self.packed, self._types = graph, settings, packed, types
        self.planned = self.filled = 0
        self._arenas = _native.Arenas()
        self._templates: list[Template] = []
        self._next, self._gap = _FIRST, 1

    def __call__(self, key: Key) -> AnyPlan:
        for k, template in enumerate(self._templates):
            plan = template(key)
            if plan is not None:
                self._templates.insert(0, self._templates.pop(k))
                self.filled += 1
                self._gap = 1
                return plan
        shapes = dict(zip(self.graph.inputs, key))
        if not self.planned and self.settings.tiles:
            self.packed |= _fixed_steps(self.graph)
        self.planned += 1
        return self._by_template(key, shapes) or plan_any(self.graph, shapes, self._plan)

    def _plan(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
        types = self._types if graph is self.graph else None  # not those of a part of it
        if types is not None and any(types[k].shape != s for k, s in shapes.items()):
            types = None
        return make_plan(graph, shapes, self.settings, self.packed, self._arenas, types)

    def _by_template(self, key: Key, shapes: Mapping[str, tuple[int, ...]]) -> AnyPlan | None:
        """A plan from a new template, now and then: the more rarely, the fewer shapes the last ones were good for."""
        if self.planned < self._next:
            return None
        self._gap *= 2
        self._next = self.planned + self._gap
        template = make_template(self.graph, shapes, self.settings, self.packed, self._arenas)
        if template is None:
            return None
        self._templates.insert(0, template)
        del self._templates[_MAX_TEMPLATES:]
        return template(key)
