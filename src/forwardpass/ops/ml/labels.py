"""LabelEncoder, CategoryMapper: one value for another, by a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import STRING, kind_of
from ...errors import GraphError
from ...graph import Array, TensorType
from .. import shapes
from ..registry import Attributes, Constants, Types, operator
from . import DOMAIN
from .parameters import as_text, floats, numbers, one_of, words

_KINDS = ("floats", "int64s", "strings", "tensor")


def _column(attributes: Attributes, side: str) -> Array:
    """The keys or values, in whichever attribute they are."""
    name = one_of(attributes, *(f"{side}_{k}" for k in _KINDS))
    if name.endswith("floats"):
        return floats(attributes, name)
    if name.endswith("int64s"):
        return numbers(attributes, name)
    if name.endswith("strings"):
        return np.array(words(attributes, name), STRING)
    found = attributes[name]
    if not isinstance(found, np.ndarray):
        raise GraphError(f"attribute {name!r} is wrong", expected="an array", got=type(found).__name__)
    return found.ravel()


def _default(attributes: Attributes, values: Array) -> Any:
    given = attributes["default_tensor"]
    if isinstance(given, np.ndarray) and given.size:
        if given.size != 1 or kind_of(given.dtype) != kind_of(values.dtype):
            expected = f"one element of {values.dtype}"
            raise GraphError("attribute 'default_tensor' is wrong", expected=expected, got=str(TensorType.of(given)))
        return given.ravel()[0]
    name = {"f": "default_float", "O": "default_string"}.get(values.dtype.kind, "default_int64")
    value = attributes[name]
    return as_text(value) if values.dtype.kind == "O" else value


def _table(attributes: Attributes) -> tuple[Array, Array, Any]:
    keys, values = _column(attributes, "keys"), _column(attributes, "values")
    if len(keys) != len(values):
        raise GraphError("keys and values differ in number", expected=str(len(keys)), got=str(len(values)))
    return keys, values, _default(attributes, values)


def _mapped(x: Array, keys: Array, values: Array, default: Any) -> Array:
    """The value of the key that each element equals; of equal keys the last one counts."""
    y = np.full(x.size, default, values.dtype)
    flat = x.ravel()
    if keys.dtype.kind == "O":
        places = {as_text(key): k for k, key in enumerate(keys)}
        found = np.array([places.get(as_text(v), -1) for v in flat], np.int64)
    else:
        dtype = np.result_type(flat, keys)
        flat, keys = flat.astype(dtype), keys.astype(dtype)
        order = np.argsort(keys, kind="stable")  # NaN comes last
        near = np.searchsorted(keys[order], flat, side="right") - 1
        place = order[np.maximum(near, 0)]
        equal = (keys[place] == flat) | ((keys[place] != keys[place]) & (flat != flat))
        found = np.where(equal & (near >= 0), place, -1)
    known = found >= 0
    y[known] = values[found[known]]
    return np.asarray(y.reshape(x.shape))


def _infer_encoder(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "fiO")
    keys, values, _ = _table(attributes)
    if kind_of(x.dtype) != kind_of(keys.dtype):
        raise GraphError("the keys are not of the kind of input X", expected=str(x), got=str(TensorType.of(keys)))
    return [TensorType(values.dtype, x.shape)]


operator(
    "LabelEncoder",
    domain=DOMAIN,
    infer=_infer_encoder,
    reference=lambda attributes, x: _mapped(x, *_table(attributes)),
    attributes={
        **{f"{side}_{kind}": None for side in ("keys", "values") for kind in _KINDS},
        "default_float": -0.0,
        "default_int64": -1,
        "default_string": "_Unused",
        "default_tensor": None,
    },
)


def _categories(attributes: Attributes) -> tuple[Array, Array]:
    integers, strings = numbers(attributes, "cats_int64s"), np.array(words(attributes, "cats_strings"), STRING)
    if len(integers) != len(strings):
        raise GraphError("integers and strings differ in number", expected=str(len(integers)), got=str(len(strings)))
    return integers, strings


def _infer_mapper(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "iO")
    _categories(attributes)
    return [TensorType(STRING if kind_of(x.dtype) == "i" else np.dtype(np.int64), x.shape)]


def _map(attributes: Attributes, x: Array) -> Array:
    integers, strings = _categories(attributes)
    if x.dtype.kind == "O":
        return _mapped(x, strings, integers, attributes["default_int64"])
    return _mapped(x, integers, strings, as_text(attributes["default_string"]))


operator(
    "CategoryMapper",
    domain=DOMAIN,
    infer=_infer_mapper,
    reference=_map,
    attributes={"cats_int64s": None, "cats_strings": None, "default_int64": -1, "default_string": "_Unused"},
)
