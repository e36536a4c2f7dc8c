"""The machinery of rewrites: rules look at a node and answer with a patch; `run` applies them to a fixpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ..graph import Array, Node, TensorType
from ..records import field, record
from .log import Entry, Log
from .view import View

__all__ = ["Declined", "Pass", "Patch", "Result", "Rule", "drop", "rule", "run"]


@record(frozen=True, slots=True)
class Declined:
    """The pattern is there, but cannot be rewritten."""

    reason: str


@record(frozen=True, slots=True)
class Patch:
    """A change of the graph.

    Attributes
    ----------
    note
        What it does, for the log.
    remove
        Nodes that go.
    add
        Nodes that take their place, each after those that it reads.
    constants
        New ones. The arrays of old ones never change.
    rename
        Old name -> new name, for the readers of a value, and for the node that defines it where that stays.
    types
        Of new values, where the rule knows them; the others are inferred.
    """

    note: str
    remove: Sequence[Node] = ()
    add: Sequence[Node] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, TensorType] = field(default_factory=dict)


Result: TypeAlias = "Patch | Declined | None"
"""None where the pattern is not there."""


@record(frozen=True, slots=True)
class Rule:
    """A rewrite of nodes of some operators, by their qualified names; of all where there are none."""

    ops: tuple[str, ...]
    apply: Callable[[View, Node], Result]


def rule(*ops: str) -> Callable[[Callable[[View, Node], Result]], Rule]:
    """Make a function `(view, node) -> Patch | Declined | None` a rule for nodes of these operators."""
    return lambda function: Rule(ops, function)


class Pass:
    """Rules that run together until none of them fires.

    Attributes
    ----------
    ops
        The operators that a rule looks at, by their qualified names; None where a rule looks at all.
    """

    __slots__ = ("_by_op", "_every", "name", "ops", "rules")

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.name, self.rules = name, tuple(rules)
        self._every = tuple(r for r in self.rules if not r.ops)
        ops = dict.fromkeys(op for r in self.rules for op in r.ops)
        self.ops = None if self._every else ops.keys()
        self._by_op = {op: (*(r for r in self.rules if op in r.ops), *self._every) for op in ops}

    def rules_for(self, node: Node) -> tuple[Rule, ...]:
        """The rules that look at nodes of this operator."""
        return self._by_op.get(node.qualified, self._every)


def drop(view: View, node: Node, source: str, note: str) -> Result:
    """Take out a node whose output 0 equals the value `source`.

    Names of graph outputs survive: where the dropped value is one, the node that defines `source` defines it
    from then on. Where that cannot be, an Identity takes the node's place.
    """
    value = node.outputs[0]
    if not view.is_output(value):
        return Patch(note, [node], rename={value: source})
    if view.producer(source) is not None and not view.is_output(source):
        return Patch(note, [node], rename={source: value})
    if node.qualified == "Identity":
        kind = "a graph output" if view.is_output(source) else "no result of a node"
        return Declined(f"value {value!r} is a graph output, and {source!r} is {kind}")
    return Patch(f"{note}: became Identity", [node], [Node("Identity", [source], [value], name=node.name)])


def _most(view: View) -> int:
    """A bound that no pass gets near that ends at all."""
    return 50 * len(view) + 200


def run(view: View, step: Pass, log: Log, *, check: bool = False) -> bool:
    """Apply a pass until nothing fires; return whether anything did.

    Every sweep visits all nodes in order, and again those near a change. The last sweep changes nothing, so what
    is declined in it is what remains to be said.

    Parameters
    ----------
    check
        Verify the graph and its types after every rewrite.
    """
    queue = deque(view.ordered(step.ops))
    if not queue:
        return False
    left = most = _most(view)
    changed = True
    while changed:
        changed = False
        declined: dict[tuple[str, str], None] = {}
        queued = set(queue)
        while queue:
            node = queue.popleft()
            queued.discard(node)
            if node not in view:
                continue
            for r in step.rules_for(node):
                result = r.apply(view, node)
                if result is None:
                    continue
                if isinstance(result, Declined):
                    declined[node.label, result.reason] = None
                    continue
                log.entries.append(Entry(step.name, node.label, True, result.note))
                near = view.apply(result)
                changed = True
                left -= 1
                if check:
                    view.verify(step.name)
                for n in near:
                    if n not in queued and step.rules_for(n):
                        queued.add(n)
                        queue.append(n)
                break
            if left == 0:
                log.entries.append(Entry(step.name, node.label, False, "too many rewrites, stopped"))
                changed = False
                break
        if changed:
            queue.extend(view.ordered(step.ops))
    log.entries.extend(Entry(step.name, label, False, reason) for label, reason in declined)
    return left < most
