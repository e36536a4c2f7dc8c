"""What a model says of itself: its nodes, and its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Error
from .graph import Array, TensorType
from .ops.evaluate import infer_types
from .plan import Plan
from .plan.hybrid import Hybrid, run_any
from .profile import Profile
from .tabular import Parts, Report, html_table
from .text import human_bytes

if TYPE_CHECKING:
    from .run import Model

__all__ = ["MemoryPlan", "Summary", "model_html"]


class Summary(Report):
    """The nodes of a model's graph, with output shapes, parameters and how they run.

    Attributes
    ----------
    rows : list of dict
        Per node of the optimised graph: name, operator, output, parameters, native (True, or the reason why not).
    parameters : int
        Elements of all weights of the graph as it was given.
    native : int
        How many of the nodes run natively.
    native_time : float or None
        The part of the time of one run on zeros that native kernels took; None where zeros of these shapes cannot be
        run.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        inputs: Mapping[str, TensorType] | None = None
        try:
            plan = model.plan(shapes)
            reasons = plan.reasons if isinstance(plan, Hybrid) else {}
            inputs = plan.inputs if shapes else None
        except Error:
            if shapes:
                raise
            # Sizes of 1 in place of symbols do not fit every graph.
            reasons = dict.fromkeys(model.optimized.nodes, "depends on the input shapes")
        types = infer_types(model.optimized, inputs)
        constants = model.optimized.constants
        self.title = repr(model)
        self.rows: list[dict[str, Any]] = [
            {
                "name": n.title,
                "operator": n.qualified + (f"+{n.attributes['activation']}" if n.attributes.get("activation") else ""),
                "output": str(types.get(n.outputs[0], "?")),
                "parameters": sum(constants[i].size for i in n.inputs if i in constants),
                "native": reasons.get(n, True),
            }
            for n in model.optimized.nodes
        ]
        self.parameters = sum(c.size for c in model.graph.constants.values() if c.dtype.kind == "f")
        self.native = sum(r["native"] is True for r in self.rows)
        self.native_time = _native_time(model, shapes)

    def records(self) -> list[dict[str, Any]]:
        return self.rows

    def parts(self) -> Parts:
        def runs(row: dict[str, Any]) -> Any:
            return "native" if row["native"] is True else row["native"]

        rows = [[r["name"], r["operator"], r["output"], f"{r['parameters']:,}", runs(r)] for r in self.rows]
        end = f"{self.parameters:,} parameters; {self.native} of {len(self.rows)} nodes run natively"
        if self.native_time is not None:
            end += f", in {100 * self.native_time:.1f} % of the time of a measured run"
        columns = ["node", "operator", "output", ">parameters", "runs"]
        return Parts([self.title, ""], columns, rows, ["", end])


def _native_time(model: Model, shapes: Mapping[str, Sequence[int]] | None) -> float | None:
    """The part of a run's time that is spent in kernels."""
    if any(t.container for t in model.inputs.values()):
        return None
    profile = Profile(model)
    try:
        plan = model.plan(shapes)
        zeros = {k: np.zeros(t.sizes, t.dtype) for k, t in plan.inputs.items()}
        run_any(plan, zeros, profile)
    except Error:
        return None
    definitions = sum(s["nanoseconds"] for s in profile.steps if s["kernel"] == "definition")
    return float(1 - definitions / max(profile.nanoseconds, 1))


class MemoryPlan(Report):
    """The bytes that a model takes for one set of input shapes.

    Attributes
    ----------
    weights : int
        Packed weights and other constants, shared by all plans and threads.
    arena : int
        Intermediate values; one arena per call that runs at the same time. Several native stretches with other
        nodes in between have one each.
    inputs, outputs : int
        The caller's arrays, without outputs whose shapes depend on data.
    total : int
        Weights and one arena.
    tensors : list of dict
        Per intermediate buffer: name, bytes, offset in the arena, first and last step that touch it.
    """

    def __init__(self, plan: Plan | Hybrid) -> None:
        plans = [plan] if isinstance(plan, Plan) else [p for p in plan.planned() if isinstance(p, Plan)]
        constants: dict[int, Array] = {}
        for p in plans:
            constants.update(p.constants())
        self.note = ""
        if isinstance(plan, Hybrid):
            constants.update((id(c), c) for n in plan.reasons for c in plan.constants_of(n))
            self.note = "nodes without native kernels allocate memory as they run, which is not counted"
        self.weights = sum(c.nbytes for c in constants.values())
        self.arena = sum(p.arena_bytes for p in plans)
        self.tensors: list[dict[str, Any]] = [
            {"name": b.name, "bytes": b.nbytes, "offset": b.offset, "first": b.first, "last": b.last}
            for p in plans
            for b in p.buffers
            if b.kind == "arena" and b.first >= 0
        ]
        self.inputs, self.outputs = (
            sum(t.nbytes for t in types.values() if t.is_known) for types in (plan.inputs, plan.outputs)
        )
        self.total = self.weights + self.arena

    def records(self) -> list[dict[str, Any]]:
        return self.tensors

    def parts(self) -> Parts:
        lines = [
            f"weights {human_bytes(self.weights)}, arena {human_bytes(self.arena)}, total {human_bytes(self.total)}",
            f"the caller's inputs {human_bytes(self.inputs)}, outputs {human_bytes(self.outputs)}",
        ]
        note = [self.note] if self.note else []
        if not self.tensors:
            return Parts(lines, [], [], note)
        rows = [[t["name"], f"{t['bytes']:,}", f"{t['offset']:,}", f"{t['first']}-{t['last']}"] for t in self.tensors]
        return Parts([*lines, ""], ["buffer", ">bytes", ">offset", ">steps"], rows, note)


def model_html(model: Model) -> str:
    """A model in a notebook: what goes in and comes out, and what it is made of. Nothing is run for it."""
    from html import escape

    s = model.settings
    ends = {"input": model.inputs, "output": model.outputs}
    rows = [[what, name, str(t)] for what, types in ends.items() for name, t in types.items()]
    parameters = sum(c.size for c in model.graph.constants.values() if c.dtype.kind == "f")
    size = human_bytes(sum(c.nbytes for c in model.graph.constants.values()))
    facts = f"{len(model.graph.nodes):,} nodes, {parameters:,} parameters ({size}); {s.precision}, {s.isa}, "
    threads = f"{s.threads} thread{'s' if s.threads > 1 else ''}"
    title = f"<p><b>Model {escape(model.graph.name or 'unnamed')}</b><br>{escape(facts + threads)}</p>"
    return f"<div>{title}{html_table(['', 'name', 'type'], rows)}</div>"
