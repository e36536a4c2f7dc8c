"""forwardpass, called: `y = model(x)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from network import Array, Conv, Dense, Depthwise, Flatten, Layer, MaxPool, Network

from . import Options, Ready

TAKES_ISA = True


def version() -> str:
    import forwardpass

    return forwardpass.__version__


def setup(network: Network, x: Array, options: Options) -> Ready:
    model = make_model(network, x, options)
    return Ready(model, (x,), np.asarray, details(model, x))


def make_model(network: Network, x: Array, options: Options) -> Any:
    """The network through the builder, or from its own file where it has one."""
    from forwardpass.formats import load_graph
    from forwardpass.run import Model

    graph = load_graph(network.model_file) if network.model_file else _build(network, x)
    return Model(graph, threads=options.threads, precision=options.precision, isa=options.isa)


def details(model: Any, x: Array) -> dict[str, Any]:
    """The ISA in use, and the nodes without a native kernel: such a time would mean nothing."""
    from forwardpass import explain

    (name,) = model.inputs
    return {"isa": model.settings.isa, "fallbacks": explain(model, {name: x.shape}).fallbacks}


def _build(network: Network, x: Array) -> Any:
    from forwardpass.builder import Input, Sequential

    net = Sequential([Input(x.shape[1:]), *map(_layer, network.layers)], name=network.name)
    return net.set_weights([_weight(layer, w) for layer in network.layers for w in _weights(layer)])


def _layer(layer: Layer) -> Any:
    from forwardpass import builder

    if isinstance(layer, Flatten):
        return builder.Flatten()
    if isinstance(layer, MaxPool):
        return builder.MaxPool2D(layer.size)
    activation = layer.activation or None
    if isinstance(layer, Dense):
        return builder.Dense(layer.kernel.shape[1], activation, use_bias=layer.bias is not None)
    size = layer.kernel.shape[:2]
    if isinstance(layer, Conv):
        return builder.Conv2D(layer.kernel.shape[3], size, padding=layer.padding, activation=activation)
    return builder.DepthwiseConv2D(size, padding=layer.padding, activation=activation)


def _weights(layer: Layer) -> list[Array]:
    if isinstance(layer, Flatten | MaxPool):
        return []
    return [w for w in (layer.kernel, layer.bias) if w is not None]


def _weight(layer: Layer, weight: Array) -> Array:
    """The weight in Keras layout: a depthwise kernel has a last dimension, the multiplier."""
    return weight[..., None] if isinstance(layer, Depthwise) and weight.ndim == 3 else weight
