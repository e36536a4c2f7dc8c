"""Dense layers, activations, embeddings, scaling, and what acts in training only."""

from __future__ import annotations

import numpy as np

from ..archive import excerpt
from .activations import activate, leaky, rectify
from .call import Call
from .config import Layer
from .kinds import Flow, layer, only

_NOTHING = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
    "RandomBrightness", "RandomColorJitter", "RandomContrast", "RandomErasing", "RandomFlip", "RandomHue",
    "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "StochasticDepth",
)  # fmt: skip
"""Layers that act in training only."""


@layer("InputLayer", integers=True)
def input_layer(c: Call) -> str:
    raise c.unsupported("an input inside of a model that is not one of its inputs")


@layer(*_NOTHING, masking="pass", integers=True)
def nothing(c: Call) -> str:
    # The first of several: StochasticDepth takes one, wrappers may add keywords.
    return c.x


@layer("Dense", weights=only("kernel", bias="use_bias"), masking="pass")
def dense(c: Call) -> str:
    units = c.layer.integer("units")
    kernel = c.weight("kernel", [c.size(c.x, -1), units])
    y = c.node("MatMul", [c.x, c.constant("kernel", kernel)])
    if c.layer.flag("use_bias", True):
        y = c.node("Add", [y, c.constant("bias", c.weight("bias", [units]))])
    return activate(c, y)


def _einsum_weights(found: Layer) -> list[str]:
    return ["kernel", *["bias"] * (found.config.get("bias_axes") is not None)]


@layer("EinsumDense", weights=_einsum_weights)
def einsum_dense(c: Call) -> str:
    equation = c.layer.config.get("equation")
    if not isinstance(equation, str) or len(equation) > 200:
        raise c.layer.error("equation", "text", equation)
    y = c.node("Einsum", [c.x, c.constant("kernel", c.unit.weights["kernel"])], equation=equation)
    if "bias" in c.unit.weights:
        y = c.node("Add", [y, c.constant("bias", c.unit.weights["bias"])])
    return activate(c, y)


# ---- activations


@layer("Activation", masking="pass")
def activation(c: Call) -> str:
    return activate(c, c.x)


@layer("ReLU", masking="pass")
def relu(c: Call) -> str:
    return rectify(c, c.x, c.layer)


@layer("LeakyReLU", masking="pass")
def leaky_relu(c: Call) -> str:
    return leaky(c, c.x, c.layer)


@layer("ELU", masking="pass")
def elu(c: Call) -> str:
    return c.node("Elu", [c.x], alpha=c.layer.number("alpha", 1.0))


@layer("ThresholdedReLU", masking="pass")
def thresholded_relu(c: Call) -> str:
    return c.node("ThresholdedRelu", [c.x], alpha=c.layer.number("theta", 1.0))


@layer("PReLU", weights=only("alpha"), masking="pass")
def p_relu(c: Call) -> str:
    sizes = list(c.shape(c.x))[1:]
    shared = c.layer.config.get("shared_axes")
    axes = c.layer.axes("shared_axes", len(sizes) + 1) if shared else []
    wanted = [1 if k + 1 in axes else d if isinstance(d, int) else None for k, d in enumerate(sizes)]
    return c.node("PRelu", [c.x, c.constant("alpha", c.weight("alpha", wanted))])


@layer("Softmax")
def softmax(c: Call) -> str:
    flow = c.only()
    if flow.mask is not None:
        raise c.unsupported("a Softmax layer of masked values is not read", hint="use the activation softmax")
    axes = c.layer.axes("axis", c.rank(c.x))
    if len(axes) == 1:
        return c.node("Softmax", [c.x], axis=axes[0])
    total = c.node("ReduceLogSumExp", [c.x, c.ints(axes, "axes")], keepdims=1)
    return c.node("Exp", [c.node("Sub", [c.x, total])])


# ---- embeddings and masks


