"""Arithmetic, comparison and reduction: every dtype that the standard lists, and what it says of special values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.dtypes import BFLOAT16, DTYPES, FLOAT8E5M2, STRING, decode, encode, is_narrow, name_of
from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import infer_node
from tolerance import EXACT, ONNX_FLOAT32, ONNX_FLOAT64, ROUNDED

UNARY = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu",
    "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "LpNormalization", "IsInf", "IsNaN",
    "BitwiseNot", "Not", "Dropout",
]  # fmt: skip
BINARY = [
    "Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Sum", "Mean", "PRelu", "Pow", "MatMul", "Gemm", "Equal",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr",
    "BitwiseXor", "BitShift", "SwiGLU",
]  # fmt: skip
REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
]  # fmt: skip
NORMALISATIONS = ["BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"]
NORMALISATIONS += ["RMSNormalization", "LRN", "MeanVarianceNormalization"]
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "BitShift": {"direction": "LEFT"},
    "GroupNormalization": {"num_groups": 2},
    "LRN": {"size": 3},
    "MeanVarianceNormalization": {"axes": [0, 2]},
}
# Dtypes beyond those of the newest standard, which older opsets list.
OLDER = {"Erf": "int8 int16 int32 int64 uint8 uint16 uint32 uint64", "ReduceLogSum": "int32 int64 uint32 uint64"}
OLDER["ReduceLogSumExp"] = OLDER["ReduceLogSum"]
NAMES = {name_of(d): d for d in DTYPES.values()}


def _values(shape: Sequence[int], dtype: np.dtype[Any], seed: int) -> np.ndarray:
    """From 1.25 to 3, which is in the domain of most functions; whole numbers for integers."""
    rng = np.random.default_rng(seed)
    if dtype == STRING:
        return np.asarray(rng.integers(0, 3, shape).astype(str), dtype=object)
    drawn = rng.integers(5, 13, shape) / 4
    if is_narrow(dtype):
        return encode(drawn, dtype)
    return np.asarray(drawn, dtype=dtype)


def _operands(op: str, dtype: np.dtype[Any]) -> list[np.ndarray]:
    if op in UNARY + REDUCTIONS:
        x = _values((3, 4), dtype, 1)
        if op in ("Acos", "Asin", "Atanh"):
            x = encode(decode(x) / 4, dtype) if is_narrow(dtype) else x / dtype.type(4)
        return [x]
    if op in BINARY:
        return [_values((3, 3), dtype, 1), _values((3, 3), dtype, 2)]
    vectors = {"BatchNormalization": 4, "InstanceNormalization": 2, "GroupNormalization": 2, "LayerNormalization": 2}
    vectors["RMSNormalization"] = 1
    size = 5 if op in ("LayerNormalization", "RMSNormalization") else 4
    return [_values((2, 4, 5), dtype, 1), *(_values((size,), dtype, 2 + k) for k in range(vectors.get(op, 0)))]


def _listed(op: str) -> set[str]:
    """The names of the dtypes of input 0 by the newest standard."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    schema = onnx.defs.get_schema(op)
    first = schema.inputs[0].type_str
    for constraint in schema.type_constraints:
        if constraint.type_param_str == first:
            found = [t.removeprefix("tensor(").removesuffix(")") for t in constraint.allowed_type_strs]
            known = {"float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn"}
            known |= {"float8e4m3fnuz": "float8_e4m3fnuz", "float8e5m2": "float8_e5m2"}
            known |= {"float8e5m2fnuz": "float8_e5m2fnuz"}
            return {known.get(t, t) for t in found}
    raise AssertionError(f"{op} has no types")


@pytest.mark.parametrize("op", UNARY + BINARY + REDUCTIONS + NORMALISATIONS)
def test_the_dtypes_are_those_of_the_standard(op: str) -> None:
    allowed = _listed(op) | set(OLDER.get(op, "").split())
    assert allowed <= NAMES.keys()
    for name, dtype in NAMES.items():
        types = [TensorType(dtype, o.shape) for o in _operands(op, np.dtype(np.float32))]
        node = Node(op, [f"in{k}" for k in range(len(types))], ["y"], ATTRIBUTES.get(op, {}))
        if name in allowed:
            infer_node(node, types)
        else:
            with pytest.raises(GraphError, match="has the wrong dtype"):
                infer_node(node, types)


