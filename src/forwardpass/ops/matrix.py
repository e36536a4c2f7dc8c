"""Operators on matrices that are no products: Trilu, Det."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .layout import blank
from .lower_scatter import lower_trilu
from .registry import Attributes, Case, Constants, Types, operator


def _infer_trilu(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    shapes.rank_of(x, "input", 2)
    shapes.flag(attributes, "upper")
    k = shapes.value_of(types, constants, 1, "k")
    if k is not None and len(k) != 1:
        raise GraphError("input k is wrong", expected="one integer", got=str(k))
    return [shapes.tensor(x.dtype, x.shape)]


def _trilu(attributes: Attributes, x: Array, k: Array | None = None) -> Array:
    rows, columns = x.shape[-2:]
    # Beyond the matrix all diagonals are alike, and within these bounds nothing overflows.
    diagonal = 0 if k is None else min(max(int(k.reshape(())), -rows - 1), columns + 1)
    away = np.arange(columns) - np.arange(rows)[:, None]
    kept = away >= diagonal if attributes["upper"] else away <= diagonal
    return np.where(kept, x, blank(x.dtype))


operator(
    "Trilu",
    infer=_infer_trilu,
    reference=_trilu,
    lower=lower_trilu,
    typed=True,
    strided=True,
    attributes={"upper": 1},
    arity=(1, 2),
    cases=(
        Case(((4, 5),)),
        Case(((4, 5),), {"upper": 0}, name="lower"),
        Case(((2, 5, 4), np.int64(-1)), constants=(1,), name="batch"),
        Case(((4, 4), np.int64(2)), {"upper": 0}, name="k from a call"),
        Case(((3, 4), np.int64(9)), constants=(1,), name="nothing left"),
        Case(((2, 0, 3),), name="empty"),
        Case((np.arange(12).reshape(3, 4), np.int64(1)), constants=(1,), name="integers"),
    ),
    narrow=True,
)


def _infer_det(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "f")
    shape = shapes.rank_of(x, "X", 2)
    if shape is None:
        return [TensorType(x.dtype, None)]
    shapes.unify(shape[-2], shape[-1], "the rows and columns of input X")
    return [shapes.tensor(x.dtype, shape[:-2])]


def _det(attributes: Attributes, x: Array) -> Array:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    return np.asarray(np.linalg.det(wide), x.dtype)


operator(
    "Det",
    infer=_infer_det,
    reference=_det,
    cases=(
        Case(((2, 2),)),
        Case(((3, 2, 4, 4),), name="batch"),
        Case(((1, 1),), name="one element"),
        Case((np.array([[1, 2], [2, 4]], np.float32),), name="singular"),
    ),
)
