"""Sequences and optionals, against Python's own lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import BOOL, FLOAT, INT, body, fits, floats, infer, run

from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import evaluate_node, infer_node

_POSITIONS = st.integers(-5, 5)


@given(st.lists(st.integers(0, 9), max_size=4), _POSITIONS)
def test_positions_are_those_of_lists(numbers: list[int], position: int) -> None:
    items = [np.array(n) for n in numbers]
    place = np.array(position)
    wanted = list(numbers)
    if -len(items) <= position < len(items):
        assert run("SequenceAt", items, place) == numbers[position]
        del wanted[position]
        assert [int(v) for v in run("SequenceErase", items, place)] == wanted
    else:
        for op in ("SequenceAt", "SequenceErase"):
            with pytest.raises(GraphError, match="out of range"):
                run(op, items, place)
    if -len(items) <= position <= len(items):
        wanted = list(numbers)
        wanted.insert(position, 77)
        assert [int(v) for v in run("SequenceInsert", items, np.array(77), place)] == wanted
    else:
        with pytest.raises(GraphError, match="out of range"):
            run("SequenceInsert", items, np.array(77), place)
    assert run("SequenceLength", items) == len(numbers)
    assert [int(v) for v in items] == numbers


def test_sequences_without_a_position_end_at_the_back() -> None:
    items = [np.array(1), np.array(2)]
    assert [int(v) for v in run("SequenceInsert", items, np.array(3))] == [1, 2, 3]
    assert [int(v) for v in run("SequenceErase", items)] == [1]
    assert run("SequenceEmpty") == []
    assert [v.tolist() for v in run("SequenceConstruct", *items)] == [1, 2]


def test_sequence_types() -> None:
    sequence = floats(2, None, container=("sequence",))
    assert infer("SequenceConstruct", floats(2, 3), floats(2, 4)) == [sequence]
    assert infer("SequenceConstruct", floats(2, 3), floats(4)) == [TensorType(FLOAT, None, ("sequence",))]
    assert infer("SequenceAt", sequence, TensorType(INT, ())) == [floats(2, None)]
    assert infer("SequenceEmpty", dtype=7) == [TensorType(INT, None, ("sequence",))]
    assert infer("ConcatFromSequence", sequence, axis=0) == [floats(None, None)]
    assert infer("ConcatFromSequence", sequence, axis=-1, new_axis=1) == [floats(2, None, None)]
    assert infer("SequenceInsert", sequence, floats(2, 5)) == [sequence]
    with pytest.raises(GraphError, match="dtype"):
        infer("SequenceInsert", sequence, TensorType(INT, (2, 5)))
    with pytest.raises(GraphError, match="no sequence"):
        infer("SequenceAt", floats(2), TensorType(INT, ()))
    # An empty sequence as a value has forgotten what it was to hold.
    assert run("SequenceInsert", [], np.array(3))[0] == 3


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("split", [None, 2, 3, "sizes"])
def test_splitting_and_joining(axis: int, keep: int, split: Any) -> None:
    x = np.arange(6 * 6 * 6).reshape(6, 6, 6)
    values = [x] if split is None else [x, np.array([1, 0, 5] if split == "sizes" else split)]
    parts = run("SplitToSequence", *values, axis=axis, keepdims=keep)
    (found,) = infer("SplitToSequence", *map(TensorType.of, values), constants=values, axis=axis, keepdims=keep)
    for p in parts:
        fits(TensorType(found.dtype, found.shape), p)
    new = int(split is None and not keep)
    assert [p.ndim for p in parts] == [3 - new] * len(parts)
    joined = run("ConcatFromSequence", parts, axis=axis, new_axis=new)
    np.testing.assert_array_equal(joined, x)


def test_splitting_into_wrong_sizes() -> None:
    x = np.zeros((6, 2))
    for split in ([1, 2], [7, -1], 0):
        with pytest.raises(GraphError, match="split is wrong"):
            run("SplitToSequence", x, np.array(split))
    assert [len(p) for p in run("SplitToSequence", x, np.array(4))] == [4, 2]
    assert run("SplitToSequence", x[:0], np.array(4)) == []
    with pytest.raises(GraphError, match="is empty"):
        run("ConcatFromSequence", [], axis=0)


def test_a_map_over_sequences() -> None:
    inputs = {"a": floats(None), "b": floats(None), "w": floats(), "outer": floats()}
    nodes = [
        Node("Mul", ["a", "w"], ["p"]),
        Node("Add", ["p", "b"], ["q"]),
        Node("Add", ["q", "outer"], ["y"]),
        Node("Shape", ["a"], ["z"]),
    ]
    made = body(inputs, nodes, ["y", "z"])
    a = [np.arange(k, dtype=np.float32) for k in (1, 2, 3)]
    b = [np.full(k, 10, np.float32) for k in (1, 2, 3)]
    two, five = np.array(2, np.float32), np.array(5, np.float32)
    y, z = run("SequenceMap", a, b, two, five, body=made, captures=1, outputs=2)
    for k, (p, q) in enumerate(zip(y, z), 1):
        assert p.tolist() == [2 * i + 15 for i in range(k)]
        assert q.tolist() == [k]
    assert run("SequenceMap", [], [], two, five, body=made, captures=1, outputs=2) == [[], []]
    with pytest.raises(GraphError, match="differ in length"):
        run("SequenceMap", a, b[:2], two, five, body=made, captures=1, outputs=2)


def test_optionals() -> None:
    x = np.ones(3, np.float32)
    declared = TensorType(FLOAT, (3,))
    empty = Node("Optional", [], ["y"], {"type": TensorType(FLOAT, None, ("sequence",))})
    assert infer_node(empty, []) == [TensorType(FLOAT, None, ("optional", "sequence"))]
    assert evaluate_node(empty, []) == [None]
    assert infer("Optional", declared) == [TensorType(FLOAT, (3,), ("optional",))]
    assert run("Optional", x) is x
    assert infer("OptionalGetElement", TensorType(FLOAT, (3,), ("optional",))) == [declared]
    assert infer("OptionalGetElement", declared) == [declared]
    assert run("OptionalGetElement", [x])[0] is x
    for value, has in ((x, True), ([x], True), ([], True), (None, False)):
        found = run("OptionalHasElement", value)
        assert found.dtype == BOOL
        assert found == has
    assert evaluate_node(Node("OptionalHasElement", [], ["y"]), [])[0] == np.array(False)
    with pytest.raises(GraphError, match="empty"):
        run("OptionalGetElement", None)
    with pytest.raises(GraphError, match="'type'"):
        run("Optional", x, type=TensorType(INT, None))