@layer("Embedding", weights=only("embeddings"), integers=True)
def embedding(c: Call) -> Flow:
    sizes = [c.layer.integer("input_dim"), c.layer.integer("output_dim")]
    table = c.constant("embeddings", c.weight("embeddings", sizes))
    index = c.cast(c.x, np.int32) if c.emitter.type(c.x).dtype.kind not in "iu" else c.x
    if c.emitter.type(index).dtype not in (np.int32, np.int64):
        index = c.cast(index, np.int32)
    y = c.node("Gather", [table, index], axis=0)
    if not c.layer.flag("mask_zero", False):
        return Flow(y)
    zero = c.constant("zero", np.array(0, c.emitter.type(index).dtype))
    mask = c.node("Not", [c.node("Equal", [index, zero])])
    return Flow(y, mask)


@layer("Masking")
def masking(c: Call) -> Flow:
    differs = c.node("Not", [c.node("Equal", [c.x, c.number(c.layer.number("mask_value", 0.0), "mask_value")])])
    known = c.node("ReduceMax", [c.cast(differs, np.float32), c.ints([-1], "axes")], keepdims=1)
    mask = c.cast(c.node("Squeeze", [known, c.ints([-1], "axes")]), np.bool_)
    return Flow(c.node("Mul", [c.x, known]), mask)


# ---- scaling


@layer("Rescaling", masking="pass")
def rescaling(c: Call) -> str:
    scale = _numbers(c, "scale")
    offset = _numbers(c, "offset", 0.0)
    y = c.node("Mul", [c.x, c.constant("scale", scale)])
    return y if not offset.any() else c.node("Add", [y, c.constant("offset", offset)])


def _numbers(c: Call, key: str, default: float | None = None) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A number or a list of them."""
    value = c.layer.config.get(key, default)
    if isinstance(value, dict) and isinstance(value.get("config"), dict):  # an array as Keras 3 writes it
        value = value["config"].get("value")
    try:
        found = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise c.layer.error(key, "a number or a list of them", excerpt(value)) from None
    if found.ndim > 16 or not np.all(np.isfinite(found)):
        raise c.layer.error(key, "a number or a list of them", excerpt(value))
    return found


def _statistics(found: Layer) -> list[str]:
    return [] if found.config.get("mean") is not None else ["mean", "variance", "count"]


@layer("Normalization", weights=_statistics, masking="pass")
def normalization(c: Call) -> str:
    rank = c.rank(c.x)
    axes = [] if c.layer.config.get("axis") in (None, []) else c.layer.axes("axis", rank)
    kept = [c.size(c.x, k) if k in axes else 1 for k in range(rank)]
    found = []
    for key in ("mean", "variance"):
        if c.unit.own:
            array = c.weight(key, [c.size(c.x, k) for k in axes])
        else:
            array = _numbers(c, key)
        if array.size not in (1, int(np.prod(kept))):
            raise c.layer.error(key, f"{int(np.prod(kept))} numbers", list(array.shape))
        found.append(
            np.broadcast_to(array, [1] * rank if array.size == 1 else array.shape).reshape(
                [1] * rank if array.size == 1 else kept
            )
        )
    mean, variance = found
    deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))
    if c.layer.flag("invert", False):
        return c.node("Add", [c.node("Mul", [c.x, c.constant("deviation", deviation)]), c.constant("mean", mean)])
    return c.node("Div", [c.node("Sub", [c.x, c.constant("mean", mean)]), c.constant("deviation", deviation)])


@layer("LayerScale", weights=only("gamma"))
def layer_scale(c: Call) -> str:
    """Of keras.applications.convnext."""
    return c.node("Mul", [c.x, c.constant("gamma", c.weight("gamma", [c.size(c.x, -1)]))])


@layer("CustomScaleLayer")
def scaled_sum(c: Call) -> str:
    """Of keras.applications.inception_resnet_v2: the first plus the scaled second."""
    first, second = (f.value for f in c.flows)
    return c.node("Add", [first, c.node("Mul", [second, c.number(c.layer.number("scale"), "scale")])])
