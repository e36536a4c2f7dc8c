"""The order of operations, and the names that a graph takes from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ...errors import GraphError
from .parsed import Operation

__all__ = ["free_names", "ordered"]


def ordered(operations: list[Operation], where: str) -> list[Operation]:
    """The operations such that each comes after those it reads, bodies included; as they are where that is so.

    Raises
    ------
    GraphError
        A value that is defined twice, or a cycle.
    """
    producer: dict[str, int] = {}
    for k, operation in enumerate(operations):
        for o in operation.outputs:
            if o and (producer.setdefault(o, k) != k or operation.outputs.count(o) > 1):
                raise GraphError(f"value {o!r} is defined twice", where=operation.label)
    needs = [{producer[i] for i in operation.reads() if i in producer} for operation in operations]
    if all(max(needed, default=-1) < k for k, needed in enumerate(needs)):
        return operations
    users: dict[int, list[int]] = {}
    for k, needed in enumerate(needs):
        for n in needed:
            users.setdefault(n, []).append(k)
    waiting = [len(needed) for needed in needs]
    ready = deque(k for k, count in enumerate(waiting) if count == 0)
    found: list[int] = []
    while ready:
        k = ready.popleft()
        found.append(k)
        for user in users.get(k, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if len(found) < len(operations):
        stuck = [operations[k].label for k, count in enumerate(waiting) if count][:5]
        raise GraphError(f"the graph has a cycle through {', '.join(stuck)}", where=where)
    return [operations[k] for k in found]


def free_names(operations: Iterable[Operation], outputs: Iterable[str], defined: set[str]) -> set[str]:
    """The names that are read and not defined."""
    read = set(outputs)
    for operation in operations:
        read |= operation.reads()
    return read - defined - {""}
