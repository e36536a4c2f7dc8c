"""Optionals: values that may hold nothing. One that holds something is that thing itself, an empty one is None."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError
from ..graph import Array, TensorType, Value
from . import shapes
from .bodies import is_empty
from .registry import Attributes, Constants, Types, operator


def _wrapped(found: TensorType) -> TensorType:
    container = found.container if found.container[:1] == ("optional",) else ("optional", *found.container)
    return TensorType(found.dtype, found.shape, container)


def _infer_optional(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    declared, given = attributes["type"], shapes.at(types, 0)
    if declared is not None and not isinstance(declared, TensorType):
        raise GraphError("attribute 'type' is wrong", expected="a type", got=type(declared).__name__)
    if given is None:
        if declared is None:
            raise GraphError("an Optional needs an input or attribute 'type'")
        return [_wrapped(declared)]
    wrapped = _wrapped(given)
    if declared is None or is_empty(shapes.at(constants, 0)):
        return [wrapped if declared is None else _wrapped(declared)]
    expected = _wrapped(declared)
    if (expected.dtype, expected.container) != (wrapped.dtype, wrapped.container):
        raise GraphError("the input differs from attribute 'type'", expected=str(declared), got=str(given))
    return [wrapped]


operator(
    "Optional",
    infer=_infer_optional,
    reference=lambda attributes, value=None: value,
    attributes={"type": None},
    arity=(0, 1),
    narrow=True,
)


def _infer_get(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    found = shapes.at(types, 0)
    if found is None:
        raise GraphError("the optional is empty", expected="one that holds a value")
    bare = found.container[1:] if found.container[:1] == ("optional",) else found.container
    return [TensorType(found.dtype, found.shape, bare)]


operator("OptionalGetElement", infer=_infer_get, reference=lambda attributes, value: value, narrow=True)


def _has(attributes: Attributes, value: Value = None) -> Array:
    return np.array(value is not None)


operator(
    "OptionalHasElement",
    infer=lambda attributes, types, constants: [TensorType(np.dtype(np.bool_), ())],
    reference=_has,
    arity=(0, 1),
    narrow=True,
)
