"""Shape rules of the operators that move, choose and order elements: bad nodes, and shapes known in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import infer_node


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


F = np.dtype(np.float32)
BAD: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("GatherElements", [(3, 4), np.array([[3]])], {}, "out of range: expected -3 to 2, got 3 to 3"),
    ("GatherElements", [(3, 4), np.zeros((1, 5), np.int64)], {}, "dimension 1 of input indices is larger"),
    ("GatherElements", [(3, 4), _ints(1)], {}, "wrong rank"),
    ("GatherND", [(3, 4), _ints(1, 2, 0)], {}, "expected 1 to 2, got 3"),
    ("GatherND", [(3, 4), _ints(1, 4)], {}, "expected -4 to 3, got 4"),
    ("GatherND", [(3, 4), np.zeros((2, 1), np.int64)], {"batch_dims": 1}, "batch dimension 0"),
    ("GatherND", [(3, 4), _ints(1)], {"batch_dims": -1}, "attribute 'batch_dims' is wrong"),
    ("ScatterElements", [(3,), _ints(0), (2,)], {}, "dimension 0 of inputs indices and updates"),
    ("ScatterElements", [(3,), _ints(0), (1,)], {"reduction": "sub"}, "expected one of none, add, mul, max, min"),
    ("ScatterND", [(3, 4), np.array([[0]]), (1, 3)], {}, "expected 4, got 3"),
    ("ScatterND", [(3, 4), np.array([[-4]]), (1, 4)], {}, "out of range"),
    ("TensorScatter", [(2, 4, 3), (2, 2, 3), _ints(3, 0)], {}, "input write_indices is out of range"),
    ("TensorScatter", [(2, 4, 3), (2, 5, 3)], {}, "longer than input past_cache"),
    ("TensorScatter", [(2, 4, 3), (2, 2, 3)], {"axis": 0}, "attribute 'axis' is wrong"),
    ("Split", [(6,)], {}, "expected input split or attribute 'num_outputs', got neither"),
    ("Split", [(6,), _ints(3, 2)], {}, "expected 6, got 5"),
    ("Split", [(6,), _ints(7, -1)], {}, "sizes of at least 0"),
    ("Split", [(6,)], {"num_outputs": 0}, "expected at least 1, got 0"),
    ("Tile", [(2, 3), _ints(2)], {}, "expected 2, got 1"),
    ("Tile", [(2,), _ints(-1)], {}, "integers of at least 0"),
    ("Tile", [(2**40,), _ints(2**40)], {}, "the output is too large"),
    ("Where", [(2,), (2,), (2,)], {}, "input condition has the wrong dtype: expected bool"),
    ("Compress", [(3,), np.array([True] * 4)], {}, "expected at most 3, got 4"),
    ("TopK", [(3,), _ints(4)], {}, "expected 0 to 3, got 4"),
    ("TopK", [(3,), _ints(1, 1)], {}, "input K has the wrong length"),
    ("ArgMax", [(2, 0)], {"axis": 1}, "the dimension to reduce is empty"),
    ("CumSum", [(3,), np.array(1)], {}, "axis is out of range"),
    ("Range", [np.array(0), np.array(4), np.array(0)], {}, "another step than 0"),
    ("Range", [np.array(0.0), np.array(np.inf), np.array(1.0)], {}, "not finite"),
    ("Range", [np.array(0), np.array(2**62), np.array(1)], {}, "the output is too large"),
    ("OneHot", [_ints(1), np.array(-2), (2,)], {}, "input depth is wrong"),
    ("OneHot", [_ints(1), np.array(2), (3,)], {}, "expected 2, got 3"),
    ("DepthToSpace", [(1, 6, 2, 2)], {"blocksize": 2}, "expected a multiple of 4, got 6"),
    ("DepthToSpace", [(1, 6, 2, 2)], {"blocksize": 0}, "attribute 'blocksize' is wrong"),
    ("SpaceToDepth", [(1, 6, 3, 2)], {"blocksize": 2}, "the height cannot be divided"),
    ("ReverseSequence", [(4, 2), _ints(5, 1)], {}, "input sequence_lens is out of range"),
    ("ReverseSequence", [(4, 2), _ints(1, 1)], {"time_axis": 1}, "are equal"),
    ("EyeLike", [(2, 2, 2)], {}, "wrong rank"),
    ("EyeLike", [(2, 2)], {"dtype": 8}, "a type of numbers or bool"),
    ("CenterCropPad", [(2, 3), _ints(1)], {}, "expected 2, got 1"),
    ("NonMaxSuppression", [(1, 4, 3), (1, 1, 4)], {}, "expected 4, got 3"),
    ("NonMaxSuppression", [(1, 4, 4), (1, 1, 5)], {}, "expected 4, got 5"),
    ("Det", [(2, 3)], {}, "rows and columns"),
    ("Einsum", [(2, 3)], {"equation": "ij,jk"}, "expected 1 terms"),
    ("Einsum", [(2, 3)], {"equation": "ijk"}, "wrong rank: expected rank 3, got rank 2"),
    ("Einsum", [(2, 3)], {"equation": "ij->ii"}, "different input letters"),
    ("Einsum", [(2, 3)], {"equation": "ij->k"}, "different input letters"),
    ("Einsum", [(2, 3)], {"equation": "i1"}, "letters"),
    ("Einsum", [(2, 3)], {"equation": "i..j"}, "letters"),
    ("Einsum", [(2, 3), (4, 2)], {"equation": "ij,jk"}, "dimension 'j' differ: expected 3, got 4"),
    ("Einsum", [(2, 3)], {"equation": "ii"}, "dimension 'i' differ"),
    ("Einsum", [(2, 3), (3,)], {"equation": "...i,...i"}, "an ellipsis stands for different ranks"),
    ("Constant", [], {"value_string": 3}, "attribute 'value_string' is wrong: expected a string"),
    ("Constant", [], {"value_strings": "abc"}, "expected a list of strings"),
    ("Constant", [], {"value_int": [1]}, "attribute 'value_int' is wrong"),
]


def _infer(op: str, given: list[Any], attributes: dict[str, Any]) -> list[TensorType]:
    types = [TensorType.of(g) if isinstance(g, np.ndarray) else TensorType(F, g) for g in given]
    node = Node(op, [f"v{k}" for k in range(len(given))], ["y"], attributes, name="bad")
    return infer_node(node, types, [g if isinstance(g, np.ndarray) else None for g in given])


@pytest.mark.parametrize(("op", "given", "attributes", "words"), BAD)
def test_bad_node(op: str, given: list[Any], attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphError) as caught:
        _infer(op, given, attributes)
    assert words in str(caught.value)
    assert "'bad'" in caught.value.where


UNKNOWN: list[tuple[str, list[Any], dict[str, Any], Any]] = [
    ("GatherElements", [None, np.zeros((2, 3), np.int64)], {}, (2, 3)),
    ("GatherND", [("N", 3, 4), np.array([[0]])], {}, (1, 3, 4)),
    ("GatherND", [None, np.array([[0]])], {}, None),
    ("ScatterND", [("N", 3), np.array([[0]]), (1, 3)], {}, ("N", 3)),
    ("Split", [("N", 6)], {"axis": 1, "num_outputs": 2}, ("N", 3)),
    ("Split", [("N", 6)], {"num_outputs": 1}, ("N", 6)),
    ("Split", [("N", 6), _ints(2, 3)], {}, (2, 6)),
    ("Tile", [("N", 2), _ints(1, 3)], {}, ("N", 6)),
    ("Tile", [("N", 2), _ints(2, 3)], {}, (None, 6)),
    ("Where", [np.array([True]), ("N", 3), (1, 3)], {}, ("N", 3)),
    ("NonZero", [("N", 3)], {}, (2, None)),
    ("NonZero", [None], {}, (None, None)),
    ("Unique", [("N", 3)], {"axis": 0}, (None, 3)),
    ("TopK", [("N", 9), _ints(2)], {}, ("N", 2)),
    ("ArgMax", [("N", 9)], {"axis": 1}, ("N", 1)),
    ("ArgMax", [("N", 9)], {"axis": 1, "keepdims": 0}, ("N",)),
    ("CumSum", [("N", 9), np.array(0)], {}, ("N", 9)),
    ("OneHot", [("N",), np.array(5), (2,)], {}, ("N", 5)),
    ("OneHot", [("N",), (), (2,)], {"axis": 0}, (None, "N")),
    ("DepthToSpace", [("N", 8, "H", 2)], {"blocksize": 2}, ("N", 2, None, 4)),
    ("SpaceToDepth", [("N", 2, "H", 2)], {"blocksize": 2}, ("N", 8, None, 1)),
    ("Compress", [("N", 3), np.array([True, False])], {"axis": 1}, ("N", 1)),
    ("CenterCropPad", [("N", 3), _ints(7)], {"axes": [1]}, ("N", 7)),
    ("NonMaxSuppression", [None, None], {}, (None, 3)),
    ("Einsum", [("N", 3), (3, 4)], {"equation": "ij,jk"}, ("N", 4)),
    ("Einsum", [("N", "M", 3), (4, 3)], {"equation": "...j,kj->...k"}, ("N", "M", 4)),
    ("Einsum", [None, (3, 4)], {"equation": "ij,jk"}, (None, 4)),
    ("Einsum", [None], {"equation": "...j"}, None),
    ("Range", [(), (), ()], {}, (None,)),
    ("EyeLike", [None], {}, (None, None)),
]


@pytest.mark.parametrize(("op", "given", "attributes", "expected"), UNKNOWN)
def test_unknown_dimensions(op: str, given: list[Any], attributes: dict[str, Any], expected: Any) -> None:
    assert _infer(op, given, attributes)[0].shape == expected
