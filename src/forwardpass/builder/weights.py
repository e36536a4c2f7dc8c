"""The weights of a network: checking those that are given, and drawing random ones."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Array
from .layer import Weights

__all__ = ["Source", "fit", "glorot"]

Source = Mapping[str, Any] | Sequence[Any] | str | os.PathLike[str]
"""Weights by name, in order, or in a file made with `numpy.savez`."""

_SHOWN = 20


def fit(specs: Weights, source: Source, where: str) -> dict[str, Array]:
    """The weights as float32 arrays, if they are just those that the network needs.

    Parameters
    ----------
    specs
        Name -> shape.
    source
        Names to arrays, arrays in the order of `specs`, or the path of a file. Given arrays are copied.
    where
        How messages name the network.

    Raises
    ------
    InputError
        One error for all weights that are missing, not known, of another shape or no real numbers.
    FileError
        The file cannot be read or is damaged.
    """
    copy = True
    if isinstance(source, (str, os.PathLike)):
        from ..formats.npz import read_weights

        where = f"{where}: {os.fspath(source)}"
        source, copy = read_weights(source), False
    if not isinstance(source, Mapping):
        if not isinstance(source, Sequence) or isinstance(source, (str, bytes)):
            expected = "a mapping, a list or a path"
            raise InputError("not weights", where=where, expected=expected, got=type(source).__name__)
        if len(source) != len(specs):
            hint = f"their order is {', '.join(specs)}"
            message = "wrong number of weights"
            raise InputError(message, where=where, expected=str(len(specs)), got=str(len(source)), hint=hint)
        source = dict(zip(specs, source))
    given = {name: _array(source[name]) for name in source}
    _check(specs, given, where)
    with np.errstate(over="ignore"):
        return {k: np.array(given[k], np.float32, order="C", copy=copy or None) for k in specs}


def _array(value: Any) -> Array | None:
    """The value as an array of real numbers, or None."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _check(specs: Weights, given: Mapping[str, Array | None], where: str) -> None:
    import difflib

    missing = [k for k in specs if k not in given]
    extra = [k for k in given if k not in specs]
    expected = [f"{k!r} {specs[k]}" for k in missing]
    got = [_describe(k, given[k]) for k in extra]
    hints = []
    for k in extra:
        for near in difflib.get_close_matches(str(k), missing, 1):
            hints.append(f"{k!r} may be {near!r}")
    wrong = 0
    for k, shape in specs.items():
        array = given.get(k)
        if k in given and (array is None or array.shape != shape):
            wrong += 1
            expected.append(f"{k!r} {shape}")
            got.append(_describe(k, array))
            if array is not None and array.ndim > 1 and array.shape == shape[::-1]:
                hints.append(f"{k!r} may be transposed")
    if expected or got:
        counts = f"{len(missing)} missing, {len(extra)} not known, {wrong} of another shape or kind"
        raise InputError(
            f"the weights do not fit the network ({counts})",
            where=where,
            expected=_join(expected) or "no others",
            got=_join(got) or "none of these",
            hint=_join(hints),
        )


def _describe(name: object, array: Array | None) -> str:
    return f"{name!r} {'that is no array of numbers' if array is None else array.shape}"


def _join(items: Sequence[str]) -> str:
    rest = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return ", ".join([*items[:_SHOWN], *rest])


def glorot(specs: Weights, seed: int | None) -> dict[str, Array]:
    """Random kernels, uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot, Bengio 2010), else neutral values.

    Parameters
    ----------
    specs
        Name -> shape, in the order in which they are drawn.
    seed
        Equal seeds give equal weights.
    """
    random = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    for name, shape in specs.items():
        if len(shape) > 1:
            field = math.prod(shape[:-2])
            limit = math.sqrt(6.0 / (field * shape[-2] + field * shape[-1]))
            drawn[name] = random.uniform(-limit, limit, shape).astype(np.float32)
        else:
            ones = name.endswith(("/gamma", "/moving_variance"))
            drawn[name] = np.full(shape, 1.0 if ones else 0.0, np.float32)
    return drawn
