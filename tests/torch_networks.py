"""Builder networks whose weights PyTorch trained."""

from __future__ import annotations

from forwardpass.builder import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Network,
    Sequential,
    Tensor,
)

__all__ = ["digit_cnn", "efficientnet_lite0"]


def digit_cnn() -> Sequential:
    """Three convolutions and two dense layers on digits of 28 x 28."""
    net = Sequential([Input((28, 28, 1))], name="digit_cnn")
    for filters in (32, 64, 128):
        net.add(Conv2D(filters, 3, padding="same", activation="relu"))
        net.add(MaxPool2D(2))
    net.add(Flatten())
    net.add(Dense(256, activation="relu"))
    net.add(Dense(10))
    return net


# Repeats, kernel, stride, expansion and channels of the stages of EfficientNet-Lite0 (Tan, Le 2019).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _normalized(x: Tensor, active: bool = True) -> Tensor:
    x = BatchNormalization(epsilon=1e-3)(x)
    return Activation("relu6")(x) if active else x


def _block(x: Tensor, kernel: int, stride: int, expansion: int, channels: int) -> Tensor:
    before = x.sizes[-1]
    assert before is not None
    y = x
    if expansion > 1:
        y = _normalized(Conv2D(before * expansion, 1, use_bias=False)(y))
    y = _normalized(DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False)(y))
    y = _normalized(Conv2D(channels, 1, use_bias=False)(y), active=False)
    return Add()([y, x]) if stride == 1 and before == channels else y


def efficientnet_lite0() -> Network:
    """EfficientNet-Lite0 for 1,000 classes on images of 224 x 224."""
    x = Input((224, 224, 3))
    y = _normalized(Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for repeats, kernel, stride, expansion, channels in _STAGES:
        for k in range(repeats):
            y = _block(y, kernel, stride if k == 0 else 1, expansion, channels)
    y = _normalized(Conv2D(1280, 1, use_bias=False)(y))
    return Network(x, Dense(1000)(GlobalAveragePool2D()(y)), name="efficientnet_lite0")
