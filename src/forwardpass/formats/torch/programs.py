"""Programs as graphs: every call by the definition of its operator."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...graph import Graph, Node
from .aten import OPERATORS
from .calls import Call, Program, Ref, Sym
from .emitter import Emitter

__all__ = ["COMPARED", "definition", "emit", "finished", "graph_of", "unknown"]

_SHOWN = 20


def definition(op: str, overload: str) -> Callable[..., Any] | None:
    """What an operator is made of, None where nothing says it."""
    return OPERATORS.get(f"{op}.{overload}") or OPERATORS.get(op)


_NUMBERS: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "truediv", "pow")
}
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
_CALCULATED = {**_NUMBERS, **COMPARED}
_SIZES = {"add": "Add", "sub": "Sub", "mul": "Mul", "floordiv": "Div", "mod": "Mod"}


def graph_of(program: Program) -> Graph:
    """The graph of a program.

    Raises
    ------
    UnsupportedError
        Operators that nothing is known of, all at once; or the first call with arguments that are not supported.
    """
    _check(program)
    e = Emitter([*program.inputs, *program.constants, *(c.name for c in program.calls)])
    values: dict[str, Any] = {}
    for name, found in program.inputs.items():
        e.add_input(name, found)
        values[name] = Ref(name)
    for name, array in program.constants.items():
        e.constants[name] = array
        values[name] = Ref(name)
    for call in program.calls:
        values[call.name] = emit(e, call, {k: _resolved(v, values) for k, v in call.arguments.items()})
    return finished(e, [values.get(name) for name in program.outputs], program.name)


def finished(e: Emitter, values: Sequence[Any], name: str) -> Graph:
    """The graph whose outputs are these values."""
    outputs: list[str] = []
    for value in values:
        if not isinstance(value, Ref):
            value = Ref(e.value(np.asarray(value)))
        if value in e.inputs or value in e.constants or value in outputs:
            copied = e.fresh(f"{value}_output")
            e.nodes.append(Node("Identity", [value], [copied], name=copied))
            value = Ref(copied)
        outputs.append(value)
    graph = e.graph(outputs, name, {"producer": "pytorch"})
    graph.prune()
    graph.verify()
    return graph


def _check(program: Program) -> None:
    known = {"getitem", *_CALCULATED}
    missing: dict[str, int] = {}
    for call in program.calls:
        if not (call.overload == "python" and call.op in known) and definition(call.op, call.overload) is None:
            name = f"{call.op}.{call.overload}"
            missing[name] = missing.get(name, 0) + 1
    if missing:
        raise unknown(missing, program.name)


def unknown(missing: Mapping[str, int], where: str, hint: str = "") -> UnsupportedError:
    """What to raise for operators that are not known, with how often they occur."""
    shown = [f"{name} ({count})" for name, count in sorted(missing.items())]
    rest = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    got = ", ".join(shown[:_SHOWN]) + rest
    hint = hint or "torch.onnx.export and forwardpass.from_onnx may know them"
    return UnsupportedError("operators of PyTorch that are not known here", where=where, got=got, hint=hint)


def emit(e: Emitter, call: Call, arguments: Mapping[str, Any]) -> Any:
    """The result of one call, given what its arguments are in the graph."""
    e.where, e.op, e.stem = f"node {call.name!r}: aten.{call.op}.{call.overload}", call.op, call.name
    if call.overload == "python" or (call.op in _CALCULATED and not _has_tensor(arguments)):
        return _calculated(e, call, list(arguments.values()))
    define = definition(call.op, call.overload)
    assert define is not None
    first = len(e.nodes)
    made = define(e, **_accepted(e, define, arguments))
    if isinstance(made, Ref) and any(made in n.outputs for n in e.nodes[first:]) and call.name not in e.inputs:
        made = e.rename(first, made, call.name)
        e.state(made, call.type)
    if isinstance(made, Sym) and call.size:
        e.sizes[made] = call.size
    return made


def _has_tensor(arguments: Mapping[str, Any]) -> bool:
    return any(isinstance(v, Ref) and not isinstance(v, Sym) for v in arguments.values())


def _accepted(e: Emitter, define: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the definition takes; the others must not say anything."""
    parameters = inspect.signature(define).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    silent = ("layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "out", "inplace")
    for name, value in arguments.items():
        if name not in parameters and name not in silent and value not in (None, False):
            raise e.refuse(f"the argument {name!r}", value)
    return {k: v for k, v in arguments.items() if k in parameters}


def _resolved(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value]
    if isinstance(value, (list, tuple)):
        return [_resolved(v, values) for v in value]
    return value


def _calculated(e: Emitter, call: Call, arguments: list[Any]) -> Any:
    """What Python calculates with sizes, and parts of several results."""
    if call.op == "getitem":
        return arguments[0][arguments[1]]
    if not any(isinstance(a, Sym) for a in arguments):
        return _CALCULATED[call.op](*arguments)
    if call.op in COMPARED:
        return True  # what the exporter asserts of sizes
    if call.op not in _SIZES:
        raise e.refuse(f"{call.op} of sizes that are not known")
    made = Sym(e.node(_SIZES[call.op], *(np.int64(a) if isinstance(a, int) else a for a in arguments)))
    if call.size:
        e.sizes[made] = call.size
    return made
