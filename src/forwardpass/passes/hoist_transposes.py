"""Transposes to channels-last move toward the inputs, past what then stands between channels-last values."""

from __future__ import annotations

from ..graph import Node
from . import merge_transposes
from .merge_transposes import TO_NHWC, inverse, order_of, transpose, transposed_type
from .permuted import POINTWISE, Operands, moved_pads
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule("Transpose")
def hoist(view: View, node: Node) -> Result:
    """Transpose(f(x, c)) -> f(Transpose(x), c') with constants c in the other layout, for pointwise f and Pad."""
    x, y = node.inputs[0], node.outputs[0]
    before = view.producer(x)
    if before is None or order_of(view, node) != TO_NHWC or before.qualified not in (*POINTWISE, "Pad"):
        return None
    reason = view.shared(x)
    if reason is not None:
        return Declined(reason)
    # What stands before f stands behind a Transpose by the inverse, seen from its other side.
    order = inverse(TO_NHWC)
    operands = Operands(view, order, paid=1)
    if before.op == "Pad":
        pads = moved_pads(view, before, order)
        if pads is None:
            return Declined("the pads are not constant")
        operands.constants.update([pads])
        source = view.fresh(f"{before.inputs[0]}_moved")
        operands.nodes.append(transpose(before.inputs[0], source, TO_NHWC))
        inputs = [source, pads[0], *(i for i in before.inputs[2:3] if i)]
    else:
        inputs = operands.add_all(before)
    if operands.reason:
        return Declined(operands.reason)
    made = Node(before.op, inputs, [y], dict(before.attributes), before.domain, before.name)
    types = {n.outputs[0]: transposed_type(view.type(n.inputs[0]), TO_NHWC) for n in operands.nodes}
    return Patch(
        f"moved before {before.label}", [before, node], [*operands.nodes, made], operands.constants, types=types
    )


PASS = Pass("hoist_transposes", (*merge_transposes.RULES, hoist))
