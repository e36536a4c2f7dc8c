"""What an operator's function gets: its inputs as real or as stored values, its options, and ways to emit nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...dtypes import code_of
from ...errors import FileError, UnsupportedError
from ...graph import Array, Dim
from ..keras.emitter import Emitter
from .schema import Operator, Parsed, Tensor

__all__ = ["KINDS", "Call", "Values", "operator"]

Function = Callable[["Call"], "str | Sequence[str]"]
KINDS: dict[str, Function] = {}
"""Operator -> what emits it."""
MOVES: set[str] = set()
"""Operators that only move values, and do that with stored ones where all have the same scale."""


def operator(*kinds: str, moves: bool = False) -> Callable[[Function], Function]:
    """Register a function for operators."""

    def register(function: Function) -> Function:
        KINDS.update(dict.fromkeys(kinds, function))
        MOVES.update(kinds if moves else ())
        return function

    return register


class Values:
    """The values of the graph: those that are stored, and the real numbers that they stand for."""

    def __init__(self, parsed: Parsed, emitter: Emitter) -> None:
        self.parsed, self.emitter = parsed, emitter
        self._stored: dict[int, str] = {}
        self._real: dict[int, str] = {}

    def stored(self, index: int) -> str:
        """The value of a tensor as it is stored."""
        if index not in self._stored:
            tensor = self.parsed.tensors[index]
            if tensor.data is None:
                raise FileError("used before it is computed", where=f"tensor {tensor.name!r}")
            self._stored[index] = self.emitter.constant(tensor.name, tensor.data)
        return self._stored[index]

    def real(self, index: int) -> str:
        """The value of a tensor as real numbers; as it is stored where it is not quantised."""
        tensor = self.parsed.tensors[index]
        if not tensor.quantized:
            return self.stored(index)
        if index not in self._real:
            self._real[index] = self.dequantized(self.stored(index), tensor, tensor.axis)
        return self._real[index]

    def define(self, index: int, value: str, *, real: bool) -> None:
        """Say what a tensor is: real numbers are rounded to what can be stored."""
        tensor = self.parsed.tensors[index]
        if real and tensor.quantized:
            names = [value, *self._scale(tensor)]
            value = self.emitter.nodes(tensor.name, "QuantizeLinear", names, 1, self._axis(tensor, tensor.axis))[0]
        self._stored[index] = value

    def dequantized(self, value: str, tensor: Tensor, axis: int) -> str:
        names = [value, *self._scale(tensor)]
        return self.emitter.nodes(f"{tensor.name}/real", "DequantizeLinear", names, 1, self._axis(tensor, axis))[0]

    def _scale(self, tensor: Tensor) -> list[str]:
        one = tensor.scales.size == 1
        scales, zeros = tensor.scales.astype(np.float32), tensor.zeros.astype(tensor.dtype)
        return [
            self.emitter.constant(f"{tensor.name}/scale", scales.reshape(()) if one else scales),
            self.emitter.constant(f"{tensor.name}/zero_point", zeros.reshape(()) if one else zeros),
        ]

    def _axis(self, tensor: Tensor, axis: int) -> dict[str, Any]:
        return {"axis": axis} if tensor.scales.size > 1 else {}


class Call:
    """One operator.

    Attributes
    ----------
    target
        What the file says of the first output.
    moving
        Whether inputs and outputs are taken as they are stored.
    """

    def __init__(self, values: Values, node: Operator) -> None:
        self.values, self.node_of_file, self.emitter = values, node, values.emitter
        self.kind, self.stem = node.kind, "nothing"
        if not node.outputs:
            raise self.error("an operator without outputs")
        tensors = values.parsed.tensors
        used = [tensors[i] for i in (*node.inputs, *node.outputs) if i >= 0]
        self.target = tensors[node.outputs[0]]
        self.stem = self.target.name
        quantized = [t for t in used if t.quantized]
        self.moving = node.kind in MOVES and bool(quantized) and all(t.same_scale(quantized[0]) for t in quantized)

    # ---- inputs

    def has(self, k: int) -> bool:
        return k < len(self.node_of_file.inputs) and self.node_of_file.inputs[k] >= 0

    def index(self, k: int) -> int:
        if not self.has(k):
            raise self.error("an input is missing", expected=f"input {k}")
        return self.node_of_file.inputs[k]

    def tensor(self, k: int) -> Tensor:
        return self.values.parsed.tensors[self.index(k)]

    def x(self, k: int = 0) -> str:
        """An input as real numbers, or as stored where the operator only moves it."""
        return self.values.stored(self.index(k)) if self.moving else self.values.real(self.index(k))

    def all(self) -> list[str]:
        return [self.x(k) for k in range(len(self.node_of_file.inputs))]

    def array(self, k: int) -> Array:
        """An input that must be constant, as it is stored."""
        data = self.tensor(k).data
        if data is None:
            raise UnsupportedError(f"input {k} must be constant", where=self.where)
        return data

    def integers(self, k: int) -> list[int]:
        return [int(v) for v in self.array(k).reshape(-1)]

    def int64(self, k: int) -> str:
        """An input of sizes or places, as int64."""
        data = self.tensor(k).data
        return self.ints(data) if data is not None else self.cast(self.values.stored(self.index(k)), np.int64)

    def weights(self, k: int, perm: Sequence[int]) -> str:
        """An input of weights with its axes in another order, as real numbers."""
        tensor, order = self.tensor(k), list(perm)
        if tensor.data is None:
            return self.transpose(self.x(k), order)
        if tensor.data.ndim != len(order):
            raise self.error("the rank of the weights is wrong", expected=str(len(order)), got=str(tensor.data.ndim))
        name = self.emitter.constant(tensor.name, np.ascontiguousarray(tensor.data.transpose(order)))
        return self.values.dequantized(name, tensor, order.index(tensor.axis)) if tensor.quantized else name

    def shape(self, value: str) -> tuple[Dim, ...]:
        return self.emitter.type(value).shape or ()

    def rank(self, value: str) -> int:
        return self.emitter.rank(value)

    # ---- options

    def option(self, field: int, default: int = 0, form: str = "i") -> Any:
        """A field of the options; a number of the format of `struct`."""
        options = self.node_of_file.options
        return default if options is None else options.number(field, form, default)

    def flag(self, field: int) -> bool:
        return bool(self.option(field, form="B"))

    # ---- nodes

    def nodes(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        return self.emitter.nodes(f"{self.stem}/{op.lower()}", op, inputs, count, attributes)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes(op, inputs, 1, **attributes)[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        return self.emitter.constant(f"{self.stem}/constant", np.asarray(array, dtype))

    def ints(self, values: Any) -> str:
        return self.constant(values, np.int64)

    def cast(self, value: str, dtype: Any) -> str:
        same = self.emitter.type(value).dtype == dtype
        return value if same else self.node("Cast", value, to=code_of(np.dtype(dtype)))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Transpose; where that undoes one, what was transposed."""
        made = self.emitter.producer(x)
        if made is not None and made.op == "Transpose" and [order[k] for k in made.attributes["perm"]] == sorted(order):
            return made.inputs[0]
        return self.node("Transpose", x, perm=list(order))

    def first(self, x: str) -> str:
        """Images [N, H, W, C] with the channels first."""
        if self.rank(x) != 4:
            raise self.error("not images", expected="4 dimensions", got=str(self.emitter.type(x)))
        return self.transpose(x, [0, 3, 1, 2])

    def last(self, x: str) -> str:
        return self.transpose(x, [0, 2, 3, 1])

    def activated(self, x: str, field: int) -> str:
        """The activation that is fused into the operator, by the field of its number."""
        number = self.option(field, form="b")
        if number not in range(5):
            raise UnsupportedError("an activation that is not known", where=self.where, got=str(number))
        return self.activate(x, ("", "RELU", "RELU_N1_TO_1", "RELU6", "TANH")[number])

    def activate(self, x: str, name: str) -> str:
        if name in ("RELU", "TANH"):
            return self.node({"RELU": "Relu", "TANH": "Tanh"}[name], x)
        bounds = {"RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6), "RELU_0_TO_1": (0, 1)}.get(name)
        return self.node("Clip", x, *(self.constant(b) for b in bounds)) if bounds else x

    # ---- refusals

    @property
    def where(self) -> str:
        return f"{self.kind} -> {self.stem!r}"

    def error(self, message: str, **fields: str) -> FileError:
        return FileError(message, where=self.where, **fields)
