"""Cast, CastLike, BitCast and Constant: every pair of element types, and the text form of numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.dtypes import (
    BFLOAT16,
    DTYPES,
    FLOAT4E2M1,
    FLOAT8E4M3FN,
    FLOAT8E5M2,
    FLOAT8E8M0,
    INT4,
    STRING,
    UINT4,
    code_of,
    decode,
    encode,
    is_narrow,
    kind_of,
    name_of,
    to_foreign,
)
from forwardpass.errors import GraphError

TYPES = [d for d in DTYPES.values() if d.kind != "c"]
PAIRS = [pytest.param(a, b, id=f"{name_of(a)}-{name_of(b)}") for a, b in itertools.product(TYPES, TYPES)]


def _cast(x: Any, dtype: np.dtype[Any], **attributes: Any) -> np.ndarray:
    y = run_node("Cast", x, to=code_of(dtype), **attributes)
    assert isinstance(y, np.ndarray)
    return y


def _made(dtype: np.dtype[Any], values: list[int]) -> np.ndarray:
    if dtype == STRING:
        return np.array([str(v) for v in values], object)
    return encode(np.array(values), dtype) if is_narrow(dtype) else np.array(values, dtype)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_numbers_that_both_types_have_stay_what_they_are(source: Any, target: Any) -> None:
    values = [1] if FLOAT8E8M0 in (source, target) else [0, 1, 1, 0]
    x, expected = _made(source, values), _made(target, values)
    np.testing.assert_array_equal(_cast(x, target), expected)
    like = run_node("CastLike", x, _made(target, [1]))
    assert like.dtype == target
    np.testing.assert_array_equal(like, expected)
    assert _cast(x[:0], target).shape == (0,)
    assert _cast(x[:1].reshape(()), target).shape == ()


@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, BFLOAT16])
@pytest.mark.parametrize("target", [np.int8, np.int16, np.int32, np.int64])
def test_numbers_are_cut_off_toward_zero(source: Any, target: Any) -> None:
    x = np.array([2.75, -2.75, 0.5, -0.5, 100.5])
    x = encode(x, source) if source is BFLOAT16 else x.astype(source)
    np.testing.assert_array_equal(_cast(x, np.dtype(target)), [2, -2, 0, 0, 100])


def test_integers_keep_their_lower_bits() -> None:
    x = np.array([200, -1, 70000, 2**40 + 7])
    np.testing.assert_array_equal(_cast(x, np.dtype(np.int8)), [-56, -1, 112, 7])
    np.testing.assert_array_equal(_cast(x, np.dtype(np.uint16)), [200, 65535, 4464, 7])
    np.testing.assert_array_equal(decode(_cast(x, UINT4)), [8, 15, 0, 7])
    np.testing.assert_array_equal(decode(_cast(x, INT4)), [-8, -1, 0, 7])


def test_everything_but_zero_is_true() -> None:
    x = np.array([0.0, -0.0, 1e-30, -2, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(_cast(x, np.dtype(bool)), [False, False, True, True, True, True])
    np.testing.assert_array_equal(_cast(np.array(["0", "0.0", "-2"], object), np.dtype(bool)), [False, False, True])


def test_halves_overflow_to_infinity() -> None:
    np.testing.assert_array_equal(_cast(np.array([1e6, -1e6, 65504]), np.dtype(np.float16)), [np.inf, -np.inf, 65504])


def test_saturate_and_round_mode() -> None:
    x = np.array([1e6, -1e6, np.inf, 3.3], np.float32)
    np.testing.assert_array_equal(decode(_cast(x, FLOAT8E4M3FN)), [448, -448, 448, 3.25])
    np.testing.assert_array_equal(decode(_cast(x, FLOAT8E4M3FN, saturate=0)), [np.nan, np.nan, np.nan, 3.25])
    np.testing.assert_array_equal(decode(_cast(x, FLOAT8E5M2, saturate=0)), [np.inf, -np.inf, np.inf, 3.5])
    np.testing.assert_array_equal(decode(_cast(x, FLOAT4E2M1, saturate=0)), [6, -6, 6, 3])
    x = np.array([3.0, 4.0, 5.0, 6.5], np.float32)
    for mode, expected in (("up", [4, 4, 8, 8]), ("down", [2, 4, 4, 4]), ("nearest", [4, 4, 4, 8])):
        np.testing.assert_array_equal(decode(_cast(x, FLOAT8E8M0, round_mode=mode)), expected)


@pytest.mark.parametrize(
    "dtype", [pytest.param(d, id=name_of(d)) for d in TYPES if is_narrow(d) and kind_of(d) == "f" and d != FLOAT8E8M0]
)
def test_narrow_floats_are_rounded_as_ml_dtypes_does(dtype: Any, rng: np.random.Generator) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed (extra [test])")
    scales = 10.0 ** np.arange(-4, 3)
    x = (rng.standard_normal((7, 300)) * scales[:, None]).astype(np.float32).ravel()
    x = np.append(x, np.arange(-96, 96) / 16).astype(np.float32)  # ties among them
    x = x[np.abs(x) <= float(ml_dtypes.finfo(getattr(ml_dtypes, name_of(dtype))).max)]
    expected = x.astype(getattr(ml_dtypes, name_of(dtype)))
    found = to_foreign(_cast(x, dtype))
    np.testing.assert_array_equal(found.view(f"u{dtype.itemsize}"), expected.view(f"u{dtype.itemsize}"))


NUMBERS_AS_TEXT = [
    (np.float32(1), "1"),
    (np.float32(0.1), "0.1"),
    (np.float64(0.1), "0.1"),
    (np.float32(314.15926), "314.15927"),
    (np.float64(1) / 3, "0.3333333333333333"),
    (np.float64(1e-5), "0.00001"),
    (np.float64(1e20), "100000000000000000000"),
    (np.float32(-0.0), "-0"),
    (np.float32(np.inf), "INF"),
    (np.float16(-np.inf), "-INF"),
    (np.float64(np.nan), "NaN"),
    (np.float16(0.1), "0.1"),
    (np.int64(-(2**63)), str(-(2**63))),
    (np.uint64(2**64 - 1), str(2**64 - 1)),
    (np.bool_(True), "1"),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS_AS_TEXT)
def test_numbers_as_text_and_back(number: Any, text: str) -> None:
    y = _cast(np.array([[number]]), STRING)
    assert y.tolist() == [[text]]
    back = _cast(y, number.dtype)
    np.testing.assert_array_equal(back, [[number]])
    assert np.array_equal(np.signbit(back), np.signbit([[number]])) or number.dtype.kind not in "f"


def test_floats_of_all_sizes_survive_as_text(rng: np.random.Generator) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        bits = rng.integers(0, 2**63, 500).astype(f"u{np.dtype(dtype).itemsize}").view(dtype)
        x = bits[np.isfinite(bits)]
        np.testing.assert_array_equal(_cast(_cast(x, STRING), np.dtype(dtype)), x)


def test_text_as_numbers() -> None:
    texts = np.array(["3.14", "1e-5", "1E8", "+INF", "inf", "-Inf", "nan", " 7 "], object)
    expected = np.array([3.14, 1e-5, 1e8, np.inf, np.inf, -np.inf, np.nan, 7])
    np.testing.assert_array_equal(_cast(texts, np.dtype(np.float64)), expected)
    np.testing.assert_array_equal(_cast(texts, np.dtype(np.float32)), expected.astype(np.float32))
    np.testing.assert_array_equal(_cast(np.array(["100.5", "-3", "300"], object), np.dtype(np.int32)), [100, -3, 300])
    np.testing.assert_array_equal(_cast(np.array(["300", "-3"], object), np.dtype(np.uint8)), [44, 253])
    np.testing.assert_array_equal(decode(_cast(np.array(["1.26", "-2"], object), FLOAT8E4M3FN)), [1.25, -2])


@pytest.mark.parametrize("text", ["Hello", "", "1_000", "0x10", "1.2.3"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_text_that_is_no_number(text: str, dtype: Any) -> None:
    with pytest.raises(GraphError, match="a string is no number"):
        _cast(np.array([text], object), np.dtype(dtype))


@pytest.mark.parametrize("text", ["INF", "nan"])
def test_text_that_is_no_integer(text: str) -> None:
    with pytest.raises(GraphError, match="a string is no integer"):
        _cast(np.array([text], object), np.dtype(np.int8))


def test_complex_numbers_are_not_cast() -> None:
    with pytest.raises(GraphError, match="wrong dtype"):
        _cast(np.ones(2, np.complex64), np.dtype(np.float32))
    with pytest.raises(GraphError, match="attribute 'to' is wrong: expected numbers, bool or strings, got complex64"):
        _cast(np.ones(2, np.float32), np.dtype(np.complex64))


WHOLE_BYTES = [d for d in DTYPES.values() if d.kind in "iufc"] + [BFLOAT16, FLOAT8E4M3FN, FLOAT8E5M2, FLOAT8E8M0]
SAME_WIDTH = [p for p in itertools.permutations(WHOLE_BYTES, 2) if p[0].itemsize == p[1].itemsize]


@pytest.mark.parametrize(("source", "target"), SAME_WIDTH)
def test_bits_stay_what_they_are(source: Any, target: Any, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (2, 3, source.itemsize), np.uint8).view(source)[..., 0]
    y = run_node("BitCast", x, to=code_of(target))
    assert y.dtype == target
    assert y.shape == x.shape
    assert np.ascontiguousarray(y).tobytes() == np.ascontiguousarray(x).tobytes()


def test_bits_of_less_than_a_byte() -> None:
    signed = encode(np.array([-8, -1, 0, 7]), INT4)
    y = run_node("BitCast", signed, to=code_of(UINT4))
    np.testing.assert_array_equal(decode(y), [8, 15, 0, 7])
    np.testing.assert_array_equal(run_node("BitCast", y, to=code_of(INT4)), signed)
    np.testing.assert_array_equal(decode(run_node("BitCast", y, to=code_of(FLOAT4E2M1))), [-0.0, -6, 0, 6])
    np.testing.assert_array_equal(run_node("BitCast", np.array([0, 1, 9], np.uint8), to=9), [False, True, True])


def test_bits_of_different_widths() -> None:
    with pytest.raises(GraphError, match="expected 32 bits as float32, got 64 bits of int64"):
        run_node("BitCast", np.ones(2, np.float32), to=7)
    with pytest.raises(GraphError, match="expected 8 bits as uint8, got 4 bits of uint4"):
        run_node("BitCast", np.ones(2, np.uint8), to=code_of(UINT4))
    with pytest.raises(GraphError, match="got string"):
        run_node("BitCast", np.ones(2, np.float64), to=8)


def test_constants_of_text_and_narrow_types() -> None:
    assert run_node("Constant", value_string="abc").item() == "abc"
    assert run_node("Constant", value_strings=["a", "bc"]).tolist() == ["a", "bc"]
    assert run_node("Constant", value_strings=[]).dtype == STRING
    halves = encode(np.array([1.5, -2]), BFLOAT16)
    for attribute in ("value", "sparse_value"):
        np.testing.assert_array_equal(run_node("Constant", **{attribute: halves}), halves)
    np.testing.assert_array_equal(
        run_node("ConstantOfShape", np.array([2, 1]), value=halves[:1]), halves[[0, 0]].reshape(2, 1)
    )
    assert run_node("ConstantOfShape", np.array([2]), value=np.array(["x"], object)).tolist() == ["x", "x"]
