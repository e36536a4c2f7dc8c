"""Operators whose output is their input under another shape or name: nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .registry import Attributes, Case, Constants, Types, operator

__all__ = ["reshaped"]


def _deduce(shape: Sequence[Dim], kept: Sequence[int], fixed: int) -> Dim:
    """What -1 stands for: the product of the dimensions not kept, over the product of the fixed ones."""
    rest = [d for k, d in enumerate(shape) if k not in kept]
    total = shapes.product(rest)
    if isinstance(total, int):
        if total % fixed:
            raise GraphError(
                "the shape does not fit the number of elements",
                expected=f"a divisor of {total}",
                got=str(fixed),
            )
        return total // fixed
    size = shapes.product(d for d in rest if isinstance(d, int))
    names = [d for d in rest if not isinstance(d, int)]
    return names[0] if size == fixed and len(names) == 1 else None


def reshaped(shape: Sequence[Dim], wanted: Sequence[int], allowzero: bool) -> tuple[Dim, ...]:
    """The output shape of Reshape: 0 keeps the input's dimension unless `allowzero`, -1 is what is left.

    Raises
    ------
    GraphError
        More than one -1, other negative values, a 0 that the input has no dimension for, or a wrong number of
        elements.
    """
    if any(d < -1 for d in wanted) or list(wanted).count(-1) > 1:
        raise GraphError("the shape is wrong", expected="at most one -1, and nothing below", got=str(list(wanted)))
    if allowzero and 0 in wanted and -1 in wanted:
        raise GraphError("the shape is wrong", expected="not both 0 and -1 with allowzero", got=str(list(wanted)))
    kept = [] if allowzero else [k for k, d in enumerate(wanted) if d == 0]
    if kept and kept[-1] >= len(shape):
        raise GraphError("0 stands for a dimension that the input lacks", expected=f"{len(shape)}", got=str(kept[-1]))
    out: list[Dim] = [shape[k] if k in kept else d for k, d in enumerate(wanted)]
    if -1 in wanted:
        fixed = shapes.product(d for k, d in enumerate(wanted) if k not in kept and d != -1)
        assert isinstance(fixed, int)
        out[list(wanted).index(-1)] = _deduce(shape, kept, fixed)
        return tuple(out)
    before, after = shapes.product(shape), shapes.product(out)
    if isinstance(before, int) and isinstance(after, int) and before != after:
        raise GraphError(
            "the shape does not fit the number of elements",
            expected=f"{before} elements as in {shapes.describe(shape)}",
            got=f"{after} in {shapes.describe(out)}",
        )
    return tuple(out)


def _infer_reshape(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    allowzero = shapes.flag(attributes, "allowzero")
    wanted = shapes.value_of(types, constants, 1, "shape")
    if wanted is None:
        return [shapes.unknown(x.dtype, shapes.length_of(types, 1))]
    if x.shape is None:
        unknown = [None if d == -1 or (d == 0 and not allowzero) else d for d in wanted]
        return [shapes.tensor(x.dtype, unknown)]
    return [shapes.tensor(x.dtype, reshaped(x.shape, wanted, allowzero))]


def _known(shape: Sequence[Dim]) -> tuple[int, ...]:
    return tuple(d for d in shape if isinstance(d, int))


def _reshape(attributes: Attributes, x: Array, shape: Array) -> Array:
    wanted = [int(d) for d in shape.ravel()]
    return x.reshape(_known(reshaped(x.shape, wanted, bool(attributes["allowzero"]))))


def _shape(*values: int) -> Array:
    return np.array(values, np.int64)


operator(
    "Reshape",
    infer=_infer_reshape,
    reference=_reshape,
    attributes={"allowzero": 0},
    arity=(2, 2),
    cases=(
        Case(((2, 3, 4), _shape(6, 4)), constants=(1,)),
        Case(((2, 3, 4), _shape(0, -1)), constants=(1,), name="keep and deduce"),
        Case(((2, 3, 4), _shape(-1)), constants=(1,), name="flat"),
        Case(((1, 1), _shape()), constants=(1,), name="to a scalar"),
        Case(((0, 3, 4), _shape(0, 12)), constants=(1,), name="no rows"),
        Case(((0, 3), _shape(3, 0)), {"allowzero": 1}, constants=(1,), name="allowzero"),
    ),
    view=True,
    strided=True,
    narrow=True,
)


def _infer_flatten(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    axis = shapes.integer(attributes, "axis")
    if x.shape is None:
        return [TensorType(x.dtype, (None, None))]
    axis = shapes.axis_of(axis, len(x.shape), past=True)
    return [shapes.tensor(x.dtype, (shapes.product(x.shape[:axis]), shapes.product(x.shape[axis:])))]


def _flatten(attributes: Attributes, x: Array) -> Array:
    axis = shapes.axis_of(attributes["axis"], x.ndim, past=True)
    return x.reshape(_known((shapes.product(x.shape[:axis]), shapes.product(x.shape[axis:]))))


operator(
    "Flatten",
    infer=_infer_flatten,
    reference=_flatten,
    attributes={"axis": 1},
    cases=(
        Case(((2, 3, 4),)),
        Case(((2, 3, 4),), {"axis": 0}, name="one row"),
        Case(((2, 3, 4),), {"axis": 3}, name="one column"),
        Case(((2, 3, 4),), {"axis": -1}, name="counted from the end"),
        Case(((0, 3, 4),), name="no rows"),
    ),
    view=True,
    strided=True,
    narrow=True,
)


def _infer_squeeze(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    axes = shapes.value_of(types, constants, 1, "axes")
    if x.shape is None:
        return [TensorType(x.dtype, None)]
    if axes is None and shapes.at(types, 1) is not None:
        count = shapes.length_of(types, 1)
        return [shapes.unknown(x.dtype, None if count is None else max(len(x.shape) - count, 0))]
    if axes is None:
        if not all(isinstance(d, int) for d in x.shape):
            return [TensorType(x.dtype, None)]
        return [shapes.tensor(x.dtype, [d for d in x.shape if d != 1])]
    gone = shapes.axes_of(axes, len(x.shape))
    for axis in gone:
        shapes.unify(1, x.shape[axis], f"1 and dimension {axis}, which is to be removed,")
    return [shapes.tensor(x.dtype, [d for k, d in enumerate(x.shape) if k not in gone])]


def _squeeze(attributes: Attributes, x: Array, axes: Array | None = None) -> Array:
    return x.squeeze() if axes is None else x.squeeze(tuple(int(a) for a in axes.ravel()))


operator(
    "Squeeze",
    infer=_infer_squeeze,
    reference=_squeeze,
    arity=(1, 2),
    cases=(
        Case(((2, 1, 3, 1),)),
        Case(((2, 1, 3, 1), _shape(1)), constants=(1,), name="axis"),
        Case(((2, 1, 3, 1), _shape(-1, 1)), constants=(1,), name="axes"),
        Case(((0, 1), _shape(1)), constants=(1,), name="empty"),
    ),
    view=True,
    strided=True,
    narrow=True,
)


def _infer_unsqueeze(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "data")
    axes = shapes.value_of(types, constants, 1, "axes")
    count = shapes.length_of(types, 1)
    if x.shape is None or axes is None:
        return [shapes.unknown(x.dtype, None if x.shape is None or count is None else len(x.shape) + count)]
    rank = len(x.shape) + len(axes)
    added = shapes.axes_of(axes, rank)
    old = iter(x.shape)
    return [shapes.tensor(x.dtype, [1 if k in added else next(old) for k in range(rank)])]


operator(
    "Unsqueeze",
    infer=_infer_unsqueeze,
    reference=lambda attributes, x, axes: np.expand_dims(x, tuple(int(a) for a in axes.ravel())),
    arity=(2, 2),
    cases=(
        Case(((2, 3), _shape(1)), constants=(1,)),
        Case(((2, 3), _shape(0, -1)), constants=(1,), name="both ends"),
        Case(((2, 3), _shape(3, 0)), constants=(1,), name="unsorted"),
        Case(((), _shape(0)), constants=(1,), name="scalar"),
    ),
    view=True,
    strided=True,
    narrow=True,
)


def _infer_identity(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    # An optional that is empty has no type.
    return [shapes.at(types, 0) or TensorType(np.dtype(np.float32), None, ("optional",))]


operator(
    "Identity",
    infer=_infer_identity,
    reference=lambda attributes, x: x,
    cases=(Case(((2, 3),)), Case(((),), name="scalar"), Case(((0,),), name="empty")),
    view=True,
    strided=True,
    narrow=True,
)
