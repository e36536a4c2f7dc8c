"""Layers on sequences: recurrent cells that run through time, in one direction or both, and embeddings."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from ..errors import suggest
from ..graph import Array
from .cells import CELL_ACTIVATIONS, GATES, Cell, outputs_of, recur, states_of
from .layer import Layer, Scope, Sizes, Weights, integer

__all__ = ["GRU", "LSTM", "Bidirectional", "Embedding", "SimpleRNN"]

_MERGES = ("concat", "sum", "ave", "mul")


@dataclass(eq=False, repr=False)
class _Recurrent(Layer):
    cell: ClassVar[str] = ""
    units: int
    activation: str = "tanh"

    def check(self) -> None:
        self.units = integer(self, "units", self.units)
        for key in ("activation", "recurrent_activation"):
            name = getattr(self, key, "tanh")
            if name not in CELL_ACTIVATIONS:
                hint = suggest(str(name), CELL_ACTIVATIONS)
                raise self.error(key, f"one of {', '.join(CELL_ACTIVATIONS)}", name, hint)

    @property
    def after(self) -> bool:
        """Whether there is a second bias, for the product with the recurrent kernel."""
        return False

    @property
    def sequences(self) -> bool:
        return bool(getattr(self, "return_sequences", False))

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        (sizes,) = inputs
        if len(sizes) != 2 or sizes[1] is None:
            raise self.mismatch("not sequences", "(N, time, size) with a known size", sizes)
        width = GATES[self.cell] * self.units
        weights: Weights = {"kernel": (sizes[1], width), "recurrent_kernel": (self.units, width)}
        if getattr(self, "use_bias", True):
            weights["bias"] = (2, width) if self.after else (width,)
        return ((sizes[0], self.units) if self.sequences else (self.units,)), weights

    def run(self, scope: Scope, x: str, weights: dict[str, Array], reverse: bool, stem: str = "") -> str:
        """Emit the cell: all outputs in the order of time, or the last."""
        gates = [getattr(self, "recurrent_activation")] if self.cell != "rnn" else []  # noqa: B009 - rnn has none
        cell = Cell(self.cell, self.units, [*gates, self.activation], weights, self.after)
        made = recur(scope, cell, x, reverse=reverse, stem=stem)
        return outputs_of(scope, made) if self.sequences else states_of(scope, made[:2])[0]

    def emit(self, scope: Scope, *inputs: str) -> str:
        backwards = bool(getattr(self, "go_backwards", False))
        y = self.run(scope, inputs[0], dict(scope.weights), backwards)
        return turned(scope, y) if backwards and self.sequences else y


def turned(scope: Scope, x: str) -> str:
    """The steps from the last to the first."""
    ends = {"start": -1, "end": np.iinfo(np.int64).min, "axis": 1, "step": -1}
    return scope.node("Slice", [x, *(scope.constant(k, np.array([v], np.int64)) for k, v in ends.items())])


@dataclass(eq=False, repr=False)
class SimpleRNN(_Recurrent):
    """`h = activation(x @ kernel + h @ recurrent_kernel + bias)`. Weights: kernel, recurrent_kernel, bias."""

    kind = "simple_rnn"
    cell: ClassVar[str] = "rnn"
    use_bias: bool = True
    _: KW_ONLY
    return_sequences: bool = False
    go_backwards: bool = False


@dataclass(eq=False, repr=False)
class LSTM(_Recurrent):
    """Long short-term memory. Weights: kernel [in, 4 units], recurrent_kernel, bias; gates in the order i f c o.

    Layers of Keras 2 whose recurrent activation was "hard_sigmoid" need "hard_sigmoid_keras2": the slope was 0.2.
    """

    kind = "lstm"
    cell: ClassVar[str] = "lstm"
    recurrent_activation: str = "sigmoid"
    use_bias: bool = True
    _: KW_ONLY
    return_sequences: bool = False
    go_backwards: bool = False


@dataclass(eq=False, repr=False)
class GRU(_Recurrent):
    """Gated recurrent unit. Weights: kernel [in, 3 units], recurrent_kernel, bias; gates in the order z r h.

    With `reset_after` the reset gate acts after the product with the recurrent kernel, and bias is [2, 3 units].
    """

    kind = "gru"
    cell: ClassVar[str] = "gru"
    recurrent_activation: str = "sigmoid"
    use_bias: bool = True
    _: KW_ONLY
    return_sequences: bool = False
    go_backwards: bool = False
    reset_after: bool = True

    @property
    def after(self) -> bool:
        return self.reset_after


@dataclass(eq=False, repr=False)
class Bidirectional(Layer):
    """A recurrent layer in both directions. Weights: forward_kernel, ..., backward_kernel, ..."""

    kind = "bidirectional"
    layer: _Recurrent
    merge_mode: str = "concat"

    def check(self) -> None:
        if not isinstance(self.layer, _Recurrent):
            raise self.error("layer", "SimpleRNN, LSTM or GRU", self.layer)
        if self.merge_mode not in _MERGES:
            raise self.error("merge_mode", f"one of {', '.join(_MERGES)}", self.merge_mode)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        sizes, weights = self.layer.build(*inputs)
        both = {f"{way}_{k}": shape for way in ("forward", "backward") for k, shape in weights.items()}
        return (*sizes[:-1], self.layer.units * (2 if self.merge_mode == "concat" else 1)), both

    def emit(self, scope: Scope, *inputs: str) -> str:
        made = []
        for way in ("forward", "backward"):
            own = {k.removeprefix(f"{way}_"): v for k, v in scope.weights.items() if k.startswith(way)}
            made.append(self.layer.run(scope, inputs[0], own, way == "backward", f"{way}_"))
        if self.merge_mode == "concat":
            return scope.node("Concat", made, axis=-1)
        y = scope.node("Mul" if self.merge_mode == "mul" else "Add", made)
        return (
            y if self.merge_mode != "ave" else scope.node("Mul", [y, scope.constant("half", np.array(0.5, np.float32))])
        )


@dataclass(eq=False, repr=False)
class Embedding(Layer):
    """Rows of a table by their numbers, which are given as float32. Weights: embeddings [input_dim, output_dim]."""

    kind = "embedding"
    input_dim: int
    output_dim: int

    def check(self) -> None:
        self.input_dim = integer(self, "input_dim", self.input_dim)
        self.output_dim = integer(self, "output_dim", self.output_dim)

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        return (*inputs[0], self.output_dim), {"embeddings": (self.input_dim, self.output_dim)}

    def emit(self, scope: Scope, *inputs: str) -> str:
        from ..dtypes import code_of

        index = scope.node("Cast", inputs, to=code_of(np.dtype(np.int32)))
        return scope.node("Gather", [scope.constant("embeddings", scope.weights["embeddings"]), index], axis=0)
