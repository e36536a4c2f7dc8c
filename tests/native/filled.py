"""Compares plans that templates fill in with those that the planner makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardpass import _native
from forwardpass.explanation import Steps
from forwardpass.graph import Graph
from forwardpass.memory import Buffer
from forwardpass.ops import Tensor
from forwardpass.plan import Plan, Settings, make_plan
from forwardpass.plan.template import Filled, make_template

Shapes = Mapping[str, tuple[int, ...]]


def described(plan: Plan) -> list[Any]:
    """All that a plan says, as values that compare."""

    def value(v: Any) -> Any:
        if isinstance(v, np.ndarray):
            # Packed weights are shared.
            return v.dtype, v.shape, v.tobytes() if v.size < 100_000 else id(v)
        return [value(i) for i in v] if isinstance(v, tuple) else (type(v), v)

    def tensor(t: Tensor | None) -> Any:
        if t is None:
            return None
        b: Buffer = t.buffer
        where = (b.kind, b.index, b.itemsize, b.size, b.offset, b.first, b.last, value(b.array))
        return where, value(t.shape), value(t.strides), value(t.offset)

    def params(of: Any) -> Any:
        return {k: value(v) for k, v in of.params.items()}

    steps = [
        (
            s.kernel, params(s), [tensor(t) for t in s.inputs], tensor(s.output), s.units, s.grain, s.flops, s.ranges,
            s.backwards,
        )
        for s in plan.steps
    ]  # fmt: skip
    loops = list(dict.fromkeys(e.loop for e in plan.tape))
    entries = [
        (
            e.index, e.kernel, params(e), e.ranges, e.barrier, [tensor(t) for t in [*e.inputs, e.output]],
            loops.index(e.loop), e.loop and (e.loop.begin, e.loop.count), e.shift, e.moves,
        )
        for e in plan.tape
    ]  # fmt: skip
    ends = plan.inputs, plan.outputs, plan.arena_bytes, plan.threads, plan.flops
    return [steps, entries, ends, Steps(plan).chains]


def answers(plan: Plan, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.standard_normal(t.sizes) * 3).astype(t.dtype) for t in plan.inputs.values()]
    return plan.run(arrays)


def compare(filled: Plan, made: Plan) -> None:
    assert isinstance(filled, Filled)
    assert described(filled) == described(made)
    for a, b in zip(answers(filled), answers(made)):
        np.testing.assert_array_equal(a, b)
        assert a.tobytes() == b.tobytes()


def fitting(graph: Graph, first: Shapes, others: list[Shapes], given: Settings) -> int:
    """How many of the shapes a template for the first ones fits, each compared with the planner's plan."""
    packed: dict[Any, Any] = {}
    template = make_template(graph, first, given, packed, _native.Arenas())
    if template is None:
        return 0
    fits = 0
    for shapes in [first, *others]:
        plan = template(tuple(shapes.values()))
        if plan is not None:
            compare(plan, make_plan(graph, shapes, given, packed))
            fits += 1
    return fits
