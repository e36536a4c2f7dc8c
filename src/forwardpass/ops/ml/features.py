"""Operators that prepare features: Scaler, Normalizer, Imputer, Binarizer, OneHotEncoder, joining and choosing."""

from __future__ import annotations

import numpy as np

from ...dtypes import kind_of
from ...errors import GraphError, InputError
from ...graph import Array, Dim, TensorType
from .. import shapes
from ..lower_typed import lower_gather
from ..registry import Attributes, Case, Constants, Types, operator
from . import DOMAIN
from .parameters import floats, numbers, one_of, rows_of, words, working

_FLOAT = np.dtype(np.float32)


def _check_columns(name: str, count: int, found: TensorType) -> None:
    """A parameter of one number, or one per feature."""
    last = found.shape[-1] if found.shape else None
    if count != 1 and isinstance(last, int) and count != last:
        raise GraphError(f"attribute {name!r} has the wrong length", expected=f"1 or {last}", got=str(count))


def _infer_scaler(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fi")
    for name in ("offset", "scale"):
        if attributes[name] is not None:
            _check_columns(name, len(floats(attributes, name)), x)
    return [TensorType(_FLOAT, x.shape)]


def _scale(attributes: Attributes, x: Array) -> Array:
    y = working(x)
    if attributes["offset"] is not None:
        y = y - floats(attributes, "offset")
    if attributes["scale"] is not None:
        y = y * floats(attributes, "scale")
    return y.astype(np.float32)


operator("Scaler", domain=DOMAIN, infer=_infer_scaler, reference=_scale, attributes={"offset": None, "scale": None})


def _infer_normalizer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.choice(attributes, "norm", ("MAX", "L1", "L2"))
    rows_of(types)
    return [TensorType(_FLOAT, shapes.required(types, 0, "X").shape)]


def _normalize(attributes: Attributes, x: Array) -> Array:
    y = working(x)
    if not y.size:
        return y.astype(np.float32)
    if attributes["norm"] == "MAX":
        size = y.max(-1, keepdims=True)
    elif attributes["norm"] == "L1":
        size = np.abs(y).sum(-1, keepdims=True)
    else:
        size = np.sqrt((y * y).sum(-1, keepdims=True))
    return np.asarray(y / np.where(size == 0, 1, size), np.float32)


operator("Normalizer", domain=DOMAIN, infer=_infer_normalizer, reference=_normalize, attributes={"norm": "MAX"})


def _imputed(attributes: Attributes, whole: bool) -> tuple[Array, float]:
    """What is put in, and what it replaces."""
    if whole:
        return numbers(attributes, "imputed_value_int64s"), shapes.integer(attributes, "replaced_value_int64")
    return floats(attributes, "imputed_value_floats"), shapes.number(attributes, "replaced_value_float")


def _infer_imputer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fi")
    whole = kind_of(x.dtype) == "i"
    name = "imputed_value_int64s" if whole else "imputed_value_floats"
    count = len(_imputed(attributes, whole)[0])
    if not count:
        raise GraphError(f"attribute {name!r} is missing")
    _check_columns(name, count, x)
    return [TensorType(x.dtype, x.shape)]


def _impute(attributes: Attributes, x: Array) -> Array:
    values, replaced = _imputed(attributes, x.dtype.kind == "i")
    # The attribute is float32: a number of any other dtype equals it after rounding to the same.
    missing = np.isnan(x) if np.isnan(replaced) else x.astype(values.dtype) == values.dtype.type(replaced)
    return np.where(missing, values.astype(x.dtype), x)


operator(
    "Imputer",
    domain=DOMAIN,
    infer=_infer_imputer,
    reference=_impute,
    attributes={
        "imputed_value_floats": None,
        "imputed_value_int64s": None,
        "replaced_value_float": 0.0,
        "replaced_value_int64": 0,
    },
)


def _infer_binarizer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.number(attributes, "threshold")
    x = shapes.required(types, 0, "X", "fi")
    return [TensorType(x.dtype, x.shape)]


operator(
    "Binarizer",
    domain=DOMAIN,
    infer=_infer_binarizer,
    reference=lambda attributes, x: (x > np.float32(attributes["threshold"])).astype(x.dtype),
    attributes={"threshold": 0.0},
)


def _infer_one_hot(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fiO")
    shapes.flag(attributes, "zeros")
    name = one_of(attributes, "cats_int64s", "cats_strings")
    if (name == "cats_strings") != (kind_of(x.dtype) == "O"):
        raise GraphError("the categories are not of the kind of input X", expected=str(x), got=name)
    count = len(numbers(attributes, name) if name == "cats_int64s" else words(attributes, name))
    return [TensorType(_FLOAT, None if x.shape is None else (*x.shape, count))]


def _encode(attributes: Attributes, x: Array) -> Array:
    if x.dtype.kind == "O":
        places = {word: k for k, word in enumerate(words(attributes, "cats_strings"))}
        found = np.array([places.get(str(v), -1) for v in x.ravel()], np.int64)
        count = len(attributes["cats_strings"])
    else:
        listed = {int(v): k for k, v in enumerate(numbers(attributes, "cats_int64s"))}  # the last of equal ones
        count = len(attributes["cats_int64s"])
        keys = np.array(sorted(listed))
        whole = x.ravel().astype(np.int64)
        near = np.minimum(np.searchsorted(keys, whole), len(keys) - 1)
        found = np.where(keys[near] == whole, np.array([listed[k] for k in keys.tolist()])[near], -1)
    if not attributes["zeros"] and np.any(found < 0):
        raise InputError("an unknown category", where="input X", got=str(x.ravel()[found < 0][0]))
    y = np.zeros((x.size, count), np.float32)
    rows = np.flatnonzero(found >= 0)
    y[rows, found[rows]] = 1
    return y.reshape(*x.shape, count)


operator(
    "OneHotEncoder",
    domain=DOMAIN,
    infer=_infer_one_hot,
    reference=_encode,
    attributes={"cats_int64s": None, "cats_strings": None, "zeros": 1},
)


def _infer_vectorizer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    rows: Dim = None
    width: Dim = 0
    listed = numbers(attributes, "inputdimensions")
    if len(listed) not in (0, len(types)) or np.any(listed < 0):
        expected = f"{len(types)} sizes"
        raise GraphError("attribute 'inputdimensions' is wrong", expected=expected, got=str(listed.tolist()))
    for k, found in enumerate(types):
        height, columns = rows_of([found])
        rows = shapes.unify(rows, height, "the rows of the inputs")
        own = int(listed[k]) if len(listed) else columns
        width = width + own if isinstance(width, int) and isinstance(own, int) else None
    return [TensorType(_FLOAT, (rows, width))]


def _vectorize(attributes: Attributes, *inputs: Array) -> Array:
    matrices = [x.reshape(1, -1) if x.ndim == 1 else x for x in inputs]
    listed = numbers(attributes, "inputdimensions")
    widths = listed if len(listed) else np.array([m.shape[1] for m in matrices])
    y = np.zeros((len(matrices[0]), int(widths.sum())), np.float32)
    start = 0
    for matrix, width in zip(matrices, widths.tolist()):
        own = min(width, matrix.shape[1])
        y[:, start : start + own] = matrix[:, :own]
        start += width
    return y


operator(
    "FeatureVectorizer",
    domain=DOMAIN,
    infer=_infer_vectorizer,
    reference=_vectorize,
    attributes={"inputdimensions": None},
    arity=(1, None),
)


def _infer_extractor(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fiO")
    y = shapes.required(types, 1, "Y", "i")
    shape = shapes.rank_of(x, "X", 1)
    count = None if y.shape is None else shapes.product(y.shape)
    if shape is None:
        return [TensorType(x.dtype, None)]
    return [TensorType(x.dtype, (*shape[:-1], count) if len(shape) > 1 else (1, count))]


def _extract(attributes: Attributes, x: Array, y: Array) -> Array:
    places = y.ravel()
    size = x.shape[-1]
    if np.any((places < -size) | (places >= size)):
        raise InputError("an index is out of range", where="input Y", expected=f"{-size} to {size - 1}")
    return x[..., places] if x.ndim > 1 else x[None, places]


operator(
    "ArrayFeatureExtractor",
    domain=DOMAIN,
    infer=_infer_extractor,
    reference=_extract,
    arity=(2, 2),
    lower=lambda ctx: lower_gather(ctx, axis=-1),
    cases=(
        Case(((2, 3, 5), np.array([[0, 4]]))),
        Case(((3, 5), np.array([4, 0, 0]))),
        Case(((5,), np.array([1, 2])), name="a vector"),
        Case((np.arange(10, dtype=np.int32).reshape(1, 10), np.array([7, 3])), name="integers"),
    ),
    typed=True,
)
