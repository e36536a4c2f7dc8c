"""The trained network that ships in the package, on held-out handwritten digits.

The digits come least certain first: where one class has all the probability, a wrong network is hard to tell from a
right one.
"""

from __future__ import annotations

import numpy as np

from network import Array, Conv, Dense, Flatten, MaxPool, Network, forward

from . import Problem

NAME = "digits_cnn"


def network() -> Network:
    from forwardpass.data import path

    file = path("digits_cnn.npz")
    with np.load(file, allow_pickle=False) as w:

        def conv(name: str) -> Conv:  # the file's kernels are channels-last: it was saved after the passes
            return Conv(w[f"{name}/kernel_hwio"], w[f"{name}/bias"], "relu", "same")

        def dense(name: str, activation: str) -> Dense:
            return Dense(w[f"{name}/kernel"], w[f"{name}/bias"], activation)

        layers = [
            *(conv("conv1"), conv("conv2"), MaxPool(2), conv("conv3"), MaxPool(2), Flatten()),
            *(dense("dense1", "relu"), dense("scores", "softmax")),
        ]
    return Network(NAME, layers, str(file))


def inputs(batch: int) -> Array:
    from forwardpass.data import digits

    images = digits()[0][..., None].astype(np.float32)
    certainty = forward(network(), images).max(axis=1)
    return np.resize(images[np.argsort(certainty)], (batch, *images.shape[1:]))


PROBLEMS = [Problem(NAME, network, inputs, (1, 64))]
