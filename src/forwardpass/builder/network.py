"""Layers that are connected: names, weights, and the graph that they emit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GraphError, InputError
from ..graph import Array, Graph, Node, TensorType
from .layer import Input, InputLayer, Layer, Scope, Tensor, Weights, shape_text
from .pytorch import from_pytorch, is_pytorch
from .weights import Source, fit, glorot

if TYPE_CHECKING:
    from ..run import Model

__all__ = ["Network", "Sequential"]


class Network:
    """The layers between some inputs and outputs.

    Parameters
    ----------
    inputs
        One tensor made by `Input`, or several.
    outputs
        One tensor, or several.
    name
        The name of the graph.

    Raises
    ------
    InputError
        Not tensors of the builder.
    GraphError
        The outputs depend on an input that is not listed, or two layers have one name.
    """

    def __init__(
        self, inputs: Tensor | Sequence[Tensor], outputs: Tensor | Sequence[Tensor], name: str = "functional"
    ) -> None:
        self.name = name
        self._given: dict[str, Array] | None = None
        self._connect(self._tensors(inputs, "inputs"), self._tensors(outputs, "outputs"))

    def _tensors(self, value: Any, what: str) -> list[Tensor]:
        tensors = [value] if isinstance(value, Tensor) else value
        if not isinstance(tensors, Sequence) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
            expected = "a tensor of the builder, or a list of them"
            raise InputError(f"wrong {what}", where=self.label, expected=expected, got=type(value).__name__)
        return list(tensors)

    @property
    def label(self) -> str:
        """How messages name the network."""
        return f"network {self.name!r}"

    def _connect(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for t in inputs:
            if not isinstance(t.layer, InputLayer):
                raise InputError("not an input", where=self.label, expected="Input(shape)", got=repr(t))
        self.inputs, self.outputs = inputs, outputs
        self._order = _topological([*inputs, *outputs])
        for t in self._order:
            if isinstance(t.layer, InputLayer) and t not in inputs:
                message = f"the outputs depend on {t!r}, which is not an input of the network"
                raise GraphError(message, where=self.label)
        layers = list({id(t.layer): t.layer for t in self._order}.values())
        self._names = _name(layers, self.label)

    @property
    def layers(self) -> dict[str, Layer]:
        """Name -> layer, in the order in which they run."""
        return {self._names[id(t.layer)]: t.layer for t in self._order}

    @property
    def weights(self) -> Weights:
        """Name -> shape of every weight, in order, in Keras layout."""
        return {f"{k}/{w}": shape for k, layer in self.layers.items() for w, shape in (layer.weights or {}).items()}

    def set_weights(self, source: Source, names: Mapping[str, str] | None = None) -> Network:
        """Give the network its weights.

        Parameters
        ----------
        source
            A mapping from the names in `weights` to arrays, a list of arrays in that order, or the path of a
            file: made with `numpy.savez(path, **mapping)`, or by Keras (`.weights.h5`, `.h5`, `.keras`), whose
            layers are found by name, else by their order; or by PyTorch (`.pth`, `.pt`, `.bin`, `.safetensors`), whose
            modules are found likewise, and whose layouts are turned into those of Keras. A mapping may have PyTorch's
            names too. Values become float32.
        names
            For weights of PyTorch: name of a layer -> name of a module.

        Returns
        -------
        Network
            Itself.

        Raises
        ------
        InputError
            Listing all weights that are missing, not known or of another shape.
        FileError
            The file cannot be read or is damaged.
        """
        self._given = fit(self.weights, self._from_pytorch(self._from_keras(source), names), self.label)
        return self

    def _from_pytorch(self, source: Source, names: Mapping[str, str] | None) -> Source:
        """The weights by our names where the source has those of PyTorch, else the source."""
        where = self.label
        if isinstance(source, (str, os.PathLike)):
            if names is None and os.fsdecode(source).lower().endswith(".npz"):
                return source
            from ..formats import read_weights

            where = f"{where}: {os.fsdecode(source)}"
            source = read_weights(source)
        if not isinstance(source, Mapping) or source.keys() == self.weights.keys():
            return source
        if names is None and not is_pytorch([str(k) for k in source]):
            return source
        return from_pytorch(self.layers, self._order, source, names, where)

    def _from_keras(self, source: Source) -> Source:
        """The weights by name where the source is a file of Keras, else the source."""
        if not isinstance(source, (str, os.PathLike)):
            return source
        if os.fsdecode(source).lower().endswith((".h5", ".hdf5", ".keras")):
            from ..formats.keras import read_weights

            return read_weights(source, self.layers, self.label)
        return source

    def get_weights(self) -> dict[str, Array]:
        """Name -> array of every weight.

        Raises
        ------
        InputError
            They are not set.
        """
        specs = self.weights
        if specs and (self._given is None or self._given.keys() != specs.keys()):
            hint = "call set_weights(mapping or path), or init(seed) for random ones"
            raise InputError("the network has no weights yet", where=self.label, hint=hint)
        return dict(self._given or {})

    def init(self, seed: int | None = None) -> Network:
        """Give the network random weights (Glorot uniform kernels, biases of zero), and return it."""
        self._given = glorot(self.weights, seed)
        return self

    def graph(self) -> Graph:
        """The network as ONNX operators. Every layer's output is the value with the layer's name.

        Raises
        ------
        InputError
            The weights are not set.
        """
        given = self.get_weights()
        values: dict[int, str] = {id(t): self._names[id(t.layer)] for t in self.inputs}
        types = {values[id(t)]: TensorType(np.dtype(np.float32), t.shape) for t in self.inputs}
        graph = Graph(types, [], name=self.name)
        for t in self._order:
            if id(t) not in values:
                values[id(t)] = self._emit(graph, t, [values[id(i)] for i in t.inputs], given)
        for t in self.outputs:
            value = values[id(t)]
            if value in graph.inputs or value in graph.outputs:
                value, source = graph.fresh(f"{value}_output"), value
                graph.nodes.append(Node("Identity", [source], [value], name=value))
            graph.outputs.append(value)
        graph.verify()
        return graph

    def _emit(self, graph: Graph, t: Tensor, inputs: list[str], given: dict[str, Array]) -> str:
        name = self._names[id(t.layer)]
        own = {w: given[f"{name}/{w}"] for w in t.layer.weights or {}}
        result = t.layer.emit(Scope(graph, name, [i.sizes for i in t.inputs], own), *inputs)
        value = graph.fresh(name)
        if result in inputs:
            graph.nodes.append(Node("Identity", [result], [value], name=value))
        else:
            graph.nodes[-1].outputs = [value]
        return value

    def model(self, *, threads: int | None = None, precision: str = "float32") -> Model:
        """The network ready to run.

        Parameters
        ----------
        threads, precision
            As for `forwardpass.load`.
        """
        from ..run import Model

        return Model(self.graph(), threads=threads, precision=precision)

    def summary(self) -> str:
        """A table of the layers: name, kind, output shape, weights, and inputs where it is not a chain."""
        uses = [id(i) for t in self._order for i in t.inputs]
        chain = all(len(t.inputs) < 2 for t in self._order) and len(set(uses)) == len(uses)
        rows = [["Layer", "Output shape", "Weights"] + ["Inputs"] * (not chain)]
        counted: set[int] = set()
        for t in self._order:
            count = 0 if id(t.layer) in counted else sum(map(math.prod, (t.layer.weights or {}).values()))
            counted.add(id(t.layer))
            row = [
                f"{self._names[id(t.layer)]} ({type(t.layer).__name__})",
                shape_text(t.shape),
                f"{count:,}",
            ]
            rows.append(row + [", ".join(self._names[id(i.layer)] for i in t.inputs)] * (not chain))
        total = sum(map(math.prod, self.weights.values()))
        return f"{self.label}\n{_table(rows)}\n{total:,} weights, {total * 4:,} bytes"

    def __repr__(self) -> str:
        return self.summary()


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if k == 2 else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _topological(ends: Iterable[Tensor]) -> list[Tensor]:
    """All tensors that the given ones come from, each after those it is made from, without recursion."""
    order: list[Tensor] = []
    done: set[int] = set()
    stack = [(t, False) for t in reversed(list(ends))]
    while stack:
        t, ready = stack.pop()
        if id(t) in done:
            continue
        if ready:
            done.add(id(t))
            order.append(t)
        else:
            stack.append((t, True))
            stack.extend((i, False) for i in reversed(t.inputs))
    return order


def _name(layers: list[Layer], where: str) -> dict[int, str]:
    """id of a layer -> its name: the one given, else its kind, numbered in order of creation like Keras."""
    names: dict[int, str] = {}
    for layer in layers:
        if layer.name is not None:
            if layer.name in names.values():
                raise GraphError(f"two layers have the name {layer.name!r}", where=where)
            names[id(layer)] = layer.name
    taken = set(names.values())
    for layer in sorted(layers, key=lambda layer: layer.created):
        if layer.name is None:
            name, k = layer.kind, 0
            while name in taken:
                k += 1
                name = f"{layer.kind}_{k}"
            taken.add(name)
            names[id(layer)] = name
    return names


class Sequential(Network):
    """Layers one after the other.

    Parameters
    ----------
    layers
        The first is `Input(shape)`, or a layer with `input_shape`.
    name
        The name of the graph.

    Raises
    ------
    InputError, GraphError
        As `add`.
    """

    def __init__(self, layers: Iterable[Layer | Tensor] = (), name: str = "sequential") -> None:
        self.name = name
        self._given = None
        self.inputs, self.outputs, self._order, self._names = [], [], [], {}
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer | Tensor) -> None:
        """Append a layer; its weights have to be set anew.

        Raises
        ------
        InputError
            Not a layer, or one that takes several inputs.
        GraphError
            The layer does not fit the one before, or the first does not say the shape of its input.
        """
        if isinstance(layer, Tensor):
            if self.outputs or not isinstance(layer.layer, InputLayer):
                raise InputError("wrong layer", where=self.label, expected="Input(shape) as the first alone")
            self._connect([layer], [layer])
            return
        if not isinstance(layer, Layer):
            hint = "write Flatten(), not Flatten" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            expected, got = "a layer", repr(layer)
            raise InputError("not a layer", where=self.label, expected=expected, got=got, hint=hint)
        if not self.outputs:
            if layer.input_shape is None:
                hint = "begin with Input((sizes without the batch,))"
                raise GraphError("the shape of the input is not known", where=layer.label, hint=hint)
            x = Input(layer.input_shape)
            self._connect([x], [layer(x)])
        else:
            self._connect(self.inputs, [layer(self.outputs[0])])

    def graph(self) -> Graph:
        """As `Network.graph`."""
        if not self.outputs:
            raise GraphError("the network has no layers", where=self.label)
        return super().graph()
