"""A model's graphs as plain records, read once however often a function is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...graph import Array, TensorType
from ...records import field, record

__all__ = ["Operation", "Source"]


@record(slots=True, eq=False)
class Operation:
    """A NodeProto.

    Attributes
    ----------
    attributes
        Name -> value; a body is a `Source`.
    references
        Name -> the attribute of the function whose value it takes.
    """

    op: str
    domain: str
    overload: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How messages name the node."""
        qualified = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"node {self.name!r} ({qualified})" if self.name else f"node {qualified} -> {self.outputs[:1]}"

    def bodies(self) -> Iterator[Source]:
        """The graphs among the attributes."""
        for value in self.attributes.values():
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, Source):
                    yield item

    def reads(self) -> set[str]:
        """The names it needs, those of its bodies included."""
        found = {i for i in self.inputs if i}
        for body in self.bodies():
            found |= body.free
        return found


@record(slots=True, eq=False)
class Source:
    """A GraphProto, its operations in an order in which they can run.

    Attributes
    ----------
    inputs
        Name -> type, None where a body does not say it.
    declared
        Name -> type of other values, as the file says.
    free
        Names that it reads and does not define.
    """

    name: str
    inputs: dict[str, TensorType | None]
    outputs: list[str]
    constants: dict[str, Array]
    operations: list[Operation]
    declared: dict[str, TensorType]
    free: set[str] = field(default_factory=set)

    def defined(self) -> set[str]:
        """The names that it defines."""
        found = self.inputs.keys() | self.constants.keys()
        for operation in self.operations:
            found.update(o for o in operation.outputs if o)
        return found