@pytest.mark.parametrize("op", UNARY + BINARY + REDUCTIONS + NORMALISATIONS)
def test_every_listed_dtype_runs(op: str) -> None:
    attributes = ATTRIBUTES.get(op, {})
    for name in sorted(_listed(op)):
        operands = _operands(op, NAMES[name])
        y = run_node(op, *operands, **attributes)
        if name not in ("float16", "bfloat16") or y.dtype == bool:
            continue
        exact = run_node(op, *(decode(o).astype(np.float64) for o in operands), **attributes)
        expected = decode(encode(exact, BFLOAT16)) if name == "bfloat16" else exact.astype(np.float16)
        np.testing.assert_allclose(decode(y).astype(np.float64), expected, **ROUNDED[name], err_msg=name)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_sums_of_float16_do_not_round_on_the_way(op: str) -> None:
    x = np.full((4000,), 0.5, np.float16)
    exact = run_node(op, x.astype(np.float64))
    y = run_node(op, x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, exact.astype(np.float16), **ROUNDED["float16"])


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_integers_are_not_divided_by_zero(op: str, dtype: str) -> None:
    with pytest.raises(GraphError, match="division by zero"):
        run_node(op, np.array([5, 6], dtype), np.array([1, 0], dtype))
    assert run_node(op, np.zeros(0, dtype), np.zeros((), dtype)).size == 0


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_signed_division_truncates(dtype: str) -> None:
    a, b = np.array([7, -7, 7, -7, -128], dtype), np.array([2, 2, -2, -2, 3], dtype)
    np.testing.assert_array_equal(run_node("Div", a, b), [3, -3, -3, 3, -42])
    np.testing.assert_array_equal(run_node("Mod", a, b), [1, 1, -1, -1, 1])
    np.testing.assert_array_equal(run_node("Mod", a, b, fmod=1), [1, -1, 1, -1, -2])


def test_integers_wrap() -> None:
    a, b = np.array([250, 3], np.uint8), np.array([10, 4], np.uint8)
    np.testing.assert_array_equal(run_node("Add", a, b), [4, 7])
    np.testing.assert_array_equal(run_node("Sub", a, b), [240, 255])
    np.testing.assert_array_equal(run_node("Mul", a, b), [196, 12])
    top = np.array([[2**31 - 1, 1]], np.int32)
    np.testing.assert_array_equal(run_node("ReduceSum", top), [[-(2**31)]])
    np.testing.assert_array_equal(run_node("MatMul", top, np.array([[2], [0]], np.int32)), [[-2]])


def test_integers_of_64_bits_stay_exact() -> None:
    large = 2**53 + 1
    x = np.array([[large, -large, large]])
    np.testing.assert_array_equal(run_node("ReduceMean", x[:, ::2]), [[large]])
    np.testing.assert_array_equal(run_node("Pow", np.array([3, -3]), np.array([35, 35])), [3**35, -(3**35)])
    np.testing.assert_array_equal(run_node("Shrink", x), x)
    np.testing.assert_array_equal(run_node("Clip", x, np.int64(-5)), [[large, -5, large]])
    identity = np.eye(3, dtype=np.int64)
    np.testing.assert_array_equal(run_node("Gemm", x, identity, x, alpha=2.0, beta=-1.0), x)
    unsigned = np.array([[2**64 - 1, 2**64 - 3]], np.uint64)
    np.testing.assert_array_equal(run_node("ReduceMean", unsigned[:, 1:]), [[2**64 - 3]])
    np.testing.assert_array_equal(run_node("ReduceMean", np.array([-7, 2])), [-2])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.array([2.0, 9.0], np.float32), np.array([3, -1], np.int64), np.array([8, 1 / 9], np.float32)),
        (np.array([2, -3], np.int32), np.array([0.5, 2.0], np.float32), np.array([1, 9], np.int32)),
        (np.array([2, 1, -1, -1], np.int64), np.array([-1, -5, -3, -2], np.int8), np.array([0, 1, -1, 1])),
        (np.array([3, 2], np.int64), np.array([2, 63], np.uint64), np.array([9, -(2**63)])),
        (np.array([1.5], np.float16), np.array([2.0], np.float64), np.array([2.25], np.float16)),
    ],
)
def test_pow_has_the_dtype_of_its_base(a: np.ndarray, b: np.ndarray, expected: np.ndarray) -> None:
    y = run_node("Pow", a, b)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


def test_mod_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    a = np.array([0.0, -0.0, inf, 1.0, 2.5, 2.5, -2.5, nan], np.float32)
    b = np.array([-2.0, 2.0, 1.0, 0.0, inf, -inf, inf, 1.0], np.float32)
    y = run_node("Mod", a, b)
    np.testing.assert_array_equal(y, np.array([-0.0, 0.0, nan, nan, 2.5, -inf, inf, nan], np.float32))
    assert np.signbit(y[0])
    assert not np.signbit(y[1])
    np.testing.assert_array_equal(run_node("Mod", a, b, fmod=1)[2:], [nan, nan, 2.5, 2.5, -2.5, nan])


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_shifts_by_too_much_leave_the_sign(dtype: str) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    x = np.array([5, 100, 1, 3]).astype(dtype)
    counts = np.array([bits, bits + 1, bits - 1, 1]).astype(dtype)
    np.testing.assert_array_equal(run_node("BitShift", x, counts, direction="RIGHT"), [0, 0, 0, 1])
    left = np.array([0, 0, 1 << (bits - 1), 6], np.uint64).astype(dtype)
    np.testing.assert_array_equal(
        run_node("BitShift", x, counts, direction="LEFT"), np.array(left, np.uint64).astype(dtype)
    )
    if dtype.startswith("i"):
        minus = np.array([-5, -5, 7, -128], dtype)
        counts = np.array([bits, -1, -1, 1], dtype)
        np.testing.assert_array_equal(run_node("BitShift", minus, counts, direction="RIGHT"), [-1, -1, 0, -64])
        found = run_node("BitShift", minus, counts, direction="LEFT")
        np.testing.assert_array_equal(found, [0, 0, 0, 0 if bits == 8 else -256])


