"""What a model says of itself: its nodes, and its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .graph import TensorType
from .hybrid import Hybrid
from .ops.evaluate import infer_types
from .text import aligned, human_bytes

if TYPE_CHECKING:
    from .plan import Plan
    from .run import Model

__all__ = ["MemoryPlan", "Summary"]


class Summary:
    """The nodes of a model's graph, with output shapes, parameters and how they run.

    Attributes
    ----------
    rows : list of dict
        Per node of the optimised graph: name, operator, output, parameters, native (True, or the reason why not).
    parameters : int
        Elements of all weights of the graph as it was given.
    """

    def __init__(self, model: Model) -> None:
        plan = model.plan()
        reasons = plan.reasons if isinstance(plan, Hybrid) else {}
        types = infer_types(model.optimized)
        constants = model.optimized.constants
        self.title = repr(model)
        self.rows: list[dict[str, Any]] = [
            {
                "name": n.name or n.outputs[0],
                "operator": n.qualified
                + (f"+{n.attributes['activation']}" if n.attributes.get("activation") else ""),
                "output": str(types.get(n.outputs[0], "?")),
                "parameters": sum(constants[i].size for i in n.inputs if i in constants),
                "native": reasons.get(n, True),
            }
            for n in model.optimized.nodes
        ]
        self.parameters = sum(c.size for c in model.graph.constants.values() if c.dtype.kind == "f")
        self.native = sum(r["native"] is True for r in self.rows)

    def __str__(self) -> str:
        rows = [
            [
                r["name"],
                r["operator"],
                r["output"],
                f"{r['parameters']:,}",
                "native" if r["native"] is True else r["native"],
            ]
            for r in self.rows
        ]
        table = aligned(["node", "operator", "output", ">parameters", "runs"], rows)
        end = f"{self.parameters:,} parameters; {self.native} of {len(self.rows)} nodes run natively"
        return "\n".join([self.title, "", *table, "", end])

    __repr__ = __str__


class MemoryPlan:
    """The bytes that a model takes for one set of input shapes.

    Attributes
    ----------
    weights : int
        Packed weights and other constants, shared by all plans and threads.
    arena : int
        Intermediate values; one arena per call that runs at the same time.
    inputs, outputs : int
        The caller's arrays.
    total : int
        Weights and one arena.
    tensors : list of dict
        Per intermediate buffer: name, bytes, offset in the arena, first and last step that touch it.
    """

    def __init__(self, plan: Plan | Hybrid) -> None:
        if isinstance(plan, Hybrid):
            self.weights = sum(c.nbytes for c in plan.graph.constants.values())
            self.arena = 0
            self.tensors: list[dict[str, Any]] = []
            self.note = "nodes without native kernels allocate memory as they run, which is not counted"
        else:
            self.weights = plan.weight_bytes
            self.arena = plan.arena_bytes
            self.tensors = [
                {"name": b.name, "bytes": b.nbytes, "offset": b.offset, "first": b.first, "last": b.last}
                for b in plan.buffers
                if b.kind == "arena" and b.first >= 0
            ]
            self.note = ""
        self.inputs = _bytes(plan.inputs)
        self.outputs = _bytes(plan.outputs if not isinstance(plan, Hybrid) else {})
        self.total = self.weights + self.arena

    def __str__(self) -> str:
        lines = [
            f"weights {human_bytes(self.weights)}, arena {human_bytes(self.arena)}, total {human_bytes(self.total)}",
            f"the caller's inputs {human_bytes(self.inputs)}, outputs {human_bytes(self.outputs)}",
        ]
        if self.tensors:
            rows = [
                [t["name"], f"{t['bytes']:,}", f"{t['offset']:,}", f"{t['first']}-{t['last']}"]
                for t in self.tensors
            ]
            lines += ["", *aligned(["buffer", ">bytes", ">offset", ">steps"], rows)]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    __repr__ = __str__


def _bytes(types: dict[str, TensorType]) -> int:
    return sum(
        t.dtype.itemsize * int(np.prod(t.shape, dtype=np.int64))
        for t in types.values()
        if t.shape is not None
    )
