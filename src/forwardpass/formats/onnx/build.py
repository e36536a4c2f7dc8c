"""Parsed records to graphs: names resolved, bodies closed over what they read, functions put in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import GraphError, UnsupportedError
from ...graph import Array, Graph, Node
from ...records import record
from .check import newest
from .context import Context
from .functions import Function, FunctionKey
from .parsed import Operation, Source
from .ranks import remember

__all__ = ["Builder"]


@record(slots=True, eq=False)
class Scope:
    """The names that operations of one graph or function see.

    Attributes
    ----------
    context
        The graph that they go into.
    names
        Name in the file -> value in the graph.
    local
        Names that the graph or function defines itself; they hide those around it.
    parent
        The scope around it, for a body.
    versions
        Domain -> opset.
    attributes
        Of the function's call: name -> value.
    prefix
        Of the names of what a function defines.
    """

    context: Context
    names: dict[str, str]
    local: set[str]
    parent: Scope | None
    versions: Mapping[str, int]
    attributes: Mapping[str, Any]
    prefix: str = ""

    def find(self, name: str) -> tuple[Context, str] | None:
        """The graph that has the value, and its name there."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.context, scope.names[name]
            if name in scope.local:
                return None
            scope = scope.parent
        return None

    def resolve(self, name: str, where: str) -> str:
        """The value of a name that an operation reads; "" is an absent one.

        Raises
        ------
        GraphError
            Nothing defines it.
        """
        if not name:
            return ""
        found = self.find(name)
        if found is None:
            raise GraphError(f"input {name!r} is undefined", where=where)
        home, value = found
        if not value or home is self.context:
            return value
        return self.context.bring(home, value, name)

    def define(self, name: str) -> str:
        """The value of a name that an operation defines."""
        if not name:
            return ""
        if name not in self.names:
            self.names[name] = self.context.fresh(self.prefix + name) if self.prefix else name
        return self.names[name]


@record(slots=True, eq=False)
class _Closure:
    """A body that is an attribute of a function's call: it sees the names of the caller."""

    source: Source
    scope: Scope


