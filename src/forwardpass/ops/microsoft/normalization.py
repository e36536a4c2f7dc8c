"""Layer normalisation fused with residuals and embeddings, and its form without a mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..linear import check_bias
from ..lower_norms import lower_embed, lower_layer, lower_skip
from ..registry import Attributes, Case, Constants, Types, operator
from . import DOMAIN

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)


def _working(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that means and variances are computed in."""
    return np.dtype(np.float64) if dtype == np.float64 else _FLOAT32


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float, *, centred: bool = True) -> tuple[Array, Array, Array]:
    """x with mean 0 (if `centred`) and variance 1 over axes, the mean, and the inverse of the deviation."""
    wide = x.astype(_working(x.dtype))
    mean = np.asarray(wide.mean(axis=axes, keepdims=True))
    rest = wide - mean if centred else wide
    inverse = np.asarray(1 / np.sqrt(np.square(rest).mean(axis=axes, keepdims=True) + wide.dtype.type(epsilon)))
    return np.asarray(rest * inverse), mean, inverse


def _saved(shape: Sequence[Dim] | None, dtype: np.dtype[Any]) -> TensorType:
    """The type of a mean or deviation over the last dimension."""
    return TensorType(_working(dtype), None if shape is None else (*shape[:-1], 1))


def _infer_skip(names: Sequence[str]) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        dtype = shapes.same_dtype(types, names)
        shapes.number(attributes, "epsilon")
        x = shapes.rank_of(shapes.required(types, 0, "input", "f"), "input", 2, 3)
        skip = shapes.rank_of(shapes.required(types, 1, "skip"), "skip", 2, 3)
        if x is not None and skip is not None:
            full = shapes.broadcast(x, skip)
            if full is None or len(full) != len(x) or (x[-1] != skip[-1] and 1 in (x[-1], skip[-1])):
                raise GraphError("input skip does not fit", expected=shapes.describe(x), got=shapes.describe(skip))
            for a, b in zip(x, full):
                shapes.unify(a, b, "the sizes of inputs input and skip")
        for index in range(2, len(types)):
            check_bias(types, index, None if x is None else x[-1])
        y, saved = TensorType(dtype, x), _saved(x, dtype)
        return [y, saved, saved, y]

    return infer


def _total(x: Array, skip: Array, bias: Array | None) -> Array:
    """What is normalised, and given out as the sum: in the working dtype, rounded once to the inputs'."""
    wide = _working(x.dtype)
    total = x.astype(wide) + skip.astype(wide)
    return np.asarray(total if bias is None else total + bias.astype(wide))


