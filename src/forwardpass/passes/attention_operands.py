"""Where the queries, keys and values of attention come from, past what only moves them."""

from __future__ import annotations

from ..graph import Node
from ..records import record
from .sizes import Size, is_size, sizes_of
from .view import View

__all__ = ["Operand", "by_number", "find_operand", "swapped"]


@record(frozen=True, slots=True)
class Operand:
    """A value, the part of it that counts, its order of dimensions, and a number that it is multiplied by."""

    value: str
    perm: tuple[int, ...] = ()
    take: tuple[int, ...] = ()
    """Axis and index."""
    factor: float = 1.0


def by_number(view: View, node: Node) -> tuple[str, float] | None:
    """(x, factor) where the node is x times a number or x divided by one."""
    for k in (1, 0) if node.qualified == "Mul" else (1,):
        array = view.constant(node.inputs[k])
        if array is not None and array.size == 1 and array.ndim < 2:
            factor = float(array.reshape(()))
            if node.qualified == "Mul":
                return node.inputs[1 - k], factor
            return (node.inputs[0], 1 / factor) if factor else None
    return None


def find_operand(view: View, value: str) -> Operand:
    """A value past factors, Transposes, repeated heads, and the choice of a part of a packed product."""
    perm: tuple[int, ...] = ()
    factor = 1.0
    while True:
        node = view.producer(value)
        if node is None:
            break
        if node.qualified in ("Mul", "Div"):
            found = by_number(view, node)
            if found is None:
                break
            value, factor = found[0], factor * found[1]
        elif node.qualified == "Transpose" and node.attributes.get("perm"):
            inner = tuple(int(p) for p in node.attributes["perm"])
            perm = tuple(inner[p] for p in perm) if perm else inner
            value = node.inputs[0]
        elif node.qualified == "Reshape":
            step = _swap(view, node) if not perm or len(perm) == 4 else None
            repeated = None if step else _repeated(view, node)
            if step:
                value, rank = step
                inner = (*range(rank - 2), rank - 1, rank - 2)
                perm = tuple(inner[p] for p in perm) if perm else inner
            elif repeated and perm in ((), (0, 1, 2, 3), (0, 1, 3, 2)):
                value = repeated
            else:
                break
        else:
            break
    taken = _taken(view, value, perm)
    return Operand(value, perm, (), factor) if taken is None else Operand(*taken, factor)


def swapped(view: View, operand: Operand) -> Operand | None:
    """K from K^T: the last two dimensions change places; None where their number is unknown."""
    perm = operand.perm
    if not perm:
        shape = view.type(operand.value).shape
        if shape is None:
            return None
        perm = tuple(range(len(shape) - bool(operand.take)))
    if len(perm) < 2:
        return None
    return Operand(operand.value, (*perm[:-2], perm[-1], perm[-2]), operand.take, operand.factor)


def _swap(view: View, node: Node) -> tuple[str, int] | None:
    """(x, rank) where the node is x with its last two dimensions swapped, as a batch of matrices of rank 3."""
    turn = view.producer(node.inputs[0])
    if turn is None or turn.qualified != "Transpose" or list(turn.attributes.get("perm") or ()) != [0, 2, 1]:
        return None
    flat = view.producer(turn.inputs[0])
    if flat is None or flat.qualified != "Reshape":
        return None
    x = flat.inputs[0]
    shape = view.type(x).shape
    inner, outer = sizes_of(view, flat.inputs[1]), sizes_of(view, node.inputs[1])
    if shape is None or inner is None or outer is None or len(inner) != 3 or len(outer) != len(shape):
        return None
    rank = len(shape)
    ends: list[tuple[Size, int]] = [(inner[1], rank - 2), (inner[2], rank - 1), (outer[-1], rank - 2)]
    ends += [(outer[-2], rank - 1), *((s, k) for k, s in enumerate(outer[:-2]))]
    return (x, rank) if all(is_size(view, s, x, k) for s, k in ends) else None


def _repeated(view: View, node: Node) -> str | None:
    """x where the node is x [batch, groups, length, size] with every head several times, one after another."""
    expand = view.producer(node.inputs[0])
    if expand is None or expand.qualified != "Expand":
        return None
    spread = view.producer(expand.inputs[0])
    if spread is None or spread.qualified not in ("Unsqueeze", "Reshape"):
        return None
    x = spread.inputs[0]
    shape, sizes = view.type(x).shape, sizes_of(view, node.inputs[1])
    whole = sizes_of(view, expand.inputs[1])
    if shape is None or len(shape) != 4 or sizes is None or whole is None or len(sizes) != 4 or len(whole) != 5:
        return None
    between = sizes_of(view, spread.inputs[1])
    if spread.qualified == "Unsqueeze" and between not in ([2], [-3]):
        return None
    if spread.qualified == "Reshape" and (between is None or len(between) != 5 or between[2] != 1):
        return None
    groups, heads, times = shape[1], sizes[1], whole[2]
    if not (isinstance(groups, int) and isinstance(times, int) and heads in (groups * times, -1)):
        return None
    same = [(sizes[0], 0), (sizes[2], 2), (sizes[3], 3), (whole[0], 0), (whole[3], 2), (whole[4], 3)]
    fits = all(s in (1, -1) or is_size(view, s, x, k) for s, k in same[3:])
    return x if fits and all(s == -1 or is_size(view, s, x, k) for s, k in same[:3]) else None


def _taken(view: View, value: str, perm: tuple[int, ...]) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """The value, order and part where a value is one part of a packed one: after a Split and a Squeeze, or a Gather."""
    node = view.producer(value)
    if node is None:
        return None
    if node.qualified == "Squeeze" and len(node.inputs) > 1:
        split, axes = view.producer(node.inputs[0]), view.constant(node.inputs[1])
        if split is None or split.qualified != "Split" or axes is None or axes.size != 1:
            return None
        shape = view.type(split.inputs[0]).shape
        axis, index = int(axes.reshape(())), split.outputs.index(node.inputs[0])
        if shape is None or int(view.attributes(split)["axis"]) % len(shape) != axis % len(shape):
            return None
        if shape[axis] != len(split.outputs):
            return None
        source = split.inputs[0]
    elif node.qualified == "Gather":
        fixed = view.constant(node.inputs[1])
        shape = view.type(node.inputs[0]).shape
        if fixed is None or fixed.ndim or shape is None or view.constant(node.inputs[0]) is not None:
            return None
        axis, index, source = int(view.attributes(node)["axis"]), int(fixed), node.inputs[0]
    else:
        return None
    axis %= len(shape)
    size = shape[axis]
    if not isinstance(size, int) or len(shape) != 5:
        return None
    order = perm or tuple(range(4))
    before = view.producer(source)
    if before is None or before.qualified != "Transpose" or not before.attributes.get("perm"):
        return source, order, (axis, index % size)
    # The part is taken of what the Transpose moves: its axis is another there, and the other dimensions move too.
    inner = [int(p) for p in before.attributes["perm"]]
    chosen = inner[axis]
    rest = [p - (p > chosen) for k, p in enumerate(inner) if k != axis]
    return before.inputs[0], tuple(rest[p] for p in order), (chosen, index % size)
