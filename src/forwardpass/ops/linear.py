"""Matrix products: MatMul, Gemm, and the linear layer with an epilogue that the passes make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .activations import ACTIVATIONS, activate
from .lower_linear import lower_linear, lower_matmul
from .numeric import FLOATS, WIDE_INTEGERS, rounded_once, typed
from .registry import Attributes, Case, Constants, Types, operator

EPILOGUE = {"activation": "", "alpha": 0.0, "beta": 0.0}
"""Attributes of every operator with an epilogue, and their defaults."""
_ACTIVATIONS = ("", *ACTIVATIONS)


def check_epilogue(attributes: Attributes) -> None:
    """Raise GraphError unless the epilogue's attributes are valid."""
    shapes.choice(attributes, "activation", _ACTIVATIONS)
    shapes.number(attributes, "alpha")
    shapes.number(attributes, "beta")


def epilogue(attributes: Attributes, y: Array, bias: Array | None, residual: Array | None) -> Array:
    """activation(y + bias + residual)."""
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + residual
    return activate(attributes["activation"], np.asarray(y), attributes["alpha"], attributes["beta"])


def check_bias(types: Types, index: int, size: Dim) -> None:
    """Raise GraphError unless the bias at that input is absent or a vector of that size."""
    found = shapes.at(types, index)
    if found is not None:
        shape = shapes.rank_of(found, "bias", 1, 1)
        if shape is not None:
            shapes.unify(size, shape[0], "the number of outputs and the length of input bias")


def check_residual(types: Types, index: int, shape: Sequence[Dim] | None) -> None:
    """Raise GraphError unless the residual at that input is absent or has the output's shape."""
    found = shapes.at(types, index)
    if found is None or found.shape is None or shape is None:
        return
    wrong = len(found.shape) != len(shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, found.shape)
    )
    if wrong:
        raise GraphError(
            "input residual does not have the shape of the output",
            expected=shapes.describe(shape),
            got=shapes.describe(found.shape),
        )


