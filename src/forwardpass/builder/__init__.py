"""Networks built in Python with the layers of Keras: same names, arguments, defaults and weight layouts.

    net = Sequential([Input((8,)), Dense(5, "sigmoid"), Dense(1, "sigmoid")])
    net.set_weights("weights.npz")          # names: dense/kernel, dense/bias, dense_1/kernel, ...
    graph = net.graph()

    x = Input((32, 32, 3))
    y = Conv2D(32, 3, activation="relu")(x)
    net = Network(x, y)

Images are channels-last. The graph speaks ONNX, so image operators stand between transposes, which the
layout pass removes.
"""

from __future__ import annotations

from .core import (
    Activation,
    Add,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    Multiply,
    ReLU,
    Reshape,
    Softmax,
)
from .image import (
    AveragePool2D,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    ZeroPadding2D,
)
from .layer import Input, Layer, Tensor
from .network import Network, Sequential
from .recurrent import GRU, LSTM, Bidirectional, Embedding, SimpleRNN

AveragePooling2D = AveragePool2D
GlobalAveragePooling2D = GlobalAveragePool2D
GlobalMaxPooling2D = GlobalMaxPool2D
MaxPooling2D = MaxPool2D

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Add",
    "AveragePool2D",
    "AveragePooling2D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalAveragePooling2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "Multiply",
    "Network",
    "ReLU",
    "Reshape",
    "Sequential",
    "SimpleRNN",
    "Softmax",
    "Tensor",
    "ZeroPadding2D",
]
