"""A graph that grows step by step, and the table of what a step emits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...graph import Graph, Node

__all__ = ["STEPS", "Columns", "Result", "Scope", "step"]

Columns = tuple[str, int]
"""A value [N, columns], and the number of its columns."""
Result = Columns | dict[str, str]
"""What a transformer makes, or a predictor's outputs: name -> value."""

STEPS: dict[str, Callable[[Scope, Any, str, int], Result]] = {}
"""Class -> what it emits for a value with so many columns."""


def step(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a definition for these classes."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        STEPS.update(dict.fromkeys(names, function))
        return function

    return enter


class Scope:
    """The graph and the names of the present step.

    Attributes
    ----------
    where
        How messages name the estimator.
    """

    def __init__(self, graph: Graph, estimator: Any) -> None:
        self.graph = graph
        self.where = type(estimator).__name__
        self._stem = ""

    def step(self, estimator: Any, x: str, columns: int) -> Result:
        """Emit a step."""
        kind = type(estimator).__name__
        before, self._stem = self._stem, f"{self._stem}{kind}/"
        try:
            return STEPS[kind](self, estimator, x, columns)
        finally:
            self._stem = before

    def refuse(self, message: str, got: object = "") -> UnsupportedError:
        """What to raise for settings that are not supported."""
        return UnsupportedError(message, where=f"{self.where}: {self._stem.rstrip('/')}", got=str(got))

    def constant(self, value: Any) -> str:
        """A constant; real numbers become float32."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = self.graph.fresh(f"{self._stem}constant")
        self.graph.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def node(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """Append a node; inputs that are no names become constants."""
        name = self.graph.fresh(f"{self._stem}{op.lower()}")
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.graph.nodes.append(Node(op, names, [name], attributes, name=name))
        return name

    def name(self, value: str, output: str) -> None:
        """Make a value an output of the graph by this name."""
        for n in self.graph.nodes:
            if value in n.outputs and value not in self.graph.outputs:
                n.outputs = [output if o == value else o for o in n.outputs]
                for other in self.graph.nodes:
                    other.inputs = [output if i == value else i for i in other.inputs]
                break
        else:
            self.graph.nodes.append(Node("Identity", [value], [output], name=output))
        self.graph.outputs.append(output)

    def affine(self, x: str, kernel: Any, bias: Any) -> str:
        """`x @ kernel + bias`."""
        y = self.node("MatMul", x, np.asarray(kernel, np.float64))
        bias = np.asarray(bias, np.float64)
        return self.node("Add", y, bias) if np.any(bias) else y

    def classes(self, classes: Any, places: str) -> str:
        """The labels at these places among the classes."""
        labels = np.asarray(classes)
        if labels.dtype.kind in "iu":
            labels = labels.astype(np.int64)
        elif labels.dtype.kind in "US":
            labels = labels.astype(object)
        return self.node("Gather", labels, places, axis=0)

    def two_classes(self, positive: str) -> str:
        """[N, 1] of the second class to [N, 2] of both."""
        return self.node("Concat", self.node("Sub", np.float64(1), positive), positive, axis=1)
