"""`record` behaves as `dataclasses.dataclass` does, where this package uses it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forwardpass import records
from forwardpass.graph import Node, TensorType


def point(record: Any, field: Any) -> Any:
    @record(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        more: list[int] = field(default_factory=list)

        @property
        def total(self) -> int:
            return self.x + self.y

    return Point


MAKERS: list[Callable[[], Any]] = [
    lambda: point(records.record, records.field),
    lambda: point(dataclasses.dataclass, dataclasses.field),
]


@pytest.mark.parametrize("make", MAKERS)
def test_frozen(make: Callable[[], Any]) -> None:
    kind = make()
    p = kind(1, more=[3])
    assert (p.x, p.y, p.more, p.total) == (1, 2, [3], 3)
    assert p == kind(1, 2, [3])
    assert p != kind(1, 3, [3])
    assert p != (1, 2, [3])
    assert repr(p).endswith("Point(x=1, y=2, more=[3])")
    assert kind(1).more is not kind(1).more
    assert kind.__doc__ == "A point."
    with pytest.raises(TypeError, match="hash"):
        hash(p)  # because of the list
    for change in (lambda: setattr(p, "x", 2), lambda: delattr(p, "x"), lambda: setattr(p, "z", 2)):
        with pytest.raises((AttributeError, TypeError)):
            change()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        kind()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        kind(1, z=1)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies(make: Callable[[Any], Any]) -> None:
    t = TensorType(np.dtype("f4"), ("N", 3))
    assert make(t) == t
    assert hash(make(t)) == hash(t)
    n = make(Node("Relu", ["x"], ["y"], name="n"))
    assert (n.op, n.inputs, n.outputs, n.name) == ("Relu", ["x"], ["y"], "n")


def test_identity_and_slots() -> None:
    a, b = Node("Relu", ["x"], ["y"]), Node("Relu", ["x"], ["y"])
    assert a != b
    assert len({a, b}) == 2
    assert a.attributes is not b.attributes
    a.op = "Neg"
    with pytest.raises(AttributeError):
        a.oops = 1  # type: ignore[attr-defined]
