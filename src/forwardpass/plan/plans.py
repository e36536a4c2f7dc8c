"""The plans of a model: those used last, and templates that make the plan for new shapes without planning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .. import _native
from ..cache import Cache
from ..graph import Array, Graph, TensorType
from . import Plan, Settings, make_plan
from .hybrid import AnyPlan, plan_any
from .known_types import KnownTypes
from .template import Template, make_template

__all__ = ["PlanMaker", "Plans"]

_MAX_PLANS = 16
_MAX_TEMPLATES = 16
_FIRST = 3
"""The plan, counted from one, for which a template is tried: two shapes are no sign that there will be more."""

Key = tuple[tuple[int, ...], ...]


class Plans(Cache[Key, AnyPlan]):
    """Shapes of the inputs, in order -> the plan for them. Any number of threads may ask.

    Parameters
    ----------
    declared
        What the graph says of its values, whatever a call brings.
    """

    def __init__(
        self, graph: Graph, settings: Settings, packed: dict[Any, Array], declared: Mapping[str, TensorType]
    ) -> None:
        # No method of this object: a cycle would keep the plans' memory until a garbage collection.
        self.maker = PlanMaker(graph, settings, packed, declared)
        super().__init__(self.maker, _MAX_PLANS)


class PlanMaker:
    """Makes plans, one at a time.

    Attributes
    ----------
    planned, filled
        How many plans the planner made, and how many templates.
    """

    def __init__(
        self, graph: Graph, settings: Settings, packed: dict[Any, Array], declared: Mapping[str, TensorType]
    ) -> None:
        self.graph, self.settings, self.packed, self._declared = graph, settings, packed, declared
        self._types = KnownTypes(graph, declared)
        self.planned = self.filled = 0
        self._arenas = _native.Arenas()
        self._templates: list[Template] = []
        self._unused: set[object] = set()  # templates, and attempts to make one
        self._next = _FIRST

    def __call__(self, key: Key) -> AnyPlan:
        count = sum(map(math.prod, key))
        # To ask one in vain costs as much as half of what the right one does.
        for template in sorted(self._templates, key=lambda t: max(t.least - count, count - t.most, 0)):
            plan = template(key)
            if plan is not None:
                template.least, template.most = min(template.least, count), max(template.most, count)
                self._templates.remove(template)
                self._templates.insert(0, template)
                self.filled += 1
                self._unused.discard(template)
                return plan
        shapes = dict(zip(self.graph.inputs, key))
        self.planned += 1
        return self._by_template(key, shapes) or plan_any(self.graph, shapes, self._plan)

    def _plan(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
        types = self._types(shapes) if graph is self.graph else None  # not those of a part of it
        return make_plan(graph, shapes, self.settings, self.packed, self._arenas, types, self._declared)

    def _by_template(self, key: Key, shapes: Mapping[str, tuple[int, ...]]) -> AnyPlan | None:
        """A plan from a new template: the more rarely, the more of them were good for no other shapes."""
        if self.planned < self._next + (1 << len(self._unused)) // 4:
            return None
        self._next = self.planned + 1
        template = make_template(self.graph, shapes, self.settings, self.packed, self._arenas, self._declared)
        self._unused.add(template or object())
        if template is None:
            return None
        template.least = template.most = sum(map(math.prod, key))
        self._templates.insert(0, template)
        del self._templates[_MAX_TEMPLATES:]
        return template(key)