def matmul_shape(a: tuple[Dim, ...] | None, b: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """The shape of NumPy's matmul."""
    if a is None or b is None:
        return None
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    if left[-1] != right[-2]:
        shapes.unify(left[-1], right[-2], f"the inner dimensions (K) of {shapes.describe(a)} and {shapes.describe(b)}")
    batch = shapes.broadcast(left[:-2], right[:-2])
    assert batch is not None
    return batch + left[-2:-1] * (len(a) > 1) + right[-1:] * (len(b) > 1)


def _infer_matmul(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("A", "B"))
    a = shapes.rank_of(typed(types, 0, "A", FLOATS | WIDE_INTEGERS), "A", 1)
    b = shapes.rank_of(shapes.required(types, 1, "B"), "B", 1)
    return [shapes.tensor(dtype, matmul_shape(a, b))]


operator(
    "MatMul",
    infer=_infer_matmul,
    reference=rounded_once(lambda attributes, a, b: np.asarray(np.matmul(a, b))),
    arity=(2, 2),
    lower=lower_matmul,
    cases=(
        Case(((3, 7), (7, 5)), constants=(1,)),
        Case(((1, 64), (64, 33)), constants=(1,), name="one row"),
        Case(((2, 3, 7), (7, 5)), constants=(1,), name="rows in two dimensions"),
        Case(((2, 1, 3, 7), (5, 7, 4)), name="batches broadcast"),
        Case(((2, 3, 4), (2, 4, 5)), constants=(1,), name="constant batch"),
        Case(((7,), (7,)), name="dot product"),
        Case(((7,), (2, 7, 3)), name="vector times matrices"),
        Case(((2, 3, 7), (7,)), constants=(1,), name="matrices times vector"),
        Case(((0, 7), (7, 5)), constants=(1,), name="no rows"),
        Case(((3, 0), (0, 5)), name="no K"),
    ),
    strided=True,
)


def _infer_gemm(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("A", "B", "C"))
    shapes.number(attributes, "alpha")
    shapes.number(attributes, "beta")
    a = shapes.rank_of(typed(types, 0, "A", FLOATS | WIDE_INTEGERS), "A", 2, 2)
    b = shapes.rank_of(shapes.required(types, 1, "B"), "B", 2, 2)
    rows, k_a = (None, None) if a is None else a[::-1] if shapes.flag(attributes, "transA") else a
    k_b, columns = (None, None) if b is None else b[::-1] if shapes.flag(attributes, "transB") else b
    shapes.unify(k_a, k_b, "the inner dimensions (K) of A and B")
    out = (rows, columns)
    c = shapes.at(types, 2)
    if c is not None and c.shape is not None:
        shapes.rank_of(c, "C", 0, 2)
        full = shapes.broadcast(out, c.shape)
        if full is not None and any(isinstance(p, int) and isinstance(q, int) and p != q for p, q in zip(out, full)):
            raise GraphError(
                "input C does not broadcast to the product",
                expected=f"a shape that fits into {shapes.describe(out)}",
                got=shapes.describe(c.shape),
            )
    return [shapes.tensor(dtype, out)]


def _gemm(attributes: Attributes, a: Array, b: Array, c: Array | None = None) -> Array:
    a = a.T if attributes["transA"] else a
    b = b.T if attributes["transB"] else b
    y = np.matmul(a, b)
    y = _scaled(attributes["alpha"], y)
    if c is not None:
        y = y + _scaled(attributes["beta"], c)
    return np.asarray(y, dtype=a.dtype)


def _scaled(factor: float, x: Array) -> Array:
    """factor * x; integers only become floating point where the factor is none."""
    if factor == 1:
        return x
    if x.dtype.kind in "iu" and float(factor).is_integer() and abs(factor) < 2**31:
        return np.asarray(x * np.array(int(factor)).astype(x.dtype))
    return np.asarray(factor * x)


operator(
    "Gemm",
    infer=_infer_gemm,
    reference=rounded_once(_gemm),
    attributes={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    arity=(2, 3),
    lower=None,
    cases=(
        Case(((3, 7), (7, 5), (5,)), constants=(1, 2)),
        Case(((3, 7), (5, 7), (5,)), {"transB": 1}, constants=(1, 2), name="transB"),
        Case(((7, 3), (7, 5)), {"transA": 1}, constants=(1,), name="transA"),
        Case(((7, 3), (5, 7), (3, 1)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, name="all"),
        Case(((3, 7), (7, 5), (3, 5)), {"alpha": 2.0}, name="full C"),
        Case(((3, 7), (7, 5), ()), {"beta": 0.5}, constants=(1, 2), name="scalar C"),
        Case(((3, 7), (7, 5), (1, 5)), {"beta": 0.0}, constants=(1, 2), name="beta 0"),
        Case(((0, 7), (7, 5), (5,)), constants=(1, 2), name="no rows"),
    ),
    strided=True,
)


def _infer_linear(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, ("x", "w", "bias", "residual"))
    check_epilogue(attributes)
    x = shapes.rank_of(typed(types, 0, "x", FLOATS), "x", 1)
    w = shapes.rank_of(shapes.required(types, 1, "w"), "w", 2, 2)
    out = matmul_shape(x, w)
    check_bias(types, 2, None if w is None else w[1])
    check_residual(types, 3, out)
    return [shapes.tensor(dtype, out)]


def _linear(
    attributes: Attributes, x: Array, w: Array, bias: Array | None = None, residual: Array | None = None
) -> Array:
    return epilogue(attributes, np.matmul(x, w), bias, residual)


operator(
    "Linear",
    domain="fused",
    infer=_infer_linear,
    reference=rounded_once(_linear),
    attributes=EPILOGUE,
    arity=(2, 4),
    lower=lower_linear,
    cases=(
        Case(((3, 7), (7, 5)), constants=(1,)),
        Case(((1, 8), (8, 5), (5,)), {"activation": "Sigmoid"}, constants=(1, 2), name="one row"),
        Case(
            ((2, 3, 33), (33, 17), (17,)),
            {"activation": "Relu"},
            constants=(1, 2),
            name="rows in two dimensions",
        ),
        Case(
            ((4, 7), (7, 40), (40,), (4, 40)),
            {"activation": "Clip", "alpha": -0.5, "beta": 0.5},
            constants=(1, 2),
            name="residual",
        ),
        Case(((4, 7), (7, 5), None, (4, 5)), {"activation": "GeluTanh"}, constants=(1,), name="residual alone"),
        Case(((7,), (7, 5), (5,)), {"activation": "LeakyRelu", "alpha": 0.1}, constants=(1, 2), name="a vector"),
        Case(((0, 7), (7, 5), (5,)), constants=(1, 2), name="no rows"),
        Case(((3, 7), (7, 1), (1,)), constants=(1, 2), name="one output"),
    ),
    strided=True,
)
