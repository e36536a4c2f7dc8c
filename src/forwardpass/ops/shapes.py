"""What the shape rules share: reading attributes, and arithmetic on dimensions that may be unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..dtypes import kind_of, name_of
from ..errors import GraphError
from ..graph import Dim, TensorType, Value
from ..tracked import integer as as_integer
from .registry import Attributes, Constants, Types

__all__ = [
    "at",
    "axes_between",
    "axes_of",
    "axis_of",
    "broadcast",
    "broadcast_all",
    "choice",
    "describe",
    "flag",
    "integer",
    "integers",
    "length_of",
    "number",
    "product",
    "rank_of",
    "required",
    "same_dtype",
    "tensor",
    "unify",
    "unknown",
    "value_of",
]

LARGEST = 2**63 - 1
_INT, _DIMS = frozenset({int}), frozenset({int, str, type(None)})
_KINDS = {"f": "floating point", "i": "signed", "u": "unsigned", "b": "bool", "c": "complex", "O": "string"}

_MAX_RANK = 64
"""NumPy's."""


def at(items: Sequence[Any], index: int) -> Any:
    """The item of an input, None where it is absent."""
    return items[index] if index < len(items) else None


def required(types: Types, index: int, name: str, kinds: str = "") -> TensorType:
    """The type of an input that must be there, of a dtype whose NumPy kind is in `kinds` ("" for any)."""
    found = at(types, index)
    if found is None:
        raise GraphError(f"input {name} has no type")
    assert isinstance(found, TensorType)
    if found.container:
        raise GraphError(f"input {name} is no tensor", expected="a tensor", got=str(found))
    if kinds and kind_of(found.dtype) not in kinds:
        raise GraphError(
            f"input {name} has the wrong dtype",
            expected=" or ".join(_KINDS[k] for k in kinds),
            got=name_of(found.dtype),
        )
    return found


def same_dtype(types: Types, names: Sequence[str]) -> np.dtype[Any]:
    """The one dtype of the inputs that are present."""
    first = required(types, 0, names[0]).dtype
    for index, found in enumerate(types):
        if found is not None and found.dtype != first:
            name = names[index] if index < len(names) else str(index)
            raise GraphError(
                f"input {name} differs in dtype from input {names[0]}",
                expected=name_of(first),
                got=name_of(found.dtype),
            )
    return first


def rank_of(found: TensorType, name: str, low: int, high: int | None = None) -> tuple[Dim, ...] | None:
    """The shape, None where unknown. The rank must be from `low` to `high` (no limit if None)."""
    if found.shape is None:
        return None
    rank = len(found.shape)
    if rank < low or (high is not None and rank > high):
        expected = f"rank {low}" if high == low else f"rank {low} or more" if high is None else f"rank {low} to {high}"
        raise GraphError(f"input {name} has the wrong rank", expected=expected, got=str(found))
    return found.shape


def describe(shape: Iterable[Dim] | None) -> str:
    """A shape as messages show it."""
    return "[...]" if shape is None else f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def tensor(dtype: np.dtype[Any], shape: Iterable[Dim] | None) -> TensorType:
    """A type for an output.

    Raises
    ------
    GraphError
        A negative dimension, or more than 2^63 - 1 bytes.
    """
    if shape is None:
        return TensorType(dtype, None)
    dims: tuple[Dim, ...] = tuple(shape)
    if not _DIMS.issuperset(map(type, dims)):
        dims = tuple(int(d) if isinstance(d, np.integer) else d for d in dims)
    nbytes = dtype.itemsize
    for d in dims:
        if isinstance(d, int):
            if d < 0:
                raise GraphError("the output would have a negative dimension", got=describe(dims))
            nbytes *= d
    if nbytes > LARGEST:
        raise GraphError("the output is too large", expected="at most 2^63 - 1 bytes", got=describe(dims))
    return TensorType(dtype, dims)


def integer(attributes: Attributes, name: str) -> int:
    """An attribute that is an integer."""
    value = attributes[name]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise GraphError(f"attribute {name!r} is wrong", expected="an integer", got=repr(value))
    return int(value)


def flag(attributes: Attributes, name: str) -> bool:
    """An attribute that is 0 or 1."""
    value = attributes[name]
    if not isinstance(value, (bool, int, np.integer)) or int(value) not in (0, 1):
        raise GraphError(f"attribute {name!r} is wrong", expected="0 or 1", got=repr(value))
    return bool(value)


def number(attributes: Attributes, name: str) -> float:
    """An attribute that is a number."""
    value = attributes[name]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise GraphError(f"attribute {name!r} is wrong", expected="a number", got=repr(value))
    return float(value)


def choice(attributes: Attributes, name: str, allowed: Sequence[str]) -> str:
    """An attribute that is one of some words."""
    value = attributes[name]
    if not isinstance(value, str) or value not in allowed:
        raise GraphError(f"attribute {name!r} is wrong", expected=f"one of {', '.join(allowed)}", got=repr(value))
    return value


