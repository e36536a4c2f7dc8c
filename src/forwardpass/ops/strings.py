"""Operators on text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from re import Pattern
from typing import Any

import numpy as np

from ..dtypes import STRING
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .regex import compiled
from .registry import REQUIRED, Attributes, Constants, Types, operator

_INT64 = np.dtype(np.int64)


def _texts(values: Any, shape: tuple[int, ...]) -> Array:
    """Strings as an array; not np.array, which makes further dimensions of nested lists."""
    made = np.empty(len(values), STRING)
    made[:] = values
    return np.asarray(made.reshape(shape))


def _infer_concat(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x, y = shapes.required(types, 0, "X", "O"), shapes.required(types, 1, "Y", "O")
    return [TensorType(STRING, shapes.broadcast(x.shape, y.shape))]


operator(
    "StringConcat",
    infer=_infer_concat,
    reference=lambda attributes, x, y: np.asarray(np.add(x, y), STRING),
    arity=(2, 2),
)


def _infer_split(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "O")
    delimiter = attributes["delimiter"]
    if delimiter is not None and not isinstance(delimiter, str):
        raise GraphError("attribute 'delimiter' is wrong", expected="text", got=repr(delimiter))
    if attributes["maxsplit"] is not None:
        shapes.integer(attributes, "maxsplit")
    if x.shape is None:
        return [TensorType(STRING, None), TensorType(_INT64, None)]
    return [TensorType(STRING, (*x.shape, 0 if 0 in x.shape else None)), TensorType(_INT64, x.shape)]


def _split(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    most = -1 if attributes["maxsplit"] is None else attributes["maxsplit"]
    delimiter = attributes["delimiter"] or None
    rows = [text.split(delimiter, most) if delimiter else text.strip().split(None, most) for text in x.ravel()]
    width = max(map(len, rows), default=0)
    parts = [p for row in rows for p in (*row, *[""] * (width - len(row)))]
    return _texts(parts, (*x.shape, width)), np.array([len(r) for r in rows], np.int64).reshape(x.shape)


operator(
    "StringSplit",
    infer=_infer_split,
    reference=_split,
    attributes={"delimiter": None, "maxsplit": None},
)

_CASES: dict[str, Callable[[str], str]] = {"NONE": lambda t: t, "LOWER": str.lower, "UPPER": str.upper}


def _infer_normalizer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "O")
    shapes.choice(attributes, "case_change_action", tuple(_CASES))
    shapes.flag(attributes, "is_case_sensitive")
    shape = shapes.rank_of(x, "X", 1, 2)
    if shape is None:
        return [TensorType(STRING, None)]
    if len(shape) == 2:
        shapes.unify(shape[0], 1, "the rows of input X and 1")
    size: Dim = None if attributes["stopwords"] else 1 if shape[-1] == 0 else shape[-1]
    # No text at all gives one empty text, so a size that is not known may become 1.
    return [TensorType(STRING, (*(1,) * (len(shape) - 1), size if isinstance(size, int) else None))]


def _normalizer(attributes: Attributes, x: Array) -> Array:
    stopwords = attributes["stopwords"] or []
    if attributes["is_case_sensitive"]:
        stops = set(stopwords)
        kept = [t for t in x.ravel() if t not in stops]
    else:
        stops = {s.lower() for s in stopwords}
        kept = [t for t in x.ravel() if t.lower() not in stops]
    change = _CASES[attributes["case_change_action"]]
    texts = [change(t) for t in kept] or [""]
    return _texts(texts, (*(1,) * (x.ndim - 1), len(texts)))


operator(
    "StringNormalizer",
    infer=_infer_normalizer,
    reference=_normalizer,
    attributes={"case_change_action": "NONE", "is_case_sensitive": 0, "locale": None, "stopwords": None},
)


@cache
def _pattern(text: str) -> Pattern[str]:
    return compiled(text)


def _infer_match(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "X", "O")
    pattern = attributes["pattern"]
    if not isinstance(pattern, str):
        raise GraphError("attribute 'pattern' is wrong", expected="a regular expression", got=repr(pattern))
    _pattern(pattern)
    return [TensorType(np.dtype(np.bool_), x.shape)]


def _match(attributes: Attributes, x: Array) -> Array:
    pattern = _pattern(attributes["pattern"])
    found = np.array([pattern.fullmatch(t) is not None for t in x.ravel()], np.bool_)
    return np.asarray(found.reshape(x.shape))


operator("RegexFullMatch", infer=_infer_match, reference=_match, attributes={"pattern": REQUIRED})
