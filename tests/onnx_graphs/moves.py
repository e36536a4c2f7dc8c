"""Nodes that move values, and arithmetic on shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_graphs.grower import Array, Grower
from onnx_graphs.older import Skip

__all__ = ["ADDERS"]

ANY = "fffiub"


def _int64(values: Any) -> Array:
    return np.asarray(values, np.int64)


def transpose(g: Grower) -> None:
    x = g.pick(ANY)
    order = list(range(x.rank))
    for k in range(x.rank - 1, 0, -1):
        j = g.number(0, k)
        order[k], order[j] = order[j], order[k]
    g.emit("Transpose", [x], {"perm": order} if g.number(0, 3) else {})


def _factors(g: Grower, size: int) -> list[int]:
    """A shape of that many elements."""
    shape: list[int] = []
    for _ in range(g.number(0, 3)):
        divisors = [d for d in range(1, min(size, 48) + 1) if size % d == 0]
        d = g.one_of(*divisors)
        shape.append(d)
        size //= d
    shape.insert(g.number(0, len(shape)), size)
    return shape


def reshape(g: Grower) -> None:
    x = g.pick(ANY)
    attributes: dict[str, Any] = {}
    if 0 in x.shape:
        shape = [0, *g.shape(0, 2)] if g.chance(2) else list(x.shape)
        attributes = {"allowzero": 1}
    else:
        shape = _factors(g, x.array.size)
        if g.chance(2):
            shape[g.number(0, len(shape) - 1)] = -1
        elif g.chance(3):
            shape = [0 if k < x.rank and d == x.shape[k] else d for k, d in enumerate(shape)]
    g.emit("Reshape", [x, _int64(shape)], attributes)


def reshape_by_shapes(g: Grower) -> None:
    """The chain that exporters write: Shape, Gather, Unsqueeze, Concat, Reshape."""
    x = g.pick(ANY, low=2, full=True)
    (shape,) = g.emit("Shape", [x])
    keep = g.number(0, x.rank - 1)
    (d,) = g.emit("Gather", [shape, _int64(keep)], {"axis": 0})
    (row,) = g.emit("Unsqueeze", [d, _int64([0])])
    rest = g.one_of([row, _int64([-1])], [_int64([-1]), row], [row, _int64([1]), _int64([-1])])
    (target,) = g.emit("Concat", rest, {"axis": 0})
    g.emit("Reshape", [x, target])


def sizes(g: Grower) -> None:
    x = g.pick(ANY)
    if g.chance(3):
        g.emit("Size", [x])
        return
    attributes = {}
    if g.root.opset >= 15 and g.chance(2):
        attributes = {"start": g.number(-3, 3), "end": g.number(-3, 4)}
    g.emit("Shape", [x], attributes)


def views(g: Grower) -> None:
    x = g.pick(ANY)
    op = g.one_of("Flatten", "Squeeze", "Unsqueeze")
    if op == "Flatten":
        g.emit(op, [x], {"axis": g.number(0, x.rank) if g.number(0, 3) or not x.rank else None})
    elif op == "Squeeze":
        ones = g.some([k for k, d in enumerate(x.shape) if d == 1])
        ones = [k - x.rank if g.root.opset >= 11 and g.chance(3) else k for k in ones]
        g.emit(op, [x, _int64(ones)] if ones else [x])
    else:
        rank = x.rank + g.number(1, 2)
        taken = g.some(range(rank), least=rank - x.rank)[: rank - x.rank]
        taken = [k - rank if g.root.opset >= 11 and g.chance(3) else k for k in taken]
        g.emit(op, [x, _int64(taken)])


def concat(g: Grower) -> None:
    x = g.pick(ANY, low=1)
    axis = g.axis(x.rank)
    parts: list[Any] = [x]
    for _ in range(g.number(0, 3)):
        form = list(x.shape)
        if g.chance(2):
            form[axis] = g.number(0, 3)
        parts.insert(g.number(0, len(parts)), x if g.chance(5) else g.partner(x, form))
    g.emit("Concat", parts, {"axis": axis})


def split(g: Grower) -> None:
    x = g.pick(ANY, low=1)
    axis = g.axis(x.rank)
    size, n = x.shape[axis], g.number(1, 3)
    if g.chance(2):
        cuts = sorted(g.number(0, size) for _ in range(n - 1))
        lengths = np.diff([0, *cuts, size])
        g.emit("Split", [x, _int64(lengths)], {"axis": axis}, outputs=n)
    elif (g.root.opset >= 18 and size >= n and -(-size // n) * (n - 1) < size) or (size % n == 0 and g.root.opset < 18):
        g.emit("Split", [x], {"axis": axis, "num_outputs": n}, outputs=n)


def slices(g: Grower) -> None:
    x = g.pick(ANY, low=1)
    newer = g.root.opset >= 10
    axes = g.axes(x.rank)
    starts, ends, steps = [], [], []
    for a in axes:
        d = x.shape[a]
        step = g.one_of(1, 1, 2, 3, -1, -2) if newer else 1
        low, high = g.number(-d - 1, d + 1), g.number(-d - 1, d + 1)
        if g.chance(3):
            high = 2**31 - 1 if step > 0 else -(2**31)
        starts.append(low)
        ends.append(high)
        steps.append(step)
    kind = g.one_of(np.int64, np.int32) if newer else np.int64
    inputs: list[Any] = [x, np.asarray(starts, kind), np.asarray(ends, kind)]
    plain = [a % x.rank for a in axes] == list(range(len(axes)))
    stepped = any(s != 1 for s in steps)
    if stepped or not plain or g.chance(2):
        inputs.append(np.asarray(axes, kind))
    if stepped or (newer and g.chance(3)):
        inputs += [None] if len(inputs) == 3 else []
        inputs.append(np.asarray(steps, kind))
    g.emit("Slice", inputs)


def pad(g: Grower) -> None:
    x = g.pick("fffi", low=1)
    mode = g.one_of("constant", "edge", "reflect", "wrap")
    if mode != "constant" and 0 in x.shape:
        raise Skip("empty")
    most = [2 if mode in ("constant", "edge") else (d - 1 if mode == "reflect" else d) for d in x.shape]
    pads = [min(g.number(0, 2), max(m, 0)) for m in most * 2]
    if mode == "constant" and g.chance(4):
        pads = [-1 if d >= 2 and g.chance(2) else p for p, d in zip(pads, x.shape * 2)]
    value = np.asarray(g.number(-2, 3), x.dtype) if mode == "constant" and g.chance(2) else None
    g.emit("Pad", [x, _int64(pads), value], {"mode": mode} if mode != "constant" or g.chance(2) else {})


def _indices(g: Grower, size: int, shape: Any) -> Array:
    if size == 0 and np.prod(shape) != 0:
        raise Skip("empty")
    low = -size if g.root.opset >= 11 and g.chance(2) else 0
    return np.asarray(g.root.rng.integers(low, max(size, 1), shape), g.one_of(np.int64, np.int64, np.int32))


def gather(g: Grower) -> None:
    x = g.pick(ANY, low=1)
    op = g.one_of("Gather", "Gather", "GatherElements", "GatherND")
    if op == "GatherND":
        batch = g.number(0, x.rank - 1) if g.root.opset >= 12 else 0
        depth = g.number(1, x.rank - batch)
        lead = (*x.shape[:batch], *g.shape(0, 1))
        parts = [_indices(g, x.shape[batch + k], (*lead, 1)) for k in range(depth)]
        index = np.concatenate([p.astype(np.int64) for p in parts], axis=-1)
        g.emit(op, [x, index], {"batch_dims": batch} if batch else {})
        return
    axis = g.axis(x.rank)
    if op == "Gather":
        g.emit(op, [x, _indices(g, x.shape[axis], g.shape(0, 2))], {"axis": axis})
        return
    form = [g.number(1, d) if d else 0 for d in x.shape]
    form[axis] = g.number(0, 4)
    g.emit(op, [x, _indices(g, x.shape[axis], form)], {"axis": axis})


def scatter(g: Grower) -> None:
    x = g.pick("fffi", low=1, full=True)
    reduction = g.one_of("none", "none", "add", "mul", "max", "min")
    attributes: dict[str, Any] = {} if reduction == "none" else {"reduction": reduction}
    if g.chance(2):
        axis = g.axis(x.rank)
        form = [g.number(1, d) for d in x.shape]
        # Distinct along the axis: which of two updates wins is not defined.
        order = np.argsort(g.root.rng.random(form), axis=axis)
        index = _int64(order) if reduction == "none" else _indices(g, x.shape[axis], form)
        g.emit("ScatterElements", [x, index, g.partner(x, form)], {"axis": axis, **attributes})
        return
    depth = g.number(1, x.rank)
    places = np.stack(np.unravel_index(g.root.rng.permutation(int(np.prod(x.shape[:depth]))), x.shape[:depth]), -1)
    index = _int64(places[: g.number(1, 4)])
    g.emit("ScatterND", [x, index, g.partner(x, (len(index), *x.shape[depth:]))], attributes)


def expand(g: Grower) -> None:
    x = g.pick(ANY)
    form = [g.one_of(1, 2, 3) if d == 1 else g.one_of(d, 1) for d in x.shape]
    form = g.one_of(form, [g.number(1, 2), *form], form[g.number(0, len(form)) :])
    g.emit("Expand", [x, _int64(form)])


def tile(g: Grower) -> None:
    x = g.pick(ANY)
    g.emit("Tile", [x, _int64([g.one_of(1, 1, 2, 3, 0) for _ in x.shape])])


def triangle(g: Grower) -> None:
    x = g.pick("fffib", low=2)
    k = [_int64(g.number(-3, 3))] if g.chance(2) else []
    g.emit("Trilu", [x, *k], {"upper": g.number(0, 1)} if g.chance(2) else {})


def one_hot(g: Grower) -> None:
    depth = g.number(1, 5)
    index = _indices(g, depth, g.shape(1, 3)).astype(np.int64)
    values = g.numbers(g.one_of(np.float32, np.int64), (2,))
    attributes = {"axis": g.number(-1, index.ndim)} if g.chance(2) else {}
    g.emit("OneHot", [g.given(index), _int64(g.one_of(depth, [depth])), values], attributes)


def ranges(g: Grower) -> None:
    dtype = np.dtype(g.one_of(np.int64, np.float32, np.int32))
    start, delta = g.number(-3, 5), g.one_of(1, 2, -1, 3)
    limit = start + delta * g.number(0, 17)
    g.emit("Range", [np.asarray(v, dtype) for v in (start, limit, delta)])


def filled(g: Grower) -> None:
    value = g.numbers(g.dtype("fib"), (1,))
    g.emit("ConstantOfShape", [_int64(g.shape())], {"value": value} if g.chance(2) else {})


def selected(g: Grower) -> None:
    """Shapes that depend on values."""
    if g.chance(2):
        x = g.pick("fib", low=1, exact=True)
        g.emit("NonZero", [x])
        return
    x = g.pick(ANY, low=1)
    axis = g.axis(x.rank) if g.number(0, 2) else None
    size = x.array.size if axis is None else x.shape[axis]
    g.emit("Compress", [x, g.given(g.numbers(bool, (g.number(1, size) if size else 0,)))], {"axis": axis})


def reverse(g: Grower) -> None:
    x = g.pick(ANY, low=2, full=True)
    way = g.number(0, 1)
    lengths = _int64(g.root.rng.integers(1, x.shape[way] + 1, x.shape[1 - way]))
    g.emit("ReverseSequence", [x, lengths], {"time_axis": way, "batch_axis": 1 - way})


def eye(g: Grower) -> None:
    x = g.pick("fi", low=2, high=2)
    g.emit("EyeLike", [x], {"k": g.number(-2, 2)} if g.chance(2) else {})


ADDERS = (
    transpose, transpose, reshape, reshape, reshape_by_shapes, sizes, views, views, concat, concat, split, slices,
    slices, pad, gather, gather, scatter, expand, tile, triangle, one_hot, ranges, filled, selected, reverse, eye,
)  # fmt: skip
