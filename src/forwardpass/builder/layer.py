"""What a layer is: a call on symbolic tensors that knows its sizes and weights, and emits ONNX nodes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ..errors import GraphError, InputError
from ..graph import Array, Dim, Graph, Node

__all__ = ["BATCH", "Input", "InputLayer", "Layer", "Scope", "Sizes", "Tensor", "Weights", "integer", "pair"]

BATCH = "N"
"""The name of the batch dimension."""

Sizes = tuple[int | None, ...]
"""Shape without the batch dimension; None is unknown until a call."""

Weights = dict[str, tuple[int, ...]]
"""Weight -> shape, in Keras order and layout."""

_created = itertools.count()


class Tensor:
    """The symbolic result of calling a layer.

    Attributes
    ----------
    layer, inputs
        What made it, from what.
    shape
        With the batch dimension: "N" where it is free.
    """

    __slots__ = ("batch", "inputs", "layer", "sizes")

    def __init__(self, layer: Layer, inputs: Sequence[Tensor], sizes: Sizes, batch: Dim) -> None:
        self.layer, self.inputs, self.sizes, self.batch = layer, tuple(inputs), sizes, batch

    @property
    def shape(self) -> tuple[Dim, ...]:
        return (self.batch, *self.sizes)

    def __repr__(self) -> str:
        return f"<Tensor {shape_text(self.shape)} of {self.layer!r}>"


def shape_text(shape: Sequence[Dim]) -> str:
    """A shape as people write it: `(N, 32, ?)`."""
    inner = ", ".join("?" if d is None else str(d) for d in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


@dataclass(eq=False, repr=False, kw_only=True)
class Layer:
    """The base of all layers.

    Parameters
    ----------
    name
        Stem of its weights' names and name of its output; by default its kind, numbered within the network.
    input_shape
        For the first layer of a `Sequential` without `Input`: the shape of an input, without the batch.
    """

    kind: ClassVar[str] = "layer"
    several: ClassVar[bool] = False
    name: str | None = None
    input_shape: Sequence[int | None] | None = None
    weights: Weights | None = field(default=None, init=False)
    """None until the layer is called."""
    created: int = field(default_factory=lambda: next(_created), init=False)

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise self.error("name", "text", self.name)
        self.check()

    def check(self) -> None:
        """Check and normalise the arguments."""

    def build(self, *inputs: Sizes) -> tuple[Sizes, Weights]:
        """Sizes of the output, and the weights that the layer needs for such inputs."""
        raise NotImplementedError

    def emit(self, scope: Scope, *inputs: str) -> str:
        """Append nodes to the scope's graph; return the value that is the output."""
        raise NotImplementedError

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Apply the layer to a tensor, or a merging layer to a list. A second call shares the weights.

        Raises
        ------
        InputError
            Not tensors of the builder.
        GraphError
            Their shapes do not fit the layer.
        """
        tensors = [inputs] if isinstance(inputs, Tensor) else inputs
        if not isinstance(tensors, Sequence) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
            hint = "begin with Input(shape)"
            kind = type(inputs).__name__
            message = "not a tensor of the builder"
            raise InputError(message, where=self.label, expected="Tensor", got=kind, hint=hint)
        if self.several != (not isinstance(inputs, Tensor)):
            expected = "a list of tensors" if self.several else "one tensor"
            raise InputError("wrong inputs", where=self.label, expected=expected, got=f"{len(tensors)}")
        sizes, weights = self.build(*(t.sizes for t in tensors))
        if self.weights is not None and self.weights != weights:
            message = "the layer is shared, and needs other weights here"
            raise GraphError(message, where=self.label, expected=str(self.weights), got=str(weights))
        self.weights = weights
        batches = sorted({t.batch for t in tensors if t.batch != BATCH}, key=str)
        if len(batches) > 1:
            got = " and ".join(map(str, batches))
            raise GraphError("the inputs have different batch sizes", where=self.label, got=got)
        return Tensor(self, tensors, sizes, batches[0] if batches else BATCH)

    @property
    def label(self) -> str:
        """How messages name the layer."""
        return f"layer {self.name!r} ({type(self).__name__})" if self.name else f"layer {self!r}"

    def error(self, argument: str, expected: str, got: object, hint: str = "") -> InputError:
        kind = type(self).__name__
        where = f"layer {self.name!r} ({kind})" if isinstance(self.name, str) else kind
        return InputError(f"argument {argument!r} is wrong", where=where, expected=expected, got=repr(got), hint=hint)

    def mismatch(self, message: str, expected: str, *got: Sizes) -> GraphError:
        shapes = " and ".join(shape_text((BATCH, *g)) for g in got)
        return GraphError(message, where=self.label, expected=expected, got=shapes)

    def __repr__(self) -> str:
        given = {f: getattr(self, f.name) for f in fields(self) if f.init}
        shown = [repr(v) for f, v in given.items() if f.default is MISSING]
        shown += [f"{f.name}={v!r}" for f, v in given.items() if f.default is not MISSING and v != f.default]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(eq=False, repr=False)
class InputLayer(Layer):
    """Where a value enters the network; made by `Input`."""

    kind = "input_layer"
    shape: Sequence[int | None]
    batch_size: int | None = None

    def check(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise self.error("shape", "sizes without the batch, such as (32, 32, 3)", self.shape)
        self.shape = tuple(None if d is None else integer(self, "shape", d) for d in shape)
        if self.batch_size is not None:
            self.batch_size = integer(self, "batch_size", self.batch_size)


def Input(  # noqa: N802 - a layer to its users
    shape: Sequence[int | None] | int, batch_size: int | None = None, *, name: str | None = None
) -> Tensor:
    """An input of the network.

    Parameters
    ----------
    shape
        Sizes without the batch dimension; None is unknown until a call.
    batch_size
        None leaves the batch to the call.
    name
        The name that calls use; by default input_layer, input_layer_1, ...

    Returns
    -------
    Tensor
        To call layers on. Its values are float32.
    """
    layer = InputLayer(shape, batch_size, name=name)  # type: ignore[arg-type]
    layer.weights = {}
    return Tensor(layer, (), tuple(layer.shape), BATCH if layer.batch_size is None else layer.batch_size)


def integer(layer: Layer, argument: str, value: Any, least: int = 1) -> int:
    """The value as an int, or an error that names the layer and the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise layer.error(argument, f"an integer >= {least}", value)
    return int(value)


