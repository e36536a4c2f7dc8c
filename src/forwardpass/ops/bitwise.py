"""Operators on the bits of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, TensorType
from . import shapes
from .numeric import INTEGERS, typed
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator


def _infer_binary(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    typed(types, 0, "A", INTEGERS)
    dtype = shapes.same_dtype(types, ("A", "B"))
    return [shapes.tensor(dtype, shapes.broadcast_all(types))]


_A = np.array([[0, 1, -1, 6], [12, -7, 100, -128]], np.int8)
_B = np.array([3, -2, 5, 127], np.int8)


def _binary(op: str, function: Callable[[Any, Any], Any]) -> None:
    operator(
        op,
        infer=_infer_binary,
        reference=lambda attributes, a, b: np.asarray(function(a, b)),
        arity=(2, 2),
        cases=(
            Case((_A, _B)),
            Case((_A.astype(np.int64), np.int64(5)), constants=(1,), name="scalar"),
            Case((_A.view(np.uint8)[:, None], _B.view(np.uint8)), name="unsigned"),
            Case((np.zeros((0, 4), np.int32), _B.astype(np.int32)), name="empty"),
        ),
        elementwise=True,
    )


_binary("BitwiseAnd", np.bitwise_and)
_binary("BitwiseOr", np.bitwise_or)
_binary("BitwiseXor", np.bitwise_xor)


def _infer_not(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", INTEGERS)
    return [shapes.tensor(x.dtype, x.shape)]


operator(
    "BitwiseNot",
    infer=_infer_not,
    reference=lambda attributes, x: np.asarray(np.bitwise_not(x)),
    cases=(Case((_A,)), Case((_B.view(np.uint8),), name="unsigned"), Case((np.int64(5),), name="scalar")),
    elementwise=True,
)


def _infer_shift(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.choice(attributes, "direction", ("LEFT", "RIGHT"))
    typed(types, 0, "X", INTEGERS)
    dtype = shapes.same_dtype(types, ("X", "Y"))
    return [shapes.tensor(dtype, shapes.broadcast_all(types))]


def _shift(attributes: Attributes, x: Array, y: Array) -> Array:
    # C leaves a shift by a negative count, or by all bits and more, undefined; the standard does not.
    beyond = (y < 0) | (y >= 8 * x.dtype.itemsize)
    count = np.where(beyond, 0, y).astype(x.dtype)
    if attributes["direction"] == "RIGHT":
        filled = np.where(x < 0, -1, 0).astype(x.dtype)
        return np.asarray(np.where(beyond, filled, np.right_shift(x, count)))
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    shifted = np.left_shift(x.astype(unsigned), count.astype(unsigned)).astype(x.dtype)
    return np.asarray(np.where(beyond, x.dtype.type(0), shifted))


_COUNTS = np.array([0, 1, 3, 31], np.uint32)

operator(
    "BitShift",
    infer=_infer_shift,
    reference=_shift,
    attributes={"direction": REQUIRED},
    arity=(2, 2),
    cases=(
        Case((np.array([16, 4, 1, 2**32 - 1], np.uint32), _COUNTS), {"direction": "RIGHT"}, name="right"),
        Case((np.array([16, 4, 1, 2**32 - 1], np.uint32), _COUNTS), {"direction": "LEFT"}, name="left"),
        Case((np.array([[1], [200]], np.uint8), np.array([1, 7], np.uint8)), {"direction": "LEFT"}, name="broadcast"),
    ),
    elementwise=True,
)
