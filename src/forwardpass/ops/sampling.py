"""Random operators. Those with a seed draw the same numbers each time; the standard leaves the generator open."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import DTYPES, is_narrow
from ..errors import GraphError
from ..graph import Array, TensorType
from . import shapes
from .numeric import BOOL, FLOATS, FLOATS_AND_FLOAT8, NUMBERS, DTypes, dtype_attribute, one_of, typed, widened
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator


def _generator(seed: float | None) -> np.random.RandomState:
    # Not default_rng: NumPy promises never to change what RandomState draws.
    if seed is None:
        return np.random.RandomState()
    if float(seed).is_integer() and 0 <= seed < 2**32:
        return np.random.RandomState(int(seed))
    return np.random.RandomState(np.frombuffer(struct.pack("<d", seed), np.uint32))


def _check_seed(attributes: Attributes) -> None:
    if attributes["seed"] is not None:
        shapes.number(attributes, "seed")


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What a definition gives for the output's dtype; the evaluator rounds to narrow types."""
    return np.dtype(np.float32) if is_narrow(dtype) else dtype


def _dtype_of(attributes: Attributes, x: Array | None) -> np.dtype[Any]:
    code = attributes["dtype"]
    return x.dtype if code is None and x is not None else _computed(DTYPES[int(code)])


def _normal(attributes: Attributes, shape: tuple[int, ...]) -> Array:
    drawn = _generator(attributes["seed"]).standard_normal(shape)
    return np.asarray(attributes["mean"] + attributes["scale"] * drawn)


def _uniform(attributes: Attributes, shape: tuple[int, ...]) -> Array:
    drawn = _generator(attributes["seed"]).random_sample(shape)
    return np.asarray(attributes["low"] + (attributes["high"] - attributes["low"]) * drawn)


def _register(op: str, draw: Callable[[Attributes, tuple[int, ...]], Array], parameters: dict[str, float]) -> None:
    def check(attributes: Attributes) -> np.dtype[Any] | None:
        _check_seed(attributes)
        for name in parameters:
            shapes.number(attributes, name)
        return dtype_attribute(attributes, "dtype", FLOATS)

    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        dtype = check(attributes)
        assert dtype is not None
        return [shapes.tensor(dtype, shapes.integers(attributes, "shape", least=0))]

    def infer_like(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x = shapes.required(types, 0, "input")
        dtype = check(attributes)
        if dtype is None:
            one_of(x.dtype, "input input", FLOATS)
        return [shapes.tensor(dtype or x.dtype, x.shape)]

    def reference(attributes: Attributes) -> Array:
        shape = tuple(int(d) for d in attributes["shape"])
        return np.asarray(draw(attributes, shape)).astype(_dtype_of(attributes, None))

    def like(attributes: Attributes, x: Array) -> Array:
        return np.asarray(draw(attributes, x.shape)).astype(_dtype_of(attributes, x))

    common = {**parameters, "seed": None}
    operator(
        op,
        infer=infer,
        reference=reference,
        attributes={**common, "dtype": 1, "shape": REQUIRED},
        arity=(0, 0),
        pure=False,
    )
    operator(f"{op}Like", infer=infer_like, reference=like, attributes={**common, "dtype": None}, pure=False)


_register("RandomNormal", _normal, {"mean": 0.0, "scale": 1.0})
_register("RandomUniform", _uniform, {"low": 0.0, "high": 1.0})


def _infer_bernoulli(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_seed(attributes)
    x = typed(types, 0, "input", FLOATS)
    return [shapes.tensor(dtype_attribute(attributes, "dtype", NUMBERS | BOOL) or x.dtype, x.shape)]


def _bernoulli(attributes: Attributes, x: Array) -> Array:
    drawn = _generator(attributes["seed"]).random_sample(x.shape)
    return np.asarray(drawn < x).astype(_dtype_of(attributes, x))


operator(
    "Bernoulli",
    infer=_infer_bernoulli,
    reference=_bernoulli,
    attributes={"dtype": None, "seed": None},
    pure=False,
)

_INDICES: DTypes = frozenset({np.dtype(np.int32), np.dtype(np.int64)})


def _infer_multinomial(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _check_seed(attributes)
    size = shapes.integer(attributes, "sample_size")
    if size < 1:
        raise GraphError("attribute 'sample_size' is wrong", expected="at least 1", got=str(size))
    shape = shapes.rank_of(typed(types, 0, "input", FLOATS), "input", 2, 2)
    dtype = dtype_attribute(attributes, "dtype", _INDICES)
    assert dtype is not None
    return [shapes.tensor(dtype, (None if shape is None else shape[0], size))]


def _multinomial(attributes: Attributes, x: Array) -> Array:
    logits = x.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    limits = np.cumsum(weights, axis=1)
    if x.shape[0] and not (x.shape[1] and np.all(limits[:, -1] > 0)):
        raise GraphError("a row of input has no class with a probability above 0")
    drawn = _generator(attributes["seed"]).random_sample((x.shape[0], int(attributes["sample_size"])))
    found = np.zeros(drawn.shape, np.int64)
    for row, (chance, limit, weight) in enumerate(zip(drawn, limits, weights)):
        # Rounding may lift the product to the last limit, behind which is no class.
        last = np.flatnonzero(weight)[-1]
        found[row] = np.minimum(np.searchsorted(limit, chance * limit[-1], side="right"), last)
    return found.astype(_dtype_of(attributes, None))


operator(
    "Multinomial",
    infer=_infer_multinomial,
    reference=_multinomial,
    attributes={"dtype": 6, "sample_size": 1, "seed": None},
    pure=False,
)


def _infer_dropout(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    if attributes["seed"] is not None:
        shapes.integer(attributes, "seed")
    x = typed(types, 0, "data", FLOATS_AND_FLOAT8)
    if shapes.at(types, 1) is not None:
        shapes.rank_of(typed(types, 1, "ratio", FLOATS_AND_FLOAT8), "ratio", 0, 1)
    if shapes.at(types, 2) is not None:
        shapes.rank_of(typed(types, 2, "training_mode", BOOL), "training_mode", 0, 1)
    return [shapes.tensor(x.dtype, x.shape), shapes.tensor(np.dtype(bool), x.shape)]


def _dropout(
    attributes: Attributes, x: Array, ratio: Array | None = None, training_mode: Array | None = None
) -> tuple[Array, Array]:
    share = 0.5 if ratio is None else float(ratio.reshape(()))
    if training_mode is None or not bool(training_mode.reshape(())) or share == 0:
        return x, np.ones(x.shape, bool)
    if not 0 <= share < 1:
        raise GraphError("input ratio is out of range", expected="at least 0 and below 1", got=str(share))
    kept = np.asarray(_generator(attributes["seed"]).random_sample(x.shape) >= share)
    scaled = widened(x) * (1 / (1 - share))
    return np.asarray(np.where(kept, scaled, 0), dtype=x.dtype), kept


operator(
    "Dropout",
    infer=_infer_dropout,
    reference=_dropout,
    attributes={"seed": None},
    arity=(1, 3),
    cases=(
        Case(((2, 3),)),
        Case(((2, 3), np.float32(0.5)), constants=(1,), name="ratio"),
        Case(((2, 3), np.float32(0.5), np.array(False)), constants=(1, 2), name="training_mode off"),
        Case(((2, 3), np.float32(0.0), np.array(True)), constants=(1, 2), name="ratio 0"),
    ),
    pure=False,
)
