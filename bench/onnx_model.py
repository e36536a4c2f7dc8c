"""A network as an ONNX model, as exporters write it: images channels-first, a fixed batch size."""

from __future__ import annotations

from typing import Any

import numpy as np

from network import Array, Dense, Flatten, Layer, MaxPool, Network, pads_of, shape_after

OPSET, IR_VERSION = 17, 8
"""Old enough for every engine that is still in use."""
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax"}


def channels_first(x: Array) -> Array:
    """An image batch from NHWC to NCHW; other arrays as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def channels_last(y: Any) -> Array:
    """The way back."""
    y = np.asarray(y)
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


def conv_kernel(kernel: Array) -> Array:
    """[height, width, inputs, filters] or, depthwise, [height, width, channels] -> [filters, inputs / groups, h, w]."""
    if kernel.ndim == 3:
        return np.ascontiguousarray(kernel.transpose(2, 0, 1)[:, None])
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def channels_first_layers(network: Network, shape: tuple[int, ...]) -> list[Layer]:
    """The layers, with the rows of the Dense after a Flatten in the order of a channels-first image."""
    layers: list[Layer] = []
    flat: tuple[int, ...] | None = None
    for layer in network.layers:
        if isinstance(layer, Dense) and flat is not None:
            rows = layer.kernel.reshape(*flat, -1).transpose(2, 0, 1, 3).reshape(layer.kernel.shape)
            layer = Dense(np.ascontiguousarray(rows), layer.bias, layer.activation)
        flat = shape[1:] if isinstance(layer, Flatten) and len(shape) == 4 else None
        shape = shape_after(layer, shape)
        layers.append(layer)
    return layers


def onnx_bytes(network: Network, x: Array) -> bytes:
    """The model, with input "x" and output "y", for an input of the shape of x (channels-last)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    shape, value = x.shape, "x"

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{op.lower()}_{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def weight(array: Array) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), f"w_{len(weights)}"))
        return str(weights[-1].name)

    for layer in channels_first_layers(network, x.shape):
        shape = shape_after(layer, shape)
        if isinstance(layer, Flatten):
            value = node("Flatten", value)
        elif isinstance(layer, MaxPool):
            value = node("MaxPool", value, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)
        elif isinstance(layer, Dense):
            given = [weight(w) for w in (layer.kernel, layer.bias) if w is not None]
            value = node("Gemm" if len(given) == 2 else "MatMul", value, *given)
        else:
            kernel = conv_kernel(layer.kernel)
            group = shape[3] if layer.kernel.ndim == 3 else 1
            given = [weight(kernel), weight(layer.bias)]
            value = node("Conv", value, *given, kernel_shape=kernel.shape[2:], pads=pads_of(layer), group=group)
        if activation := getattr(layer, "activation", ""):
            value = node(ACTIVATIONS[activation], value, **({"axis": -1} if activation == "softmax" else {}))
    nodes[-1].output[0] = "y"
    x_shape, y_shape = channels_first(x).shape, channels_first(np.empty(shape, np.float32)).shape
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
