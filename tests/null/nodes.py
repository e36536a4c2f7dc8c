"""Nodes run and inferred by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardpass.dtypes import STRING
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate_node, infer_node

FLOAT = np.dtype(np.float32)
INT = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)


def run(op: str, *values: Any, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
    names = [f"in{k}" for k in range(len(values))]
    node = Node(op, names, [f"out{k}" for k in range(outputs)], attributes, domain)
    results = evaluate_node(node, values)
    return results[0] if outputs == 1 else results


def infer(op: str, *types: TensorType | None, constants: Any = (), **attributes: Any) -> list[TensorType]:
    names = [f"in{k}" if t is not None else "" for k, t in enumerate(types)]
    return infer_node(Node(op, names, ["out"], attributes), types, constants)


def floats(*shape: Any, container: tuple[str, ...] = ()) -> TensorType:
    return TensorType(FLOAT, shape, container)


def texts(*values: str) -> np.ndarray:
    return np.array(values, STRING)


def body(inputs: dict[str, TensorType], nodes: list[Node], outputs: list[str], **constants: Any) -> Graph:
    made = Graph(inputs, outputs, nodes, {k: np.asarray(v) for k, v in constants.items()}, name="body")
    made.verify()
    return made


def loop_body(states: dict[str, TensorType], nodes: list[Node], outputs: list[str], **constants: Any) -> Graph:
    heads = {"i": TensorType(INT, ()), "go": TensorType(BOOL, ())}
    return body({**heads, **states}, nodes, outputs, **constants)


def fits(found: TensorType, value: Any) -> None:
    """Check that a value has the type that was inferred without its inputs."""
    if found.container:
        return
    assert found.dtype == value.dtype
    if found.shape is not None:
        assert len(found.shape) == value.ndim
        assert all(not isinstance(d, int) or d == size for d, size in zip(found.shape, value.shape))
