"""Sequences of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DTYPES, code_of, name_of
from ..errors import GraphError
from ..graph import Array, Dim, TensorType, Value
from . import shapes
from .bodies import body_of, captured, entered, graph_of, is_empty, join, single
from .evaluate import infer_body, run_body, type_of
from .registry import REQUIRED, Attributes, Constants, Types, operator

_INT64 = np.dtype(np.int64)


def _items(types: Types, index: int, name: str) -> TensorType:
    """The type of the items of an input that must be a sequence."""
    found = shapes.at(types, index)
    if found is None or found.container[:1] != ("sequence",):
        got = "nothing" if found is None else str(found)
        raise GraphError(f"input {name} is no sequence", expected="a sequence", got=got)
    return TensorType(found.dtype, found.shape, found.container[1:])


def _sequence(item: TensorType) -> TensorType:
    return TensorType(item.dtype, item.shape, ("sequence", *item.container))


def _check_position(types: Types, index: int) -> None:
    if shapes.at(types, index) is not None:
        single(shapes.required(types, index, "position", "i"), "position")


def _place(position: Array, count: int, *, past: bool = False) -> int:
    """A position among `count` items, counted from the front; with `past` the one behind the last is allowed."""
    given = int(position.reshape(()))
    high = count if past else count - 1
    if not -count <= given <= high:
        raise GraphError("position is out of range", expected=f"{-count} to {high}", got=str(given))
    return given + count if given < 0 else given


def _infer_construct(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    item = shapes.required(types, 0, "inputs")
    for k in range(1, len(types)):
        item = join(item, shapes.required(types, k, "inputs"), f"input {k}")
    return [_sequence(item)]


operator(
    "SequenceConstruct",
    infer=_infer_construct,
    reference=lambda attributes, *items: list(items),
    arity=(1, None),
    narrow=True,
)


def _infer_empty(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    code = code_of(np.dtype(np.float32)) if attributes["dtype"] is None else shapes.integer(attributes, "dtype")
    if code not in DTYPES:
        raise GraphError("attribute 'dtype' is wrong", expected="a data type of ONNX", got=str(code))
    return [TensorType(DTYPES[code], None, ("sequence",))]


operator(
    "SequenceEmpty",
    infer=_infer_empty,
    reference=lambda attributes: [],
    attributes={"dtype": None},
    arity=(0, 0),
    narrow=True,
)


def _infer_at(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    item = _items(types, 0, "input_sequence")
    _check_position(types, 1)
    values, position = shapes.at(constants, 0), shapes.at(constants, 1)
    if isinstance(values, list) and position is not None:
        return [type_of(values[_place(position, len(values))]) or item]
    return [item]


operator(
    "SequenceAt",
    infer=_infer_at,
    reference=lambda attributes, items, position: items[_place(position, len(items))],
    arity=(2, 2),
    narrow=True,
)


def _infer_insert(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    item = _items(types, 0, "input_sequence")
    added = shapes.required(types, 1, "tensor")
    _check_position(types, 2)
    if is_empty(shapes.at(constants, 0)):
        return [_sequence(added)]
    if item.dtype != added.dtype:
        raise GraphError(
            "input tensor differs in dtype from the sequence", expected=name_of(item.dtype), got=name_of(added.dtype)
        )
    return [_sequence(join(item, added, "input tensor"))]


def _insert(attributes: Attributes, items: list[Value], added: Array, position: Array | None = None) -> list[Value]:
    place = len(items) if position is None else _place(position, len(items), past=True)
    return [*items[:place], added, *items[place:]]


operator("SequenceInsert", infer=_infer_insert, reference=_insert, arity=(2, 3), narrow=True)


def _infer_erase(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    item = _items(types, 0, "input_sequence")
    _check_position(types, 1)
    return [_sequence(item)]


def _erase(attributes: Attributes, items: list[Value], position: Array | None = None) -> list[Value]:
    place = _place(np.array(-1) if position is None else position, len(items))
    return [*items[:place], *items[place + 1 :]]


operator("SequenceErase", infer=_infer_erase, reference=_erase, arity=(1, 2), narrow=True)


def _infer_length(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    _items(types, 0, "input_sequence")
    return [TensorType(_INT64, ())]


operator(
    "SequenceLength",
    infer=_infer_length,
    reference=lambda attributes, items: np.array(len(items), np.int64),
    narrow=True,
)


def _samples(types: Types, constants: Constants, formal: int) -> list[Any]:
    """One value for each input of SequenceMap's body, to tell which input is an empty sequence."""
    known = [shapes.at(constants, k) for k in range(len(types))]
    lengths = {len(v) for v in known[:formal] if isinstance(v, list)}
    if len(lengths) > 1:
        raise GraphError("the sequences differ in length", expected="one length", got=str(sorted(lengths)))
    return known


