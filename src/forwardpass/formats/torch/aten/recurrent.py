"""LSTM, GRU and plain recurrent layers, and single cells."""

# ruff: noqa: A002 - arguments have the names of ATen's schema

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten

# The parts of PyTorch's matrices in the order that ONNX wants: i, o, f, c and z, r, h.
_ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _reordered(op: str, array: Any) -> Any:
    parts = np.split(array, len(_ORDERS[op]), axis=0)
    return np.concatenate([parts[k] for k in _ORDERS[op]], axis=0)


def _direction(e: Emitter, op: str, params: list[Any]) -> tuple[Any, Any, Any]:
    """Kernel, recurrent kernel and biases of one direction."""
    arrays = [_reordered(op, e.array(p)) for p in params]
    w, r = arrays[:2]
    biases = arrays[2:] or [np.zeros(len(w), w.dtype)] * 2
    return w, r, np.concatenate(biases)


def _run(
    e: Emitter,
    op: str,
    x: Any,
    params: list[list[Any]],
    states: list[Any],
    activation: str,
    **attributes: Any,
) -> list[Ref]:
    """One layer: [T, N, I] to [T, N, D * H], and the last states."""
    made = [_direction(e, op, p) for p in params]
    w, r, b = (np.stack(parts) for parts in zip(*made))
    hidden = r.shape[2]
    if len(params) == 2:
        attributes["direction"] = "bidirectional"
    if activation:
        attributes["activations"] = [activation] * len(params)
    outputs = e.nodes_of(op, 3 if op == "LSTM" else 2, x, w, r, b, None, *states, hidden_size=hidden, **attributes)
    y = e.node("Transpose", outputs[0], perm=[0, 2, 1, 3])
    return [e.node("Reshape", y, np.array([0, 0, -1], np.int64)), *outputs[1:]]


def _kind(e: Emitter) -> tuple[str, str, dict[str, int]]:
    """ONNX's operator, the activation of a plain one, and what it says of PyTorch's arithmetic."""
    if e.op.startswith("lstm"):
        return "LSTM", "", {}
    if e.op.startswith("gru"):
        return "GRU", "", {"linear_before_reset": 1}
    return "RNN", "Relu" if e.op.startswith("rnn_relu") else "Tanh", {}


@aten("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def recurrent(
    e: Emitter,
    input: Any,
    hx: Any,
    params: list[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Ref, ...]:
    x, states = input, hx if isinstance(hx, list) else [hx]
    op, activation, attributes = _kind(e)
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    if len(params) != each * num_layers * directions:
        raise e.refuse("a recurrent layer with a projection")
    if batch_first:
        x = e.node("Transpose", x, perm=[1, 0, 2])
    last: list[list[Ref]] = []
    for k in range(num_layers):
        at = k * directions * each
        own = [params[at + d * each : at + (d + 1) * each] for d in range(directions)]
        first = [_part(e, s, k * directions, directions, num_layers) for s in states]
        x, *after = _run(e, op, x, own, first, activation, **attributes)
        last.append(after)
    if batch_first:
        x = e.node("Transpose", x, perm=[1, 0, 2])
    ends = [e.node("Concat", *s, axis=0) if num_layers > 1 else s[0] for s in zip(*last)]
    return (x, *ends)


def _part(e: Emitter, state: Any, begin: int, count: int, layers: int) -> Any:
    """The states of one layer; None where they are zeros."""
    if state in e.zeros:
        return None
    if layers == 1:
        return state
    bounds = [np.array([v], np.int64) for v in (begin, begin + count, 0)]
    return e.node("Slice", state, *bounds)


@aten("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def recurrent_cell(
    e: Emitter,
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Ref | list[Ref]:
    op, activation, attributes = _kind(e)
    first = np.array([0], np.int64)
    states = [e.node("Unsqueeze", s, first) for s in (hx if isinstance(hx, list) else [hx])]
    params = [p for p in (w_ih, w_hh, b_ih, b_hh) if p is not None]
    _, *after = _run(e, op, e.node("Unsqueeze", input, first), [params], states, activation, **attributes)
    ends = [e.node("Squeeze", s, first) for s in after]
    return ends if op == "LSTM" else ends[0]
