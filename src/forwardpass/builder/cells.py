"""Recurrent cells in the layout of Keras, and how they become the recurrent operators of ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..graph import Array
from ..records import record

__all__ = ["CELL_ACTIVATIONS", "GATES", "Cell", "Emits", "outputs_of", "recur", "states_of"]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
"""Cell -> how many times its units the kernels are wide."""

CELL_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "hard_sigmoid": ("HardSigmoid", 1.0 / 6.0, 0.5),
    "hard_sigmoid_keras2": ("HardSigmoid", 0.2, 0.5),
    "relu": ("Relu", None, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "elu": ("Elu", 1.0, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "linear": ("LeakyRelu", 1.0, None),
}
"""Keras name -> function of the ONNX operators, alpha and beta. The hard sigmoid of Keras 2 had the slope 0.2.
With a slope of 1 LeakyRelu is the identity; it has a kernel, as Affine has not."""

_ORDERS = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}
"""The gates of ONNX (iofc, zrh) as places among those of Keras (ifco, zrh)."""


class Emits(Protocol):
    """What nodes are appended to."""

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str: ...

    def nodes(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]: ...

    def constant(self, stem: str, value: Array) -> str: ...


@record(frozen=True, slots=True)
class Cell:
    """A cell with its weights.

    Attributes
    ----------
    kind
        lstm, gru or rnn.
    activations
        Names in `CELL_ACTIVATIONS`: that of the gates first (lstm, gru), then that of the values.
    weights
        kernel [in, gates * units], recurrent_kernel [units, gates * units], and bias: [gates * units], or
        [2, gates * units] for a gru whose reset acts after the product.
    reset_after
        Whether the reset gate of a gru acts after the product with the recurrent kernel.
    """

    kind: str
    units: int
    activations: Sequence[str]
    weights: Mapping[str, Array]
    reset_after: bool = True


def _gates(cell: Cell, array: Array) -> Array:
    """[..., gates * units] of Keras as [1, gates * units, ...] of ONNX."""
    parts = np.split(array, GATES[cell.kind], axis=-1)
    ordered: Array = np.concatenate([parts[k] for k in _ORDERS[cell.kind]], axis=-1)
    return np.expand_dims(ordered.T, 0)


def _bias(cell: Cell) -> Array:
    width = GATES[cell.kind] * cell.units
    given = cell.weights.get("bias", np.zeros(width, np.float32))
    pair = given if given.ndim == 2 else np.stack([given, np.zeros_like(given)])
    return np.concatenate([_gates(cell, pair[0]), _gates(cell, pair[1])], axis=1)


def recur(
    emits: Emits,
    cell: Cell,
    x: str,
    *,
    reverse: bool = False,
    lengths: str = "",
    initial: Sequence[str] = (),
    stem: str = "",
) -> list[str]:
    """Emit one layer; `outputs_of` and `states_of` make of the results what Keras has.

    Parameters
    ----------
    x
        [N, time, in].
    reverse
        Run from the last step to the first; results keep the order of time.
    lengths
        Steps of each sample, int32 [N]; "" for all.
    initial
        States [N, units] to begin with; by default zero.
    stem
        Begins the names of the constants.

    Returns
    -------
    list
        The outputs of the operator: all of the layer's outputs, and the last h, and c of an lstm.
    """
    constants = [
        emits.constant(f"{stem}kernel", _gates(cell, cell.weights["kernel"])),
        emits.constant(f"{stem}recurrent_kernel", _gates(cell, cell.weights["recurrent_kernel"])),
        emits.constant(f"{stem}bias", _bias(cell)),
    ]
    states = [emits.node("Unsqueeze", [state, _axis(emits, 0)]) for state in initial]
    inputs = [emits.node("Transpose", [x], perm=[1, 0, 2]), *constants, lengths, *states]
    while not inputs[-1]:
        inputs.pop()
    count = 3 if cell.kind == "lstm" else 2
    return emits.nodes(cell.kind.upper(), inputs, count, **_attributes(cell, reverse))


def outputs_of(emits: Emits, made: Sequence[str]) -> str:
    """All outputs of a layer, [N, time, units]."""
    return emits.node("Transpose", [emits.node("Squeeze", [made[0], _axis(emits, 1)])], perm=[1, 0, 2])


def states_of(emits: Emits, made: Sequence[str]) -> list[str]:
    """The last states of a layer, [N, units]: of what `made` has after its first."""
    return [emits.node("Squeeze", [state, _axis(emits, 0)]) for state in made[1:]]


def _axis(emits: Emits, axis: int) -> str:
    return emits.constant(f"axis{axis}", np.array([axis], np.int64))


def _attributes(cell: Cell, reverse: bool) -> dict[str, Any]:
    """The attributes of the operator."""
    names = list(cell.activations)
    functions = [CELL_ACTIVATIONS[n] for n in (names + names[-1:] if cell.kind == "lstm" else names)]
    found: dict[str, Any] = {
        "hidden_size": cell.units,
        "direction": "reverse" if reverse else "forward",
        "activations": [name for name, _, _ in functions],
    }
    alphas = [alpha for _, alpha, _ in functions if alpha is not None]
    betas = [beta for _, _, beta in functions if beta is not None]
    if alphas:
        found["activation_alpha"] = alphas
    if betas:
        found["activation_beta"] = betas
    if cell.kind == "gru":
        found["linear_before_reset"] = int(cell.reset_after)
    return found
