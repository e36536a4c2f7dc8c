"""What the operators with bodies share: a body's checks, the types its inputs get, and types that hold for several.

A body is a graph in closed form: its last `captures` inputs are the values of the surrounding graph that it reads, and
the node lists the same values last. A body that is compiled stands in for its graph as a callable whose attribute
`graph` is that graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import GraphError
from ..graph import Dim, Graph, TensorType, Value
from . import shapes
from .evaluate import infer_body
from .registry import Attributes

__all__ = ["body_of", "captured", "entered", "graph_of", "is_empty", "join", "scalar_type", "settle", "single"]

_PASSES = 8


def body_of(attributes: Attributes, name: str, inputs: int) -> Graph:
    """A body from the attributes, of as many inputs as the node has for it."""
    body = attributes[name]
    if not isinstance(body, Graph):
        raise GraphError(f"attribute {name!r} is wrong", expected="a graph", got=type(body).__name__)
    if len(body.inputs) != inputs:
        raise GraphError(
            f"{name} does not take what the node gives it", expected=f"{inputs} inputs", got=str(len(body.inputs))
        )
    return body


def graph_of(body: Graph | Callable[..., Any]) -> Graph:
    """The graph of a body, which may be compiled."""
    found = body if isinstance(body, Graph) else getattr(body, "graph", None)
    assert isinstance(found, Graph), "a compiled body needs its graph"
    return found


def captured(attributes: Attributes, inputs: int, others: int = 0) -> int:
    """How many of a node's `inputs` are captured values; `others` come before them at least."""
    count = shapes.integer(attributes, "captures")
    if not 0 <= count <= max(inputs - others, 0):
        raise GraphError("attribute 'captures' is wrong", expected=f"0 to {max(inputs - others, 0)}", got=str(count))
    return count


def _anonymous(declared: TensorType) -> TensorType:
    """A declared type without the names of its dimensions, which mean nothing outside of the body."""
    if declared.shape is None:
        return declared
    return TensorType(
        declared.dtype, tuple(d if isinstance(d, int) else None for d in declared.shape), declared.container
    )


def is_empty(value: Value) -> bool:
    """Whether a value is a sequence without items, which does not know its dtype."""
    return isinstance(value, list) and not value


def entered(body: Graph, types: Sequence[TensorType | None], values: Sequence[Value]) -> list[TensorType]:
    """The types of a body's inputs for what the node gives it.

    Empty optionals and sequences do not know what they could hold: the body says it.
    """
    found = []
    for k, (declared, given) in enumerate(zip(body.inputs.values(), types)):
        empty = k < len(values) and is_empty(values[k])
        found.append(_anonymous(declared) if empty or given is None else given)
    return found


def join(a: TensorType, b: TensorType, what: str) -> TensorType:
    """The narrowest type that values of both types have.

    Raises
    ------
    GraphError
        They differ in dtype, or one is a sequence or map and the other is not.
    """
    inner = [t.container[1:] if t.container[:1] == ("optional",) else t.container for t in (a, b)]
    if inner[0] != inner[1] or a.dtype != b.dtype:
        raise GraphError(f"{what} differs in type", expected=str(a), got=str(b))
    optional = a.container if len(a.container) > len(b.container) else b.container
    shape: tuple[Dim, ...] | None = None
    if a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape):
        shape = tuple(p if p == q else None for p, q in zip(a.shape, b.shape))
    return TensorType(a.dtype, shape, optional)


def settle(
    body: Graph, before: Sequence[TensorType], states: Sequence[TensorType], after: Sequence[TensorType], skip: int
) -> tuple[list[TensorType], list[TensorType]]:
    """Types that a loop's states keep from iteration to iteration, and those of the body's outputs then.

    Parameters
    ----------
    body
        Takes `before`, the states and `after`; the new states follow `skip` other outputs.
    """
    held = list(states)
    for _ in range(_PASSES):
        outputs = infer_body(body, [*before, *held, *after])
        wider = [
            join(s, o, f"loop state {name!r}")
            for s, o, name in zip(held, outputs[skip:], list(body.inputs)[len(before) :])
        ]
        if wider == held:
            return held, outputs
        held = wider
    # A loop may hand its states around so that each pass loosens one dimension more. No shapes at all hold for sure.
    held = [TensorType(s.dtype, None, s.container) for s in held]
    return held, infer_body(body, [*before, *held, *after])


def scalar_type(declared: TensorType, dtype: Any) -> TensorType:
    """The type of a number or truth value that a body gets: of rank 0, or of rank 1 where the body says so."""
    shape: tuple[Dim, ...] = (1,) if declared.shape is not None and len(declared.shape) == 1 else ()
    return TensorType(dtype, shape)


def single(found: TensorType, name: str) -> None:
    """Check that an input holds one element, as far as its shape is known."""
    size = None if found.shape is None else shapes.product(found.shape)
    if isinstance(size, int) and size != 1:
        raise GraphError(f"input {name} is no single value", expected="one element", got=str(found))
