"""An If whose condition is known becomes the nodes of the branch that it takes."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule("If")
def inline(view: View, node: Node) -> Result:
    """Put a branch in the place of an If."""
    condition = view.constant(node.inputs[0])
    if condition is None:
        condition = view.known.get(node.inputs[0])
    if condition is None:
        return Declined(f"the condition {node.inputs[0]!r} depends on data")
    taken = "then_branch" if bool(np.all(condition)) else "else_branch"
    body = node.attributes[taken]
    names = dict(zip(body.inputs, node.inputs[1:]))
    constants: dict[str, Array] = {}
    for k, array in body.constants.items():
        names[k] = view.fresh(k)
        constants[names[k]] = array
    added = _renamed(view, body, names, node)
    return Patch(f"{taken} is taken", [node], added, constants)


def _renamed(view: View, body: Graph, names: dict[str, str], node: Node) -> list[Node]:
    """The nodes of the body under names that are free outside; its outputs have those of the If."""
    results = dict(zip(body.outputs, node.outputs))
    added = []
    for n in body.nodes:
        outputs = []
        for o in n.outputs:
            names[o] = "" if not o else results[o] if results.get(o) else view.fresh(o)
            outputs.append(names[o])
        inputs = [names[i] if i else "" for i in n.inputs]
        added.append(Node(n.op, inputs, outputs, dict(n.attributes), n.domain, n.name))
    made = {o for n in added for o in n.outputs}
    # A branch may return what comes in, or one value twice.
    for inner, outer in zip(body.outputs, node.outputs):
        if outer and outer not in made:
            added.append(Node("Identity", [names[inner]], [outer]))
    return added


PASS = Pass("inline_if", (inline,))