class Builder:
    """Builds the graphs of one model.

    Parameters
    ----------
    functions
        Those of the model.
    """

    def __init__(self, functions: Mapping[FunctionKey, Function]) -> None:
        self._functions = functions
        self.unsupported: list[str] = []
        """One line per node whose operator does not exist here."""

    def model(self, source: Source, versions: Mapping[str, int], metadata: Mapping[str, str]) -> Graph:
        """The graph of a model."""
        context = Context(_taken(source), declared=source.declared)
        scope = Scope(context, {}, source.defined(), None, versions, {})
        self._fill(scope, source)
        for o in source.outputs:
            if o not in scope.names:
                raise GraphError(f"output {o!r} is undefined", where=source.name or "graph")
        return context.graph(
            source.outputs, source.name, {**metadata, **remember(context, source.outputs, source.declared)}
        )

    def _fill(self, scope: Scope, source: Source) -> None:
        for name, found in source.inputs.items():
            scope.names[name] = name
            scope.context.add_input(name, found)
        for name, array in source.constants.items():
            scope.names[name] = name
            scope.context.constants[name] = array
        for operation in source.operations:
            self._add(scope, operation)

    def _add(self, scope: Scope, operation: Operation) -> None:
        attributes = self._attributes(scope, operation)
        label = scope.prefix + operation.name if operation.name else ""
        inputs = [scope.resolve(i, operation.label) for i in operation.inputs]
        outputs = [scope.define(o) for o in operation.outputs]
        function = self._functions.get((operation.domain, operation.op, operation.overload))
        if function is not None:
            self._call(scope, function, operation, inputs, outputs, attributes)
            return
        while outputs and not outputs[-1]:
            outputs.pop()
        if not outputs:
            return  # nobody can see what it does
        if (operation.domain, operation.op) == ("", "Constant"):
            scope.context.constants[outputs[0]] = _constant(attributes, operation.label)
            return
        while inputs and not inputs[-1]:
            inputs.pop()
        inputs += self._close(scope, attributes)
        node = Node(operation.op, inputs, outputs, attributes, operation.domain, label)
        scope.context.nodes += newest(node, scope.versions, scope.context, self.unsupported)

    def _attributes(self, scope: Scope, operation: Operation) -> dict[str, Any]:
        """Values of references put in; absent where the call does not give them."""
        found = dict(operation.attributes)
        for name, reference in operation.references.items():
            if reference in scope.attributes:
                found[name] = scope.attributes[reference]
        return found

    # ---- bodies

    def _close(self, scope: Scope, attributes: dict[str, Any]) -> list[str]:
        """Turn the bodies among the attributes into graphs. Returns the values that they capture."""
        bodies: dict[str, list[tuple[Context, Source, list[str]]]] = {}
        for name, value in attributes.items():
            items = value if isinstance(value, list) else [value]
            if items and all(isinstance(i, (Source, _Closure)) for i in items):
                bodies[name] = [self._body(scope, i) for i in items]
        captured = list(dict.fromkeys(v for made in bodies.values() for c, _, _ in made for v in c.captured()))
        for name, made in bodies.items():
            graphs = [self._closed(*item, captured) for item in made]
            attributes[name] = graphs if isinstance(attributes[name], list) else graphs[0]
        if captured:
            attributes["captures"] = len(captured)
        return captured

    def _body(self, scope: Scope, body: Source | _Closure) -> tuple[Context, Source, list[str]]:
        source, around = (body.source, body.scope) if isinstance(body, _Closure) else (body, scope)
        context = Context(_taken(source), scope.context, source.declared)
        inner = Scope(context, {}, source.defined(), around, around.versions, around.attributes)
        self._fill(inner, source)
        outputs: list[str] = []
        for o in source.outputs:
            value = inner.resolve(o, f"output of graph {source.name!r}")
            if value in outputs:
                value = _copied(context, value)
            outputs.append(value)
        return context, source, outputs

    def _closed(self, context: Context, source: Source, outputs: list[str], captured: list[str]) -> Graph:
        captured_here = set(context.captures.values())
        types = {name: found for name, found in context.inputs.items() if name not in captured_here}
        for value in captured:
            local = context.capture(value, value)
            types[local] = context.inputs[local]
        context.inputs = types
        return context.graph(outputs, source.name)

    # ---- functions

    def _call(
        self,
        scope: Scope,
        function: Function,
        operation: Operation,
        inputs: list[str],
        outputs: list[str],
        attributes: dict[str, Any],
    ) -> None:
        """Put the operations of a function in the place of its call."""
        if len(inputs) > len(function.inputs) or len(outputs) > len(function.outputs):
            got = f"{len(inputs)} inputs, {len(outputs)} outputs"
            expected = f"at most {len(function.inputs)} inputs, {len(function.outputs)} outputs"
            raise GraphError("the call does not fit the function", where=operation.label, expected=expected, got=got)
        given = {k: _Closure(v, scope) if isinstance(v, Source) else v for k, v in attributes.items()}
        absent = [a for a in function.attributes if a not in given]
        if absent:
            raise GraphError(f"attribute {absent[0]!r} of the function is missing", where=operation.label)
        names = dict(zip(function.inputs, inputs + [""] * len(function.inputs)))
        prefix = f"{scope.prefix}{operation.name or operation.op}/"
        context = scope.context
        inner = Scope(context, names, function.defined, None, function.versions, {**function.defaults, **given}, prefix)
        passed: list[tuple[str, str]] = []
        for formal, value in zip(function.outputs, outputs):
            if not value:
                continue
            if formal in names:  # an input, or an output that is there twice
                passed.append((formal, value))
            else:
                names[formal] = value
        for made in function.operations:
            self._add(inner, made)
        for formal, value in passed:
            source = inner.resolve(formal, operation.label)
            if not source:
                raise GraphError(f"output {formal!r} of the function is an absent input", where=operation.label)
            context.nodes.append(Node("Identity", [source], [value]))


def _taken(source: Source) -> set[str]:
    found = source.defined() | source.free | set(source.outputs)
    for operation in source.operations:
        found |= operation.reads()
    return found - source.free


def _copied(context: Context, value: str) -> str:
    name = context.fresh(value)
    context.nodes.append(Node("Identity", [value], [name]))
    return name


_PLAIN = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _constant(attributes: Mapping[str, Any], where: str) -> Array:
    """The value of a Constant node."""
    if len(attributes) != 1:
        raise GraphError("a Constant has one attribute", where=where, got=", ".join(attributes) or "none")
    ((name, value),) = attributes.items()
    if name in ("value", "sparse_value") and isinstance(value, np.ndarray):
        return value
    if name in _PLAIN and isinstance(value, (int, float, list)):
        try:
            return np.array(value, _PLAIN[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise GraphError(f"attribute {name!r} is wrong", where=where, got=str(error)) from None
    if name in ("value_string", "value_strings") and isinstance(value, (str, list)):
        return np.array(value, object)
    if name.startswith("value") or name == "sparse_value":
        raise GraphError(f"attribute {name!r} is wrong", where=where, got=type(value).__name__)
    raise UnsupportedError(f"unknown attribute {name!r} of a Constant", where=where)
