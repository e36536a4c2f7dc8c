"""Layers that make one tensor of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .call import Call
from .kinds import Flow, layer


def _aligned(c: Call) -> list[str]:
    """The inputs of a merging layer with the same rank: dimensions of size 1 come after the batch."""
    if not c.flows:
        raise c.layer.error("inputs", "at least one tensor", 0)
    rank = max(c.rank(f.value) for f in c.flows)
    return [
        f.value
        if c.rank(f.value) == rank
        else c.node("Unsqueeze", [f.value, c.ints(list(range(1, 1 + rank - c.rank(f.value))), "axes")])
        for f in c.flows
    ]


def _merged(c: Call, masks: Sequence[str | None]) -> str | None:
    """Known where one is, if all have a mask; before Keras 3 known where all are that have one."""
    known = [mask for mask in masks if mask is not None]
    if not known or (c.version > 2 and len(known) < len(masks)):
        return None
    found = known[0]
    for mask in known[1:]:
        found = mask if found == mask else c.node("Or" if c.version > 2 else "And", [found, mask])
    return found


_MERGES = {"Add": "Add", "Multiply": "Mul", "Subtract": "Sub", "Maximum": "Max", "Minimum": "Min"}


@layer(*_MERGES, "Average", integers=True)
def merge(c: Call) -> Flow:
    values = _aligned(c)
    op = _MERGES.get(c.layer.kind, "Add")
    if c.layer.kind == "Subtract" and len(values) != 2:
        raise c.layer.error("inputs", "two tensors", len(values))
    masks = [f.mask for f in c.flows]
    if c.version > 2 and any(masks) and op in ("Mul", "Max", "Min"):
        return Flow(_known_alone(c, op, values, masks), _merged(c, masks))
    y = values[0]
    for x in values[1:]:
        y = c.node(op, [y, x])
    if c.layer.kind == "Average":
        y = c.node("Div", [y, c.number(len(values), "count")])
    return Flow(y, _merged(c, masks))


def _known_alone(c: Call, op: str, values: Sequence[str], masks: Sequence[str | None]) -> str:
    """What Keras 3 makes of masked values: those that are not known take no part where another one is."""
    if any(c.rank(x) != 3 for x in values):
        raise c.unsupported("masked values of this rank are not read", expected="[N, time, size]")
    wide = [None if m is None else c.node("Unsqueeze", [m, c.ints([2], "axes")]) for m in masks]
    y, known = values[0], wide[0]
    for x, mask in zip(values[1:], wide[1:]):
        first, second = y, x
        one = c.number(1.0, "one")
        if mask is not None:
            second = c.node("Where", [mask, x, one if op == "Mul" else y])
        if known is not None:
            first = c.node("Where", [known, y, one if op == "Mul" else second])
        y = c.node(op, [first, second])
        known = None if known is None or mask is None else c.node("Or", [known, mask])
    return c.node("Where", [known, y, c.number(0.0, "zero")]) if op == "Mul" and known is not None else y


@layer("Concatenate", integers=True)
def concatenate(c: Call) -> Flow:
    values = [f.value for f in c.flows]
    if not values:
        raise c.layer.error("inputs", "at least one tensor", 0)
    rank = c.rank(values[0])
    (axis,) = c.layer.axes("axis", rank)
    y = c.node("Concat", values, axis=axis)
    masks = [f.mask for f in c.flows]
    if all(m is None for m in masks):
        return Flow(y)
    if axis == rank - 1 and rank > 2:
        # One known part makes a step known, and a part without a mask always is.
        known = [m for m in masks if m is not None]
        if len(known) < len(masks):
            return Flow(y)
        merged = known[0]
        for mask in known[1:]:
            merged = merged if mask == merged else c.node("Or", [merged, mask])
        return Flow(y, merged)
    if axis == 1 and rank == 3 and all(m is not None for m in masks):
        return Flow(y, c.node("Concat", [m for m in masks if m is not None], axis=1))
    raise c.unsupported("masked values are joined along this axis, which is not read", got=f"axis {axis}")


@layer("Dot")
def dot(c: Call) -> str:
    """Products over one axis of each input, for every sample; the other axes follow each other."""
    if len(c.flows) != 2:
        raise c.layer.error("inputs", "two tensors", len(c.flows))
    x, y = (f.value for f in c.flows)
    ranks = c.rank(x), c.rank(y)
    value = c.layer.config.get("axes")
    pair: list[Any] = value if isinstance(value, list) else [value, value]
    good = len(pair) == 2 and all(isinstance(v, int) and -r <= v < r and v % r for v, r in zip(pair, ranks))
    if not good or max(ranks) > 8:
        raise c.layer.error("axes", "an axis of each input but the first", value)
    if c.layer.flag("normalize", False):
        x, y = (_unit(c, v, a) for v, a in zip((x, y), pair))
    left = "abcdefgh"[: ranks[0]]
    right = ["a", *"ijklmnop"[: ranks[1] - 1]]
    right[pair[1] % ranks[1]] = left[pair[0] % ranks[0]]
    summed = left[pair[0] % ranks[0]]
    kept = "".join(k for k in left if k != summed) + "".join(k for k in right[1:] if k != summed)
    z = c.node("Einsum", [x, y], equation=f"{left},{''.join(right)}->{kept}")
    return c.node("Unsqueeze", [z, c.ints([1], "axes")]) if len(kept) == 1 else z


def _unit(c: Call, x: str, axis: int) -> str:
    """Vectors along an axis of length 1."""
    length = c.node("ReduceL2", [x, c.ints([axis], "axes")], keepdims=1)
    return c.node("Div", [x, c.node("Max", [length, c.number(1e-12, "least")])])
