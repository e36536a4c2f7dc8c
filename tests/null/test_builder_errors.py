"""The builder: wrong arguments and shapes that do not fit name the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forwardpass.builder import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalMaxPool2D,
    Input,
    MaxPool2D,
    Network,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Tensor,
    ZeroPadding2D,
)
from forwardpass.errors import GraphError, InputError


def image() -> Tensor:
    return Input((4, 6, 3))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Dense(0), r"Dense: argument 'units' is wrong: expected an integer >= 1, got 0"),
        (lambda: Dense(2.5), r"'units'"),
        (lambda: Dense(True), r"'units'"),
        (lambda: Dense(3, "rleu", name="d"), r"layer 'd' \(Dense\): argument 'activation'.*relu.*got 'rleu'"),
        (lambda: Dense(3, name=""), r"'name'"),
        (lambda: Activation("Relu"), r"'activation'"),
        (lambda: Conv2D(0, 3), r"'filters'"),
        (lambda: Conv2D(8, (3, 3, 3)), r"'kernel_size'.*an integer or two"),
        (lambda: Conv2D(8, 3, 0), r"'strides'"),
        (lambda: Conv2D(8, 3, padding="full"), r"'padding'.*'valid' or 'same', got 'full'"),
        (lambda: Conv2D(8, 3, groups=3), r"'groups'.*a divisor of filters = 8"),
        (lambda: DepthwiseConv2D(3, depth_multiplier=0), r"'depth_multiplier'"),
        (lambda: MaxPool2D("2"), r"'pool_size'"),
        (lambda: Dropout(2), r"'rate'"),
        (lambda: ReLU(-1), r"'max_value'"),
        (lambda: ReLU(negative_slope=float("nan")), r"'negative_slope'"),
        (lambda: ZeroPadding2D((1, 2, 3)), r"'padding'"),
        (lambda: ZeroPadding2D(-1), r"'padding'"),
        (lambda: Reshape((-1, -1)), r"'target_shape'"),
        (lambda: Input((0,)), r"'shape'"),
        (lambda: Input("8"), r"'shape'"),
        (lambda: Softmax(0)(image()), r"'axis'.*expected 1 to 3"),
        (lambda: BatchNormalization(axis=4)(image()), r"'axis'"),
        (lambda: Concatenate(0)([image(), image()]), r"'axis'"),
        (lambda: Dense(3)(np.zeros((2, 3))), r"not a tensor of the builder.*begin with Input"),
        (lambda: Dense(3)([]), r"not a tensor"),
        (lambda: Dense(3)([image()]), r"expected one tensor"),
        (lambda: Add()(image()), r"expected a list of tensors"),
        (lambda: Network(Dense(3)(image()), image()), r"not an input"),
        (lambda: Network([], image()), r"wrong inputs"),
        (lambda: Sequential([Input((3,)), Dense]), r"not a layer.*write Flatten\(\)"),
        (lambda: Sequential([Input((3,)), 3]), r"not a layer"),
        (lambda: Sequential([Input((3,)), Input((3,))]), r"wrong layer"),
        (lambda: Sequential([Input((3,)), Add()]), r"expected a list of tensors"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Dense(3)(Input((None,))), r"the last dimension must be known.*got \(N, \?\)"),
        (lambda: Dense(3)(Input(())), r"the last dimension"),
        (lambda: Conv2D(3, 3)(Input((8,))), r"layer Conv2D\(3, 3\): not images.*got \(N, 8\)"),
        (lambda: Conv2D(3, 3)(Input((8, 8, None))), r"not images"),
        (
            lambda: Conv2D(3, 5, name="big")(image()),
            r"layer 'big' \(Conv2D\): the window is larger than the image",
        ),
        (lambda: Conv2D(4, 1, groups=4)(image()), r"do not divide into groups"),
        (lambda: MaxPool2D(5)(image()), r"the window is larger"),
        (lambda: GlobalMaxPool2D()(Input((3,))), r"not images"),
        (lambda: Reshape((7,))(image()), r"the sizes do not fit: expected 7 values"),
        (lambda: Reshape((7, -1))(image()), r"expected a multiple of 7"),
        (lambda: Add()([image(), Input((3,))]), r"different ranks"),
        (lambda: Add()([image(), Input((4, 5, 3))]), r"do not broadcast.*\(N, 4, 6, 3\) and \(N, 4, 5, 3\)"),
        (lambda: Concatenate()([image(), Input((4, 5, 3))]), r"differ on axis 2"),
        (lambda: Concatenate()([image(), Input((3,))]), r"different ranks"),
        (lambda: Add()([Input((3,), 2), Input((3,), 4)]), r"different batch sizes: got 2 and 4"),
        (lambda: BatchNormalization()(Input((None,))), r"the size of the axis must be known"),
        (lambda: Sequential([Dense(3)]), r"the shape of the input is not known.*begin with Input"),
        (lambda: Sequential().graph(), r"no layers"),
    ],
)
def test_shapes_that_do_not_fit(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        make()


def test_contradictions_between_layers() -> None:
    x, y = Input((3,)), Input((3,), name="loose")
    with pytest.raises(GraphError, match=r"'loose'.*not an input of the network"):
        Network(x, Add()([x, y]))
    with pytest.raises(GraphError, match="two layers have the name 'd'"):
        Network(x, Dense(2, name="d")(Dense(2, name="d")(x)))
    shared = Dense(4)
    shared(x)
    with pytest.raises(GraphError, match="needs other weights here"):
        shared(Input((5,)))
