"""Upgrades of recurrent operators and of Scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, Graph, Node, TensorType
from .upgrade_parts import Table, drop

if TYPE_CHECKING:
    from .context import Context

__all__ = ["RECURRENT"]


def _direction(node: Node, context: Context) -> list[Node]:
    """The first text misspelt the default, and some wrote that out."""
    if node.attributes.get("direction") == "foward":
        node.attributes["direction"] = "forward"
    return [node]


class _Batch:
    """The body of a Scan over the batch, in which each sequence of it is scanned.

    Parameters
    ----------
    node
        A Scan 8: sequence lengths, states, scanned inputs, then captured values.
    """

    def __init__(self, node: Node) -> None:
        self.body = node.attributes["body"]
        self.captures = int(node.attributes.get("captures", 0))
        self.count = int(node.attributes["num_scan_inputs"])
        self.directions = node.attributes.get("directions")
        self.lengths, *rest = node.inputs
        formal = len(rest) - self.captures
        self.values, self.captured = rest[:formal], rest[formal:]
        self.states = formal - self.count
        if self.count < 1 or self.states < 0 or len(self.body.inputs) != len(rest):
            raise GraphError("the inputs of a Scan do not fit its body", where=node.label)
        self.constants: dict[str, Array] = {}
        self.nodes: list[Node] = []

    def _constant(self, *values: int) -> str:
        name = "constant_" + "_".join(map(str, values))
        self.constants[name] = np.array(values, np.int64)
        return name

    def _emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(Node(op, inputs, [output], attributes))
        return output

    def _inputs(self) -> dict[str, TensorType]:
        found: dict[str, TensorType] = {}
        for k, given in enumerate(self.body.inputs.values()):
            kind = "state" if k < self.states else "scan" if k < len(self.values) else "capture"
            shape = (None, *given.shape) if kind == "scan" and given.shape is not None else given.shape
            found[f"{kind}_{k}"] = TensorType(given.dtype, shape, given.container)
        return found

    def graph(self) -> Graph:
        """The body."""
        inputs = self._inputs()
        names = list(inputs)
        scanned = names[self.states : len(self.values)]
        stacked = [f"stack_{k}" for k in range(len(self.body.outputs) - self.states)]
        results = [f"final_{k}" for k in range(self.states)] + stacked
        cut = scanned
        if self.lengths:
            self._emit("Reshape", ["length", self._constant(1)], "count")
            first = self._constant(0)
            cut = [self._emit("Slice", [n, first, "count", first], f"{n}_cut") for n in scanned]
        attributes: dict[str, Any] = {"body": self.body, "num_scan_inputs": self.count, "captures": self.captures}
        if self.directions:
            attributes["scan_input_directions"] = self.directions
        reads = [*names[: self.states], *cut, *names[len(self.values) :]]
        self.nodes.append(Node("Scan", reads, list(results), attributes))
        if self.lengths:
            results[self.states :] = self._padded(scanned[0], stacked)
            captured = {n: inputs.pop(n) for n in names[len(self.values) :]}
            inputs = {**inputs, "length": TensorType(np.dtype(np.int64), ()), **captured}
        return Graph(inputs, results, self.nodes, self.constants, name=self.body.name)

    def _padded(self, scanned: str, stacked: list[str]) -> list[str]:
        """The scan outputs at the full length: what lies beyond that of a sequence may be anything."""
        self._emit("Shape", [scanned], "length_full", start=0, end=1)
        self._emit("Sub", ["length_full", "count"], "rest")
        self._emit("Concat", [self._constant(0), "rest"], "pads", axis=0)
        return [self._emit("Pad", [s, "pads", "", self._constant(0)], f"{s}_full") for s in stacked]


def _scan_per_sequence(node: Node, context: Context) -> list[Node]:
    """Scan had a batch axis: a scan over that, of a body that scans one sequence, gives the same."""
    batch = _Batch(node)
    lengths = [batch.lengths] if batch.lengths else []
    node.inputs = [*batch.values, *lengths, *batch.captured]
    count = len(batch.values) + len(lengths)
    node.attributes = {"body": batch.graph(), "num_scan_inputs": count, "captures": batch.captures}
    return [node]


_SEQUENCE = ((7, drop("output_sequence")),)

RECURRENT: Table = {
    "RNN": _SEQUENCE,
    "LSTM": _SEQUENCE,
    "GRU": ((3, _direction), *_SEQUENCE),
    "Scan": ((9, _scan_per_sequence),),
}
