"""Element-wise operators of one operand: those of the table in activations.py, Clip among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Array, TensorType
from . import shapes
from .activations import ACTIVATIONS, Activation, activate, match
from .lower import binary_step, copy_step, dtype_reason, given, unary_step
from .lower_typed import kernel_type, pair_step
from .numeric import NUMBERS, DTypes, typed
from .registry import Attributes, Case, Constants, Lowering, Tensor, Types, operator


def _register(op: str, dtypes: DTypes, attributes: Mapping[str, Any], cases: Sequence[Case]) -> None:
    def infer(bound: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = typed(types, 0, "X", dtypes)
        for name, default in attributes.items():
            if isinstance(default, float):
                shapes.number(bound, name)
            else:
                shapes.choice(bound, name, [a.fixed[name] for a in ACTIVATIONS.values() if a.op == op])
        return [shapes.tensor(x.dtype, x.shape)]

    def matched(bound: Attributes) -> tuple[str, float, float]:
        found = match(op, bound)
        assert found is not None, "infer has checked the attributes"
        return found

    def reference(bound: Attributes, x: Array) -> Array:
        name, alpha, beta = matched(bound)
        return activate(name, x, alpha, beta)

    def lower(ctx: Lowering) -> str | None:
        name, alpha, beta = matched(ctx.attributes)
        row = ACTIVATIONS[name]
        return dtype_reason(ctx) or unary_step(ctx, row.row, alpha, beta, given(ctx), ctx.output(), cost=row.cost)

    operator(
        op,
        infer=infer,
        reference=reference,
        attributes=attributes,
        lower=lower,
        cases=cases,
        elementwise=True,
        strided=True,
    )


_SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 88.0, -88.0, 1e30, -1e30], np.float32)
_HALVES = np.arange(-4, 4.25, 0.25, dtype=np.float32)
_WHOLE = np.arange(-6, 6, dtype=np.int64).reshape(3, 4)
_UNIT = np.array([0.0, -0.0, 1.0, -1.0, 0.25, -0.75, 0.999, 1.5, -1.5, 1e-30, np.nan], np.float32)
_PLAIN = (
    Case(((2, 3, 5),)),
    Case(((),), name="scalar"),
    Case(((0, 4),), name="empty"),
    Case((_HALVES,), name="halves"),
    Case((np.linspace(-20, 20, 67, dtype=np.float32),), name="wide"),
)
_MORE: dict[str, tuple[Case, ...]] = {
    "LeakyRelu": (Case(((3, 7),), {"alpha": 0.3}),),
    "Elu": (Case(((3, 7),), {"alpha": 2.0}),),
    "Selu": (Case(((3, 7),), {"alpha": 2.0, "gamma": 3.0}),),
    "Celu": (Case(((3, 7),), {"alpha": 2.0}),),
    "HardSigmoid": (Case(((3, 7),), {"alpha": 0.5, "beta": 0.25}),),
    "Gelu": (Case(((3, 7),), {"approximate": "tanh"}), Case((_HALVES,), {"approximate": "tanh"})),
    "Swish": (Case(((3, 7),), {"alpha": 1.702}), Case(((3, 7),), {"alpha": 0.0})),
    **{op: (Case((_SPECIAL,), name="special"),) for op in ("Relu", "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt")},
    "Exp": (Case((_SPECIAL,), name="special"),),
    **{op: (Case((_SPECIAL,), name="special"),) for op in ("Tanh", "Sigmoid", "Erf", "Atan", "Sinh", "Cosh", "Asinh")},
    **{op: (Case((_SPECIAL[:-2],), name="special"),) for op in ("Sin", "Cos", "Tan")},
    **{op: (Case((_UNIT,), name="unit"),) for op in ("Asin", "Acos", "Atanh")},
    "Acosh": (Case((np.array([1.0, 1.001, 0.5, -1.0, 1e30, np.inf, np.nan], np.float32),), name="special"),),
    "Sign": (Case((_SPECIAL[_SPECIAL == _SPECIAL],), name="special"), Case((_WHOLE,), name="integers")),
    "Shrink": (
        Case(((3, 7),), {"bias": 0.75, "lambd": 1.0}, name="soft"),
        Case((_SPECIAL,), {"bias": 0.5}, name="special"),
        Case(((3, 7),), {"lambd": -0.5, "bias": 0.25}, name="negative threshold"),
    ),
    "ThresholdedRelu": (
        Case(((3, 7),), {"alpha": 0.25}, name="low"),
        Case(((3, 7),), {"alpha": -0.5}, name="negative"),
        Case((_SPECIAL[_SPECIAL == _SPECIAL],), name="special"),
    ),
    "Log": (Case((np.array([0.0, 1e-30, 0.5, 1.0, 2.0, 1e30, np.inf, -1.0], np.float32),), name="special"),),
    "Reciprocal": (Case((np.array([0.0, -0.0, np.inf, 3.0, -7.0], np.float32),), name="special"),),
}


def _register_all() -> None:
    by_op: dict[str, list[Activation]] = {}
    for row in ACTIVATIONS.values():
        by_op.setdefault(row.op, []).append(row)
    for op, rows in by_op.items():
        if op == "Clip":
            continue
        attributes: dict[str, Any] = {}
        for row in rows:
            attributes.update({k: v for k, v in row.fixed.items() if k not in attributes})
            attributes.update(row.parameters)
        _register(op, rows[0].dtypes, attributes, _PLAIN + _MORE.get(op, ()))


_register_all()


def _infer_clip(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = typed(types, 0, "input", NUMBERS)
    shapes.same_dtype(types, ("input", "min", "max"))
    for index, name in ((1, "min"), (2, "max")):
        bound = shapes.at(types, index)
        # The standard wants a scalar; converters from Keras write vectors of one element.
        if bound is not None and bound.shape not in ((1,), (None,)):
            shapes.rank_of(bound, name, 0, 0)
    return [shapes.tensor(x.dtype, x.shape)]


def _clip_reference(attributes: Attributes, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    y = x if low is None else np.maximum(x, low.reshape(()))
    return np.array(y if high is None else np.minimum(y, high.reshape(())), dtype=x.dtype)


def _lower_clip(ctx: Lowering) -> str | None:
    element = kernel_type(ctx, 0)
    integers = "int" in element
    reason = None if integers else dtype_reason(ctx, 0)
    if reason:
        return reason
    bounds = [-math.inf, math.inf]
    given_bounds = [k for k in (0, 1) if ctx.input(k + 1) is not None]
    for k in given_bounds:
        value = ctx.constant(k + 1)
        if value is not None:
            bounds[k] = float(value.reshape(()))
    if not integers and all(ctx.constant(k + 1) is not None for k in given_bounds):
        return unary_step(ctx, "clip", bounds[0], bounds[1], given(ctx), ctx.output(), cost=2)
    held, out = given(ctx), ctx.output()
    for k in given_bounds:
        bound, name = given(ctx, k + 1), ("max", "min")[k]
        bound = Tensor(bound.buffer, (), (), bound.offset)
        if integers:
            reason = pair_step(ctx, f"{name}_int", element, held, bound, out)
        else:
            reason = binary_step(ctx, f"{name}_f32", held, bound, out)
        if reason:
            return reason
        held = out
    return None if given_bounds else copy_step(ctx, held, out)


_LOW, _HIGH = np.float32(-0.5), np.float32(0.75)

operator(
    "Clip",
    infer=_infer_clip,
    reference=_clip_reference,
    arity=(1, 3),
    lower=_lower_clip,
    cases=(
        Case(((3, 5), _LOW, _HIGH), constants=(1, 2)),
        Case(((3, 5), None, _HIGH), constants=(2,), name="max alone"),
        Case(((3, 5), _LOW), constants=(1,), name="min alone"),
        Case(((3, 5),), name="no bounds"),
        Case(((3, 5), _HIGH, _LOW), constants=(1, 2), name="crossed bounds"),
        Case(((0, 5), _LOW, _HIGH), constants=(1, 2), name="empty"),
        Case((np.arange(-5, 6), np.int64(-2), np.int64(3)), constants=(1, 2), name="integers"),
        Case(((3, 5), _LOW, _HIGH), name="bounds from the caller"),
        Case(((3, 5), _LOW.reshape(1)), constants=(1,), name="a vector as bound"),
    ),
    elementwise=True,
    strided=True,
    typed=True,
)