def pair(layer: Layer, argument: str, value: Any, least: int = 1) -> tuple[int, int]:
    """One integer for both spatial dimensions, or two."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(values) != 2:
        raise layer.error(argument, "an integer or two", value)
    return integer(layer, argument, values[0], least), integer(layer, argument, values[1], least)


class Scope:
    """What a layer emits into: the graph, the layer's name in the network, and its weights.

    Parameters
    ----------
    graph
        Grows by the layer's nodes and constants.
    name
        The layer's name.
    sizes
        Those of the inputs of this call.
    weights
        The layer's own: `kernel`, `bias`, ...
    """

    def __init__(self, graph: Graph, name: str, sizes: Sequence[Sizes], weights: Mapping[str, Array]) -> None:
        self.graph, self.name, self.sizes, self.weights = graph, name, tuple(sizes), weights

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the value that it defines."""
        value = self.graph.fresh(f"{self.name}/{op.lower()}")
        self.graph.nodes.append(Node(op, list(inputs), [value], attributes, name=value))
        return value

    def nodes(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Append a node with several outputs and return the values that it defines."""
        values = [self.graph.fresh(f"{self.name}/{op.lower()}_{k}") for k in range(count)]
        self.graph.nodes.append(Node(op, list(inputs), values, attributes, name=values[0]))
        return values

    def producer(self, value: str) -> Node | None:
        """The node that defines a value; None for an input of the network."""
        return next((n for n in reversed(self.graph.nodes) if value in n.outputs), None)

    def constant(self, stem: str, value: Array) -> str:
        """A constant of the layer. Calls of a shared layer share it."""
        name = f"{self.name}/{stem}"
        self.graph.constants.setdefault(name, np.ascontiguousarray(value).reshape(value.shape))
        return name
