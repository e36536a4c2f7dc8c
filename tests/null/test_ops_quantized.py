"""The quantised operators of the standard, against onnxruntime, by dtype, axis and block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judge import judged, ours, weights_for

from forwardpass import dtypes
from forwardpass.errors import GraphError
from forwardpass.graph import Node
from forwardpass.ops.evaluate import evaluate_node
from forwardpass.ops.quantization import integer_product, range_of

FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
INTEGERS = [np.dtype(d) for d in ("int8", "uint8", "int16", "uint16")] + [dtypes.INT4, dtypes.UINT4]
TWO_BITS = [dtypes.INT2, dtypes.UINT2]
FLOAT8 = [dtypes.FLOAT8E4M3FN, dtypes.FLOAT8E4M3FNUZ, dtypes.FLOAT8E5M2, dtypes.FLOAT8E5M2FNUZ]


def name_of(value: Any) -> str:
    return dtypes.name_of(value) if isinstance(value, np.dtype) else repr(value)


def integers(rng: np.random.Generator, dtype: np.dtype[Any], shape: Any) -> np.ndarray:
    """Values from the whole range of an integer dtype, narrow ones included."""
    low, high = range_of(dtype)
    values = rng.integers(low, high + 1, shape)
    return dtypes.encode(values, dtype) if dtypes.is_narrow(dtype) else values.astype(dtype)


def scales(rng: np.random.Generator, shape: Any, dtype: Any = np.float32) -> np.ndarray:
    return rng.uniform(0.01, 0.2, shape).astype(dtype)


# The shape of the parameters, axis and block size, for a tensor of shape (3, 6, 5).
PLACES = [
    ((), {}),
    ((1,), {}),
    ((6,), {}),
    ((3,), {"axis": 0}),
    ((5,), {"axis": -1}),
    ((3, 2, 5), {"axis": 1, "block_size": 3}),
    ((3, 2, 5), {"axis": 1, "block_size": 4}),
    ((1, 6, 5), {"axis": 0, "block_size": 3}),
    ((3, 6, 3), {"axis": -1, "block_size": 2}),
]


@pytest.mark.parametrize("dtype", INTEGERS, ids=name_of)
@pytest.mark.parametrize(("shape", "attributes"), PLACES)
def test_quantize(rng: np.random.Generator, dtype: Any, shape: Any, attributes: Any) -> None:
    spread = 2 * range_of(dtype)[1] * 0.1
    x = (rng.standard_normal((3, 6, 5)) * spread).astype(np.float32)
    judged("QuantizeLinear", [x, scales(rng, shape), integers(rng, dtype, shape)], attributes)


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(np.int32)], ids=name_of)
@pytest.mark.parametrize(("shape", "attributes"), PLACES)
def test_dequantize(rng: np.random.Generator, dtype: Any, shape: Any, attributes: Any) -> None:
    # onnxruntime takes no zero point for int32 but 0.
    zero = np.zeros(shape, np.int32) if dtype == np.int32 else integers(rng, dtype, shape)
    inputs = [integers(rng, dtype, (3, 6, 5)), scales(rng, shape), zero]
    judged("DequantizeLinear", inputs, attributes, rtol=1e-6, atol=0)
    judged("DequantizeLinear", inputs[:2], attributes, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", TWO_BITS, ids=name_of)
@pytest.mark.parametrize(("shape", "attributes"), PLACES)
def test_two_bits(rng: np.random.Generator, dtype: Any, shape: Any, attributes: Any) -> None:
    # The node tests of ONNX hold one case of each; the formula is checked here in plain Python.
    x, scale, zero = rng.standard_normal((3, 6, 5), np.float32), scales(rng, shape), integers(rng, dtype, shape)
    block = attributes.get("block_size", 0)
    axis = attributes.get("axis", 1) % 3
    low, high = range_of(dtype)
    (q,) = ours("QuantizeLinear", [x, scale, zero], attributes)
    (y,) = ours("DequantizeLinear", [q, scale, zero], attributes)
    points = dtypes.decode(zero)
    for place in np.ndindex(x.shape):
        chosen: Any = ()
        if scale.ndim == 1:
            chosen = (place[axis] if scale.size > 1 else 0,)
        elif scale.ndim:
            chosen = tuple(p // block if k == axis else p for k, p in enumerate(place))
        whole = round(float(x[place] / scale[chosen])) + int(points[chosen])
        expected = min(max(whole, low), high)
        assert dtypes.decode(q)[place] == expected
        assert y[place] == np.float32(expected - int(points[chosen])) * scale[chosen]


@pytest.mark.parametrize("dtype", FLOAT8, ids=name_of)
@pytest.mark.parametrize("saturate", [0, 1])
def test_quantize_to_float8(rng: np.random.Generator, dtype: Any, saturate: int) -> None:
    x = np.append(rng.standard_normal(200) * 300, [np.inf, -np.inf, np.nan, 0, -0.0, 1e30, -1e30]).astype(np.float32)
    zero = dtypes.encode(np.zeros((), np.float32), dtype)
    judged("QuantizeLinear", [x, np.float32(0.5)[...], zero], {"saturate": saturate}, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", FLOAT8, ids=name_of)
@pytest.mark.parametrize("scale", [FLOAT32, FLOAT16], ids=name_of)
def test_dequantize_float8(dtype: Any, scale: Any) -> None:
    codes = np.arange(256, dtype=np.uint8).view(dtype)
    judged("DequantizeLinear", [codes, np.asarray(0.3, scale)], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", INTEGERS, ids=name_of)
@pytest.mark.parametrize("shape", [(), (6,)])
def test_dequantize_to_float16(rng: np.random.Generator, dtype: Any, shape: Any) -> None:
    inputs = [integers(rng, dtype, (3, 6, 5)), scales(rng, shape, np.float16), integers(rng, dtype, shape)]
    judged("DequantizeLinear", inputs, rtol=0, atol=0)


def test_ties_round_to_even_and_the_rest_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 300, -300, np.inf, -np.inf, np.nan], np.float32)
    for dtype in (np.int8, np.uint8):
        (y,) = judged("QuantizeLinear", [x, np.float32(1)[...], np.asarray(3, dtype)])
        assert list(y[:5]) == [3, 5, 5, 3, 1]


@pytest.mark.parametrize("number", [np.float16, np.float32])
def test_quantize_float16(rng: np.random.Generator, number: Any) -> None:
    x = (rng.standard_normal((4, 7)) * 5).astype(np.float16)
    # Powers of two: onnxruntime divides in float32, which the text only asks for where the scale has that type.
    judged("QuantizeLinear", [x, np.asarray(0.125, np.float16), np.uint8(7)[...]])
    (y,) = ours("QuantizeLinear", [x, np.asarray(0.3, number), np.uint8(7)[...]], {})
    assert np.array_equal(y, np.clip(np.rint(x.astype(number) / number(0.3)) + 7, 0, 255).astype(np.uint8))


def test_the_division_has_the_precision_that_is_asked_for() -> None:
    # 2049 and 0.1 are no float16: the quotients differ from those of float32.
    x, scale = np.array([2049.0, 1000.3, 77.7], np.float32), np.asarray(0.1, np.float32)
    attributes = {"precision": 10, "output_dtype": 4}
    (y,) = ours("QuantizeLinear", [x, scale], attributes)
    assert np.array_equal(y, np.rint(x.astype(np.float16) / scale.astype(np.float16)).astype(np.uint16))
    (z,) = ours("QuantizeLinear", [x, scale], {"output_dtype": 4})
    assert np.array_equal(z, np.rint(x / scale).astype(np.uint16))
    assert not np.array_equal(y, z)


def test_bfloat16(rng: np.random.Generator) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed (extra [test])")
    x = dtypes.encode(rng.standard_normal((3, 8)).astype(np.float32) * 9, dtypes.BFLOAT16)
    scale = dtypes.encode(np.asarray(0.3, np.float32), dtypes.BFLOAT16)
    (q,) = ours("QuantizeLinear", [x, scale, np.int8(-3)[...]], {})
    quotient = dtypes.to_foreign(x) / dtypes.to_foreign(scale)
    assert quotient.dtype == ml_dtypes.bfloat16
    assert np.array_equal(q, np.clip(np.rint(quotient.astype(np.float32)) - 3, -128, 127).astype(np.int8))
    (y,) = ours("DequantizeLinear", [q, scale, np.int8(-3)[...]], {})
    expected = (q.astype(np.float32) + 3) * dtypes.decode(scale)
    assert np.array_equal(y, dtypes.encode(expected, dtypes.BFLOAT16))


def test_int32_is_divided_exactly() -> None:
    x = np.array([2**31 - 1, -(2**31), 16777217, 5, -5, 7], np.int32)
    (y,) = ours("QuantizeLinear", [x, np.int32(2)[...]], {"output_dtype": 5})
    assert y.tolist() == [32767, -32768, 32767, 2, -2, 4]


def test_scales_that_are_powers_of_two() -> None:
    scale = dtypes.encode(np.array([0.25, 4.0], np.float32), dtypes.FLOAT8E8M0)
    x = np.array([[1.1, -3.0, 0.4], [9.0, 100.0, -6.0]], np.float32)
    (q,) = ours("QuantizeLinear", [x, scale], {"axis": 0, "output_dtype": 3})
    assert q.tolist() == [[4, -12, 2], [2, 25, -2]]
    (y,) = ours("DequantizeLinear", [q, scale], {"axis": 0, "output_dtype": 1})
    assert y.tolist() == [[1, -3, 0.5], [8, 100, -8]]
    with pytest.raises(GraphError, match="output_dtype"):
        ours("DequantizeLinear", [q, scale], {"axis": 0})


def test_float4(rng: np.random.Generator) -> None:
    codes = np.arange(16, dtype=np.uint8).view(dtypes.FLOAT4E2M1)
    (y,) = ours("DequantizeLinear", [codes, np.float32(2)[...]], {})
    assert y.tolist() == [0, 1, 2, 3, 4, 6, 8, 12, -0.0, -1, -2, -3, -4, -6, -8, -12]
    (q,) = ours("QuantizeLinear", [y, np.float32(2)[...]], {"output_dtype": 23})
    assert np.array_equal(q, codes)
    far = np.array([100, -100, 2.6, 5.0], np.float32)
    (q,) = ours("QuantizeLinear", [far, np.float32(1)[...]], {"output_dtype": 23})
    assert dtypes.decode(q).tolist() == [6, -6, 3, 4]


@pytest.mark.parametrize(
    "values",
    [[0.0, 2, -3, -2.5, 1.34, 0.5], [1, 2.1, 1.3, 2.5, 3.34, 4], [-1, -2.1, -1.3, -2.5], [0, 0, 0], [3.0]],
)
def test_dynamic(values: list[float]) -> None:
    judged("DynamicQuantizeLinear", [np.array(values, np.float32)], outputs=3, rtol=0, atol=0)


def test_dynamic_of_random_values(rng: np.random.Generator) -> None:
    for shift in (-4, -1, 0, 1, 4):
        x = rng.standard_normal((5, 33), np.float32) + np.float32(shift)
        judged("DynamicQuantizeLinear", [x], outputs=3, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        (["x", (4,)], {}, "does not match|do not match"),
        (["x", (3, 6)], {}, "rank"),
        (["x", (3, 2, 5)], {"block_size": 2}, "per block"),
        (["x", (3, 6)], {"block_size": 2}, "rank"),
        (["x", ()], {"block_size": -1}, "block_size"),
        (["x", ()], {"output_dtype": 11}, "output_dtype"),
        (["x", ()], {"output_dtype": 99}, "output_dtype"),
        (["x", ()], {"precision": 2}, "precision"),
        (["x", (6,)], {"axis": 3}, "axis"),
    ],
)
def test_bad_parameters(inputs: Any, attributes: Any, message: str) -> None:
    x = np.zeros((3, 6, 5), np.float32)
    node = Node("QuantizeLinear", ["x", "scale"], ["y"], attributes)
    with pytest.raises(GraphError, match=message):
        evaluate_node(node, [x, np.ones(inputs[1], np.float32)])


def test_bad_zero_points() -> None:
    x, one = np.zeros((3, 6, 5), np.float32), np.float32(1)[...]
    node = Node("QuantizeLinear", ["x", "scale", "zero"], ["y"], {"output_dtype": 3})
    with pytest.raises(GraphError, match="output_dtype"):
        evaluate_node(node, [x, one, np.uint8(1)[...]])
    node = Node("DequantizeLinear", ["x", "scale", "zero"], ["y"])
    with pytest.raises(GraphError, match="x_zero_point"):
        evaluate_node(node, [x.astype(np.int8), one, np.uint8(1)[...]])
    with pytest.raises(GraphError, match="differ in shape"):
        evaluate_node(node, [x.astype(np.int8), np.ones(6, np.float32), np.int8(1)[...]])


SIGNS = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8"), ("int8", "uint8")]


@pytest.mark.parametrize(("a", "b"), SIGNS)
@pytest.mark.parametrize(
    "shapes", [((5, 7), (7, 3)), ((2, 3, 4, 7), (7, 6)), ((2, 1, 4, 7), (3, 7, 6)), ((7,), (7, 2))]
)
def test_matmul_integer(rng: np.random.Generator, a: str, b: str, shapes: Any) -> None:
    left, right = (integers(rng, np.dtype(d), s) for d, s in zip((a, b), shapes))
    right = weights_for(a, right)
    judged("MatMulInteger", [left, right])
    zeros = [np.asarray(integers(rng, np.dtype(d), ())) for d in (a, b)]
    judged("MatMulInteger", [left, right, *zeros])
    judged("MatMulInteger", [left, right, None, zeros[1]])
    columns = integers(rng, np.dtype(b), (*right.shape[:-2], *(1,) * (right.ndim > 2), right.shape[-1]))
    judged("MatMulInteger", [left, right, zeros[0], columns])


def test_matmul_integer_by_rows(rng: np.random.Generator) -> None:
    # onnxruntime has no zero point per row.
    a, b = integers(rng, np.dtype(np.int8), (2, 4, 7)), integers(rng, np.dtype(np.uint8), (2, 7, 3))
    rows, columns = integers(rng, np.dtype(np.int8), (2, 4, 1)), integers(rng, np.dtype(np.uint8), (2, 1, 3))
    expected = (a.astype(np.int32) - rows) @ (b.astype(np.int32) - columns)
    assert np.array_equal(ours("MatMulInteger", [a, b, rows, columns], {})[0], expected)
    vector = ours("MatMulInteger", [a[0], b[0], rows[0, :, 0], columns[0, 0]], {})[0]
    assert np.array_equal(vector, expected[0])


@pytest.mark.parametrize(("a", "b"), SIGNS)
def test_products_of_the_largest_numbers(a: str, b: str) -> None:
    left, right = ([np.iinfo(d).min, np.iinfo(d).max] for d in (a, b))
    (y,) = ours("MatMulInteger", [np.array([[v] * 9 for v in left], a), np.array([right] * 9, b)], {})
    assert y.tolist() == [[9 * v * w for w in right] for v in left]


def test_sums_wrap_around_like_int32() -> None:
    a = np.full((1, 70000), 255, np.int32)
    assert integer_product(a, a.T)[0, 0] == np.int64(70000 * 255 * 255).astype(np.int32)


CONVOLUTIONS = [
    ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    ((1, 3, 8, 9), (5, 3, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
    ((2, 4, 9, 9), (6, 2, 3, 3), {"group": 2, "dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ((1, 6, 5, 5), (6, 1, 3, 3), {"group": 6, "auto_pad": "SAME_UPPER"}),
    ((1, 2, 11), (3, 2, 4), {"pads": [2, 1]}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 2, 3), {"strides": [1, 2, 1]}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize(("a", "b"), SIGNS[:3])
def test_qlinear_conv(rng: np.random.Generator, x_shape: Any, w_shape: Any, attributes: Any, a: str, b: str) -> None:
    x, w = integers(rng, np.dtype(a), x_shape), weights_for(a, integers(rng, np.dtype(b), w_shape))
    x_zero, y_zero = (integers(rng, np.dtype(a), ()) for _ in range(2))
    bias = rng.integers(-5000, 5000, w_shape[0]).astype(np.int32)
    y_scale = np.asarray(scales(rng, ()) * np.prod(w_shape[1:]) / 2, np.float32)
    for per in ((), (w_shape[0],)):
        # Per channel, onnxruntime takes but one zero point for all weights.
        w_zero = np.asarray(np.full(per, integers(rng, np.dtype(b), ())), np.dtype(b))
        common = [x, scales(rng, ()), x_zero, w, scales(rng, per), w_zero, y_scale, y_zero]
        judged("QLinearConv", common, attributes)
        judged("QLinearConv", [*common, bias], attributes)


@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), CONVOLUTIONS)
def test_conv_integer(rng: np.random.Generator, x_shape: Any, w_shape: Any, attributes: Any) -> None:
    for b in ("uint8", "int8"):
        x, w = integers(rng, np.dtype(np.uint8), x_shape), weights_for("uint8", integers(rng, np.dtype(b), w_shape))
        judged("ConvInteger", [x, w], attributes)
        zeros = [integers(rng, np.dtype(d), ()) for d in ("uint8", b)]
        judged("ConvInteger", [x, w, *zeros], attributes)


def test_conv_integer_by_channels(rng: np.random.Generator) -> None:
    # onnxruntime has one zero point for all weights.
    x, w = integers(rng, np.dtype(np.int8), (1, 3, 6, 6)), integers(rng, np.dtype(np.int8), (4, 3, 3, 3))
    zeros = integers(rng, np.dtype(np.int8), (4,))
    (y,) = ours("ConvInteger", [x, w, None, zeros], {})
    for channel, zero in enumerate(zeros):
        (z,) = ours("ConvInteger", [x, w[channel : channel + 1], None, np.asarray(zero)], {})
        assert np.array_equal(y[:, channel], z[:, 0])


@pytest.mark.parametrize(("a", "b"), SIGNS[:3])
@pytest.mark.parametrize("shapes", [((5, 7), (7, 3)), ((2, 4, 7), (2, 7, 6)), ((3, 4, 7), (7, 2))])
@pytest.mark.parametrize("per_column", [False, True])
def test_qlinear_matmul(rng: np.random.Generator, a: str, b: str, shapes: Any, per_column: bool) -> None:
    left, right = integers(rng, np.dtype(a), shapes[0]), weights_for(a, integers(rng, np.dtype(b), shapes[1]))
    # Per column, onnxruntime wants shape [1, N] of batches, which its text does not have for matrices.
    per = () if not per_column else (shapes[1][-1],) if right.ndim == 2 else (shapes[1][0], 1, shapes[1][-1])
    zero = np.asarray(np.full(per, integers(rng, np.dtype(b), ())), np.dtype(b))
    y_scale = np.float32(0.7)[...]
    zeros = [integers(rng, np.dtype(a), ()) for _ in range(2)]
    inputs = [left, scales(rng, ()), zeros[0], right, scales(rng, per), zero, y_scale, zeros[1]]
    judged("QLinearMatMul", inputs, {})


def test_qlinear_matmul_by_rows(rng: np.random.Generator) -> None:
    a, b = integers(rng, np.dtype(np.uint8), (4, 7)), integers(rng, np.dtype(np.int8), (7, 3))
    a_scale, b_scale = scales(rng, (4,)), scales(rng, (3,))
    a_zero, b_zero = integers(rng, np.dtype(np.uint8), (4,)), integers(rng, np.dtype(np.int8), (3,))
    y_zero = np.int8(5)[...]
    (y,) = ours("QLinearMatMul", [a, a_scale, a_zero, b, b_scale, b_zero, np.float32(0.9)[...], y_zero], {})
    exact = ((a.astype(float) - a_zero[:, None]) * a_scale[:, None]) @ ((b.astype(float) - b_zero) * b_scale)
    assert np.array_equal(y, np.clip(np.rint(exact / np.float32(0.9)) + 5, -128, 127))


def test_qlinear_matmul_of_float8(rng: np.random.Generator) -> None:
    dtype = dtypes.FLOAT8E4M3FN
    a, b = (dtypes.encode(rng.standard_normal(s), dtype) for s in ((3, 5), (5, 2)))
    one, zero = np.float32(1)[...], dtypes.encode(np.zeros(()), dtype)
    (y,) = ours("QLinearMatMul", [a, one, zero, b, one * np.float32(0.5), zero, one, zero], {})
    exact = dtypes.decode(a) @ dtypes.decode(b) * np.float32(0.5)
    assert np.array_equal(y, dtypes.encode(exact, dtype))
