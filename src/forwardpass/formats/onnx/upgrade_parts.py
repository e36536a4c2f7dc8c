"""What the upgrade rules share: making the nodes that a rule puts around the one it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...dtypes import is_narrow
from ...graph import Array, Node

if TYPE_CHECKING:
    from .context import Context

__all__ = ["ALWAYS", "Parts", "Rule", "Table", "attribute_to_input", "drop", "set_input"]

Rule: TypeAlias = "Callable[[Node, Context], list[Node]]"
"""`(node, context) -> nodes`: changes the node, which is a copy, from one version to the next where its meaning is new.
Gives it with the nodes before and after it that it needs, which have the newest meaning already; or others alone."""
ALWAYS = 1 << 30
"""In place of a version: the operator is in no opset, or no longer, and models of any have it all the same."""
Table: TypeAlias = "dict[str, tuple[tuple[int, Rule], ...]]"
"""Operator -> (the version whose meaning the rule establishes, the rule), by ascending version."""


class Parts:
    """The nodes that a rule makes, in order.

    Parameters
    ----------
    node
        The node that the rule changes: the new ones are named after it.
    context
        The graph that it is in.
    """

    def __init__(self, node: Node, context: Context) -> None:
        self.node, self.context = node, context
        self.nodes: list[Node] = []

    def emit(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node of one output. Returns the output's name: a fresh one unless `output` says it."""
        result = output or self.fresh(op)
        name = f"{self.node.name}/{op}" if self.node.name else ""
        self.nodes.append(Node(op, list(inputs), [result], attributes, "", name))
        return result

    def keep(self) -> None:
        """Append the node itself."""
        self.nodes.append(self.node)

    def rename_output(self, index: int = 0) -> str:
        """Give an output a fresh name. Returns the old one, for a node after it to define."""
        old = self.node.outputs[index]
        self.node.outputs[index] = self.fresh(self.node.op)
        return old

    def fresh(self, stem: str) -> str:
        """A value name that nothing uses."""
        return self.context.fresh(f"{self.node.outputs[0]}/{stem}" if self.node.outputs else stem)

    def constant(self, array: Array) -> str:
        """A constant."""
        return self.context.add_constant(f"{self.node.outputs[0]}/constant", array)

    def integers(self, values: Iterable[int]) -> str:
        """A constant of rank 1 and dtype int64."""
        return self.constant(np.array(list(values), np.int64))

    def number(self, value: float, like: str) -> str:
        """A scalar of the dtype of another value; beyond the dtype's range it is the end of the range."""
        dtype = self.context.dtype(like)
        if dtype is None or is_narrow(dtype):
            return self.emit("CastLike", self.constant(np.array(value, np.float32)), like)
        if dtype.kind == "f":
            ends = np.finfo(dtype)
            value = float(np.clip(value, float(ends.min), float(ends.max))) if np.isfinite(value) else value
        return self.constant(np.array(value, dtype))

    def rank(self, name: str) -> str:
        """The rank of a value, as a value of shape [1]."""
        return self.emit("Shape", self.emit("Shape", name))

    def ones(self, count: str) -> str:
        """As many ones (int64) as the value `count` of shape [1] says; none if that is negative."""
        least = self.emit("Max", count, self.integers([0]))
        return self.emit("ConstantOfShape", least, value=np.ones(1, np.int64))


def drop(*names: str) -> Rule:
    """A rule that removes attributes."""

    def rule(node: Node, context: Context) -> list[Node]:
        for name in names:
            node.attributes.pop(name, None)
        return [node]

    return rule


def set_input(node: Node, index: int, name: str) -> None:
    """Put a value where an input was absent."""
    node.inputs.extend([""] * (index + 1 - len(node.inputs)))
    node.inputs[index] = name


def attribute_to_input(name: str, index: int) -> Rule:
    """A rule that makes an input of an attribute of integers. Where that is absent or empty the input is absent."""

    def rule(node: Node, context: Context) -> list[Node]:
        value = node.attributes.pop(name, None)
        if value is not None and np.size(value):
            parts = Parts(node, context)
            set_input(node, index, parts.integers(int(v) for v in np.ravel(value)))
        return [node]

    return rule
