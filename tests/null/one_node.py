"""One node by the definition of its operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardpass.graph import Node, TensorType
from forwardpass.ops import evaluate_node, infer_node

__all__ = ["run_node"]


def run_node(op: str, *values: Any, outputs: int = 1, **attributes: Any) -> Any:
    """The outputs of one node; the only one by itself."""
    names = ["" if v is None else f"in{k}" for k, v in enumerate(values)]
    node = Node(op, names, [f"out{k}" for k in range(outputs)], attributes, name="tested")
    found = evaluate_node(node, [None if v is None else np.asarray(v) for v in values])
    for y, t in zip(found, infer_node(node, [None if v is None else TensorType.of(np.asarray(v)) for v in values])):
        assert isinstance(y, np.ndarray)
        assert y.dtype == t.dtype, "the shape rule knows the dtype"
    return found[0] if outputs == 1 else found[:outputs]
