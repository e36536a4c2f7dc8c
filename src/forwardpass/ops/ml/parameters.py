"""What the operators of ai.onnx.ml share: parameters that are lists, inputs of rows of features, labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import STRING
from ...errors import GraphError
from ...graph import Array, Dim
from .. import shapes
from ..registry import Attributes, Types

__all__ = ["as_rows", "as_text", "floats", "labels_of", "numbers", "one_of", "rows_of", "words", "working"]


def as_text(value: Any) -> str:
    """A string of a file, which may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def floats(attributes: Attributes, name: str) -> Array:
    """An attribute that is a list of numbers, as float32; empty where it is absent.

    Where the operator has an attribute `<name>_as_tensor`, that replaces it and keeps its dtype.
    """
    value = attributes.get(f"{name}_as_tensor")
    if isinstance(value, np.ndarray) and value.size:
        if value.dtype.kind != "f":
            raise GraphError(f"attribute '{name}_as_tensor' is wrong", expected="numbers", got=str(value.dtype))
        return value.ravel()
    value = attributes[name]
    if value is None:
        return np.empty(0, np.float32)
    try:
        return np.asarray(value, np.float32).ravel()
    except (TypeError, ValueError):
        raise GraphError(
            f"attribute {name!r} is wrong", expected="a list of numbers", got=type(value).__name__
        ) from None


def numbers(attributes: Attributes, name: str) -> Array:
    """An attribute that is a list of integers; empty where it is absent."""
    value = attributes[name]
    if value is None or len(value) == 0:
        return np.empty(0, np.int64)
    found = np.asarray(value)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise GraphError(f"attribute {name!r} is wrong", expected="a list of integers", got=type(value).__name__)
    return found.astype(np.int64)


def words(attributes: Attributes, name: str) -> list[str]:
    """An attribute that is a list of strings; empty where it is absent."""
    value = attributes[name]
    if value is None:
        return []
    if isinstance(value, (str, bytes)) or not all(isinstance(v, (str, bytes)) for v in value):
        raise GraphError(f"attribute {name!r} is wrong", expected="a list of strings", got=type(value).__name__)
    return [as_text(v) for v in value]


def one_of(attributes: Attributes, *names: str) -> str:
    """The name of the one attribute of several that is given."""
    given = [n for n in names if attributes[n] is not None and len(attributes[n])]
    if len(given) != 1:
        expected = f"one of {', '.join(names)}"
        raise GraphError("exactly one of several attributes must be given", expected=expected, got=", ".join(given))
    return given[0]


def labels_of(attributes: Attributes, integers: str, strings: str) -> Array:
    """The labels of the classes: int64, or strings."""
    if one_of(attributes, integers, strings) == integers:
        return numbers(attributes, integers)
    return np.array(words(attributes, strings), STRING)


def rows_of(types: Types, kinds: str = "fi") -> tuple[Dim, Dim]:
    """The number of rows and features of input X: [rows, features], or one row of [features]."""
    shape = shapes.rank_of(shapes.required(types, 0, "X", kinds), "X", 1, 2)
    if shape is None:
        return None, None
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def working(x: Array) -> Array:
    """Numbers in the precision in which they are worked on: float64 stays, anything else becomes float32."""
    return x if x.dtype == np.float64 else x.astype(np.float32)


def as_rows(x: Array) -> Array:
    """Input X in that precision, of rank 2."""
    return working(x).reshape(-1, x.shape[-1]) if x.ndim > 1 else working(x)[None]
