"""DynamicQuantizeLSTM: an LSTM whose weights are 8-bit integers, and whose inputs become so on the way."""

from __future__ import annotations

import numpy as np

from ...graph import Array, Dim, TensorType
from .. import shapes
from ..quantization import EIGHT_BITS, check_zero_point, dynamic_parameters, integer_product, one_of, rounded
from ..recurrent import Product, run_lstm
from ..registry import Attributes, Constants, Types, operator, registry
from . import DOMAIN

_LSTM = registry["", "LSTM"]


def _swapped(found: TensorType, dtype: np.dtype[np.float32]) -> TensorType:
    """Weights [directions, inputs, 4 * hidden] as LSTM has them."""
    if found.shape is None:
        return TensorType(dtype, None)
    return TensorType(dtype, (found.shape[0], found.shape[2], found.shape[1]))


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.required(types, 0, "X", "f").dtype
    weights = []
    for index, name, place in ((1, "W", 8), (2, "R", 10)):
        found = one_of(types, index, name, EIGHT_BITS)
        shapes.rank_of(found, name, 3, 3)
        weights.append(_swapped(found, dtype))
        shapes.required(types, place, f"{name}_scale", "f")
        shapes.required(types, place + 1, f"{name}_zero_point")
        check_zero_point(types, place + 1, f"{name}_zero_point", found.dtype)
        shape: tuple[Dim, ...] = found.shape or (None,) * 3
        for k, what in ((place, "scale"), (place + 1, "zero_point")):
            given = shapes.rank_of(shapes.required(types, k, f"{name}_{what}"), f"{name}_{what}", 1, 2) or ()
            for size, wanted in zip(given, (shape[0], shape[2])):
                shapes.unify(wanted, size, f"the sizes of inputs {name} and {name}_{what}")
    return _LSTM.infer({**attributes, "layout": 0}, [types[0], *weights, *types[3:8]], constants)


def _product(weights: Array, scale: Array, zero_point: Array, whole: Array | None = None) -> Product:
    """Rows, quantised by what `whole` holds (by what they hold, if None), times the weights of a direction."""
    centred = weights.astype(np.int32) - zero_point
    fixed = None if whole is None else dynamic_parameters(whole)

    def product(rows: Array) -> Array:
        own, zero = dynamic_parameters(rows) if fixed is None else fixed
        left = rounded(np.asarray(rows / own), zero, zero.dtype).astype(np.int32) - zero
        return np.asarray(integer_product(left, centred).astype(rows.dtype) * (own * scale))

    return product


def _lstm(attributes: Attributes, x: Array, w: Array, r: Array, *given: Array | None) -> tuple[Array, ...]:
    scales = given[5:]
    w_scale, w_zero, r_scale, r_zero = (s for s in scales if s is not None)
    lengths = given[1]
    longest = x.shape[0] if lengths is None else int(lengths.max(initial=0))
    products = [
        (_product(w[d], w_scale[d], w_zero[d], x[:longest]), _product(r[d], r_scale[d], r_zero[d]))
        for d in range(len(w))
    ]
    return run_lstm({**attributes, "layout": 0}, x, r.shape[1], products, *given[:5])


operator(
    "DynamicQuantizeLSTM",
    domain=DOMAIN,
    infer=_infer,
    reference=_lstm,
    attributes={k: v for k, v in _LSTM.attributes.items() if k != "layout"},
    arity=(3, 12),
)