def _infer_map(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    formal = len(types) - captured(attributes, len(types), 1)
    body = body_of(attributes, "body", len(types))
    _items(types, 0, "input_sequence")
    known = _samples(types, constants, formal)
    given = entered(body, types, known)
    for k, t in enumerate(types):
        if k < formal and t is not None and t.container[:1] == ("sequence",) and not is_empty(known[k]):
            given[k] = _items(types, k, f"input {k}")
    return [_sequence(t) for t in infer_body(body, given)]


def _map(attributes: Attributes, *values: Value) -> tuple[list[Value], ...]:
    formal = len(values) - attributes["captures"]
    first = values[0]
    assert isinstance(first, list)
    rows = []
    for k in range(len(first)):
        picked = [v[k] if isinstance(v, list) else v for v in values[:formal]]
        rows.append(run_body(attributes["body"], [*picked, *values[formal:]]))
    if not rows:
        return tuple([] for _ in graph_of(attributes["body"]).outputs)
    return tuple(list(column) for column in zip(*rows))


operator(
    "SequenceMap",
    infer=_infer_map,
    reference=_map,
    attributes={"body": REQUIRED, "captures": 0},
    arity=(1, None),
    narrow=True,
)


def _infer_split(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input")
    keep = shapes.flag(attributes, "keepdims")
    axis = shapes.integer(attributes, "axis")
    parts = shapes.value_of(types, constants, 1, "split")
    given = shapes.at(types, 1)
    if x.shape is None:
        return [TensorType(x.dtype, None, ("sequence",))]
    axis = shapes.axis_of(axis, len(x.shape))
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    if given is None and not keep:
        return [TensorType(x.dtype, (*before, *after), ("sequence",))]
    part: Dim = 1 if given is None else None
    if parts is not None and given is not None:
        part = _part(parts, size, scalar=given.shape == ())
    return [TensorType(x.dtype, (*before, part, *after), ("sequence",))]


def _part(parts: list[int], size: Dim, *, scalar: bool) -> Dim:
    """The size of every part, None where they differ or are unknown."""
    if scalar:
        if parts[0] < 1:
            raise GraphError("input split is wrong", expected="at least 1", got=str(parts[0]))
        return parts[0] if isinstance(size, int) and size % parts[0] == 0 else None
    if any(p < 0 for p in parts):
        raise GraphError("input split is wrong", expected="sizes of at least 0", got=str(parts))
    if isinstance(size, int) and sum(parts) != size:
        raise GraphError("input split is wrong", expected=f"sizes whose sum is {size}", got=str(parts))
    return parts[0] if len(set(parts)) == 1 else None


def _split(attributes: Attributes, x: Array, split: Array | None = None) -> list[Array]:
    axis = attributes["axis"] % x.ndim
    if split is None:
        moved = np.moveaxis(x, axis, 0)
        pieces = [moved[k, ...] for k in range(len(moved))]
        return [np.expand_dims(p, axis) for p in pieces] if attributes["keepdims"] else pieces
    if split.ndim == 0:
        ends = list(range(int(split), x.shape[axis], int(split)))
        return np.split(x, ends, axis) if x.shape[axis] else []
    return np.split(x, np.cumsum(split)[:-1], axis) if split.size else []


operator(
    "SplitToSequence",
    infer=_infer_split,
    reference=_split,
    attributes={"axis": 0, "keepdims": 1},
    arity=(1, 2),
    narrow=True,
)


def _infer_concat(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    item = _items(types, 0, "input_sequence")
    axis, new = shapes.integer(attributes, "axis"), shapes.flag(attributes, "new_axis")
    if is_empty(shapes.at(constants, 0)):
        raise GraphError("input input_sequence is empty", expected="one tensor or more")
    if item.container:
        raise GraphError("input input_sequence holds no tensors", got=str(item))
    if item.shape is None:
        return [TensorType(item.dtype, None)]
    place = shapes.axis_of(axis, len(item.shape) + new)
    return [TensorType(item.dtype, (*item.shape[:place], None, *item.shape[place + (not new) :]))]


def _concat(attributes: Attributes, items: list[Array]) -> Array:
    join_all = np.stack if attributes["new_axis"] else np.concatenate
    return np.asarray(join_all(items, axis=attributes["axis"]))


operator(
    "ConcatFromSequence",
    infer=_infer_concat,
    reference=_concat,
    attributes={"axis": REQUIRED, "new_axis": 0},
    narrow=True,
)
