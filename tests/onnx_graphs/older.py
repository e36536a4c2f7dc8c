"""Nodes of the newest opset in the form of an older one: what is an input now was an attribute once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Skip", "older"]


class Skip(Exception):  # noqa: N818
    """What was drawn is no valid node of the model's opset."""


_REDUCTIONS = frozenset(["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"])

# Operator -> the first opset with these as inputs -> position and name of the attribute.
_MOVED: dict[str, tuple[int, tuple[tuple[int, str], ...]]] = {
    "Squeeze": (13, ((1, "axes"),)),
    "Unsqueeze": (13, ((1, "axes"),)),
    "ReduceSum": (13, ((1, "axes"),)),
    "Split": (13, ((1, "split"),)),
    "Clip": (11, ((1, "min"), (2, "max"))),
    "Pad": (11, ((1, "pads"), (2, "value"))),
    "Slice": (10, ((1, "starts"), (2, "ends"), (3, "axes"))),
    "TopK": (10, ((1, "k"),)),
    "Dropout": (12, ((1, "ratio"),)),
    **{f"Reduce{r}": (18, ((1, "axes"),)) for r in _REDUCTIONS},
}


def older(op: str, inputs: list[Any], attributes: dict[str, Any], opset: int) -> tuple[str, list[Any], dict[str, Any]]:
    """The form of an opset. Values that are not known when the model is made cannot become attributes.

    Raises
    ------
    Skip
        The opset cannot say it.
    """
    since, moved = _MOVED.get(op, (0, ()))
    if opset < since:
        for position, name in moved:
            if position < len(inputs) and inputs[position] is not None:
                attributes[name] = _plain(inputs[position])
        if any(v is not None for v in inputs[len(moved) + 1 :]):
            raise Skip(op)
        inputs = inputs[:1]
        if op == "TopK":
            attributes["k"] = attributes["k"][0]
    if op == "Split" and opset < 18:
        attributes.pop("num_outputs", None)
    if op == "Resize" and opset < 13:
        inputs = [inputs[0], *(np.zeros(0, np.float32) if v is None else v for v in inputs[1:])]
    while inputs and inputs[-1] is None:
        inputs.pop()
    return op, inputs, attributes


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise Skip("a value known at run time only")
    return value.tolist()
