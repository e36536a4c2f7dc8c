"""Transpose of a scalar gave a vector: `np.ascontiguousarray` makes one of it."""

from __future__ import annotations

import numpy as np

from forwardpass.graph import Node
from forwardpass.ops.evaluate import evaluate_node


def test_transpose_of_a_scalar() -> None:
    (y,) = evaluate_node(Node("Transpose", ["x"], ["y"]), [np.asarray(2.5, np.float32)])
    assert isinstance(y, np.ndarray)
    assert y.shape == ()
