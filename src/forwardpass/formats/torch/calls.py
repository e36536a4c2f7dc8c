"""What the importers of PyTorch's programs make of them: operators of ATen by name, on values by name."""

from __future__ import annotations

from typing import Any

from ...graph import Array, TensorType
from ...records import field, record

__all__ = ["Call", "Program", "Ref", "Sym"]


class Ref(str):
    """The name of a tensor of the graph, which keeps it apart from text that is an argument."""

    __slots__ = ()


class Sym(Ref):
    """The name of a value that is one int64: a size that is known when the model runs."""

    __slots__ = ()


@record(slots=True, eq=False)
class Call:
    """One operator.

    Attributes
    ----------
    op
        Name of ATen or of Python's module operator, without a namespace.
    overload
        Which form of it.
    arguments
        Name of the schema -> number, text, list, or `Ref`.
    name
        What the result is called.
    type
        Of the result, where it is one tensor and the program says it.
    size
        How the program writes the size that is the result, where it is one.
    """

    op: str
    overload: str
    arguments: dict[str, Any]
    name: str
    type: TensorType | None = None
    size: str = ""


@record(slots=True, eq=False)
class Program:
    """Inputs, constants, calls in order, and the values that are the outputs.

    Attributes
    ----------
    outputs
        Names of results, inputs or constants.
    """

    name: str
    inputs: dict[str, TensorType]
    constants: dict[str, Array] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
