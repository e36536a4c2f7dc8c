"""What TorchScript's code calculates with while it is read: tensors that may be changed in place, and what is unknown.

Nothing changes in a graph. A tensor that is changed gets another value of the graph, and whoever else looks at the same
memory (a view of it, or what it is a view of) must not be read any more, since what is there now is not known.
"""

from __future__ import annotations

from typing import Any

from ..calls import Ref

__all__ = ["UNDECIDED", "UNKNOWN", "Cell", "Memory", "Special"]


class Special:
    """A value of which nothing is known."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


UNDECIDED = Special("what is known only when the model runs")
UNKNOWN = Special("the result of an operator that is not known")


class Memory:
    """What several tensors share.

    Attributes
    ----------
    version
        How often it was changed.
    fixed
        Whether it is that of a parameter, which outlives a call.
    """

    __slots__ = ("fixed", "version")

    def __init__(self, fixed: bool = False) -> None:
        self.version, self.fixed = 0, fixed


class Cell:
    """A tensor.

    Attributes
    ----------
    ref
        The value of the graph that it is now.
    memory, version
        Where its elements are, and when they were last known.
    number
        What it is, where it is a constant without axes.
    """

    __slots__ = ("memory", "number", "ref", "version")

    def __init__(self, ref: Ref, memory: Memory | None = None, number: Any = None) -> None:
        self.ref = ref
        self.memory = memory or Memory()
        self.version = self.memory.version
        self.number = number