def _skip_layer_normalization(
    attributes: Attributes,
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Array | None = None,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    total = _total(x, skip, bias)
    y, mean, inverse = _normalized(total, (-1,), attributes["epsilon"])
    y = y * gamma if beta is None else y * gamma + beta
    return y.astype(x.dtype), mean, inverse, total.astype(x.dtype)


def _skip_simplified(
    attributes: Attributes, x: Array, skip: Array, gamma: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    total = _total(x, skip, bias)
    y, mean, inverse = _normalized(total, (-1,), attributes["epsilon"], centred=False)
    return (y * gamma).astype(x.dtype), mean, inverse, total.astype(x.dtype)


operator(
    "SkipLayerNormalization",
    domain=DOMAIN,
    infer=_infer_skip(("input", "skip", "gamma", "beta", "bias")),
    reference=_skip_layer_normalization,
    attributes={"epsilon": 1e-12},
    arity=(3, 5),
    lower=lower_skip(centred=True, shift=3, bias=4),
    typed=True,
    cases=(
        Case(((2, 3, 16), (2, 3, 16), (16,), (16,), (16,)), constants=(2, 3, 4)),
        Case(((2, 3, 33), (2, 3, 33), (33,)), {"epsilon": 0.01}, constants=(2,), name="neither beta nor bias"),
        Case(((2, 3, 16), (1, 3, 16), (16,), (16,)), constants=(2, 3), name="one skip"),
        Case(((3, 16), (3, 16), (16,), None, (16,)), name="from the caller"),
    ),
)
operator(
    "SkipSimplifiedLayerNormalization",
    domain=DOMAIN,
    infer=_infer_skip(("input", "skip", "gamma", "bias")),
    reference=_skip_simplified,
    attributes={"epsilon": 1e-12},
    arity=(3, 4),
    lower=lower_skip(centred=False, shift=None, bias=3),
    typed=True,
    cases=(
        Case(((2, 3, 16), (2, 3, 16), (16,), (16,)), constants=(2, 3)),
        Case(((2, 3, 33), (2, 3, 33), (33,)), {"epsilon": 0.01}, constants=(2,), name="no bias"),
        Case(((3, 16), (3, 16), (16,)), name="from the caller"),
    ),
)


def _infer_simplified(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, scale = shapes.required(types, 0, "X", "f"), shapes.required(types, 1, "scale", "f")
    shapes.number(attributes, "epsilon")
    shapes.integer(attributes, "stash_type")
    axis = shapes.integer(attributes, "axis")
    saved: tuple[Dim, ...] | None = None
    if x.shape is not None:
        axis = shapes.axis_of(axis, len(x.shape))
        full = shapes.broadcast(x.shape, scale.shape)
        if full is not None and (len(full) != len(x.shape) or any(a == 1 != b for a, b in zip(x.shape, full))):
            raise GraphError("input scale does not fit", expected=str(x), got=str(scale))
        saved = (*x.shape[:axis], *(1,) * (len(x.shape) - axis))
    return [TensorType(scale.dtype, x.shape), TensorType(_working(x.dtype), saved)]


def _simplified(attributes: Attributes, x: Array, scale: Array) -> tuple[Array, Array]:
    axes = tuple(range(shapes.axis_of(attributes["axis"], x.ndim), x.ndim))
    y, _, inverse = _normalized(x, axes, attributes["epsilon"], centred=False)
    return (y * scale).astype(scale.dtype), inverse


# Its makers write it into the default domain, where ONNX has none of that name.
for _domain in (DOMAIN, ""):
    operator(
        "SimplifiedLayerNormalization",
        domain=_domain,
        infer=_infer_simplified,
        reference=_simplified,
        lower=lower_layer(centred=False, saved={"inverse": 1}),
        typed=True,
        cases=(
            Case(((2, 3, 16), (16,)), constants=(1,)),
            Case(((2, 3, 4, 5), (4, 5)), {"axis": 2}, constants=(1,), name="two axes"),
            Case(((3, 33), (33,)), {"epsilon": 0.01}, name="from the caller"),
        ),
        attributes={"axis": -1, "epsilon": 1e-5, "stash_type": 1},
        arity=(2, 2),
    )

_EMBED = ("input_ids", "segment_ids", "word_embedding", "position_embedding", "segment_embedding", "gamma", "beta")


def _infer_embed(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    ids = shapes.required(types, 0, "input_ids", "i")
    shape = shapes.rank_of(ids, "input_ids", 2, 2)
    shapes.number(attributes, "epsilon")
    if attributes["mask_index_type"] is not None:
        shapes.integer(attributes, "mask_index_type")
    if (shapes.at(types, 1) is None) != (shapes.at(types, 4) is None):
        raise GraphError("inputs segment_ids and segment_embedding go together")
    for index, name in ((1, "segment_ids"), (7, "mask"), (8, "position_ids")):
        found = shapes.at(types, index)
        if found is None:
            continue
        other = shapes.rank_of(shapes.required(types, index, name, "i"), name, 2, 2)
        if shape is not None and other is not None:
            if not (index == 8 and other[0] == 1):
                shapes.unify(shape[0], other[0], f"the batch sizes of inputs input_ids and {name}")
            shapes.unify(shape[1], other[1], f"the lengths of inputs input_ids and {name}")
    hidden: Dim = None
    dtype = shapes.required(types, 2, "word_embedding", "f").dtype
    for index in (2, 3, 4, 5, 6):
        found = shapes.at(types, index)
        if found is not None:
            rank = 2 if index < 5 else 1
            table = shapes.rank_of(shapes.required(types, index, _EMBED[index], "f"), _EMBED[index], rank, rank)
            hidden = hidden if table is None else shapes.unify(hidden, table[-1], "the hidden sizes")
    y = TensorType(dtype, None if shape is None else (*shape, hidden))
    return [y, TensorType(_INT32, None if shape is None else shape[:1]), y]


def _rows(table: Array, ids: Array, name: str) -> Array:
    if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
        raise GraphError(
            f"an index into {name} is out of range", expected=f"0 to {len(table) - 1}", got=f"{ids.min()}, {ids.max()}"
        )
    return np.asarray(table[ids])


def _embed(attributes: Attributes, *given: Array | None) -> tuple[Array, Array, Array]:
    ids, segments, words, positions, segment_table, gamma, beta, mask, position_ids = (*given, None, None)[:9]
    assert ids is not None
    assert words is not None
    assert positions is not None
    places = np.arange(ids.shape[1])[None] if position_ids is None else position_ids
    total = _rows(words, ids, "word_embedding") + _rows(positions, places, "position_embedding")
    if segments is not None and segment_table is not None:
        total = total + _rows(segment_table, segments, "segment_embedding")
    y, _, _ = _normalized(total, (-1,), attributes["epsilon"])
    lengths = np.zeros(len(ids), np.int32) if mask is None else (mask == 1).sum(1, dtype=np.int32)
    return np.asarray(y * gamma + beta, words.dtype), lengths, total


_IDS = np.array([[3, 0, 8, 5], [1, 1, 2, 7]], np.int32)
_SEGMENTS = np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.int32)
_PLACES = np.array([[0, 3, 4, 1]], np.int32)

operator(
    "EmbedLayerNormalization",
    domain=DOMAIN,
    infer=_infer_embed,
    reference=_embed,
    attributes={"epsilon": 1e-12, "mask_index_type": None},
    arity=(1, 9),
    lower=lower_embed,
    typed=True,
    cases=(
        Case((_IDS, _SEGMENTS, (9, 16), (5, 16), (2, 16), (16,), (16,)), constants=(2, 3, 4, 5, 6)),
        Case((_IDS, None, (9, 16), (5, 16), None, (16,), (16,)), constants=(2, 3, 5, 6), name="no segments"),
        Case(
            (_IDS, _SEGMENTS, (9, 33), (5, 33), (2, 33), (33,), (33,), _SEGMENTS, _PLACES),
            {"epsilon": 0.01},
            constants=(2, 3, 4, 5, 6),
            name="mask and positions",
        ),
    ),
)
