"""CastMap, DictVectorizer, ZipMap: maps to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import STRING
from ...errors import GraphError, InputError
from ...graph import Array, TensorType
from .. import shapes
from ..registry import Attributes, Constants, Types, operator
from . import DOMAIN
from .parameters import labels_of, rows_of

_TARGETS = {"TO_FLOAT": np.dtype(np.float32), "TO_STRING": STRING, "TO_INT64": np.dtype(np.int64)}


def _map_of(types: Types) -> TensorType:
    found = shapes.at(types, 0)
    if not isinstance(found, TensorType) or found.container != ("map",):
        raise GraphError("input X is no map", expected="a map", got=str(found))
    return found


def _infer_cast_map(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _map_of(types)
    target = _TARGETS[shapes.choice(attributes, "cast_to", tuple(_TARGETS))]
    if shapes.choice(attributes, "map_form", ("DENSE", "SPARSE")) == "DENSE":
        return [TensorType(target, (1, None))]
    size = shapes.integer(attributes, "max_map")
    if size < 1:
        raise GraphError("attribute 'max_map' is wrong", expected="at least 1", got=str(size))
    return [TensorType(target, (1, size))]


def _cast_value(value: Any, target: str) -> Any:
    if target == "TO_STRING":
        return str(value) if isinstance(value, (str, np.str_)) else f"{float(value):.6f}"
    number = float(value)
    return number if target == "TO_FLOAT" else int(number)


def _cast_map(attributes: Attributes, x: dict[Any, Any]) -> Array:
    target = attributes["cast_to"]
    dtype = _TARGETS[target]
    keys = sorted(x)
    if attributes["map_form"] == "DENSE":
        return np.array([[_cast_value(x[k], target) for k in keys]], dtype).reshape(1, len(keys))
    if keys and keys[0] < 0:
        raise InputError("a key is negative", where="input X", expected="at least 0", got=str(keys[0]))
    # The text of a zero, as onnxruntime fills it in.
    y = np.full((1, int(attributes["max_map"])), "0.f" if target == "TO_STRING" else 0, dtype)
    for k in keys:
        if k < y.shape[1]:
            y[0, k] = _cast_value(x[k], target)
    return y


operator(
    "CastMap",
    domain=DOMAIN,
    infer=_infer_cast_map,
    reference=_cast_map,
    attributes={"cast_to": "TO_FLOAT", "map_form": "DENSE", "max_map": 1},
)


def _infer_dictionary(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    found = _map_of(types)
    count = len(labels_of(attributes, "int64_vocabulary", "string_vocabulary"))
    return [TensorType(STRING if found.dtype.kind in "OU" else found.dtype, (1, count))]


def _vectorize(attributes: Attributes, x: dict[Any, Any]) -> Array:
    values = list(x.values())
    dtype = np.asarray(values).dtype if values else np.dtype(np.float32)
    if dtype.kind in "OU":
        dtype = STRING
    elif all(type(v) is float for v in values):
        dtype = np.dtype(np.float32)  # plain numbers stand for the usual map
    absent = "" if dtype == STRING else 0
    keys = labels_of(attributes, "int64_vocabulary", "string_vocabulary").tolist()
    return np.array([x.get(k, absent) for k in keys], dtype).reshape(1, len(keys))


operator(
    "DictVectorizer",
    domain=DOMAIN,
    infer=_infer_dictionary,
    reference=_vectorize,
    attributes={"int64_vocabulary": None, "string_vocabulary": None},
)


def _infer_zip(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _, columns = rows_of(types, "f")
    count = len(labels_of(attributes, "classlabels_int64s", "classlabels_strings"))
    shapes.unify(count, columns, "the number of keys and of columns")
    return [TensorType(shapes.required(types, 0, "X").dtype, (), ("sequence", "map"))]


def _zip(attributes: Attributes, x: Array) -> list[dict[Any, Any]]:
    keys = labels_of(attributes, "classlabels_int64s", "classlabels_strings").tolist()
    return [dict(zip(keys, row)) for row in x.reshape(-1, len(keys)).tolist()]


operator(
    "ZipMap",
    domain=DOMAIN,
    infer=_infer_zip,
    reference=_zip,
    attributes={"classlabels_int64s": None, "classlabels_strings": None},
)