def integers(
    attributes: Attributes,
    name: str,
    count: int | None = None,
    *,
    least: int | None = None,
    default: int | None = None,
) -> list[int]:
    """An attribute that is `count` integers of at least `least`; `count` times `default` where absent."""
    value = attributes[name]
    if type(value) is list and value and _INT.issuperset(map(type, value)):
        if (count is None or len(value) == count) and (least is None or min(value) >= least):
            return value[:]
    elif value is None and default is not None and count is not None:
        return [default] * count
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, Sequence, np.ndarray)):
        raise GraphError(f"attribute {name!r} is wrong", expected="a list of integers", got=repr(value))
    found = list(value)
    if not _INT.issuperset(map(type, found)):
        if any(isinstance(v, (bool, np.bool_)) or not isinstance(v, (int, np.integer)) for v in found):
            raise GraphError(f"attribute {name!r} is wrong", expected="a list of integers", got=repr(value))
        found = [int(v) for v in found]
    if count is not None and len(found) != count:
        raise GraphError(f"attribute {name!r} is wrong", expected=f"{count} integers", got=str(found))
    if least is not None and found and min(found) < least:
        raise GraphError(f"attribute {name!r} is wrong", expected=f"integers of at least {least}", got=str(found))
    return found


def axis_of(axis: int, rank: int, *, name: str = "axis", past: bool = False) -> int:
    """An axis counted from the front.

    Raises
    ------
    GraphError
        It is not from -rank to rank - 1 (to rank with `past`).
    """
    high = rank if past else rank - 1
    if not -rank <= axis <= high:
        raise GraphError(f"{name} is out of range", expected=f"{-rank} to {high} for rank {rank}", got=str(axis))
    return axis + rank if axis < 0 else axis


def axes_between(attributes: Attributes, rank: int) -> slice:
    """The axes that the attributes `start` and `end` of a Shape leave."""
    start = integer(attributes, "start")
    end = rank if attributes["end"] is None else integer(attributes, "end")
    return slice(*(min(max(k + rank if k < 0 else k, 0), rank) for k in (start, end)))


def axes_of(axes: Iterable[int], rank: int, *, name: str = "axes") -> list[int]:
    """Several different axes, counted from the front."""
    given = [int(a) for a in axes]
    found = [axis_of(a, rank, name=name) for a in given]
    if len(set(found)) != len(found):
        raise GraphError(f"{name} has an axis twice", got=str(given))
    return found


def value_of(types: Types, constants: Constants, index: int, name: str) -> list[int] | None:
    """The integers of an input that holds a shape, axes or the like; None where it is absent or no constant.

    Tell the two apart by `at(types, index) is None`.
    """
    found = at(types, index)
    if found is None:
        return None
    required(types, index, name, "iu")
    rank_of(found, name, 0, 1)
    value: Value = at(constants, index)
    return list(map(as_integer, value.ravel())) if isinstance(value, np.ndarray) else None


def length_of(types: Types, index: int) -> int | None:
    """How many integers an input holds that is a shape, axes or the like; None where that is not known."""
    shape = getattr(at(types, index), "shape", None)
    if shape is None:
        return None
    size = product(shape)
    return size if isinstance(size, int) else None


def unknown(dtype: np.dtype[Any], rank: int | None) -> TensorType:
    """A type of which no more than the rank is known, or not even that."""
    # A rank that no array can have comes from a shape that a file claims to be as long.
    return TensorType(dtype, None if rank is None or rank > _MAX_RANK else (None,) * rank)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions: exact if all are known or all but one name are 1, else None."""
    size, names = 1, []
    for d in dims:
        if isinstance(d, int):
            size *= d
        else:
            names.append(d)
    if not names or size == 0:
        return size
    return names[0] if len(names) == 1 and size == 1 else None


def unify(a: Dim, b: Dim, what: str) -> Dim:
    """What two dimensions are that have to be equal."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise GraphError(f"{what} do not match", expected=str(a), got=str(b))
    if isinstance(a, int) or b is None:
        return a
    return b if isinstance(b, int) or a is None else a


def _broadcast_dim(a: Dim, b: Dim) -> Dim:
    if a == b:
        return a
    if a == 1:
        return b
    if b == 1:
        return a
    if isinstance(a, int):
        if isinstance(b, int):
            raise ValueError
        return a
    return b if isinstance(b, int) else None


def broadcast(a: Sequence[Dim] | None, b: Sequence[Dim] | None) -> tuple[Dim, ...] | None:
    """The shape that two shapes have together by NumPy's rule; None where a rank is unknown.

    Raises
    ------
    GraphError
        They do not fit.
    """
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    left = (*(1,) * (rank - len(a)), *a)
    right = (*(1,) * (rank - len(b)), *b)
    try:
        return tuple(_broadcast_dim(p, q) for p, q in zip(left, right))
    except ValueError:
        raise GraphError(
            "the shapes cannot be broadcast together",
            expected=f"dimensions equal to those of {describe(a)}, or 1",
            got=describe(b),
        ) from None


def broadcast_all(types: Types) -> tuple[Dim, ...] | None:
    """`broadcast` over all inputs that are present."""
    shape: tuple[Dim, ...] | None = ()
    for found in types:
        if found is not None:
            shape = broadcast(shape, found.shape)
    return shape
