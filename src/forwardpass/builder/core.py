"""Layers that know nothing of images: dense, activations, shapes, merging."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import suggest
from .layer import Layer, Scope, Sizes, Weights, integer

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Add",
    "Concatenate",
    "Dense",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Multiply",
    "ReLU",
    "Reshape",
    "Softmax",
    "activate",
    "check_activation",
]


def _op(op: str, **attributes: Any) -> Callable[[Scope, str], str]:
    return lambda scope, x: scope.node(op, [x], **attributes)


def _clip(scope: Scope, x: str, low: float | None, high: float | None) -> str:
    bounds = [
        "" if v is None else scope.constant(stem, np.array(v, np.float32)) for stem, v in (("min", low), ("max", high))
    ]
    return scope.node("Clip", [x, *bounds])


# Meanings and default slopes are those of keras.activations in Keras 3.
ACTIVATIONS: dict[str, Callable[[Scope, str], str]] = {
    "linear": lambda scope, x: x,
    "relu": _op("Relu"),
    "relu6": lambda scope, x: _clip(scope, x, 0.0, 6.0),
    "leaky_relu": _op("LeakyRelu", alpha=0.2),
    "elu": _op("Elu", alpha=1.0),
    "selu": _op("Selu"),
    "celu": _op("Celu", alpha=1.0),
    "gelu": _op("Gelu", approximate="none"),
    "silu": _op("Swish", alpha=1.0),
    "swish": _op("Swish", alpha=1.0),
    "mish": _op("Mish"),
    "softplus": _op("Softplus"),
    "softsign": _op("Softsign"),
    "sigmoid": _op("Sigmoid"),
    "hard_sigmoid": _op("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "hard_silu": _op("HardSwish"),
    "hard_swish": _op("HardSwish"),
    "tanh": _op("Tanh"),
    "exponential": _op("Exp"),
    "softmax": _op("Softmax", axis=-1),
    "log_softmax": _op("LogSoftmax", axis=-1),
}
"""Keras name -> how to emit it."""


def check_activation(layer: Layer, name: str | None) -> None:
    """Raise InputError, with the nearest names, where there is no such activation."""
    if name is not None and name not in ACTIVATIONS:
        raise layer.error("activation", f"one of {', '.join(ACTIVATIONS)}", name, suggest(str(name), ACTIVATIONS))


def activate(scope: Scope, x: str, name: str | None) -> str:
    """Emit the activation with this Keras name; None is "linear"."""
    return ACTIVATIONS[name or "linear"](scope, x)


def _axis(layer: Layer, axis: int, rank: int) -> int:
    """The axis of a shape with the batch dimension, counted from 0."""
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank < axis < rank or axis % rank == 0:
        raise layer.error("axis", f"1 to {rank - 1}, or -{rank - 1} to -1", axis)
    return axis % rank


@dataclass(eq=False, repr=False)
class Dense(Layer):
    """`activation(x @ kernel + bias)` over the last dimension. Weights: kernel [in, units], bias [units]."""

    kind = "dense"
    units: int
    activation: str | None = None
    use_bias: bool = True

    def check(self) -> None:
        self.units = integer(self, "units", self.units)
        check_activation(self, self.activation)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        (sizes,) = inputs
        if not sizes or sizes[-1] is None:
            raise self.mismatch("the last dimension must be known", "(N, ..., size)", sizes)
        bias = {"bias": (self.units,)} if self.use_bias else {}
        return (*sizes[:-1], self.units), {"kernel": (sizes[-1], self.units), **bias}

    def emit(self, scope: Scope, *inputs: str) -> str:
        names = ("kernel", "bias") if self.use_bias else ("kernel",)
        kernel, *bias = (scope.constant(name, scope.weights[name]) for name in names)
        if bias and len(scope.sizes[0]) == 1:  # of matrices alone ONNX has one operator for both
            y = scope.node("Gemm", [*inputs, kernel, *bias])
        else:
            y = scope.node("MatMul", [*inputs, kernel])
            y = scope.node("Add", [y, *bias]) if bias else y
        return activate(scope, y, self.activation)


class _Same(Layer):
    """A layer without weights whose output has the shape of its input."""

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        return inputs[0], {}


@dataclass(eq=False, repr=False)
class Activation(_Same):
    """One of `ACTIVATIONS` by its Keras name."""

    kind = "activation"
    activation: str

    def check(self) -> None:
        check_activation(self, self.activation)

    def emit(self, scope: Scope, *inputs: str) -> str:
        return activate(scope, inputs[0], self.activation)


@dataclass(eq=False, repr=False)
class ReLU(_Same):
    """`min(max_value, x if x >= 0 else negative_slope * x)`."""

    kind = "re_lu"
    max_value: float | None = None
    negative_slope: float = 0.0

    def check(self) -> None:
        if self.max_value is not None and not self.max_value >= 0:
            raise self.error("max_value", "None or a number >= 0", self.max_value)
        if not self.negative_slope >= 0:
            raise self.error("negative_slope", "a number >= 0", self.negative_slope)

    def emit(self, scope: Scope, *inputs: str) -> str:
        (x,) = inputs
        if self.negative_slope:
            x = scope.node("LeakyRelu", [x], alpha=float(self.negative_slope))
            return x if self.max_value is None else _clip(scope, x, None, self.max_value)
        return scope.node("Relu", [x]) if self.max_value is None else _clip(scope, x, 0.0, self.max_value)


@dataclass(eq=False, repr=False)
class LeakyReLU(_Same):
    """`x if x >= 0 else negative_slope * x`."""

    kind = "leaky_re_lu"
    negative_slope: float = 0.3

    def emit(self, scope: Scope, *inputs: str) -> str:
        return scope.node("LeakyRelu", inputs, alpha=float(self.negative_slope))


@dataclass(eq=False, repr=False)
class Softmax(_Same):
    """Softmax over one axis, counted with the batch dimension."""

    kind = "softmax"
    axis: int = -1

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        _axis(self, self.axis, len(inputs[0]) + 1)
        return inputs[0], {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        return scope.node("Softmax", inputs, axis=self.axis)


@dataclass(eq=False, repr=False)
class Dropout(_Same):
    """Nothing: dropout acts in training only."""

    kind = "dropout"
    rate: float

    def check(self) -> None:
        if not 0 <= self.rate <= 1:
            raise self.error("rate", "a number from 0 to 1", self.rate)

    def emit(self, scope: Scope, *inputs: str) -> str:
        return inputs[0]


@dataclass(eq=False, repr=False)
class Flatten(Layer):
    """All dimensions but the batch become one."""

    kind = "flatten"

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        return (_product(inputs[0]),), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        return scope.node("Flatten", inputs, axis=1)


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else math.prod(d for d in sizes if d is not None)


@dataclass(eq=False, repr=False)
class Reshape(Layer):
    """Another shape of the same values; the batch stays. One size may be -1: what is left over."""

    kind = "reshape"
    target_shape: Sequence[int]

    def check(self) -> None:
        target = (self.target_shape,) if isinstance(self.target_shape, int) else tuple(self.target_shape)
        self.target_shape = tuple(integer(self, "target_shape", d, -1) for d in target)
        if self.target_shape.count(-1) > 1 or 0 in self.target_shape:
            raise self.error("target_shape", "sizes >= 1, and at most one -1", self.target_shape)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        total = _product(inputs[0])
        known = math.prod(d for d in self.target_shape if d != -1)
        free = -1 in self.target_shape
        if total is not None and (total % known if free else total != known):
            expected = f"{'a multiple of ' if free else ''}{known} values"
            raise self.mismatch("the sizes do not fit", expected, inputs[0])
        rest = None if total is None else total // known
        return tuple(rest if d == -1 else d for d in self.target_shape), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        # 0 copies the batch size, which works for an empty batch too; -1 would not.
        shape = scope.constant("shape", np.array([0, *self.target_shape], np.int64))
        return scope.node("Reshape", [*inputs, shape])


@dataclass(eq=False, repr=False)
class _Merge(Layer):
    """An operator over a list of tensors of equal rank, whose dimensions of size 1 are broadcast."""

    several = True
    op = ""

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        if len({len(sizes) for sizes in inputs}) > 1:
            raise self.mismatch("the inputs have different ranks", "equal ranks", *inputs)
        merged: list[int | None] = []
        for dims in zip(*inputs):
            known = {d for d in dims if d not in (1, None)}
            if len(known) > 1:
                raise self.mismatch("the inputs do not broadcast", "equal sizes, or 1", *inputs)
            merged.append(known.pop() if known else None if None in dims else 1)
        return tuple(merged), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        y = inputs[0]
        for x in inputs[1:]:
            y = scope.node(self.op, [y, x])
        return y


class Add(_Merge):
    """The sum of a list of tensors."""

    kind, op = "add", "Add"


class Multiply(_Merge):
    """The product of a list of tensors."""

    kind, op = "multiply", "Mul"


@dataclass(eq=False, repr=False)
class Concatenate(Layer):
    """A list of tensors one after the other along an axis, counted with the batch dimension."""

    kind = "concatenate"
    several = True
    axis: int = -1

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        axis = _axis(self, self.axis, len(inputs[0]) + 1) - 1
        if len({len(sizes) for sizes in inputs}) > 1:
            raise self.mismatch("the inputs have different ranks", "equal ranks", *inputs)
        merged: list[int | None] = []
        for k, dims in enumerate(zip(*inputs)):
            known = {d for d in dims if d is not None}
            if k == axis:
                merged.append(None if None in dims else sum(d for d in dims if d is not None))
            elif len(known) > 1:
                raise self.mismatch(f"the inputs differ on axis {k + 1}", "equal sizes", *inputs)
            else:
                merged.append(known.pop() if known else None)
        return tuple(merged), {}

    def emit(self, scope: Scope, *inputs: str) -> str:
        return scope.node("Concat", inputs, axis=self.axis)