def test_equal_compares_strings() -> None:
    a = np.array([["a", "bc"], ["", "ü"]], object)
    y = run_node("Equal", a, np.array(["a", "ü"], object))
    assert y.dtype == bool
    np.testing.assert_array_equal(y, [[True, False], [False, True]])


def test_float8_has_infinity_and_nan() -> None:
    x = encode(np.array([1.0, np.inf, -np.inf, np.nan]), FLOAT8E5M2, saturate=False)
    np.testing.assert_array_equal(run_node("IsInf", x), [False, True, True, False])
    np.testing.assert_array_equal(run_node("IsInf", x, detect_positive=0), [False, False, True, False])
    np.testing.assert_array_equal(run_node("IsNaN", x), [False, False, False, True])


EMPTY = {
    "ReduceL1": 0, "ReduceL2": 0, "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf, "ReduceMax": -np.inf,
    "ReduceMin": np.inf, "ReduceProd": 1, "ReduceSum": 0, "ReduceSumSquare": 0,
}  # fmt: skip


@pytest.mark.parametrize(("op", "expected"), EMPTY.items())
def test_reduction_of_nothing(op: str, expected: float) -> None:
    for dtype in ("float16", "float32", "float64"):
        y = run_node(op, np.zeros((2, 0, 3), dtype), np.array([1]), keepdims=0)
        np.testing.assert_array_equal(y, np.full((2, 3), expected, dtype))
    if np.isfinite(expected):
        np.testing.assert_array_equal(run_node(op, np.zeros((2, 0), np.uint32), np.array([1])), [[expected]] * 2)


NOOP = {
    "ReduceL1": np.abs, "ReduceL2": np.abs, "ReduceLogSum": np.log, "ReduceLogSumExp": np.positive,
    "ReduceMax": np.positive, "ReduceMean": np.positive, "ReduceMin": np.positive, "ReduceProd": np.positive,
    "ReduceSum": np.positive, "ReduceSumSquare": np.square,
}  # fmt: skip


@pytest.mark.parametrize(("op", "step"), NOOP.items())
@pytest.mark.parametrize("axes", [None, np.array([], np.int64)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduction_over_no_axes_keeps_the_other_steps(op: str, step: Any, axes: Any, keepdims: int) -> None:
    x = np.array([[0.5, -2.0], [3.0, 1.0]])
    x = np.abs(x) if op == "ReduceLogSum" else x
    y = run_node(op, x, axes, noop_with_empty_axes=1, keepdims=keepdims)
    np.testing.assert_allclose(y, step(x), **ONNX_FLOAT64)
    assert not np.shares_memory(x, y)


def test_log_sum_exp_neither_overflows_nor_loses_infinities() -> None:
    x = np.array([[1000, 1000], [-np.inf, 0], [-np.inf, -np.inf], [np.inf, 1], [-1000, -1000]], np.float32)
    y = run_node("ReduceLogSumExp", x, np.array([1]), keepdims=0)
    expected = [1000 + np.log(2), 0, -np.inf, np.inf, -1000 + np.log(2)]
    np.testing.assert_allclose(y, np.array(expected, np.float32), **ONNX_FLOAT32)


def test_extremes_of_bools_and_bytes() -> None:
    x = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(run_node("ReduceMax", x, np.array([1]), keepdims=0), [True, True])
    np.testing.assert_array_equal(run_node("ReduceMin", x, np.array([1]), keepdims=0), [False, True])
    assert run_node("ReduceMax", np.zeros(0, np.int8), keepdims=0) == -128
    assert run_node("ReduceMin", np.zeros(0, np.uint8), keepdims=0) == 255


def test_results_of_float64_are_exact() -> None:
    x = np.array([0.1, 0.7])
    for op, exact in (("Sin", np.sin(x)), ("Sinh", np.sinh(x)), ("ReduceSumSquare", [(x * x).sum()])):
        np.testing.assert_allclose(run_node(op, x), exact, **EXACT)
