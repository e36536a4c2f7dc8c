"""Comparisons, which give bools, and logic on bools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import STRING
from ..graph import Array, TensorType
from . import shapes
from .lower_typed import Lower, lower_compare, lower_is_inf, lower_is_nan, lower_logic, lower_not
from .numeric import BOOL, FLOATS_AND_FLOAT8, NUMBERS, DTypes, typed
from .registry import Attributes, Case, Constants, Types, operator

_BOOL = np.dtype(bool)


def _infer(allowed: DTypes) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        typed(types, 0, "A", allowed)
        shapes.same_dtype(types, ("A", "B"))
        return [shapes.tensor(_BOOL, shapes.broadcast_all(types))]

    return infer


def _binary(
    op: str, function: Callable[[Any, Any], Any], allowed: DTypes, cases: tuple[Case, ...], lower: Lower
) -> None:
    operator(
        op,
        infer=_infer(allowed),
        # Comparing arrays of strings gives an array of objects.
        reference=lambda attributes, a, b: np.asarray(function(a, b), dtype=bool),
        arity=(2, 2),
        lower=lower,
        cases=cases,
        strided=True,
        typed=True,
    )


_F = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
_WHOLE = np.arange(-6, 6, dtype=np.int64).reshape(3, 4)
_COMPARED = (
    Case(((2, 3, 5), (2, 3, 5))),
    Case((np.round(_F), _F[:, None]), name="special"),
    Case((np.arange(5, dtype=np.float32), np.float32(2)), constants=(1,), name="scalar"),
    Case(((4, 1, 1), (2, 1, 3, 1)), name="both broadcast"),
    Case((_WHOLE, _WHOLE[::-1]), name="integers"),
    Case((_WHOLE.astype(np.int32), np.int32(0)), constants=(1,), name="int32"),
    Case(((0, 3), (3,)), name="empty"),
)
_BOOLS = np.array([[True, False, True], [False, False, True]])
_LOGIC = (
    Case((_BOOLS, _BOOLS[::-1])),
    Case((_BOOLS, _BOOLS[1]), constants=(1,), name="row"),
    Case((_BOOLS[:, :1], _BOOLS[0]), name="outer"),
    Case((_BOOLS, np.array(True)), constants=(1,), name="scalar"),
    Case((np.zeros((0, 3), bool), _BOOLS[0]), name="empty"),
)
_EQUAL = (
    Case((_BOOLS, _BOOLS[::-1]), name="bools"),
    Case((np.array([0, 255, 7], np.uint8), np.array([[7], [255]], np.uint8)), name="bytes"),
)

_binary("Equal", np.equal, NUMBERS | BOOL | {STRING}, _COMPARED + _EQUAL, lower_compare("equal_any"))
_binary("Greater", np.greater, NUMBERS, _COMPARED, lower_compare("less_any", swapped=True))
_binary("GreaterOrEqual", np.greater_equal, NUMBERS, _COMPARED, lower_compare("less_or_equal_any", swapped=True))
_binary("Less", np.less, NUMBERS, _COMPARED, lower_compare("less_any"))
_binary("LessOrEqual", np.less_equal, NUMBERS, _COMPARED, lower_compare("less_or_equal_any"))
_binary("And", np.logical_and, BOOL, _LOGIC, lower_logic("and_bool"))
_binary("Or", np.logical_or, BOOL, _LOGIC, lower_logic("or_bool"))
_binary("Xor", np.logical_xor, BOOL, _LOGIC, lower_logic("xor_bool"))


def _infer_not(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", BOOL)
    return [shapes.tensor(_BOOL, x.shape)]


operator(
    "Not",
    infer=_infer_not,
    reference=lambda attributes, x: np.logical_not(x),
    cases=(Case((_BOOLS,)), Case((np.array(True),), name="scalar"), Case((np.zeros((0, 3), bool),), name="empty")),
    lower=lower_not,
    elementwise=True,
    strided=True,
    typed=True,
)


def _infer_is(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "X", FLOATS_AND_FLOAT8)
    for name in attributes:
        shapes.flag(attributes, name)
    return [shapes.tensor(_BOOL, x.shape)]


def _is_inf(attributes: Attributes, x: Array) -> Array:
    found = np.isinf(x)
    if not attributes["detect_positive"]:
        found = found & (x < 0)
    if not attributes["detect_negative"]:
        found = found & (x > 0)
    return np.asarray(found)


operator(
    "IsInf",
    infer=_infer_is,
    reference=_is_inf,
    attributes={"detect_negative": 1, "detect_positive": 1},
    cases=(
        Case((_F,)),
        Case((_F,), {"detect_negative": 0}, name="positive"),
        Case((_F,), {"detect_positive": 0}, name="negative"),
        Case((_F,), {"detect_positive": 0, "detect_negative": 0}, name="neither"),
        Case(((0, 4),), name="empty"),
    ),
    lower=lower_is_inf,
    strided=True,
    typed=True,
)
operator(
    "IsNaN",
    infer=_infer_is,
    reference=lambda attributes, x: np.asarray(np.isnan(x)),
    cases=(Case((_F,)), Case(((2, 3),), name="none"), Case(((0, 4),), name="empty")),
    lower=lower_is_nan,
    strided=True,
    typed=True,
)
