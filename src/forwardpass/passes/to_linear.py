"""Gemm and MatMul with a matrix of weights become fused.Linear, and take the activation behind them along."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Node
from .affine import rounded
from .fuse_activation import activated
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


def _linear(view: View, node: Node, inputs: list[str], constants: dict[str, Array]) -> Patch:
    end, epilogue = activated(view, node)
    made = Node("Linear", inputs, list(end.outputs), epilogue, "fused", node.name)
    if end is node:
        return Patch("became fused.Linear", [node], [made], constants)
    note = f"became fused.Linear with the activation {epilogue['activation']}"
    return Patch(note, [node, end], [made], constants)


@rule("MatMul")
def matmul(view: View, node: Node) -> Result:
    """x[..., K] @ w[K, N] with constant w."""
    x, w = node.inputs
    weights = view.constant(w)
    found = view.type(x)
    if weights is None or weights.ndim != 2 or found.dtype.kind != "f":
        return None
    if found.shape is None or not found.shape:
        return Declined(f"the rank of {x!r} is unknown")
    return _linear(view, node, [x, w], {})


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1 else rounded(np.multiply(array, factor, dtype=np.float64), array.dtype)


def _vector(view: View, value: str, columns: object, beta: float) -> Array | None:
    """C of Gemm, times beta, where it is a constant row; None where it is not."""
    array = view.constant(value)
    if array is None or not isinstance(columns, int) or array.shape[:-1] not in ((), (1,)):
        return None
    if array.shape == (columns,):
        return _scaled(array, beta)
    return np.ascontiguousarray(np.broadcast_to(_scaled(array, beta).reshape(-1), (columns,)))


@rule("Gemm")
def gemm(view: View, node: Node) -> Result:
    """alpha * A @ B + beta * C, where alpha, beta and transB can go into constants."""
    bound = view.attributes(node)
    found = view.type(node.outputs[0])
    if found.dtype.kind != "f":
        return None
    if bound["transA"]:
        return Declined("transA")
    x, b = node.inputs[:2]
    alpha, beta = float(bound["alpha"]), float(bound["beta"])
    weights = view.constant(b)
    if weights is None and (bound["transB"] or alpha != 1):
        return Declined(f"{b!r} is no constant that {'transB' if bound['transB'] else 'alpha'} could go into")
    constants: dict[str, Array] = {}
    w = b
    if weights is not None and (bound["transB"] or alpha != 1):
        w = view.fresh(f"{b}_kn")
        # A view where alpha is 1: packing reads it in any order.
        constants[w] = _scaled(weights.T if bound["transB"] else weights, alpha)
    inputs = [x, w]
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    if c and beta != 0:
        columns = found.shape[1] if found.shape is not None else None
        vector = _vector(view, c, columns, beta)
        if vector is not None and vector is view.constant(c):
            inputs.append(c)
        elif vector is not None:
            bias = view.fresh(f"{c}_bias")
            constants[bias] = vector
            inputs.append(bias)
        elif view.type(c) == found and beta == 1 and found.shape is not None and None not in found.shape:
            inputs += ["", c]
        else:
            return Declined(f"{c!r} is neither a constant row nor, with beta 1, of the shape of the output")
    return _linear(view, node, inputs, constants)


PASS = Pass("to_linear", (matmul, gemm))
