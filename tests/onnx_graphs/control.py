"""Nodes with bodies: If and Loop, whose bodies read values of the graphs around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from forwardpass.dtypes import code_of
from forwardpass.graph import Node
from forwardpass.ops.evaluate import evaluate_node
from onnx_graphs.grower import Array, Grower, Val, check_size
from onnx_graphs.older import Skip

__all__ = ["ADDERS"]


def _info(v: Val) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(v.name, code_of(v.dtype), [None] * v.rank)


def _body(g: Grower, name: str, inputs: list[Val], outputs: list[Val]) -> onnx.GraphProto:
    described = [helper.make_tensor_value_info(v.name, code_of(v.dtype), v.shape) for v in inputs]
    return helper.make_graph(g.nodes, name, described, [_info(v) for v in outputs], g.initializers)


def branches(g: Grower) -> None:
    """An If on a constant, an input or a computed condition."""
    # Imported late: a body holds nodes of every kind, also of this one.
    from onnx_graphs.kinds import grow

    x = g.pick("fffi")
    known = [v for v in g.values if v.dtype == bool and v.shape in ((), (1,))]
    condition = known[-1] if known and g.chance(2) else g.source(bool, g.one_of((), (1,)))
    results: list[Val] = []
    bodies: list[onnx.GraphProto] = []
    for name in ("then", "otherwise"):
        inner = Grower(g.root, [*g.values, x], main=g.main)
        for _ in range(g.number(1, 2)):
            grow(inner)
        fitting = [v for v in inner.made if v.dtype == x.dtype]
        result = fitting[-1] if fitting else inner.emit("Identity", [x])[0]
        bodies.append(_body(inner, name, [], [result]))
        results.append(result)
    if g.root.opset < 11 and results[0].shape != results[1].shape:
        raise Skip("branches of different shapes")
    taken = results[0 if condition.array.all() else 1]
    made = Val(g.name("v"), taken.array, all(r.exact for r in results), computed=True)
    node = helper.make_node("If", [condition.name], [made.name], name=g.name("n"))
    node.attribute.append(helper.make_attribute("then_branch", bodies[0]))
    node.attribute.append(helper.make_attribute("else_branch", bodies[1]))
    _append(g, node, [made], ("If", [condition.array]))


def loop(g: Grower) -> None:
    """A Loop that carries one value, of a shape that stays, and stacks another."""
    if g.main is not g:
        raise Skip("a loop in a body")
    first = g.pick("fffi", high=3)
    trips, use_condition = g.number(0, 4), g.chance(3)
    inner = Grower(g.root, g.values, main=g.main)
    step, going = Val(g.name("i"), np.asarray(0)), Val(g.name("b"), np.asarray(True))
    carried = Val(g.name("s"), first.array, exact=False)
    other = inner.partner(first, g.one_of(first.shape, tuple(1 for _ in first.shape)))
    (after,) = inner.emit(g.one_of("Add", "Sub", *(("Max", "Min") if g.root.opset >= 8 else ())), [carried, other])
    stacked = inner.emit(g.one_of("Neg", "Identity", "Abs"), [g.one_of(carried, after)])[0]
    if use_condition:
        limit = inner.constant(np.asarray(g.number(0, 3)))
        (more,) = inner.emit("Less", [step, limit])
    else:
        (more,) = inner.emit("Identity", [going])
    final, pile = _iterated(g, inner, [step, going, carried], [more, after, stacked], trips)
    body = _body(inner, "body", [step, going, carried], [more, after, stacked])
    count = g.constant(np.asarray(trips)) if g.chance(2) else g.given(np.asarray(trips))
    # What the body says of going on counts only where the node has a condition.
    condition = g.constant(np.asarray(True)).name if use_condition or g.chance(2) else ""
    made = [Val(g.name("v"), final, False, computed=True), Val(g.name("v"), pile, False, computed=True)]
    for v in made:
        check_size(v.array)
        v.exact = v.dtype.kind != "f"
    node = helper.make_node("Loop", [count.name, condition, first.name], [v.name for v in made], name=g.name("n"))
    node.attribute.append(helper.make_attribute("body", body))
    _append(g, node, made, ("Loop", [count.array, None, first.array]))


def _iterated(g: Grower, inner: Grower, formal: list[Val], results: list[Val], trips: int) -> tuple[Array, Array]:
    """What a Loop gives: the carried value at its end and the stacked ones."""
    state: Array = formal[2].array
    piles: list[Array] = []
    for i in range(trips):
        known: dict[str, Any] = dict(g.root.arrays)
        known |= {formal[0].name: np.asarray(i), formal[1].name: np.asarray(True), formal[2].name: state}
        for op, attributes, inputs, outputs in inner.plain:
            arrays = [known[v] if isinstance(v, str) else v for v in inputs]
            names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
            known.update(zip(outputs, evaluate_node(Node(op, names, outputs, attributes), arrays)))
        state = known[results[1].name]
        piles.append(known[results[2].name])
        if not known[results[0].name]:
            break
    empty = np.zeros((0, *results[2].shape), results[2].dtype)
    return state, np.stack(piles) if piles else empty


def _append(g: Grower, node: onnx.NodeProto, made: list[Val], step: tuple[str, list[Any]]) -> None:
    g.nodes.append(node)
    g.root.steps.append((step[0], {}, step[1]))
    g.keep(made)


ADDERS = (branches, loop)
