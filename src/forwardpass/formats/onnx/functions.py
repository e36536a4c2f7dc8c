"""Model-local functions, parsed once, and checked before one is put in place of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import GraphError, UnsupportedError
from ...records import record
from .opsets import domain_of, versions_of
from .order import ordered
from .parse import parse_operations, parse_value
from .parsed import Operation
from .tensors import Tensors
from .text import text_of, texts_of

if TYPE_CHECKING:
    import onnx

__all__ = ["Function", "FunctionKey", "check_calls", "parse_functions"]

FunctionKey: TypeAlias = "tuple[str, str, str]"
"""Domain, name, overload."""

_MAX_DEPTH = 64
_MAX_BASE, _MAX_RATIO = 50_000, 16
"""A model may have base + ratio * the nodes in its file when all functions are in place."""


@record(slots=True, eq=False)
class Function:
    """A FunctionProto.

    Attributes
    ----------
    attributes
        Names of those that a call must give.
    defaults
        Of those that it may give.
    """

    inputs: list[str]
    outputs: list[str]
    attributes: list[str]
    defaults: dict[str, Any]
    operations: list[Operation]
    versions: Mapping[str, int]
    defined: set[str]


def parse_functions(protos: Iterable[onnx.FunctionProto], tensors: Tensors, where: str) -> dict[FunctionKey, Function]:
    """The functions of a model.

    Raises
    ------
    GraphError, FileError, UnsupportedError
        Naming the function and what is wrong.
    """
    found: dict[FunctionKey, Function] = {}
    for proto in protos:
        key = (
            domain_of(proto.domain),
            text_of(proto.name),
            text_of(proto.overload),
        )
        inside = f"{where}: function {proto.name!r}"
        if not proto.name or key in found:
            raise GraphError("a function has no name or is there twice", where=inside)
        found[key] = _parse(proto, tensors, inside)
    return found


def _parse(proto: onnx.FunctionProto, tensors: Tensors, where: str) -> Function:
    operations = ordered(parse_operations(proto.node, tensors, where), where)
    inputs, outputs = texts_of(proto.input), texts_of(proto.output)
    defined = set(inputs)
    if len(defined) != len(inputs) or not all(inputs) or not all(outputs):
        raise GraphError("an input or output has no name or is there twice", where=where)
    for operation in operations:
        for o in operation.outputs:
            if o and o in inputs:
                raise GraphError(f"value {o!r} is defined twice", where=f"{where}: {operation.label}")
        defined.update(o for o in operation.outputs if o)
    for o in outputs:
        if o not in defined:
            raise GraphError(f"output {o!r} is undefined", where=where)
    defaults = {
        text_of(a.name): parse_value(a, tensors, f"{where}, attribute {a.name!r}") for a in proto.attribute_proto
    }
    versions = versions_of(proto.opset_import, where)
    return Function(inputs, outputs, texts_of(proto.attribute), defaults, operations, versions, defined)


def check_calls(functions: Mapping[FunctionKey, Function], operations: list[Operation], where: str) -> None:
    """Refuse functions that call each other in a circle, and those that would grow out of all proportion.

    Raises
    ------
    GraphError
        A function that calls itself, or calls nested too deeply.
    UnsupportedError
        Too many nodes with all functions in place.
    """
    calls = {key: _calls(function.operations, functions) for key, function in functions.items()}
    sizes = _sizes(calls)
    if len(sizes) < len(functions):
        left = [name for _, name, _ in (key for key in functions if key not in sizes)]
        raise GraphError("functions call themselves", where=where, got=", ".join(left[:5]))
    main = _calls(operations, functions)
    total, depth = _size(main, sizes)
    stored = main[0] + sum(own for own, _ in calls.values())
    if depth > _MAX_DEPTH:
        raise GraphError("calls are nested too deeply", where=where, expected=f"at most {_MAX_DEPTH}", got=str(depth))
    if total > _MAX_BASE + _MAX_RATIO * stored:
        raise UnsupportedError(
            "too many nodes with all functions in place",
            where=where,
            expected=f"at most {_MAX_BASE + _MAX_RATIO * stored}",
            got=str(total),
        )


def _sizes(calls: Mapping[FunctionKey, tuple[int, list[FunctionKey]]]) -> dict[FunctionKey, tuple[int, int]]:
    """`_size` of each function that does not lead to a circle."""
    users: dict[FunctionKey, set[FunctionKey]] = {}
    for key, (_, called) in calls.items():
        for other in called:
            users.setdefault(other, set()).add(key)
    waiting = {key: len(set(called)) for key, (_, called) in calls.items()}
    ready = [key for key, count in waiting.items() if count == 0]
    sizes: dict[FunctionKey, tuple[int, int]] = {}
    while ready:
        key = ready.pop()
        sizes[key] = _size(calls[key], sizes)
        for user in users.get(key, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return sizes


def _size(calls: tuple[int, list[FunctionKey]], sizes: Mapping[FunctionKey, tuple[int, int]]) -> tuple[int, int]:
    """Nodes with all calls in place, and how deep these are nested."""
    own, called = calls
    return own + sum(sizes[k][0] for k in called), 1 + max((sizes[k][1] for k in called), default=0)


def _calls(operations: Iterable[Operation], functions: Mapping[FunctionKey, Function]) -> tuple[int, list[FunctionKey]]:
    """The number of operations, bodies included, and the functions that they call."""
    count, called = 0, []
    for operation in operations:
        count += 1
        key = (operation.domain, operation.op, operation.overload)
        if key in functions:
            called.append(key)
        for body in operation.bodies():
            inner, more = _calls(body.operations, functions)
            count += inner
            called += more
    return count, called
