"""A Slice backwards from before the first element took nothing, as Python does; ONNX clamps the start to 0."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass.graph import Node, TensorType
from forwardpass.ops.evaluate import evaluate_node, infer_node


@pytest.mark.parametrize(("size", "start", "end", "taken"), [(1, -2, -(2**31), [0]), (3, -5, -9, [0]), (0, -1, -9, [])])
def test_slice_start_before_the_first(size: int, start: int, end: int, taken: list[int]) -> None:
    node = Node("Slice", ["x", "s", "e", "a", "p"], ["y"])
    numbers = [np.array([v], np.int64) for v in (start, end, 0, -1)]
    x = np.arange(size, dtype=np.float32)
    (y,) = evaluate_node(node, [x, *numbers])
    np.testing.assert_array_equal(y, np.array(taken, np.float32))
    types = [TensorType.of(v) for v in (x, *numbers)]
    assert infer_node(node, types, [None, *numbers])[0].shape == (len(taken),)
