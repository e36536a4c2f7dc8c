"""Control flow: If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, Graph, TensorType, Value
from . import shapes
from .bodies import body_of, captured, entered, graph_of, join, scalar_type, settle, single
from .evaluate import infer_body, run_body, type_of
from .registry import REQUIRED, Attributes, Constants, Types, operator

_INT64 = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)


def _truth(value: Value, what: str) -> bool:
    array = np.asarray(value)
    if array.size != 1 or array.dtype != _BOOL:
        raise GraphError(f"{what} is wrong", expected="one bool", got=f"{array.dtype}{list(array.shape)}")
    return bool(array.reshape(()))


def _known(constants: Constants, index: int) -> Any:
    """The single value of an input where it is known, else None."""
    value = shapes.at(constants, index)
    return value.reshape(()).item() if isinstance(value, np.ndarray) and value.size == 1 else None


# If

_BRANCHES = ("then_branch", "else_branch")


def _infer_if(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    single(shapes.required(types, 0, "cond", "b"), "cond")
    captured(attributes, len(types), 1)
    branches = [body_of(attributes, name, len(types) - 1) for name in _BRANCHES]
    if len(branches[0].outputs) != len(branches[1].outputs):
        counts = [len(b.outputs) for b in branches]
        raise GraphError("the branches differ in their outputs", expected=f"{counts[0]} in both", got=str(counts[1]))
    condition = _known(constants, 0)
    if condition is not None:
        branches = [branches[0 if condition else 1]]
    found, failed = [], []
    for branch in branches:
        try:
            found.append(infer_body(branch, entered(branch, types[1:], constants[1:])))
        except GraphError as error:
            # A branch may be there for shapes other than those at hand; then it is not taken.
            failed.append(error)
    if not found:
        raise failed[0]
    if len(found) == 1:
        return found[0]
    return [join(a, b, f"output {k} of the branches") for k, (a, b) in enumerate(zip(*found))]


def _if(attributes: Attributes, condition: Array, *values: Value) -> tuple[Value, ...]:
    return tuple(run_body(attributes[_BRANCHES[0 if _truth(condition, "cond") else 1]], values))


operator(
    "If",
    infer=_infer_if,
    reference=_if,
    attributes={"then_branch": REQUIRED, "else_branch": REQUIRED, "captures": 0},
    arity=(1, None),
    narrow=True,
)


class _Stack:
    """A scan output: arrays of one shape and dtype, copied so that none keeps alive what it is a view of."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self.buffer: Array | None = None

    def append(self, value: Value) -> None:
        x = np.asarray(value)
        if self.buffer is None:
            self.buffer = np.empty((1, *x.shape), x.dtype)
        if x.shape != self.buffer.shape[1:] or x.dtype != self.buffer.dtype:
            expected = TensorType(self.buffer.dtype, self.buffer.shape[1:])
            raise GraphError(
                f"scan output {self.name!r} changes its type", expected=str(expected), got=str(TensorType.of(x))
            )
        if self.count == len(self.buffer):
            grown = np.empty((2 * self.count, *x.shape), x.dtype)
            grown[: self.count] = self.buffer
            self.buffer = grown
        self.buffer[self.count] = x
        self.count += 1

    def array(self, element: TensorType) -> Array:
        """All of them along axis 0; without any, the shape comes from the inferred type of one."""
        if self.buffer is None:
            return np.empty((0, *(d if isinstance(d, int) else 0 for d in element.shape or ())), element.dtype)
        return self.buffer[: self.count]


def _stacked(found: TensorType, name: str, count: Dim, axis: int = 0) -> TensorType:
    """The type of a scan output whose elements are of type `found`."""
    if found.container:
        raise GraphError(f"scan output {name!r} is no tensor", expected="a tensor", got=str(found))
    if found.shape is None:
        return found
    place = shapes.axis_of(axis, len(found.shape) + 1, name="scan_output_axes")
    return shapes.tensor(found.dtype, (*found.shape[:place], count, *found.shape[place:]))


# Loop


def _heads(body: Graph) -> list[TensorType]:
    """The types of the iteration number and the condition, as a body gets them."""
    number, condition = list(body.inputs.values())[:2]
    # The text's own sample body counts in int32.
    dtype = number.dtype if number.dtype.kind == "i" else _INT64
    return [scalar_type(number, dtype), scalar_type(condition, _BOOL)]


