"""The operators of com.microsoft, against onnxruntime, on random inputs: products, norms, quantised arithmetic."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from judge import judged as judged_of
from judge import ours as ours_of
from judge import weights_for

from forwardpass.errors import Error, GraphError
from forwardpass.graph import Node
from forwardpass.ops.catalog import CATALOG, load_all
from forwardpass.ops.evaluate import evaluate_node
from forwardpass.ops.microsoft import DOMAIN
from forwardpass.ops.microsoft.nbits import unpacked

judged = functools.partial(judged_of, domain=DOMAIN)
ours = functools.partial(ours_of, domain=DOMAIN)
EIGHT_BITS = ["uint8", "int8"]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def eight(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.asarray(rng.integers(limits.min, limits.max + 1, shape), dtype)


def parameters(rng: np.random.Generator, dtype: Any, scale: float) -> list[np.ndarray]:
    """A scale of about that size and a zero point."""
    return [np.asarray(rng.uniform(0.5, 1.5) * scale, np.float32), eight(rng, dtype)]


def test_every_operator_is_known() -> None:
    load_all()
    names = {name for _, domain, names in CATALOG if domain == DOMAIN for name in names.split()}
    assert {"Attention", "QGemm", "MatMulNBits", "DynamicQuantizeLSTM"} <= names


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((3, 4), (4, 5), {}),
        ((4, 3), (4, 5), {"transA": 1, "alpha": 0.5}),
        ((3, 4), (5, 4), {"transB": 1}),
        ((4, 3), (5, 4), {"transA": 1, "transB": 1, "alpha": 2.0}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1, "alpha": 0.125}),
        ((2, 4, 3), (4, 5), {"transA": 1}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((2, 3, 4), (4, 2, 5), {"transBatchB": 1}),
        ((4, 2, 3), (2, 4, 5), {"transA": 1, "transBatchA": 1}),
        ((2, 3, 4), (5, 2, 4), {"transB": 1, "transBatchB": 1}),
        ((3, 2, 2, 4), (2, 2, 4, 5), {"transBatchA": 1}),
        ((4,), (4, 5), {}),
    ],
)
def test_fused_matmul(rng: np.random.Generator, a: Any, b: Any, attributes: Any) -> None:
    if attributes.get("transA") and attributes.get("transBatchA"):
        a = (4, 2, 3)
    judged("FusedMatMul", [normal(rng, *a), normal(rng, *b)], attributes)
    judged("FusedMatMul", [normal(rng, *a).astype(float), normal(rng, *b).astype(float)], attributes)


@pytest.mark.parametrize(("op", "inputs"), [("Gelu", 1), ("FastGelu", 1), ("FastGelu", 2), ("BiasGelu", 2)])
def test_gelu(rng: np.random.Generator, op: str, inputs: int) -> None:
    judged(op, [normal(rng, 3, 4, 9) * 3, normal(rng, 9)][:inputs])


@pytest.mark.parametrize("attributes", [{}, {"alpha": 1.0}, {"alpha": -0.5}])
def test_quick_gelu(rng: np.random.Generator, attributes: Any) -> None:
    judged("QuickGelu", [normal(rng, 3, 4, 9) * 3], attributes)


@pytest.mark.parametrize("skip", [(2, 5, 8), (1, 5, 8), (5, 8)])
@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_skip_layer_normalization(rng: np.random.Generator, skip: Any, present: Any) -> None:
    x, gamma = normal(rng, 2, 5, 8), normal(rng, 8)
    optional = [normal(rng, 8) if p else None for p in present]
    inputs = [x, normal(rng, *skip), gamma, *optional]
    y, mean, inverse, total = judged("SkipLayerNormalization", inputs, {"epsilon": 1e-5}, outputs=4)
    np.testing.assert_allclose(mean, total.mean(-1, keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(total.var(-1, keepdims=True) + 1e-5), rtol=1e-4)
    assert y.shape == x.shape


@pytest.mark.parametrize("skip", [(2, 5, 8), (1, 5, 8), (5, 8)])
@pytest.mark.parametrize("bias", [False, True])
def test_skip_simplified(rng: np.random.Generator, skip: Any, bias: bool) -> None:
    inputs = [normal(rng, 2, 5, 8), normal(rng, *skip), normal(rng, 8), *([normal(rng, 8)] if bias else [])]
    judged("SkipSimplifiedLayerNormalization", inputs, {"epsilon": 1e-6})


def test_half_precision(rng: np.random.Generator) -> None:
    inputs = [a.astype(np.float16) for a in (normal(rng, 2, 5, 8), normal(rng, 2, 5, 8), normal(rng, 8))]
    judged("SkipLayerNormalization", inputs, {"epsilon": 1e-5}, rtol=2e-3, atol=2e-3)
    judged("SkipSimplifiedLayerNormalization", inputs, {"epsilon": 1e-5}, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("axis", "scale"), [(-1, (8,)), (2, (8,)), (1, (5, 8)), (-2, (5, 8))])
def test_simplified(rng: np.random.Generator, axis: int, scale: Any) -> None:
    inputs = [normal(rng, 2, 5, 8), normal(rng, *scale)]
    judged_of("SimplifiedLayerNormalization", inputs, {"axis": axis, "epsilon": 1e-3}, outputs=2)
    assert np.array_equal(
        ours("SimplifiedLayerNormalization", inputs, {"axis": axis})[0],
        ours_of("SimplifiedLayerNormalization", inputs, {"axis": axis})[0],
    )


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("positions", [None, 1, 2])
def test_embed(rng: np.random.Generator, segments: bool, mask: bool, positions: int | None) -> None:
    ids = rng.integers(0, 10, (2, 4)).astype(np.int32)
    inputs: list[Any] = [ids, None, normal(rng, 10, 8), normal(rng, 6, 8), None, normal(rng, 8), normal(rng, 8)]
    if segments:
        inputs[1], inputs[4] = rng.integers(0, 2, (2, 4)).astype(np.int32), normal(rng, 2, 8)
    inputs.append(np.array([[1, 1, 0, 0], [1, 1, 1, 0]], np.int32) if mask else None)
    inputs.append(None if positions is None else rng.integers(0, 6, (positions, 4)).astype(np.int32))
    while inputs[-1] is None:
        inputs.pop()
    judged("EmbedLayerNormalization", inputs, {"epsilon": 1e-5}, outputs=3)


def test_embed_checks_its_indices(rng: np.random.Generator) -> None:
    node = Node("EmbedLayerNormalization", ["i", "", "w", "p", "", "g", "b"], ["y"], {}, DOMAIN)
    ids = np.array([[1, 10]], np.int32)
    with pytest.raises(GraphError, match="word_embedding"):
        evaluate_node(node, [ids, None, normal(rng, 10, 8), normal(rng, 6, 8), None, normal(rng, 8), normal(rng, 8)])


ACTIVATIONS: list[tuple[str, list[float]]] = [
    ("Relu", []),
    ("Tanh", []),
    ("Sigmoid", []),
    ("LeakyRelu", [0.2]),
    ("Clip", [-0.5, 0.75]),
    ("HardSigmoid", [0.3, 0.4]),
]


@pytest.mark.parametrize(("name", "values"), ACTIVATIONS)
def test_fused_conv(rng: np.random.Generator, name: str, values: Any) -> None:
    x, w, bias = normal(rng, 2, 4, 7, 6), normal(rng, 6, 2, 3, 3), normal(rng, 6)
    attributes = {"group": 2, "pads": [1, 0, 1, 2], "strides": [2, 1], "activation": name}
    if values:
        attributes["activation_params"] = values
    judged("FusedConv", [x, w, bias], attributes)
    judged("FusedConv", [x, w], attributes)


def test_fused_conv_with_a_sum(rng: np.random.Generator) -> None:
    x, w, bias, z = normal(rng, 2, 3, 6, 6), normal(rng, 4, 3, 3, 3), normal(rng, 4), normal(rng, 2, 4, 4, 4)
    judged("FusedConv", [x, w, bias, z], {"activation": "Relu"})


@pytest.mark.parametrize(
    ("name", "values"),
    [("Relu", {}), ("Tanh", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Elu", {"activation_alpha": 0.5})],
)
def test_fused_gemm(rng: np.random.Generator, name: str, values: Any) -> None:
    inputs = [normal(rng, 4, 3), normal(rng, 5, 4), normal(rng, 5)]
    attributes = {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0, "activation": name, **values}
    judged("FusedGemm", inputs, attributes)
    judged("FusedGemm", inputs[:2], attributes)


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [1, 0, 1, 1]}, {"dilations": [2, 1]}])
def test_nhwc_max_pool(rng: np.random.Generator, dtype: str, attributes: Any) -> None:
    judged("NhwcMaxPool", [eight(rng, dtype, 2, 7, 6, 5)], {"kernel_shape": [3, 2], **attributes})


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("shapes", [((3, 40), (3, 40)), ((3, 1, 4), (2, 1)), ((5, 33), ()), ((1, 7), (6, 1))])
def test_quantized_sums_and_products(rng: np.random.Generator, dtype: str, op: str, shapes: Any) -> None:
    a, b = (eight(rng, dtype, *s) for s in shapes)
    target = parameters(rng, dtype, 0.06 if op == "QLinearAdd" else 0.4)
    # onnxruntime folds the scales and the zero points into factors of its own: sums near a tie round otherwise.
    judged(op, [a, *parameters(rng, dtype, 0.03), b, *parameters(rng, dtype, 0.04), *target], steps=1)
    # onnxruntime refuses what its text allows: no zero points.
    scales, zero = [np.asarray(v, np.float32) for v in (0.03, 0.04, 0.3)], np.zeros((), dtype)
    (y,) = ours(op, [a, scales[0], None, b, scales[1], None, scales[2]], {})
    assert np.array_equal(y, ours(op, [a, scales[0], zero, b, scales[1], zero, scales[2], zero], {})[0])


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize(("op", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})])
def test_quantized_functions(rng: np.random.Generator, dtype: str, op: str, attributes: Any) -> None:
    info = np.iinfo(dtype)
    x = np.arange(info.min, info.max + 1).astype(dtype)
    # The exponentials of the two differ in the last bit.
    judged(op, [x, *parameters(rng, dtype, 0.04), *parameters(rng, dtype, 0.006)], attributes, steps=1)
    # Without zero points, the process of onnxruntime ends.
    scales, zero = (np.float32(0.04)[...], np.float32(0.02)[...]), np.zeros((), dtype)
    (y,) = ours(op, [x, scales[0], None, scales[1]], attributes)
    assert np.array_equal(y, ours(op, [x, scales[0], zero, scales[1], zero], attributes)[0])


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("attributes", [{"opset": 13}, {"opset": 13, "axis": 1}, {"opset": 11, "axis": 1}])
def test_quantized_softmax(rng: np.random.Generator, dtype: str, attributes: Any) -> None:
    y = [np.asarray(1 / 256, np.float32), np.asarray(np.iinfo(dtype).min, dtype)]
    # onnxruntime adds exponentials that it has rounded to integers.
    judged("QLinearSoftmax", [eight(rng, dtype, 3, 4, 6), *parameters(rng, dtype, 0.05), *y], attributes, steps=1)


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantized_concat(rng: np.random.Generator, dtype: str, axis: int) -> None:
    y = parameters(rng, dtype, 0.05)
    parts: list[Any] = []
    for extra, scale in ((0, 0.05), (2, 0.02), (1, 0.2)):
        shape = [3, 4, 5]
        shape[axis] += extra
        parts += [eight(rng, dtype, *shape), *parameters(rng, dtype, scale)]
    judged("QLinearConcat", [*y, *parts, parts[0], *y], {"axis": axis})


@pytest.mark.parametrize("dtype", EIGHT_BITS)
def test_quantized_where(rng: np.random.Generator, dtype: str) -> None:
    x = [eight(rng, dtype, 3, 4), *parameters(rng, dtype, 0.05)]
    y = [eight(rng, dtype, 4), *parameters(rng, dtype, 0.1)]
    judged("QLinearWhere", [rng.random((3, 1)) < 0.5, *x, *y, *parameters(rng, dtype, 0.08)])


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("last", [0, 1])
def test_quantized_global_pool(rng: np.random.Generator, dtype: str, last: int) -> None:
    for shape in ((2, 5, 7, 6), (1, 3, 1, 1), (2, 17, 13, 4)):
        inputs = [eight(rng, dtype, *shape), *parameters(rng, dtype, 0.05), *parameters(rng, dtype, 0.01)]
        judged("QLinearGlobalAveragePool", inputs, {"channels_last": last})


POOLS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"strides": [2, 1], "pads": [1, 0, 2, 1], "count_include_pad": 1},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"strides": [2, 2], "ceil_mode": 1},
]


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("attributes", POOLS)
def test_quantized_pool(rng: np.random.Generator, dtype: str, last: int, attributes: Any) -> None:
    inputs = [eight(rng, dtype, 2, 7, 9, 8), *parameters(rng, dtype, 0.05), *parameters(rng, dtype, 0.03)]
    # Sums of float32 in another order: means near a tie round otherwise.
    judged("QLinearAveragePool", inputs, {"kernel_shape": [3, 2], "channels_last": last, **attributes}, steps=1)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [-1, 0], [0, 1, 2]])
def test_quantized_mean(rng: np.random.Generator, keepdims: int, axes: Any) -> None:
    # onnxruntime has the text of it, but no implementation.
    x, y = eight(rng, np.uint8, 3, 4, 5), parameters(rng, np.uint8, 0.02)
    scale, zero = parameters(rng, np.uint8, 0.05)
    (found,) = ours("QLinearReduceMean", [x, scale, zero, *y], {"axes": axes, "keepdims": keepdims})
    mean = ((x.astype(float) - zero) * scale).mean(axis=tuple(axes), keepdims=bool(keepdims))
    assert np.abs(found - np.clip(np.rint(mean / y[0]) + y[1], 0, 255)).max() <= 1


PAIRS = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")]


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("attributes", [{}, {"transA": 1, "alpha": 0.5}, {"transB": 1, "alpha": 2.0}])
def test_quantized_gemm(rng: np.random.Generator, a: str, b: str, columns: bool, attributes: Any) -> None:
    left = eight(rng, a, *((7, 4) if attributes.get("transA") else (4, 7)))
    right = weights_for(a, eight(rng, b, *((5, 7) if attributes.get("transB") else (7, 5))))
    per = (5,) if columns else ()
    b_scale = rng.uniform(0.01, 0.05, per).astype(np.float32)
    b_zero = eight(rng, b, *per)
    c = rng.integers(-1000, 1000, (5,)).astype(np.int32)
    inputs = [left, *parameters(rng, a, 0.02), right, b_scale, b_zero]
    judged("QGemm", inputs, attributes)
    judged("QGemm", [*inputs, c], attributes)
    judged("QGemm", [*inputs, c, *parameters(rng, a, 0.1)], attributes)
    judged("QGemm", [*inputs, None, *parameters(rng, a, 0.1)], attributes)


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("columns", [False, True])
def test_products_of_integers_as_floats(rng: np.random.Generator, a: str, b: str, columns: bool) -> None:
    per = (6,) if columns else ()
    left, right = eight(rng, a, 2, 5, 9), weights_for(a, eight(rng, b, 9, 6))
    b_scale = rng.uniform(0.01, 0.05, per).astype(np.float32)
    a_scale, a_zero = parameters(rng, a, 0.02)
    judged("MatMulIntegerToFloat", [left, right, a_scale, b_scale])
    judged("MatMulIntegerToFloat", [left, right, a_scale, b_scale, a_zero, eight(rng, b, *per), normal(rng, 6)])


def test_products_with_a_scale_per_column_of_a(rng: np.random.Generator) -> None:
    # The text has it, onnxruntime refuses it.
    a, b = eight(rng, np.uint8, 4, 7), eight(rng, np.int8, 7, 3)
    a_scale, a_zero = rng.uniform(0.01, 0.05, 7).astype(np.float32), eight(rng, np.uint8, 7)
    (y,) = ours("MatMulIntegerToFloat", [a, b, a_scale, np.float32(0.5)[...], a_zero], {})
    np.testing.assert_allclose(y, ((a.astype(float) - a_zero) * a_scale) @ (b * 0.5), rtol=1e-5)


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("columns", [False, True])
def test_dynamically_quantized_product(rng: np.random.Generator, dtype: str, columns: bool) -> None:
    per = (6,) if columns else ()
    b_scale = rng.uniform(0.01, 0.05, per).astype(np.float32)
    inputs = [normal(rng, 3, 5, 9), weights_for("uint8", eight(rng, dtype, 9, 6)), b_scale]
    judged("DynamicQuantizeMatMul", inputs)
    judged("DynamicQuantizeMatMul", [*inputs, eight(rng, dtype, *per), normal(rng, 6)])


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("last", [0, 1])
def test_quantized_conv(rng: np.random.Generator, a: str, b: str, last: int) -> None:
    x, w = eight(rng, a, *((2, 7, 6, 4) if last else (2, 4, 7, 6))), weights_for(a, eight(rng, b, 6, 2, 3, 3))
    w_scale = rng.uniform(0.01, 0.05, 6).astype(np.float32)
    inputs = [x, *parameters(rng, a, 0.05), w, w_scale, np.zeros(6, b), *parameters(rng, a, 0.5)]
    bias = rng.integers(-1000, 1000, 6).astype(np.int32)
    attributes = {"group": 2, "pads": [1, 1, 1, 1], "channels_last": last}
    judged("QLinearConv", [*inputs, bias], attributes)
    judged("QLinearConv", inputs, attributes)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize(rng: np.random.Generator, dtype: str, axis: int | None) -> None:
    per = () if axis is None else (3, 5)[axis : axis + 1]
    attributes = {} if axis is None else {"axis": axis}
    scale, zero = rng.uniform(0.02, 0.1, per).astype(np.float32), eight(rng, dtype, *per)
    (q,) = judged("QuantizeLinear", [normal(rng, 3, 5) * 3, scale, zero], attributes)
    judged("DequantizeLinear", [q, scale, zero], attributes)
    with pytest.raises(GraphError, match="axis"):
        ours("DequantizeLinear", [q, np.ones(5, np.float32), np.zeros(5, dtype)], {})


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("k", "block"), [(32, 16), (40, 16), (64, 32), (70, 64)])
@pytest.mark.parametrize("points", ["none", "packed", "floats"])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_of_few_bits(rng: np.random.Generator, bits: int, k: int, block: int, points: str, bias: bool) -> None:
    n, blocks = 6, -(-k // block)
    b = eight(rng, np.uint8, n, blocks, block * bits // 8)
    zero: Any = None
    if points == "packed":
        zero = eight(rng, np.uint8, n, -(-blocks * bits // 8))
    elif points == "floats":
        zero = rng.uniform(0, 2**bits, (n, blocks)).astype(np.float32)
    scales = rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32)
    inputs = [normal(rng, 2, 3, k), b, scales, zero, None, normal(rng, n) if bias else None]
    attributes = {"N": n, "K": k, "bits": bits, "block_size": block}
    while inputs[-1] is None:
        inputs.pop()
    if bits < 8 or points != "floats":
        judged("MatMulNBits", inputs, attributes, rtol=1e-4, atol=1e-3)
        return
    # onnxruntime has no zero points in floating point for 8 bits.
    codes = unpacked(b.reshape(n, -1), bits)[:, :k]
    weights = (codes - zero.repeat(block, 1)[:, :k]) * scales.repeat(block, 1)[:, :k]
    expected = inputs[0].astype(float) @ weights.T + (inputs[5] if bias else 0)
    np.testing.assert_allclose(ours("MatMulNBits", inputs, attributes)[0], expected, rtol=1e-4, atol=1e-3)


def test_matmul_of_few_bits_with_groups(rng: np.random.Generator) -> None:
    groups = rng.integers(0, 4, 64).astype(np.int32)
    b, scales = eight(rng, np.uint8, 6, 4, 8), rng.uniform(0.01, 0.1, (6, 4)).astype(np.float32)
    x, zero = normal(rng, 3, 64), rng.integers(0, 16, (6, 4))
    attributes = {"N": 6, "K": 64, "bits": 4, "block_size": 16}
    judged("MatMulNBits", [x, b, scales, None, groups], attributes, rtol=1e-4, atol=1e-4)
    y = judged("MatMulNBits", [x, b, scales, zero.astype(np.float32), groups], attributes, rtol=1e-4, atol=1e-4)
    # With groups, even the usual ones, onnxruntime reads other zero points than without.
    packed = (zero[:, 0::2] | zero[:, 1::2] << 4).astype(np.uint8)
    assert np.array_equal(ours("MatMulNBits", [x, b, scales, packed, groups], attributes)[0], y[0])


def test_bits_are_packed_from_the_lowest() -> None:
    assert unpacked(np.array([[0x4E]], np.uint8), 4).tolist() == [[14, 4]]
    assert unpacked(np.array([[0b11_10_01_00]], np.uint8), 2).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("change", [{"bits": 3}, {"block_size": 24}, {"K": 40}, {"N": 0}, {"weight_prepacked": 1}])
def test_bad_settings_of_few_bits(rng: np.random.Generator, change: Any) -> None:
    attributes = {"N": 6, "K": 64, "bits": 4, "block_size": 16, **change}
    with pytest.raises(Error):
        ours("MatMulNBits", [normal(rng, 3, 64), eight(rng, np.uint8, 6, 4, 8), normal(rng, 6, 4)], attributes)
