"""Older opsets: every operator that changed is rewritten to its newest meaning, one version after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import GraphError
from ...graph import Node
from .upgrade_arithmetic import ARITHMETIC
from .upgrade_data import DATA
from .upgrade_experimental import EXPERIMENTAL
from .upgrade_image import IMAGE
from .upgrade_ml import ML
from .upgrade_normalization import NORMALIZATION
from .upgrade_parts import Rule, Table
from .upgrade_recurrent import RECURRENT

if TYPE_CHECKING:
    from .context import Context

__all__ = ["UPGRADES", "upgrade"]

UPGRADES: dict[str, Table] = {
    "": {**ARITHMETIC, **DATA, **EXPERIMENTAL, **IMAGE, **NORMALIZATION, **RECURRENT},
    "ai.onnx.ml": ML,
}
"""Domain -> its operators that changed."""


def upgrade(node: Node, version: int, context: Context) -> list[Node]:
    """Nodes of the newest opset that mean what a node of an older one does.

    Parameters
    ----------
    node
        The node; it is not changed.
    version
        The model's opset of the node's domain.
    context
        The graph that it is in; gets the constants that the nodes need.

    Returns
    -------
    list of Node
        In order; together they define what the node defines.

    Raises
    ------
    GraphError, UnsupportedError
        The node's old form is not valid, or the newest opset has nothing like it.
    """
    table = UPGRADES.get(node.domain, {})
    if node.op not in table:
        return [node]
    node = Node(node.op, list(node.inputs), list(node.outputs), dict(node.attributes), node.domain, node.name)
    before: list[Node] = []
    after: list[Node] = []
    while True:
        step = next((s for s in table.get(node.op, ()) if s[0] > version), None)
        if step is None:
            return [*before, node, *after]
        version, rule = step
        made = _applied(rule, node, context)
        place = next((k for k, n in enumerate(made) if n is node), None)
        if place is None:
            return [*before, *made, *after]
        before += made[:place]
        after = made[place + 1 :] + after


def _applied(rule: Rule, node: Node, context: Context) -> list[Node]:
    """The nodes that a rule makes. Rules rely on the inputs and attributes that the old version asks for."""
    try:
        return rule(node, context)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise GraphError(f"the node does not fit its operator: {error}", where=node.label) from None
