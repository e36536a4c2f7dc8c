"""What a layer's function gets: one call of the layer, and all that it needs to emit nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...builder.layer import Scope
from ...errors import FileError, UnsupportedError
from ...graph import Array, Dim, Node
from .emitter import Emitter
from .kinds import Flow, Result
from .units import Unit

__all__ = ["Call"]

Run = Callable[[Unit, "Sequence[Any]", "dict[str, Any]"], "list[Flow]"]


class Call(Scope):
    """One call of a layer.

    Attributes
    ----------
    layer
        Its arguments.
    args, kwargs
        As the call was written, tensors as `Flow`.
    flows
        All tensors among `args`, in order.
    version
        The major version of Keras that wrote the file.
    """

    def __init__(
        self, emitter: Emitter, unit: Unit, args: Sequence[Any], kwargs: dict[str, Any], version: int, run: Run
    ) -> None:
        self.emitter, self.unit, self.layer = emitter, unit, unit.layer
        self.args, self.kwargs, self.version, self.run = list(args), kwargs, version, run
        self.flows = flatten(args)
        self.stem = unit.path or unit.layer.name
        super().__init__(emitter.graph, self.stem, [], unit.weights)

    # ---- values

    def only(self) -> Flow:
        """The one tensor that the layer takes."""
        if len(self.flows) != 1:
            raise FileError("wrong inputs", where=self.layer.where, expected="one tensor", got=str(len(self.flows)))
        return self.flows[0]

    @property
    def x(self) -> str:
        """The value of the one tensor that the layer takes."""
        return self.only().value

    def shape(self, value: str) -> tuple[Dim, ...]:
        self.emitter.rank(value)
        return self.emitter.type(value).shape or ()

    def rank(self, value: str) -> int:
        return self.emitter.rank(value)

    def size(self, value: str, axis: int) -> int:
        """A size that must be known."""
        found = self.shape(value)[axis]
        if not isinstance(found, int):
            message = f"the size of axis {axis} must be known"
            raise UnsupportedError(message, where=self.layer.where, got=str(self.emitter.type(value)))
        return found

    # ---- nodes

    def nodes(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        return self.emitter.nodes(f"{self.stem}/{op.lower()}", op, inputs, count, attributes)

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.nodes(op, inputs, 1, **attributes)[0]

    def producer(self, value: str) -> Node | None:
        return self.emitter.producer(value)

    def constant(self, stem: str, value: Array) -> str:
        """A constant; equal ones of the same stem are shared by all calls of the layer."""
        array = np.ascontiguousarray(value).reshape(value.shape)
        names = self.unit.constants.setdefault(stem, [])
        for name in names:
            old = self.emitter.value_of(name)
            if old is not None and old.dtype == array.dtype and np.array_equal(old, array):
                return name
        names.append(self.emitter.constant(f"{self.stem}/{stem}", array))
        return names[-1]

    def number(self, value: float, stem: str = "number") -> str:
        return self.constant(stem, np.array(value, np.float32))

    def ints(self, values: Sequence[int], stem: str = "ints") -> str:
        return self.constant(stem, np.array(values, np.int64))

    def weight(self, name: str, shape: Sequence[int | None]) -> Array:
        """A weight, whose shape must be this one; None stands for any size.

        Raises
        ------
        FileError
            Naming layer and weight.
        """
        array = self.unit.weights[name]
        if len(array.shape) != len(shape) or any(d not in (None, s) for d, s in zip(shape, array.shape)):
            expected = str(["any" if d is None else d for d in shape])
            where = f"{self.layer.where}, weight {name!r}"
            raise FileError("the shape is wrong", where=where, expected=expected, got=str(list(array.shape)))
        return array

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Transpose; where that undoes one, what was transposed."""
        order = list(order)
        if order == sorted(order):
            return x
        made = self.producer(x)
        if made is not None and made.op == "Transpose" and [order[k] for k in made.attributes["perm"]] == sorted(order):
            return made.inputs[0]
        return self.node("Transpose", [x], perm=order)

    def cast(self, x: str, dtype: Any) -> str:
        from ...dtypes import code_of

        return x if self.emitter.type(x).dtype == dtype else self.node("Cast", [x], to=code_of(np.dtype(dtype)))

    def reshape(self, x: str, sizes: Sequence[int]) -> str:
        """Reshape; 0 keeps a size."""
        return self.node("Reshape", [x, self.ints(sizes, "shape")])

    def cut(self, x: str, axis: int, start: int, stop: int | None, step: int = 1) -> str:
        end = stop if stop is not None else (np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min)
        return self.node("Slice", [x, self.ints([start]), self.ints([end]), self.ints([axis]), self.ints([step])])

    def part(self, place: str, x: Flow, **kwargs: Any) -> list[Flow]:
        """Call a layer inside of this one."""
        return self.run(self.unit.children[place], [x], kwargs)

    # ---- refusals

    def unsupported(self, message: str, **fields: str) -> UnsupportedError:
        return UnsupportedError(message, where=self.layer.where, **fields)

    def keyword(self, name: str, default: Any = None) -> Any:
        """An argument of the call that is no tensor of its first."""
        return self.kwargs.get(name, default)


def flatten(value: Any) -> list[Flow]:
    """All tensors in an argument, in order."""
    if isinstance(value, Flow):
        return [value]
    if isinstance(value, dict):
        value = [value[k] for k in sorted(value, key=str)]
    return [f for v in value for f in flatten(v)] if isinstance(value, (list, tuple)) else []


def finished(result: Result) -> list[Flow]:
    """The results of a layer as a list."""
    items = [result] if isinstance(result, (str, Flow)) else list(result)
    return [Flow(i) if isinstance(i, str) else i for i in items]
