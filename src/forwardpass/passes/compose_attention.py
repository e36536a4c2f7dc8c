"""Attention that an exporter wrote out, softmax(scale Q K^T + mask) V, becomes one operator again.

PyTorch's scaled_dot_product_attention, BERT, GPT-2, T5 and LLaMA of Hugging Face, and modules written by hand differ
in where they scale, how they lay out the heads, and how they hide keys; what is left is the same two products.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Node
from ..ops.fused_attention import attributes_of
from ..records import field, record
from .attention_operands import Operand, by_number, find_operand, swapped
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_HIDDEN = -1e30
"""Scores that are replaced by this or less are hidden; adding it to them gives the same."""


@record(slots=True)
class _Scores:
    """What the softmax is taken of."""

    product: Node
    scale: float = 1.0
    softcap: float = 0.0
    masks: list[tuple[str, ...]] = field(default_factory=list)
    """(added,) or (condition, where it is true is shown, hidden value)."""


def _softcap(view: View, node: Node) -> tuple[str, float] | None:
    """(x, cap) where the node is cap * tanh(x)."""
    found = by_number(view, node)
    tanh = None if found is None else view.producer(found[0])
    if found is None or tanh is None or tanh.qualified != "Tanh" or node.qualified != "Mul":
        return None
    return tanh.inputs[0], found[1]


def _scores(view: View, value: str) -> _Scores | str | None:
    """What a value is as scores of attention: None where it is not, a reason where it nearly is."""
    node = view.producer(value)
    if node is None or node.qualified not in ("MatMul", "Mul", "Div", "Add", "Where"):
        return None
    found = _step(view, node)
    if isinstance(found, _Scores):
        return view.shared(value) or found
    return found


def _step(view: View, node: Node) -> _Scores | str | None:
    if node.qualified == "MatMul":
        return None if any(view.constant(i) is not None for i in node.inputs) else _Scores(node)
    if node.qualified == "Where":
        return _selected(view, node)
    if node.qualified == "Add":
        reasons = []
        for mine, other in (node.inputs, node.inputs[::-1]):
            found = _scores(view, mine)
            if isinstance(found, _Scores):
                found.masks.append((other,))
                return found
            reasons += [found] if found else []
        return reasons[0] if reasons else None
    capped = _softcap(view, node)
    scaled = capped or by_number(view, node)
    found = None if scaled is None else _scores(view, scaled[0])
    if scaled is None or not isinstance(found, _Scores):
        return found
    if found.masks or found.softcap:
        return "the mask or the soft cap comes before the scale"
    if capped:
        found.softcap = scaled[1]
        found.scale *= scaled[1]
    else:
        found.scale *= scaled[1]
    return found


def _selected(view: View, node: Node) -> _Scores | str | None:
    """Where(condition, scores, hidden) and the other way round."""
    condition, a, b = node.inputs
    reason: str | None = None
    for mine, other, shown in ((a, b, "1"), (b, a, "0")):
        found = _scores(view, mine)
        if not isinstance(found, _Scores):
            reason = reason or found
            continue
        array = view.constant(other)
        if array is None or array.size != 1:
            return "hidden scores become no constant"
        hidden = float(array.reshape(()))
        if not hidden <= _HIDDEN:
            return f"hidden scores become {hidden:g}, which is not low enough to hide them"
        found.masks.append((condition, shown, other))
        return found
    return reason


def _softmax(view: View, value: str) -> tuple[Node, bool] | str | None:
    """The Softmax that makes the weights, and whether rows that see nothing are zero instead of NaN."""
    node = view.producer(value)
    guarded = False
    if node is not None and node.qualified == "Where":  # Where(IsNaN(p), 0, p)
        test, zero, inner = view.producer(node.inputs[0]), view.constant(node.inputs[1]), node.inputs[2]
        if test is None or test.qualified != "IsNaN" or test.inputs[0] != inner or zero is None or zero.any():
            return None
        if view.shared(value) or view.is_output(inner) or len(view.uses(inner)) != 2:
            return "the weights are used elsewhere"
        guarded, node = True, view.producer(inner)
    if node is None or node.qualified != "Softmax":
        return None
    shape = view.type(node.inputs[0]).shape
    axis = int(view.attributes(node)["axis"])
    if axis != -1 and (shape is None or axis != len(shape) - 1):
        return None if shape is not None else "the rank of the scores is unknown"
    if not guarded and view.shared(value):
        return f"the weights are used elsewhere: {view.shared(value)}"
    return node, guarded


def _mask(view: View, masks: list[tuple[str, ...]]) -> tuple[str, list[Node], dict[str, Any]]:
    """One value to add for all masks; the nodes that make it are shared by the layers that need the same."""
    made: list[Node] = []
    constants: dict[str, Any] = {}
    total = ""

    def node(op: str, inputs: list[str], stem: str) -> str:
        name = f"{stem}.attention_mask"
        if view.producer(name) is None and all(name not in n.outputs for n in made):
            made.append(Node(op, inputs, [view.fresh(name)]))
            return made[-1].outputs[0]
        return name

    for mask in masks:
        if len(mask) == 1:
            total = mask[0] if not total else node("Add", [total, mask[0]], f"{total}+{mask[0]}")
            continue
        condition, shown, hidden = mask
        base = total or "attention.seen"
        if not total and view.constant(base) is None:
            constants[base] = np.zeros((), np.float32)
        inputs = [condition, base, hidden] if shown == "1" else [condition, hidden, base]
        total = node("Where", inputs, f"{condition}?{base}:{hidden}")
    return total, made, constants


def _operands(view: View, scores: _Scores, values: str) -> tuple[Operand, Operand, Operand] | str:
    q, across = scores.product.inputs
    found_q, found_v = find_operand(view, q), find_operand(view, values)
    found_k = find_operand(view, across)
    keys = swapped(view, found_k)
    if keys is None:
        return f"the rank of {across!r} is unknown"
    return found_q, keys, found_v


@rule("MatMul")
def attention(view: View, node: Node) -> Result:
    """softmax(scale Q K^T + mask) V -> fused.Attention(Q, K, V, mask)."""
    weights = _softmax(view, node.inputs[0])
    if weights is None:
        return None
    if isinstance(weights, str):
        return Declined(weights)
    softmax, guarded = weights
    scores = _scores(view, softmax.inputs[0])
    if scores is None:
        return None
    if isinstance(scores, str):
        return Declined(scores)
    if view.type(node.outputs[0]).dtype != np.float32:
        return Declined("its values are not float32")
    operands = _operands(view, scores, node.inputs[1])
    if isinstance(operands, str):
        return Declined(operands)
    scale = scores.scale * math.prod(o.factor for o in operands[:2])
    if operands[2].factor != 1:
        return Declined("the values are scaled")
    mask, added, constants = _mask(view, scores.masks)
    attributes: dict[str, Any] = {"scale": scale, "softcap": scores.softcap, "empty_nan": int(not guarded)}
    for letter, o in zip("qkv", operands):
        attributes.update(attributes_of(letter, o.perm, o.take))
    end, order = _after(view, node)
    attributes.update(attributes_of("out", order, ()))
    inputs = [o.value for o in operands] + ([mask] if mask else [])
    made = Node("Attention", inputs, list(end.outputs), attributes, "fused", node.name)
    notes = [f"scale {scale:g}"] + ([f"soft cap {scores.softcap:g}"] if scores.softcap else [])
    notes += ["a mask"] if mask else []
    removed = [softmax, node] if end is node else [softmax, node, end]
    if guarded:
        removed[1:1] = view.uses(softmax.outputs[0])
        removed = list(dict.fromkeys(removed))
    return Patch(f"became fused.Attention with {', '.join(notes)}", removed, [*added, made], constants)


def _after(view: View, node: Node) -> tuple[Node, list[int]]:
    """The Transpose that alone reads the result, and its order; else the node itself."""
    y = node.outputs[0]
    reader = view.uses(y)[0] if view.shared(y) is None else None
    if reader is None or reader.qualified != "Transpose" or len(reader.attributes.get("perm") or ()) not in (3, 4):
        return node, []
    return reader, [int(p) for p in reader.attributes["perm"]]


PASS = Pass("compose_attention", (attention,))