def _never_stops(body: Graph) -> bool:
    """Whether the body plainly hands on its condition, or gives a constant that is true."""
    name, own = body.outputs[0], list(body.inputs)[1]
    if name in body.constants:
        value = body.constants[name]
        return value.size == 1 and bool(value.reshape(()))
    for node in body.nodes:
        if name in node.outputs:
            return node.op == "Identity" and not node.domain and node.inputs == [own]
    return name == own


def _loop_body(attributes: Attributes, inputs: int) -> tuple[Graph, int]:
    """The body, and the number of states."""
    captures = captured(attributes, inputs, 2)
    body = body_of(attributes, "body", max(inputs, 2))
    states = max(inputs, 2) - 2 - captures
    if len(body.outputs) < 1 + states:
        raise GraphError("body gives too few outputs", expected=f"{1 + states} or more", got=str(len(body.outputs)))
    return body, states


def _infer_loop(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    for k, name, kind in ((0, "M", "i"), (1, "cond", "b")):
        if shapes.at(types, k) is not None:
            single(shapes.required(types, k, name, kind), name)
    body, states = _loop_body(attributes, len(types))
    given = entered(body, [None, None, *types[2:]], [None, None, *constants[2:]])[2:]
    first = given[:states]
    held, outputs = settle(body, _heads(body), first, given[states:], 1)
    _truth_type(outputs[0])

    limited, guarded = (shapes.at(types, k) is not None for k in (0, 1))
    limit, condition = _known(constants, 0), _known(constants, 1)
    never = condition is False or (limit is not None and limit <= 0)
    starts = (not limited or (limit is not None and limit > 0)) and (not guarded or condition is True)
    count: Dim = None
    if never:
        count = 0
    elif limit is not None and (not guarded or (condition is True and _never_stops(body))):
        count = max(limit, 0)
    final = first if never else outputs[1 : 1 + states] if starts else held
    return [*final, *(_stacked(t, n, count) for t, n in zip(outputs[1 + states :], body.outputs[1 + states :]))]


def _truth_type(found: TensorType) -> None:
    if found.dtype != _BOOL or found.container:
        raise GraphError("the body's condition is wrong", expected="one bool", got=str(found))
    single(found, "condition of the body")


def _loop(
    attributes: Attributes, trips: Array | None = None, condition: Array | None = None, *values: Value
) -> tuple[Value, ...]:
    # Without a trip count nothing but the condition ends the loop: the standard has no other limit.
    body = attributes["body"]
    graph = graph_of(body)
    states = len(values) - attributes["captures"]
    carried, tail = list(values[:states]), list(values[states:])
    heads = _heads(graph)
    limit = None if trips is None else int(trips.reshape(()))
    goes_on = condition is None or _truth(condition, "cond")
    stacks = [_Stack(name) for name in graph.outputs[1 + states :]]
    flag, index = goes_on, 0
    while goes_on and (limit is None or index < limit):
        turn = [np.full(t.sizes, v, t.dtype) for t, v in zip(heads, (index, flag))]
        outputs = run_body(body, [*turn, *carried, *tail])
        flag = _truth(outputs[0], "the body's condition")
        goes_on = condition is None or flag
        carried = outputs[1 : 1 + states]
        for stack, value in zip(stacks, outputs[1 + states :]):
            stack.append(value)
        index += 1
    elements = [] if index or not stacks else _elements(graph, heads, values)[1 + states :]
    return (*carried, *_arrays(stacks, elements))


def _elements(graph: Graph, before: Sequence[TensorType], values: Sequence[Value]) -> list[TensorType]:
    """The types of the outputs of a body that is never run."""
    types = [*before, *(type_of(v) for v in values)]
    return infer_body(graph, entered(graph, types, [*(None for _ in before), *values]))


def _arrays(stacks: Sequence[_Stack], elements: Sequence[TensorType]) -> list[Array]:
    unused = TensorType(_INT64, None)
    return [s.array(elements[k] if elements else unused) for k, s in enumerate(stacks)]


operator(
    "Loop",
    infer=_infer_loop,
    reference=_loop,
    attributes={"body": REQUIRED, "captures": 0},
    arity=(0, None),
    narrow=True,
)


# Scan


def _listed(attributes: Attributes, name: str, count: int) -> list[int]:
    found = shapes.integers(attributes, name, count, default=0)
    if name.endswith("directions") and not set(found) <= {0, 1}:
        raise GraphError(f"attribute {name!r} is wrong", expected="0 (forward) or 1 (reverse)", got=str(found))
    return found


def _scan_parts(attributes: Attributes, inputs: int) -> tuple[int, int]:
    """How many states and scan inputs there are."""
    scanned = shapes.integer(attributes, "num_scan_inputs")
    states = inputs - captured(attributes, inputs) - scanned
    if scanned < 1 or states < 0:
        raise GraphError("attribute 'num_scan_inputs' is wrong", expected=f"1 to {states + scanned}", got=str(scanned))
    return states, scanned


def _infer_scan(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    states, scanned = _scan_parts(attributes, len(types))
    body = body_of(attributes, "body", len(types))
    outputs = len(body.outputs) - states
    if outputs < 0:
        raise GraphError("body gives too few outputs", expected=f"{states} or more", got=str(len(body.outputs)))
    _listed(attributes, "scan_input_directions", scanned)
    _listed(attributes, "scan_output_directions", outputs)
    axes = _listed(attributes, "scan_input_axes", scanned)
    length: Dim = None
    elements = []
    for k, axis in enumerate(axes):
        x = shapes.required(types, states + k, f"scan input {k}")
        if x.shape is None:
            elements.append(x)
            continue
        place = shapes.axis_of(axis, len(x.shape), name="scan_input_axes")
        length = shapes.unify(length, x.shape[place], "the lengths of the scan inputs")
        elements.append(TensorType(x.dtype, (*x.shape[:place], *x.shape[place + 1 :])))
    given = entered(body, types, constants)
    held, found = settle(body, [], given[:states], [*elements, *given[states + scanned :]], 0)
    final = given[:states] if length == 0 else found[:states] if isinstance(length, int) else held
    ends = _listed(attributes, "scan_output_axes", outputs)
    stacked = [_stacked(t, n, length, a) for t, n, a in zip(found[states:], body.outputs[states:], ends)]
    return [*final, *stacked]


def _scan(attributes: Attributes, *values: Value) -> tuple[Value, ...]:
    body = attributes["body"]
    graph = graph_of(body)
    states, scanned = _scan_parts(attributes, len(values))
    carried, tail = list(values[:states]), list(values[states + scanned :])
    axes = _listed(attributes, "scan_input_axes", scanned)
    backward = _listed(attributes, "scan_input_directions", scanned)
    sources = [np.moveaxis(np.asarray(v), a, 0) for v, a in zip(values[states:], axes)]
    sources = [s[::-1] if b else s for s, b in zip(sources, backward)]
    stacks = [_Stack(name) for name in graph.outputs[states:]]
    for k in range(len(sources[0])):
        # [k, ...] and not [k], which makes scalars of the elements of a vector.
        outputs = run_body(body, [*carried, *(s[k, ...] for s in sources), *tail])
        carried = outputs[:states]
        for stack, value in zip(stacks, outputs[states:]):
            stack.append(value)
    elements: list[TensorType] = []
    if not len(sources[0]) and stacks:
        elements = _scan_elements(graph, values, states, sources)
    arrays = _arrays(stacks, elements)
    places = _listed(attributes, "scan_output_axes", len(stacks))
    reverse = _listed(attributes, "scan_output_directions", len(stacks))
    return (*carried, *(np.moveaxis(a[::-1] if r else a, 0, p) for a, p, r in zip(arrays, places, reverse)))


def _scan_elements(graph: Graph, values: Sequence[Value], states: int, sources: Sequence[Array]) -> list[TensorType]:
    """The types of the scan outputs' elements where nothing is scanned."""
    types = entered(graph, [type_of(v) for v in values], values)
    types[states : states + len(sources)] = [TensorType(s.dtype, s.shape[1:]) for s in sources]
    return infer_body(graph, types)[states:]


operator(
    "Scan",
    infer=_infer_scan,
    reference=_scan,
    attributes={
        "body": REQUIRED,
        "num_scan_inputs": REQUIRED,
        "scan_input_axes": None,
        "scan_input_directions": None,
        "scan_output_axes": None,
        "scan_output_directions": None,
        "captures": 0,
    },
    arity=(1, None),
    narrow=True,
)
