"""Nodes of old opsets that networks are made of, experiments and ai.onnx.ml, and what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
from old_nodes import FLOATS, IMAGE, X2, X3, X4, Old, draw, vector
from onnx_nodes import by_onnxruntime, node_model

__all__ = ["EXPERIMENTAL", "IMAGES", "ML", "NORMALIZATION", "RECURRENT"]

STATISTICS = (draw(3), draw(3), draw(3), np.abs(draw(3)) + 0.5)
FEATURES = (draw(3, 4, 5), draw(3, 4, 5), draw(3, 4, 5), np.abs(draw(3, 4, 5)) + 0.5)
BOTH_WAYS = {"hidden_size": 3, "direction": "bidirectional"}


def normalized(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    shape = (-1,) + (1,) * (x.ndim - 2) if scale.ndim == 1 else scale.shape
    scale, bias, mean, variance = (v.reshape(shape) for v in (scale, bias, mean, variance))
    return (x - mean) / np.sqrt(variance + np.float32(1e-5)) * scale + bias


def trained(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> list[Any]:
    axes = (0, *range(2, x.ndim))
    m, v = x.mean(axes, dtype=np.float32), x.var(axes, dtype=np.float32)
    moved = [mean * np.float32(0.9) + m * np.float32(0.1), variance * np.float32(0.9) + v * np.float32(0.1)]
    return [normalized(x, scale, bias, m, v), *moved, m, v]


def _upsampled(x: Any) -> Any:
    return x.repeat(2, 2).repeat(3, 3)


def _grouped(x: Any, scale: Any, bias: Any) -> Any:
    groups = x.reshape(x.shape[0], len(scale), -1)
    centred = groups - groups.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-5))
    return (normal * scale[None, :, None] + bias[None, :, None]).reshape(x.shape)


def normalized_per_image(x: Any, scale: Any, bias: Any) -> Any:
    centred = x - x.mean((2, 3), keepdims=True)
    normal = centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + np.float32(1e-5))
    return normal * scale[:, None, None] + bias[:, None, None]


IMAGES = [
    Old("GlobalLpPool", 1, [X4], lambda x: np.sqrt((x * x).sum((2, 3), keepdims=True)), p=2.0),
    Old("GlobalLpPool", 1, [X4], lambda x: np.abs(x).sum((2, 3), keepdims=True), p=1.0),
    Old("GlobalLpPool", 2, [X4], lambda x: np.sqrt((x * x).sum((2, 3), keepdims=True))),
    Old("LpPool", 1, [X4], lambda x: np.abs(x).sum((2, 3), keepdims=True), p=1.0, kernel_shape=[4, 5]),
    Old("LpPool", (2, 11), [IMAGE], None, kernel_shape=[2, 2], p=2),
    Old("AveragePool", (7, 10), [IMAGE], kernel_shape=[2, 3], pads=[1, 1, 1, 1]),
    Old("MaxPool", (7, 8, 10), [IMAGE], kernel_shape=[2, 3], strides=[2, 2]),
    Old("ConvTranspose", (7, 10), [IMAGE, draw(2, 3, 3, 3)], output_shape=[8, 12], strides=[2, 2]),
    Old("Upsample", 1, [IMAGE], _upsampled, height_scale=2.0, width_scale=3.0),
    Old("Upsample", (7, 8), [IMAGE], scales=[1.0, 1.0, 2.0, 3.0]),
    Old("Upsample", 9, [IMAGE, vector(1, 1, 2, 3, **FLOATS)], constants=(1,)),
    Old("Upsample", 9, [IMAGE, vector(1, 1, 2, 3, **FLOATS)], constants=(1,), mode="linear"),
    Old("Upsample", 9, [IMAGE, vector(1, 1, 1.6, 1.3, **FLOATS)], mode="nearest"),
    Old("Resize", 10, [IMAGE, vector(1, 1, 2, 3, **FLOATS)], constants=(1,)),
    Old("Resize", 10, [IMAGE, vector(1, 1, 0.6, 0.6, **FLOATS)], constants=(1,)),
    Old("Resize", 10, [IMAGE, vector(1, 1, 0.6, 1.7, **FLOATS)], constants=(1,)),
    Old("Resize", 10, [IMAGE, vector(1, 1, 0.6, 1.7, **FLOATS)]),
    Old("Resize", 10, [IMAGE, vector(1, 1, 0.6, 1.7, **FLOATS)], mode="linear"),
    *(
        Old("Resize", v, [IMAGE, vector(**FLOATS), vector(**FLOATS), vector(1, 2, 6, 9)], constants=(1, 2), **a)
        for v in (11, 12)
        for a in (
            {"mode": "linear"},
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
        )
    ),
    Old(
        "Resize",
        (11, 13, 18),
        [IMAGE, vector(0, 0, 0.2, 0.1, 1, 1, 0.8, 0.7, **FLOATS), vector(1, 1, 2, 2, **FLOATS)],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
    Old("Resize", (13, 18), [IMAGE, None, vector(**FLOATS), vector(1, 2, 6, 9)], constants=(2,), mode="cubic"),
    *(
        Old("GridSample", 16, [IMAGE, np.tanh(draw(1, 3, 3, 2))], align_corners=1, **a)
        for a in ({}, {"mode": "bilinear"}, {"mode": "bicubic"}, {"mode": "nearest"})
    ),
    *(
        Old("RoiAlign", v, [IMAGE, vector([0, 0, 3, 3], [1, 1, 5, 2.5], **FLOATS), vector(0, 0)], **a)
        for v in (10, 15, 16)
        for a in ({"output_height": 2, "output_width": 2, "sampling_ratio": 2},)
    ),
]

NORMALIZATION = [
    Old("BatchNormalization", 1, [X4, *STATISTICS], normalized, is_test=1, consumed_inputs=[0, 0, 0, 1, 1]),
    Old("BatchNormalization", 6, [X4, *STATISTICS], normalized, is_test=1, spatial=1),
    Old("BatchNormalization", 6, [X4, *STATISTICS], normalized, is_test=1, spatial=0),
    Old("BatchNormalization", 7, [X4, *FEATURES], normalized, spatial=0),
    Old("BatchNormalization", 6, [X4, *STATISTICS], trained, outputs=5),
    Old("BatchNormalization", 9, [X4, *STATISTICS], trained, outputs=5),
    Old("BatchNormalization", 9, [X2, *(v.repeat(2)[:4] for v in STATISTICS)], trained, outputs=5),
    Old("BatchNormalization", (7, 8, 9, 14, 15), [X4, *STATISTICS]),
    Old("InstanceNormalization", 1, [X4, draw(3), draw(3)], lambda x, s, b: normalized_per_image(x, s, b)),
    Old("InstanceNormalization", 6, [X4, draw(3), draw(3)]),
    Old("MeanVarianceNormalization", (9, 13), [X4]),
    Old("MeanVarianceNormalization", 7, [X4], across_channels=1),
    Old("MeanVarianceNormalization", 7, [X4], across_channels=0),
    Old("MeanVarianceNormalization", 7, [X4], across_channels=1, normalize_variance=0),
    Old("GroupNormalization", (18, 20), [draw(2, 6, 5), draw(3), draw(3)], _grouped, num_groups=3),
    Old("Dropout", (1, 5), [X3], lambda x: x, is_test=1, consumed_inputs=[0]),
    Old("Dropout", 6, [X3], lambda x: [x, np.ones_like(x)], outputs=2, ratio=0.25),
    Old("Dropout", 7, [X3], lambda x: [x, np.ones_like(x)], outputs=2, ratio=0.25),
    Old("Dropout", 10, [X3], lambda x: [x, np.ones(x.shape, bool)], outputs=2, ratio=0.25),
    Old("Dropout", 12, [X3]),
]


def _recurrent(op: str, gates: int, versions: tuple[int, ...], **attributes: Any) -> Old:
    """Opsets before 7 said whether a sequence is wanted, and otherwise meant what 7 means."""
    inputs = [draw(5, 2, 3), draw(1, gates * 3, 3), draw(1, gates * 3, 3), draw(1, gates * 6)]

    def newer(*arrays: Any) -> list[Any]:
        return by_onnxruntime(node_model(op, 7, arrays, {"hidden_size": 3}, outputs=2), arrays)

    return Old(op, versions, inputs, newer, outputs=2, output_sequence=1, hidden_size=3, **attributes)


RECURRENT = [
    _recurrent("RNN", 1, (1, 6)),
    _recurrent("LSTM", 4, (1, 6)),
    _recurrent("GRU", 3, (1, 3, 6)),
    _recurrent("GRU", 3, (1,), direction="foward"),
    *(
        Old(op, (7, 13), [draw(5, 2, 3), draw(2, g * 3, 3), draw(2, g * 3, 3)], outputs=2, **BOTH_WAYS)
        for op, g in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    ),
]

EXPERIMENTAL = [
    Old("Affine", (1, 7), [X3], lambda x: 2 * x + np.float32(0.5), alpha=2.0, beta=0.5),
    Old("ImageScaler", (1, 7), [X4], None, scale=2.0, bias=[1.0, 2.0, 3.0]),
    Old("ScaledTanh", 7, [X3], alpha=2.0, beta=0.5),
    Old("ParametricSoftplus", 7, [X3], alpha=2.0, beta=0.5),
    Old("Scale", 7, [X3], scale=1.5),
    Old("Crop", 7, [X4], border=[1, 0, 2, 1]),
    Old("Crop", 7, [X4], border=[1, 2, 0, 0], scale=[1, 2]),
    Old("DynamicSlice", 7, [X3, vector(0, 1), vector(1, 3), vector(0, 2)]),
]

LABELS = np.array([["a", "c"], ["b", "z"]], object)
ML = [
    Old("LabelEncoder", 1, [LABELS], None, domain="ai.onnx.ml", classes_strings=["a", "b", "c"], default_int64=-7),
    Old("LabelEncoder", 1, [vector([0, 2], [1, 9])], None, domain="ai.onnx.ml", classes_strings=["a", "b", "c"]),
]
