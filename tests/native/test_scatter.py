"""Operators that put elements at places: duplicates, reductions, dtypes, and indices that are out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import judge, operands
from planned import run

from cases import graph_of
from forwardpass import _native
from forwardpass.errors import InputError
from forwardpass.ops import Case, load_all, registry

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint64", "uint8", "bool")
REDUCTIONS = ("none", "add", "mul", "min", "max")
# Models widen float16 to float32, where sums and products round once at their end: no comparison to the last bit.
PAIRS = [(d, r) for d in DTYPES for r in REDUCTIONS if d != "float16" or r not in ("add", "mul")]


def _values(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray[Any, Any]:
    drawn = operands(shape, seed) * 3
    return np.asarray(drawn > 0 if dtype == "bool" else np.abs(drawn) if dtype.startswith("u") else drawn).astype(dtype)


def _indices(shape: tuple[int, ...], size: int, seed: int, dtype: Any = np.int64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-size, size, shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "reduction"), PAIRS)
def test_scatter_elements(dtype: str, reduction: str) -> None:
    for axis in (0, 1, -1):
        data = _values((3, 4, 5), dtype, 1)
        indices = _indices((2, 4, 3), (3, 4, 5)[axis], 2)
        judge("ScatterElements", (data, indices, _values((2, 4, 3), dtype, 3)), axis=axis, reduction=reduction)


@pytest.mark.parametrize(("dtype", "reduction"), PAIRS)
def test_scatter_nd(dtype: str, reduction: str) -> None:
    for depth in (1, 2, 3):
        data = _values((3, 4, 5), dtype, 1)
        indices = np.stack([_indices((7,), d, k) for k, d in enumerate((3, 4, 5)[:depth])], axis=-1)
        updates = _values((7, *(3, 4, 5)[depth:]), dtype, 3)
        judge("ScatterND", (data, indices, updates), reduction=reduction)


@given(st.integers(0, 40), st.integers(1, 30), st.sampled_from(REDUCTIONS), st.sampled_from([np.int32, np.int64]))
@settings(max_examples=25)
def test_duplicates_come_in_order(count: int, size: int, reduction: str, dtype: Any) -> None:
    data, updates = operands((size,), 0), operands((count,), 1)
    judge("ScatterElements", (data, _indices((count,), size, 2, dtype), updates), reduction=reduction)
    judge("ScatterND", (data, _indices((count, 1), size, 3), updates), reduction=reduction)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_tensor_scatter(axis: int, mode: str) -> None:
    shape = [2, 5, 6, 7]
    update = list(shape)
    update[axis] = 3
    most = shape[axis] - 3 if mode == "linear" else shape[axis] - 1
    for starts in (None, np.array([0, most])):
        given_inputs = (operands(tuple(shape), 0), operands(tuple(update), 1), *([] if starts is None else [starts]))
        judge("TensorScatter", given_inputs, axis=axis, mode=mode)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 2), (5, 2, 3, 7), (2, 2, 0)])
def test_reverse_sequence(shape: tuple[int, ...], batch: int) -> None:
    lengths = np.arange(shape[batch]) % (shape[1 - batch] + 1)
    for dtype in ("float32", "int8", "float64"):
        judge("ReverseSequence", (_values(shape, dtype, 0), lengths), batch_axis=batch, time_axis=1 - batch)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "uint64", "float32", "float64", "float16"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(dtype: str, axis: int) -> None:
    indices = np.array([[0, 3, 9, 1], [2, 4, 3, 100]]).astype(dtype)
    if not dtype.startswith("u"):
        indices[0, 0], indices[1, 1] = -1, -5
    if dtype in ("float32", "float64"):
        indices[0, 2:] = np.nan, 1e30
    if dtype == "uint64":
        indices[0, 2] = 2**64 - 1
    for values in (np.array([0, 1], np.float32), np.array([5, -3], np.int8), np.array([1.5, 2.5])):
        judge("OneHot", (indices, np.array(4), values), (1,), axis=axis)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 1, -2, 9, -9])
def test_trilu(upper: int, k: int | None) -> None:
    for dtype in ("float32", "int64", "bool"):
        more = () if k is None else (np.array(k),)
        judge("Trilu", (_values((2, 3, 5, 4), dtype, 0), *more), (1,), upper=upper)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_blocks(mode: str, block: int, dtype: str) -> None:
    for n, c, h, w in ((2, 3, 5, 7), (1, 1, 4, 40)):
        judge("DepthToSpace", (_values((n, c * block**2, h, w), dtype, 0),), blocksize=block, mode=mode)
        judge("SpaceToDepth", (_values((n, c, h * block, w * block), dtype, 0),), blocksize=block, mode=mode)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pads_of_other_dtypes(dtype: str) -> None:
    x = _values((3, 4, 5), dtype, 0)
    for pads in ((1, 0, 2, 0, 3, 1), (-1, 1, 0, 0, -2, -1), (0,) * 6):
        judge("Pad", (x, np.array(pads)), (1,))
        judge("Pad", (x, np.array(pads), _values((), dtype, 4)), (1,))
        judge("Pad", (x, np.array(pads), _values((), dtype, 4)), (1, 2))


_WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ScatterElements", ((3, 4), np.array([[0, 1, 3, 0]]), (1, 4)), {}),
    ("ScatterElements", ((3, 4), np.array([[0, -5]]), (1, 2)), {"axis": 1}),
    ("ScatterND", ((3, 4), np.array([[2, 4]]), (1,)), {}),
    ("ScatterND", ((3, 4), np.array([[-4]]), (1, 4)), {"reduction": "add"}),
    ("TensorScatter", ((2, 3, 6, 4), (2, 3, 2, 4), np.array([0, 5])), {}),
    ("TensorScatter", ((2, 3, 6, 4), (2, 3, 2, 4), np.array([-1, 0])), {"mode": "circular"}),
    ("ReverseSequence", ((4, 3), np.array([4, 5, 1])), {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), _WRONG)
def test_places_out_of_range_are_reported(name: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    load_all()
    right = tuple(np.zeros_like(i) if isinstance(i, np.ndarray) else i for i in inputs)
    graph, _ = graph_of(registry["", name], Case(right, attributes))
    values = {f"in{k}": i if isinstance(i, np.ndarray) else operands(i, k) for k, i in enumerate(inputs)}
    for isa in _native.available_isas():
        with pytest.raises(InputError, match="out of range"):
            run(graph, values, isa)
