"""MatMulNBits: a product with weights of 2, 4 or 8 bits, quantised in blocks."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..linear import check_bias
from ..lower_nbits import lower_nbits, unpacked
from ..registry import REQUIRED, Attributes, Case, Constants, Types, operator
from . import DOMAIN

__all__ = ["unpacked"]

_BITS = (2, 4, 8)


def _counts(attributes: Attributes) -> tuple[int, int, int, int]:
    """Outputs, inputs, blocks of a row of weights, and bytes of a block."""
    n, k = shapes.integer(attributes, "N"), shapes.integer(attributes, "K")
    bits, block = shapes.integer(attributes, "bits"), shapes.integer(attributes, "block_size")
    if bits not in _BITS:
        raise GraphError("attribute 'bits' is wrong", expected="2, 4 or 8", got=str(bits))
    if block < 16 or block & (block - 1):
        raise GraphError("attribute 'block_size' is wrong", expected="a power of 2 of at least 16", got=str(block))
    if n < 1 or k < 1:
        raise GraphError("attributes 'N' and 'K' are wrong", expected="at least 1", got=f"{n} and {k}")
    return n, k, -(-k // block), block * bits // 8


def _check_size(types: Types, index: int, name: str, wanted: int) -> None:
    found = shapes.at(types, index)
    if found is not None and found.shape is not None:
        shapes.unify(wanted, shapes.product(found.shape), f"the elements needed and those of input {name}")


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    a = shapes.required(types, 0, "A", "f")
    n, k, blocks, size = _counts(attributes)
    if attributes["weight_prepacked"]:
        raise GraphError("attribute 'weight_prepacked' is wrong", expected="0: weights in the order of the standard")
    for index, name, kinds in ((1, "B", "u"), (2, "scales", "f")):
        shapes.required(types, index, name, kinds)
    _check_size(types, 1, "B", n * blocks * size)
    _check_size(types, 2, "scales", n * blocks)
    if shapes.at(types, 3) is not None:
        packed = shapes.required(types, 3, "zero_points", "uf").dtype == np.uint8
        _check_size(types, 3, "zero_points", n * (-(-blocks * attributes["bits"] // 8) if packed else blocks))
    if shapes.at(types, 4) is not None:
        shape = shapes.rank_of(shapes.required(types, 4, "g_idx", "i"), "g_idx", 1, 1)
        if shape is not None and isinstance(shape[0], int) and shape[0] not in (k, blocks * attributes["block_size"]):
            raise GraphError("input g_idx has the wrong length", expected=str(k), got=str(shape[0]))
    check_bias(types, 5, n)
    shape_a = shapes.rank_of(a, "A", 1)
    if shape_a is None:
        return [TensorType(a.dtype, None)]
    shapes.unify(k, shape_a[-1], "attribute 'K' and the last dimension of input A")
    out: tuple[Dim, ...] = (*shape_a[:-1], n)
    return [shapes.tensor(a.dtype, out)]


def _weights(attributes: Attributes, b: Array, scales: Array, zero_points: Array | None, groups: Array | None) -> Array:
    """The weights [N, K] in the dtype of the scales' values, or wider."""
    n, k, blocks, size = _counts(attributes)
    bits = attributes["bits"]
    codes = unpacked(b.reshape(n, blocks * size), bits)[:, :k]
    if zero_points is None:
        points = np.full((n, blocks), 1 << (bits - 1), scales.dtype)
    elif zero_points.dtype == np.uint8:
        points = unpacked(zero_points.reshape(n, -1), bits)[:, :blocks].astype(scales.dtype)
    else:
        points = zero_points.reshape(n, blocks)
    place = np.arange(k) // attributes["block_size"] if groups is None else groups[:k]
    if place.size and (place.min() < 0 or place.max() >= blocks):
        raise GraphError("input g_idx is out of range", expected=f"0 to {blocks - 1}", got=f"up to {place.max()}")
    return (codes - points[:, place]) * scales.reshape(n, blocks)[:, place]


def _product(
    attributes: Attributes,
    a: Array,
    b: Array,
    scales: Array,
    zero_points: Array | None = None,
    groups: Array | None = None,
    bias: Array | None = None,
) -> Array:
    working = np.result_type(a.dtype, np.float32)
    points = zero_points
    if points is not None and points.dtype != np.uint8:
        points = points.astype(working)
    weights = _weights(attributes, b, scales.astype(working), points, groups)
    y = np.matmul(a.astype(working), weights.T)
    return np.asarray(y if bias is None else y + bias, a.dtype)


def _case(n: int, k: int, bits: int, *, rows: int = 2, points: bool = False, name: str) -> Case:
    """Weights in blocks of 16."""
    blocks = -(-k // 16)
    rng = np.random.default_rng(n)
    b = rng.integers(0, 256, (n, blocks, 2 * bits), np.uint8)
    scales = rng.uniform(0.1, 0.2, n * blocks).astype(np.float32)
    zero = (rng.integers(0, 256, n * -(-blocks * bits // 8), np.uint8),) if points else ()
    attributes = {"N": n, "K": k, "bits": bits, "block_size": 16}
    return Case(((rows, k), b, scales, *zero), attributes, constants=tuple(range(1, 3 + len(zero))), name=name)


operator(
    "MatMulNBits",
    domain=DOMAIN,
    infer=_infer,
    reference=_product,
    # accuracy_level allows coarser arithmetic than this and asks for none.
    attributes={
        "N": REQUIRED,
        "K": REQUIRED,
        "bits": 4,
        "block_size": REQUIRED,
        "accuracy_level": 0,
        "weight_prepacked": 0,
    },
    arity=(3, 6),
    lower=lower_nbits,
    cases=(
        _case(20, 32, 4, name="4 bits"),
        _case(70, 48, 8, rows=1, points=True, name="8 bits, points"),
        _case(5, 32, 4, rows=5, points=True, name="4 bits, points"),
    ),
)
