"""A graph that grows node by node. Each node is also run at once, so that types and values are known while it grows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from forwardpass.dtypes import code_of
from forwardpass.graph import Node
from forwardpass.ops.evaluate import evaluate_node
from onnx_graphs.older import Skip, older

__all__ = ["MOVES", "Grower", "Skip", "Val"]

Array = np.ndarray[Any, Any]

MOVES = frozenset((
    "Abs", "Cast", "CastLike", "Ceil", "Clip", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace",
    "Dropout", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "GlobalMaxPool",
    "Hardmax", "Identity", "Max", "MaxPool", "Min", "Neg", "NonZero", "OneHot", "Pad", "Range", "ReduceMax",
    "ReduceMin", "Relu", "Reshape", "ReverseSequence", "Round", "Shape", "Sign", "Size", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
))  # fmt: skip
"""Operators that round nothing: exact numbers stay exact."""

LARGEST = {"float16": 500.0, "float32": 1e5, "float64": 1e5}
"""Nodes with larger results are not kept: sums of them would overflow, or drown all else."""
MOST_ELEMENTS = 6000


@dataclass
class Val:
    """A value of the graph and what it holds for the inputs drawn.

    `exact`: computed without rounding in any precision, so that a discontinuous operator may take it.
    """

    name: str
    array: Array
    exact: bool = True
    computed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype


@dataclass
class Root:
    """What the main graph and the bodies of its nodes share."""

    choose: Callable[[Any], Any]
    opset: int
    rng: np.random.Generator
    feeds: dict[str, Array] = field(default_factory=dict)
    names: int = 0
    steps: list[tuple[str, dict[str, Any], list[Array | None]]] = field(default_factory=list)
    exact: set[str] = field(default_factory=set)
    arrays: dict[str, Array] = field(default_factory=dict)


@functools.cache
def _schema(op: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        raise Skip(op) from None


@functools.cache
def _allowed(op: str, opset: int) -> tuple[list[tuple[str, frozenset[str]]], bool]:
    """The type parameter of each input and what it may be, and whether the last may be repeated."""
    schema = _schema(op, opset)
    bound = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    variadic = bool(schema.inputs) and schema.inputs[-1].option.name == "Variadic"
    return [(i.type_str, bound.get(i.type_str, frozenset([i.type_str]))) for i in schema.inputs], variadic


def _check_form(op: str, inputs: Sequence[Any], attributes: dict[str, Any], outputs: int, opset: int) -> None:
    """Raise Skip unless the operator of that opset has these attributes and takes these types."""
    schema = _schema(op, opset)
    types, variadic = _allowed(op, opset)
    if schema.deprecated or not attributes.keys() <= schema.attributes.keys() or outputs > schema.max_output:
        raise Skip(op)
    if len(inputs) > len(types) and not variadic:
        raise Skip(op)
    seen: dict[str, str] = {}
    for k, value in enumerate(inputs):
        if value is None:
            continue
        parameter, names = types[min(k, len(types) - 1)]
        dtype = (value.array if isinstance(value, Val) else value).dtype
        name = helper.tensor_dtype_to_string(code_of(dtype)).split(".")[1].lower()
        if f"tensor({name})" not in names or seen.setdefault(parameter, name) != name:
            raise Skip(op)


class Grower:
    """A graph, the main one or a body.

    Parameters
    ----------
    root
        What all graphs of a model share.
    outer
        Values of the graphs around this one, which its nodes may read.
    """

    def __init__(self, root: Root, outer: Sequence[Val] = (), main: Grower | None = None) -> None:
        self.root = root
        self.values = list(outer)
        self.main = main or self
        self.nodes: list[onnx.NodeProto] = []
        self.plain: list[tuple[str, dict[str, Any], list[str | Array | None], list[str]]] = []
        self.initializers: list[onnx.TensorProto] = []
        self.made: list[Val] = []

    # ---- draws

    def number(self, low: int, high: int) -> int:
        return int(self.root.choose(st.integers(low, high)))

    def one_of(self, *items: Any) -> Any:
        return self.root.choose(st.sampled_from(items))

    def chance(self, share: int) -> bool:
        """True once in `share` draws or so."""
        return self.number(1, share) == share

    def some(self, items: Sequence[Any], *, least: int = 0) -> list[Any]:
        """Items in their order."""
        taken = [k for k in range(len(items)) if self.number(0, 1)]
        rest = [k for k in range(len(items)) if k not in taken]
        return [items[k] for k in sorted(taken + rest[: max(0, least - len(taken))])]

    def axis(self, rank: int) -> int:
        """An axis, counted from the end too where the opset allows it everywhere."""
        if rank == 0:
            raise Skip("scalar")
        k = self.number(0, rank - 1)
        return k - rank if self.root.opset >= 11 and self.chance(3) else k

    def axes(self, rank: int, *, least: int = 1) -> list[int]:
        if rank < least:
            raise Skip("rank")
        taken = self.some(range(rank), least=least)
        return [k - rank if self.root.opset >= 11 and self.chance(3) else k for k in taken]

    def size(self) -> int:
        return int(self.one_of(1, 2, 3, 2, 3, 5, 1, 16, 17, 4, 7, 0)) if self.chance(2) else self.number(1, 3)

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        found = tuple(self.size() for _ in range(self.number(low, high)))
        if np.prod(found, dtype=float) > MOST_ELEMENTS / 4:
            raise Skip("size")
        return found

    def dtype(self, kinds: str = "f") -> np.dtype[Any]:
        """A dtype of one of the kinds (f i u b), most often float32."""
        pool = {"f": ["float32"] * 10 + ["float64", "float16"], "i": ["int64", "int64", "int32", "int8"]}
        pool |= {"u": ["uint8"], "b": ["bool"]}
        return np.dtype(self.one_of(*(name for k in kinds for name in pool[k])))

    def numbers(self, dtype: Any, shape: Iterable[int], *, positive: bool = False, nonzero: bool = False) -> Array:
        """Numbers that every floating type holds exactly."""
        rng, dtype, shape = self.root.rng, np.dtype(dtype), tuple(shape)
        if dtype.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        low = 1 if positive else (0 if dtype.kind == "u" else -24)
        high = 25 if dtype.kind == "f" else 9
        found = np.asarray(rng.integers(max(low, -high), high, shape))
        if nonzero:
            found = np.where(found == 0, 3, found)
        return np.asarray(found / 8 if dtype.kind == "f" else found).astype(dtype)

    # ---- values

    def name(self, stem: str) -> str:
        self.root.names += 1
        return f"{stem}{self.root.names}"

    def constant(self, array: Array) -> Val:
        """An initializer, or a node Constant."""
        array = np.asarray(array)
        value = Val(self.name("c"), array)
        self._note([value])
        proto = numpy_helper.from_array(array, value.name)
        if self.root.opset >= 9 and self.chance(5):  # of floats alone before
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=proto))
            self.plain.append(("Constant", {"value": array}, [], [value.name]))
        else:
            self.initializers.append(proto)
        return value

    def source(self, dtype: Any, shape: Iterable[int], **how: bool) -> Val:
        """New numbers: an input of the model, or a constant."""
        return self.given(self.numbers(dtype, shape, **how))

    def given(self, array: Array) -> Val:
        """These numbers as an input of the model or a constant."""
        if self.main is not self or self.chance(3):
            value = self.constant(array)
        else:
            value = Val(self.name("x"), np.asarray(array))
            self.root.feeds[value.name] = value.array
            self._note([value])
        self.values.append(value)
        return value

    def parameter(self, array: Array) -> Val:
        """Axes, a shape and the like, which are constants most often."""
        return self.given(array) if self.chance(4) else self.constant(array)

    def pick(self, kinds: str = "f", low: int = 0, high: int = 4, *, exact: bool = False, full: bool = False) -> Val:
        """A value of a rank, rather a new one than an old one, or new numbers. `full`: it is not empty."""
        fitting = [
            v
            for v in self.values
            if v.dtype.kind in kinds
            and low <= v.rank <= high
            and (v.exact or not exact)
            and (v.array.size or not full)
            and (v.computed or v.rank > 0)
        ]
        if fitting and not self.chance(5):
            return fitting[-1 - min(self.number(0, 4), len(fitting) - 1)]
        shape = self.shape(low, high)
        return self.source(self.dtype(kinds), (max(d, 1) for d in shape) if full else shape)

    def partner(self, x: Val, shape: Iterable[int] | None = None, *, exact: bool = False, **how: bool) -> Val:
        """Another value of the dtype of x that broadcasts with it, or is of a shape."""
        wanted = None if shape is None else tuple(shape)
        fitting = [
            v
            for v in self.values
            if v.dtype == x.dtype
            and (v.exact or not exact)
            and (v.shape == wanted if wanted is not None else _broadcasts(v.shape, x.shape))
        ]
        if fitting and not how and not self.chance(3):
            return fitting[-1 - min(self.number(0, 4), len(fitting) - 1)]
        return self.source(x.dtype, self.broadcastable(x.shape) if wanted is None else wanted, **how)

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        form = [1 if self.chance(3) else (d if d != 1 else self.one_of(1, 1, 2, 3)) for d in shape]
        if np.prod(np.maximum(form, shape), dtype=float) > MOST_ELEMENTS:
            return shape
        return tuple(form[self.number(0, len(form)) if self.chance(3) else 0 :])

    # ---- nodes

    def emit(
        self,
        op: str,
        inputs: Sequence[Val | Array | None],
        attributes: dict[str, Any] | None = None,
        *,
        outputs: Sequence[bool] | int = 1,
    ) -> list[Val]:
        """Add a node, said as in the newest opset; the model gets the form of its own.

        Inputs that are arrays become constants or inputs of the model where the form has them as inputs.

        Raises
        ------
        Skip
            The opset has no such node, or its results are too large.
        """
        bound = {k: v for k, v in (attributes or {}).items() if v is not None}
        present = [True] * outputs if isinstance(outputs, int) else list(outputs)
        form_op, form_inputs, form_attributes = older(op, list(inputs), dict(bound), self.root.opset)
        _check_form(form_op, form_inputs, form_attributes, len(present), self.root.opset)
        arrays = [v.array if isinstance(v, Val) else v for v in inputs]
        results = self._results(op, arrays, bound, present)
        named = {id(v): v if isinstance(v, Val) else self.parameter(v) for v in form_inputs if v is not None}
        names = ["" if v is None else named[id(v)].name for v in form_inputs]
        sources = [v for v in inputs if isinstance(v, Val)]
        exact = op in MOVES and all(v.exact for v in sources)
        made = [Val(self.name("v") if p else "", r, exact, computed=True) for p, r in zip(present, results)]
        for v in made:
            v.exact = v.exact or v.dtype.kind != "f"
        self.nodes.append(_proto(form_op, names, [v.name for v in made], form_attributes, self.name("n")))
        told = [v.name if isinstance(v, Val) else v for v in inputs]
        self.plain.append((op, bound, told, [v.name for v in made]))
        self.root.steps.append((op, bound, arrays))
        return self.keep([v for v in made if v.name])

    def keep(self, made: list[Val]) -> list[Val]:
        self._note(made)
        self.values += made
        self.made += made
        return made

    def _note(self, values: Sequence[Val]) -> None:
        self.root.exact.update(v.name for v in values if v.exact)
        self.root.arrays.update((v.name, v.array) for v in values)

    def _results(
        self, op: str, arrays: list[Array | None], attributes: dict[str, Any], present: list[bool]
    ) -> list[Array]:
        names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
        results = evaluate_node(Node(op, names, [f"o{k}" for k in range(len(present))], attributes), arrays)
        for r in results[: len(present)]:
            check_size(np.asarray(r))
        return [np.asarray(r) for r in results]


def check_size(array: Array) -> None:
    """Raise Skip for results that are too large."""
    if array.size > MOST_ELEMENTS:
        raise Skip("size")
    finite = np.abs(array[np.isfinite(array)]) if array.dtype.kind == "f" else array
    top = LARGEST.get(array.dtype.name, 2**20)
    if array.dtype.kind in "fiu" and finite.size and (finite.max() > top or finite.min() < -top):
        raise Skip("large")


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return float(np.prod(np.broadcast_shapes(a, b), dtype=float)) <= MOST_ELEMENTS
    except ValueError:
        return False


def _proto(op: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any], name: str) -> onnx.NodeProto:
    made = helper.make_node(op, inputs, outputs, name=name)
    for key, value in attributes.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        kind = onnx.AttributeProto.INTS if value == [] else None
        made.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    return made
