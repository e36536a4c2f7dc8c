"""Graphs run by their definitions: the oracle of the tests and the constant folder. Types of all values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import DTYPES, code_of, decode, encode, is_narrow, name_of
from ..errors import Error, GraphError, InputError, suggest
from ..graph import Array, Graph, Node, TensorType, Value
from ..tracked import is_tracked
from .registry import find
from .symbolic import OF_SHAPES, elements_of, has_tracked, tracked_values

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["evaluate", "evaluate_node", "infer_body", "infer_node", "infer_types", "is_pure", "run_body", "type_of"]

_SMALL = 1024
"""Most elements of a value that `infer_types` computes to learn a shape."""


def _named(node: Node, error: Exception) -> Error:
    """The error of a rule or a definition, with the node's name."""
    if isinstance(error, Error):
        where = f"{node.label}, {error.where}" if error.where else node.label
        return type(error)(error.message, where=where, expected=error.expected, got=error.got, hint=error.hint)
    return GraphError(f"{type(error).__name__}: {error}", where=node.label)


_FAILURES = (
    Error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What the rules and definitions raise when a graph from a file has attributes of types nobody thought of."""


def type_of(value: Value) -> TensorType | None:
    """The type of a value; None for an empty optional. An empty sequence counts as one of float32."""
    if value is None:
        return None
    if isinstance(value, dict):
        value = np.asarray(list(value.values()))
        return TensorType(value.dtype, (), ("map",))
    if not isinstance(value, list):
        return TensorType.of(np.asarray(value))
    first = next((t for t in map(type_of, value) if t is not None), TensorType(np.dtype(np.float32), None))
    return TensorType(first.dtype, first.shape if len(value) == 1 else None, ("sequence", *first.container))


def infer_node(node: Node, types: Iterable[TensorType | None], constants: Iterable[Value] = ()) -> list[TensorType]:
    """The types of a node's outputs.

    Parameters
    ----------
    node
        The node; its operator is looked up.
    types
        One per input, None where it is absent.
    constants
        One per input: its value where that is known.

    Raises
    ------
    GraphError, UnsupportedError
        Naming the node, what was expected and what was found.
    """
    operator = find(node)
    attributes = operator.bind(node)
    given = list(types)
    known = list(constants) or [None] * len(given)
    try:
        found = operator.infer(attributes, given, known)
    except _FAILURES as error:
        raise _named(node, error) from error
    if len(node.outputs) > len(found):
        raise GraphError(
            "too many outputs", where=node.label, expected=f"at most {len(found)}", got=str(len(node.outputs))
        )
    return found


def evaluate_node(node: Node, values: Iterable[Value], *, replaced: Mapping[str, Any] | None = None) -> list[Value]:
    """The outputs of a node by its definition, after its shape rule has accepted the inputs.

    Parameters
    ----------
    node
        The node.
    values
        One per input, None where it is absent.
    replaced
        Attribute name -> what the definition sees in its place: a callable for a body that is compiled.

    Raises
    ------
    GraphError, UnsupportedError
        As `infer_node`.
    """
    given = list(values)
    operator = find(node)
    attributes = {**operator.bind(node), **(replaced or {})}
    types = infer_node(node, [type_of(v) for v in given], given)
    if not operator.narrow:
        given = [decode(v) if isinstance(v, np.ndarray) else v for v in given]
    try:
        with np.errstate(all="ignore"):
            result = operator.reference(attributes, *given)
    except _FAILURES as error:
        raise _named(node, error) from error
    results = result if isinstance(result, tuple) else (result,)
    return [_finished(r, t) for r, t in zip(results, types)]


def _finished(result: Any, expected: TensorType) -> Value:
    """A definition's result as a value of the graph."""
    if result is None or isinstance(result, (list, dict)):
        return result
    array = np.asarray(result)
    if is_narrow(expected.dtype) and not is_narrow(array.dtype):
        return encode(array, expected.dtype)
    return array


def is_pure(node: Node) -> bool:
    """Whether equal inputs give equal outputs; the nodes of its bodies count too."""
    bodies = [b for b in node.attributes.values() if isinstance(b, Graph)]
    return find(node).pure and all(is_pure(n) for b in bodies for n in b.nodes)


def run_body(body: Graph | Callable[..., list[Value]], values: Sequence[Value]) -> list[Value]:
    """The outputs of a node's body for its inputs in order. In place of the graph, what is compiled from it may stand.

    Raises
    ------
    GraphError, UnsupportedError
        Naming the node that cannot be run.
    """
    if not isinstance(body, Graph):
        return body(values)
    return _evaluate(body, dict(zip(body.inputs, values)), body.outputs)


def infer_body(body: Graph, types: Sequence[TensorType | None]) -> list[TensorType]:
    """The types of the outputs of a node's body for those of its inputs; where None, the body's own says."""
    given = {name: t for name, t in zip(body.inputs, types) if t is not None}
    found = infer_types(body, given)
    return [found[o] for o in body.outputs]


def _check_input(name: str, expected: TensorType, array: Array, sizes: dict[str, int], checked: bool) -> None:
    if checked and array.dtype != expected.dtype:
        raise InputError(
            "the dtype is wrong",
            where=f"input {name!r}",
            expected=name_of(expected.dtype),
            got=name_of(array.dtype),
        )
    if expected.shape is None:
        return
    fits = len(array.shape) == len(expected.shape)
    for d, size in zip(expected.shape, array.shape):
        if isinstance(d, str):
            d = sizes.setdefault(d, size)
        fits = fits and (d is None or d == size)
    if not fits:
        raise InputError(
            "the shape is wrong",
            where=f"input {name!r}",
            expected=str(expected),
            got=str(TensorType.of(array)),
        )


def _widened(node: Node, target: np.dtype[Any]) -> Node:
    """The node in the dtype in use: what a Cast casts to, since rounding would spoil the reference; bodies."""
    changed: dict[str, Any] = {k: _promoted(v, target) for k, v in node.attributes.items() if isinstance(v, Graph)}
    code = node.attributes.get("to")
    if node.op == "Cast" and isinstance(code, int) and code in DTYPES and DTYPES[code].kind == "f":
        changed["to"] = code_of(target)
    if not changed:
        return node
    return Node(node.op, node.inputs, node.outputs, {**node.attributes, **changed}, node.domain, node.name)


def _promoted(body: Graph, target: np.dtype[Any]) -> Graph:
    """A body whose floating constants and inputs are of another dtype."""
    inputs = {k: TensorType(target, t.shape, t.container) if t.dtype.kind == "f" else t for k, t in body.inputs.items()}
    constants = {k: v.astype(target) if v.dtype.kind == "f" else v for k, v in body.constants.items()}
    nodes = [_widened(n, target) for n in body.nodes]
    return Graph(inputs, body.outputs, nodes, constants, name=body.name)


def evaluate(
    graph: Graph,
    inputs: Mapping[str, npt.ArrayLike | Value],
    *,
    outputs: Iterable[str] | None = None,
    dtype: npt.DTypeLike | None = None,
) -> dict[str, Any]:
    """Run a graph by the NumPy definitions of its operators.

    Parameters
    ----------
    graph
        Any graph that `Graph.verify` accepts.
    inputs
        Name -> array, for every input of the graph.
    outputs
        Names of the values to return, any that the graph defines; the graph's outputs if None.
    dtype
        A floating dtype to which every floating value is converted: float64 for a reference more exact than
        the graph's own arithmetic. None keeps every dtype.

    Returns
    -------
    dict
        Name -> new array; a list for a sequence, a dict for a map, None for an empty optional.

    Raises
    ------
    InputError
        A missing or unknown input, or one of another shape or dtype than the graph says.
    GraphError, UnsupportedError
        Naming the node that cannot be run.
    """
    for name in inputs:
        if name not in graph.inputs:
            hint = suggest(name, graph.inputs)
            known = ", ".join(graph.inputs) or "none"
            raise InputError("unknown input", where=f"input {name!r}", expected=known, hint=hint)
    wanted = list(graph.outputs if outputs is None else outputs)
    target = None if dtype is None else np.dtype(dtype)

    values: dict[str, Value] = {}
    sizes: dict[str, int] = {}
    for name, expected in graph.inputs.items():
        if name not in inputs:
            raise InputError("missing input", where=f"input {name!r}", expected=str(expected))
        if expected.container:
            values[name] = inputs[name]  # type: ignore[assignment]
            continue
        array = np.asarray(inputs[name])
        _check_input(name, expected, array, sizes, checked=target is None)
        values[name] = array
    results = _evaluate(graph, values, wanted, target)
    return {k: np.array(r) if isinstance(r, np.ndarray) else r for k, r in zip(wanted, results)}


def _evaluate(
    graph: Graph, inputs: Mapping[str, Value], wanted: Iterable[str], target: np.dtype[Any] | None = None
) -> list[Value]:
    def promote(value: Value) -> Value:
        floats = target is not None and isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return value.astype(target) if floats else value  # type: ignore[union-attr]

    values: dict[str, Value] = {k: promote(v) for k, v in {**graph.constants, **inputs}.items()}
    for node in graph.nodes:
        known = [values[i] if i else None for i in node.inputs]
        results = evaluate_node(node if target is None else _widened(node, target), known)
        values.update((o, promote(r)) for o, r in zip(node.outputs, results) if o)
    for name in wanted:
        if name not in values:
            hint = suggest(name, values)
            expected = "a value that the graph defines"
            raise InputError("no such value", where=f"output {name!r}", expected=expected, hint=hint)
    return [values[name] for name in wanted]


def _follows(node: Node, types: list[TensorType | None], known: list[Value]) -> bool:
    """Whether all that a node's outputs follow from is known: a shape, or values that are small."""
    if node.qualified in OF_SHAPES:
        return True
    if not known or any(v is None and t is not None for v, t in zip(known, types)):
        return False
    return not any(type(v) is np.ndarray and v.size > _SMALL for v in known) and is_pure(node)


def _computed(node: Node, types: list[TensorType | None], known: list[Value]) -> list[Value] | None:
    """The outputs of a node for which `_follows` holds; None where the shape is unknown."""
    if node.qualified in OF_SHAPES:
        shape = types[0].shape if types[0] is not None else None
        if shape is None or not all(isinstance(d, int) for d in shape):
            return None
        # A view of one element with the shape: nothing of that size is ever allocated.
        stand_in = np.broadcast_to(np.zeros((), np.int8), [d for d in shape if isinstance(d, int)])
        return evaluate_node(node, [stand_in])
    return evaluate_node(node, known)


def infer_types(
    graph: Graph,
    input_types: Mapping[str, TensorType] | None = None,
    *,
    values: dict[str, Array] | None = None,
) -> dict[str, TensorType]:
    """The type of every value of a graph.

    Values that only depend on shapes (Shape, Gather, Concat ... Reshape) are computed on the way where the
    shapes are known, so that the shapes that depend on them are known too.

    Parameters
    ----------
    graph
        Any graph that `Graph.verify` accepts.
    input_types
        Types of inputs in place of those that the graph says, such as the shapes of one call.
    values
        Is filled with the integers computed on the way.

    Raises
    ------
    GraphError, UnsupportedError
        Naming the node, what was expected and what was found.
    """
    types: dict[str, TensorType] = {k: TensorType.of(v) for k, v in graph.constants.items()}
    types.update(graph.inputs)
    types.update(input_types or {})
    computed: dict[str, Array] = {} if values is None else values
    constants = graph.constants
    tracked = any(is_tracked(d) for t in (input_types or {}).values() for d in t.shape or ())
    for node in graph.nodes:
        given = [types[i] if i else None for i in node.inputs]
        known: list[Value] = [computed[i] if i in computed else constants.get(i) for i in node.inputs]
        found = infer_node(node, given, list(map(elements_of, known)) if tracked else known)
        types.update((o, t) for o, t in zip(node.outputs, found) if o)
        if found[0].dtype.kind not in "iub" or not _follows(node, given, known):
            continue
        if not all(t.is_known and _count(t) <= _SMALL for t in found):
            continue
        results: list[Any] | None
        if tracked and (node.qualified in OF_SHAPES or any(map(has_tracked, known))):
            results = tracked_values(node, find(node), given, known, found)
        else:
            results = _computed(node, given, known)
        if results is not None:
            computed.update((o, r) for o, r in zip(node.outputs, results) if o and isinstance(r, np.ndarray))
    return types


def _count(found: TensorType) -> int:
    size = 1
    for d in found.shape or ():
        size *= d if isinstance(d, int) else 1
    return size
