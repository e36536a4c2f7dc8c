"""Networks with recurrent layers, whose states no input or output shows, as networks that show them."""

from __future__ import annotations

import numpy as np

from .errors import InputError
from .graph import Graph, Node, TensorType
from .ops import find
from .ops.evaluate import infer_types

__all__ = ["show_states"]

_CELLS = {"RNN": ("h",), "GRU": ("h",), "LSTM": ("h", "c")}
_STEPWISE = frozenset(
    ("Add", "BatchNormalization", "Cast", "Concat", "Div", "Dropout", "Gemm", "Identity", "MatMul", "Max", "Min", "Mul",
     "PRelu", "Pow", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where")
)  # fmt: skip
"""What treats every step of a sequence alike, so that a part of it gives a part of the result. Reshape is here for
layers on rows; one that mixes steps needs a fixed length, and then fails with a part."""
_LAST_AXIS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"})
_INITIAL = 5
"""The first of the inputs that are states."""


def _mixes_steps(node: Node) -> bool:
    if node.qualified in _LAST_AXIS:
        return bool(node.attributes.get("axis", -1) != -1)
    return node.qualified not in _CELLS and node.qualified not in _STEPWISE and not find(node).elementwise


def _obstacle(graph: Graph, node: Node) -> str | None:
    """Why the layer cannot go on from where it stopped; None if it can."""
    if node.attributes.get("direction", "forward") != "forward":
        return "it runs backwards, from an end that a stream does not have"
    if len(node.inputs) > 4 and node.inputs[4]:
        return "its sequences have lengths of their own"
    for name in node.inputs[_INITIAL : _INITIAL + len(_CELLS[node.op])]:
        if name and (name not in graph.constants or graph.constants[name].any()):
            return f"its initial state {name!r} is not zero"
    return None


def show_states(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """A copy of a graph whose recurrent layers take their states from inputs and give them to outputs.

    Returns
    -------
    tuple
        The graph, and state input -> state output. Empty where it has no recurrent layer.

    Raises
    ------
    InputError
        Fed piece by piece, the graph would not compute what it computes of a whole sequence: a layer runs backwards,
        or an operator looks at several steps.
    """
    made = graph.copy()
    types = infer_types(graph)
    pairs: dict[str, str] = {}
    cells = [n for n in made.nodes if n.qualified in _CELLS]
    for node in made.nodes if cells else ():
        reason = (
            _obstacle(graph, node) if node in cells else "it looks at several steps" if _mixes_steps(node) else None
        )
        if reason:
            raise InputError(
                "the network cannot run piece by piece", where=node.label, got=reason,
                hint="export it with its states as inputs and outputs",
            )  # fmt: skip
    for node in cells:
        letters = _CELLS[node.op]
        node.inputs += [""] * (_INITIAL + len(letters) - len(node.inputs))
        node.outputs += [""] * (1 + len(letters) - len(node.outputs))
        for k, letter in enumerate(letters):
            stem = f"{node.name or next(filter(None, node.outputs))}_{letter}"
            source, target = made.fresh(f"{stem}_in"), node.outputs[1 + k] or made.fresh(f"{stem}_out")
            made.inputs[source] = _state_type(node, types)
            node.inputs[_INITIAL + k], node.outputs[1 + k] = source, target
            if target not in made.outputs:
                made.outputs.append(target)
            else:  # the caller wants it too: an output is listed once
                again = made.fresh(f"{stem}_out")
                made.nodes.append(Node("Identity", [target], [again]))
                made.outputs.append(again)
                target = again
            pairs[source] = target
    return made, pairs


def _state_type(node: Node, types: dict[str, TensorType]) -> TensorType:
    """[1, batch, hidden], or with `layout` [batch, 1, hidden]."""
    x, r = types[node.inputs[0]], types[node.inputs[2]]
    rows = bool(node.attributes.get("layout", 0))
    batch = None if x.shape is None else x.shape[0 if rows else 1]
    hidden = None if r.shape is None else r.shape[2]
    return TensorType(np.dtype(x.dtype), (batch, 1, hidden) if rows else (1, batch, hidden))
