"""Running sums and products along an axis: CumSum, CumProd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .lower_order import lower_cumulative
from .registry import Attributes, Case, Constants, Types, operator


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "x", "fiu")
    shapes.required(types, 1, "axis", "iu")
    axis = shapes.value_of(types, constants, 1, "axis")
    shapes.flag(attributes, "exclusive")
    shapes.flag(attributes, "reverse")
    if axis is not None and len(axis) != 1:
        raise GraphError("input axis is wrong", expected="one axis", got=str(axis))
    shape = shapes.rank_of(x, "x", 1)
    if shape is not None and axis is not None:
        shapes.axis_of(axis[0], len(shape))
    return [shapes.tensor(x.dtype, shape)]


def _reference(function: np.ufunc) -> Callable[..., Array]:
    def reference(attributes: Attributes, x: Array, axis: Array) -> Array:
        along = shapes.axis_of(int(axis.reshape(())), x.ndim)
        # float16 would lose a bit with every step.
        wide = np.moveaxis(x.astype(np.float32) if x.dtype == np.float16 else x, along, 0)
        wide = wide[::-1] if attributes["reverse"] else wide
        y = function.accumulate(wide, axis=0, dtype=wide.dtype)
        if attributes["exclusive"]:
            before = np.full_like(y, function.identity)
            before[1:] = y[:-1]
            y = before
        y = y[::-1] if attributes["reverse"] else y
        return np.ascontiguousarray(np.moveaxis(y, 0, along), x.dtype)

    return reference


_CASES = (
    Case(((3, 4), np.int64(0)), constants=(1,)),
    Case(((3, 4), np.array(-1, np.int32)), constants=(1,), name="rows"),
    Case(((2, 5, 3), np.int64(1)), {"exclusive": 1}, constants=(1,), name="exclusive"),
    Case(((2, 5, 3), np.int64(1)), {"reverse": 1}, constants=(1,), name="reverse"),
    Case(((2, 33), np.int64(1)), {"exclusive": 1, "reverse": 1}, constants=(1,), name="both"),
    Case(((2, 0), np.int64(1)), {"exclusive": 1}, constants=(1,), name="empty"),
    Case((np.arange(1, 7).reshape(2, 3), np.int64(0)), name="axis from a call"),
    Case((np.arange(1, 7).reshape(2, 3), np.int64(0)), constants=(1,), name="integers"),
    Case((np.arange(1, 13, dtype=np.int32).reshape(3, 4), np.int64(-1)), constants=(1,), name="int32"),
)

for _name, _function, _kernel in (
    ("CumSum", np.add, "cumulative_sum_any"),
    ("CumProd", np.multiply, "cumulative_prod_any"),
):
    operator(
        _name,
        infer=_infer,
        reference=_reference(_function),
        attributes={"exclusive": 0, "reverse": 0},
        arity=(2, 2),
        lower=lower_cumulative(_kernel),
        strided=True,
        typed=True,
        cases=_CASES,
    )
