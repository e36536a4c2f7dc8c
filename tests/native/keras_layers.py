"""Random Keras networks of every layer that is read. Needs Keras, on a backend that runs on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812 - which the networks are full of

Draw = Callable[[st.SearchStrategy[Any]], Any]
CHAINS: dict[str, Callable[[Draw], tuple[tuple[int, ...], list[Any]]]] = {}
"""Name -> what makes the shape of a float input and the layers after it."""
ACTIVATIONS = [
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink",
]  # fmt: skip
PADDINGS = st.sampled_from(["valid", "same"])
FORMATS = st.sampled_from(["channels_last", "channels_first"])
BOOLS = st.booleans()
SMALL = st.integers(1, 3)


def chain(function: Callable[[Draw], tuple[tuple[int, ...], list[Any]]]) -> None:
    CHAINS[function.__name__] = function


def image(draw: Draw, rank: int, data_format: str, channels: int = 4) -> tuple[int, ...]:
    sizes = [draw(st.integers(5, 8)) for _ in range(rank)]
    return (channels, *sizes) if data_format == "channels_first" else (*sizes, channels)


@chain
def dense(draw: Draw) -> Any:
    shape = tuple(draw(SMALL) for _ in range(draw(SMALL)))
    activation = draw(st.sampled_from([None, "relu", "softmax"]))
    return shape, [L.Dense(draw(SMALL), activation=activation, use_bias=draw(BOOLS)), L.Dense(2)]


@chain
def activation(draw: Draw) -> Any:
    return (3, 6), [L.Activation(draw(st.sampled_from(ACTIVATIONS)))]


@chain
def activation_layers(draw: Draw) -> Any:
    slope = draw(st.sampled_from([0.0, 0.25]))
    one = draw(
        st.sampled_from(
            [
                L.ReLU(max_value=draw(st.sampled_from([None, 1.0, 6.0])), negative_slope=slope),
                L.ReLU(negative_slope=slope, threshold=0.5),
                L.ReLU(max_value=1.5, negative_slope=slope, threshold=0.5),
                L.LeakyReLU(negative_slope=0.2),
                L.ELU(alpha=draw(st.sampled_from([0.5, 1.0]))),
                L.PReLU(shared_axes=draw(st.sampled_from([None, [1], [1, 2]]))),
                L.Softmax(axis=draw(st.sampled_from([1, 2, -1, [1, 2]]))),
            ]
        )
    )
    return (3, 4, 5), [one]


@chain
def convolution(draw: Draw) -> Any:
    rank, groups = draw(SMALL), draw(st.sampled_from([1, 2]))
    strides, steps = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 1)]))
    padding = draw(st.sampled_from(["valid", "same", "causal"] if rank == 1 else ["valid", "same"]))
    data_format = draw(FORMATS) if padding != "causal" else "channels_last"
    made = [L.Conv1D, L.Conv2D, L.Conv3D][rank - 1](
        draw(st.sampled_from([2, 4])), draw(SMALL), strides, padding, data_format, steps, groups, use_bias=draw(BOOLS),
        activation=draw(st.sampled_from([None, "relu", "softmax"])),
    )  # fmt: skip
    return image(draw, rank, data_format), [made]


@chain
def depthwise(draw: Draw) -> Any:
    rank = draw(st.integers(1, 2))
    padding, data_format = draw(PADDINGS), draw(FORMATS)
    made = [L.DepthwiseConv1D, L.DepthwiseConv2D][rank - 1](
        draw(SMALL), draw(st.integers(1, 2)), padding, draw(st.integers(1, 2)), data_format=data_format
    )
    return image(draw, rank, data_format, 3), [made]


@chain
def separable(draw: Draw) -> Any:
    rank = draw(st.integers(1, 2))
    padding, data_format = draw(PADDINGS), draw(FORMATS)
    made = [L.SeparableConv1D, L.SeparableConv2D][rank - 1](
        draw(SMALL), draw(SMALL), draw(st.integers(1, 2)), padding, data_format,
        depth_multiplier=draw(st.integers(1, 2)), use_bias=draw(BOOLS), activation="relu",
    )  # fmt: skip
    return image(draw, rank, data_format, 3), [made]


@chain
def transposed(draw: Draw) -> Any:
    rank, data_format = draw(st.integers(1, 3)), draw(FORMATS)
    strides = draw(st.integers(1, 3))
    steps = draw(st.integers(1, 2)) if strides == 1 else 1
    made = [L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose][rank - 1](
        draw(SMALL), draw(st.integers(1, 4)), strides, draw(PADDINGS), data_format=data_format, dilation_rate=steps
    )
    return image(draw, rank, data_format, 2), [made]


@chain
def transposed_with_output_padding(draw: Draw) -> Any:
    made = L.Conv2DTranspose(2, 3, 2, draw(PADDINGS), output_padding=draw(st.integers(0, 1)))
    return (4, 5, 2), [made]


def averages_more(length: int, size: int, stride: int) -> bool:
    """Whether padding "same" has a number more at the end, where Keras 3.15 on PyTorch repeats the last ones of the
    image and averages those too."""
    return keras.backend.backend() == "torch" and max(0, -(-length // stride) * stride - stride + size - length) % 2 > 0


@chain
def pooling(draw: Draw) -> Any:
    rank, data_format = draw(SMALL), draw(FORMATS)
    how = draw(st.sampled_from(["Max", "Average"]))
    size, stride, padding = draw(SMALL), draw(st.sampled_from([None, 1, 2])), draw(PADDINGS)
    shape = image(draw, rank, data_format)
    lengths = shape[1:] if data_format == "channels_first" else shape[:-1]
    if how == "Average" and any(averages_more(length, size, stride or size) for length in lengths):
        padding = "valid"
    return shape, [getattr(L, f"{how}Pooling{rank}D")(size, stride, padding, data_format)]


@chain
def global_pooling(draw: Draw) -> Any:
    rank, data_format = draw(SMALL), draw(FORMATS)
    how = draw(st.sampled_from(["Max", "Average"]))
    made = getattr(L, f"Global{how}Pooling{rank}D")(data_format=data_format, keepdims=draw(BOOLS))
    return image(draw, rank, data_format), [made]


@chain
def batch_normalization(draw: Draw) -> Any:
    axis = draw(st.sampled_from([-1, 1, 2]))
    return (3, 4, 5), [L.BatchNormalization(axis, center=draw(BOOLS), scale=draw(BOOLS), trainable=draw(BOOLS))]


@chain
def layer_normalization(draw: Draw) -> Any:
    # Keras 3.15 hands these to a function of PyTorch that knows the last axes alone, and fails for any other.
    others = [] if keras.backend.backend() == "torch" else [1, [1, 2]]
    axis = draw(st.sampled_from([-1, [2, 3], [1, 2, 3], *others]))
    return (3, 4, 5), [L.LayerNormalization(axis, center=draw(BOOLS), scale=draw(BOOLS))]


@chain
def group_normalization(draw: Draw) -> Any:
    axis = draw(st.sampled_from([-1, 1]))
    return (4, 3, 4), [L.GroupNormalization(draw(st.sampled_from([1, 2, 4, -1])), axis, scale=draw(BOOLS))]


@chain
def unit_normalization(draw: Draw) -> Any:
    return (3, 4), [L.UnitNormalization(draw(st.sampled_from([-1, 1, [1, 2]])))]


@chain
def scaling(draw: Draw) -> Any:
    given = {"mean": [0.5, 1.0, -1.0], "variance": [1.0, 2.0, 0.5]} if draw(BOOLS) else {}
    scale = draw(st.sampled_from([0.5, [1.0, 2.0, 3.0]]))
    return (4, 3), [
        L.Rescaling(scale, draw(st.sampled_from([0.0, -1.0]))),
        L.Normalization(invert=draw(BOOLS), **given),
    ]


@chain
def shapes(draw: Draw) -> Any:
    data_format = draw(FORMATS)
    moves = [L.Permute(draw(st.permutations([1, 2, 3]))), L.Flatten(data_format=data_format)]
    return (2, 3, 4), [moves[0], *draw(st.sampled_from([[moves[1]], [L.Reshape((4, -1))], [L.Reshape((2, 3, 4))]]))]


@chain
def repetition(draw: Draw) -> Any:
    return (3,), [L.RepeatVector(draw(SMALL))]


@chain
def padding(draw: Draw) -> Any:
    rank, data_format = draw(SMALL), draw(FORMATS)
    pads = draw(st.sampled_from([1, tuple((k, 2) for k in range(rank)) if rank > 1 else (1, 2)]))
    return image(draw, rank, data_format), [getattr(L, f"ZeroPadding{rank}D")(pads, data_format=data_format)]


@chain
def cropping(draw: Draw) -> Any:
    rank = draw(SMALL)
    cuts = draw(st.sampled_from([1, tuple((k, 2) for k in range(rank)) if rank > 1 else (0, 2)]))
    keys = {} if rank == 1 else {"data_format": draw(FORMATS)}
    return image(draw, rank, keys.get("data_format", "")), [getattr(L, f"Cropping{rank}D")(cuts, **keys)]


@chain
def up_sampling(draw: Draw) -> Any:
    rank = draw(SMALL)
    keys: dict[str, Any] = {} if rank == 1 else {"data_format": draw(FORMATS)}
    if rank == 2:
        keys["interpolation"] = draw(st.sampled_from(["nearest", "bilinear"]))
    return image(draw, rank, keys.get("data_format", "")), [getattr(L, f"UpSampling{rank}D")(draw(SMALL), **keys)]


@chain
def resizing(draw: Draw) -> Any:
    return (4, 6, 2), [L.Resizing(draw(st.integers(3, 9)), draw(st.integers(3, 9)), interpolation="bilinear")]


@chain
def what_trains_alone(draw: Draw) -> Any:
    noise = [L.Dropout(0.5), L.GaussianNoise(0.5), L.GaussianDropout(0.5), L.AlphaDropout(0.5), L.SpatialDropout1D(0.5)]
    return (3, 4), [L.Dense(3), *draw(st.permutations(noise)), L.ActivityRegularization(0.1), L.Identity()]


RANDOM = {
    "RandomColorJitter": [], "RandomContrast": [0.1], "RandomErasing": [0.1], "RandomFlip": [], "RandomHue": [0.1],
    "RandomRotation": [0.1], "RandomShear": [0.1, 0.1], "RandomTranslation": [0.1, 0.1], "RandomZoom": [0.1],
}  # fmt: skip
"""Layers of augmentation that Keras 3.15 can save in both formats, with their arguments."""


@chain
def what_trains_images_alone(draw: Draw) -> Any:
    names = draw(st.permutations(list(RANDOM)))[:3]
    return (4, 5, 3), [*(getattr(L, n)(*RANDOM[n]) for n in names), L.SpatialDropout2D(0.5), L.Conv2D(2, 3)]


@chain
def what_trains_volumes_alone(draw: Draw) -> Any:
    return (2, 3, 4, 2), [L.SpatialDropout3D(0.5), L.Conv3D(draw(SMALL), 2)]


def cell(draw: Draw, **arguments: Any) -> Any:
    kind = draw(st.sampled_from(["LSTM", "GRU", "SimpleRNN"]))
    if kind == "GRU":
        arguments["reset_after"] = draw(BOOLS)
    if kind != "SimpleRNN":
        arguments["recurrent_activation"] = draw(st.sampled_from(["sigmoid", "hard_sigmoid", "relu"]))
    activation = draw(st.sampled_from(["tanh", "softsign", "linear", "relu"]))
    return getattr(L, kind)(draw(SMALL), activation=activation, use_bias=draw(BOOLS), **arguments)


@chain
def recurrent(draw: Draw) -> Any:
    return (4, 3), [cell(draw, return_sequences=True, go_backwards=draw(BOOLS)), cell(draw, go_backwards=draw(BOOLS))]


@chain
def bidirectional(draw: Draw) -> Any:
    merge = draw(st.sampled_from(["concat", "sum", "ave", "mul"]))
    return (4, 3), [L.Bidirectional(cell(draw, return_sequences=draw(BOOLS)), merge_mode=merge), L.Dense(2)]


@chain
def cells(draw: Draw) -> Any:
    made = draw(st.sampled_from([L.LSTMCell(2), [L.LSTMCell(3), L.GRUCell(2)], L.SimpleRNNCell(2)]))
    return (4, 3), [L.RNN(made, return_sequences=draw(BOOLS))]


@chain
def time_distributed(draw: Draw) -> Any:
    inner = draw(st.sampled_from([L.Dense(3), L.Flatten(), L.Dense(2, activation="softmax")]))
    return (3, 4, 2), [L.TimeDistributed(inner), L.Dense(2)]


@chain
def time_distributed_convolution(draw: Draw) -> Any:
    inner = keras.Sequential([L.Conv2D(3, 2), L.BatchNormalization(), L.GlobalAveragePooling2D()])
    return (3, 5, 5, 2), [L.TimeDistributed(inner), L.LSTM(2)]


@chain
def einsum_dense(draw: Draw) -> Any:
    return (4, 3), [L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes=draw(st.sampled_from([None, "d"])))]
