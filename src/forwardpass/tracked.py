"""Numbers that remember how they were made: a calculation over the sizes of one call becomes a function of any sizes.

A `Tracked` number takes the place of an int. Arithmetic gives tracked numbers again; whatever turns one into an
ordinary value (a comparison, a truth test, a hash, a conversion, also by NumPy or by C) is written down as a condition.
Where all conditions hold for other sizes, the calculation would go the same way there, so its expressions give what
it would have given.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["Trace", "Tracked", "call", "integer", "is_tracked", "plain", "total"]

_LITERALS = frozenset({int, float, bool})


class Tracked:
    """A number, or a value that `call` made, of which it is known how it follows from the sizes.

    It is no int for C, which must ask for one and so leaves a condition, but `isinstance` takes it for one.
    """

    __slots__ = ("name", "trace", "value")

    def __init__(self, trace: Trace, name: str, value: Any) -> None:
        self.trace, self.name, self.value = trace, name, value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.value)

    def __bool__(self) -> bool:
        return self.trace.condition(f"bool({self.name})", bool(self.value))

    def _pinned(self) -> Any:
        self.trace.condition(f"{self.name} == {self.value!r}", True)
        return self.value

    def __index__(self) -> int:
        return operator.index(self._pinned())

    def __int__(self) -> int:
        return int(self._pinned())

    def __float__(self) -> float:
        return float(self._pinned())

    def __hash__(self) -> int:
        return hash(self._pinned())

    def __repr__(self) -> str:
        return repr(self._pinned())

    def __format__(self, spec: str) -> str:
        return format(self._pinned(), spec)

    def __reduce__(self) -> Any:
        return int, (self._pinned(),)

    def __neg__(self) -> Any:
        return self.trace.made(f"-{self.name}", -self.value)

    def __pos__(self) -> Tracked:
        return self

    def __invert__(self) -> Any:
        return self.trace.made(f"~{self.name}", ~self.value)


def _arithmetic(
    symbol: str, function: Callable[[Any, Any], Any], commutes: bool, neutral: int | None
) -> tuple[Any, Any]:
    def forward(self: Tracked, other: Any) -> Any:
        if type(other) is not Tracked and type(other) not in _LITERALS:
            return NotImplemented
        if type(other) is int and other == neutral:
            return self
        a, b = self.name, _source(other)
        if commutes and b < a:
            a, b = b, a
        return self.trace.made(f"{a} {symbol} {b}", function(self.value, plain(other)))

    def backward(self: Tracked, other: Any) -> Any:
        if type(other) not in _LITERALS:
            return NotImplemented
        if commutes and type(other) is int and other == neutral:
            return self
        a, b = _source(other), self.name
        if commutes and b < a:
            a, b = b, a
        return self.trace.made(f"{a} {symbol} {b}", function(other, self.value))

    return forward, backward


def _comparison(symbol: str, function: Callable[[Any, Any], bool]) -> Any:
    def compare(self: Tracked, other: Any) -> Any:
        if self is other:
            return function(0, 0)
        if type(other) is not Tracked and type(other) not in _LITERALS:
            return NotImplemented
        return self.trace.condition(f"{self.name} {symbol} {_source(other)}", function(self.value, plain(other)))

    return compare


for _name, _symbol, _commutes, _neutral in (
    ("add", "+", True, 0), ("sub", "-", False, 0), ("mul", "*", True, 1), ("floordiv", "//", False, None),
    ("truediv", "/", False, None), ("mod", "%", False, None), ("and_", "&", True, None), ("or_", "|", True, 0),
    ("lshift", "<<", False, 0), ("rshift", ">>", False, 0),
):  # fmt: skip
    _forward, _backward = _arithmetic(_symbol, getattr(operator, _name), _commutes, _neutral)
    setattr(Tracked, f"__{_name.strip('_')}__", _forward)
    setattr(Tracked, f"__r{_name.strip('_')}__", _backward)
for _name, _symbol in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    setattr(Tracked, f"__{_name}__", _comparison(_symbol, getattr(operator, _name)))


def plain(value: Any) -> Any:
    """The value that a tracked number has now, without a condition; anything else as it is."""
    return value.value if type(value) is Tracked else value


def is_tracked(value: Any) -> bool:
    """Whether a value remembers how it was made."""
    return type(value) is Tracked


def integer(value: Any) -> int:
    """`int(value)`, which a tracked number already is."""
    return value if type(value) is Tracked else int(value)  # type: ignore[return-value]


def call(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` for a function of numbers (and of anything else that does not depend on the sizes): where some
    are tracked, its result is, instead of each of its steps. Equal arguments must give equal results."""
    for a in args:
        if type(a) is Tracked:
            return a.trace.called(function, args)
    return function(*args)


def total(values: Iterable[int]) -> int:
    """The sum of numbers, in which equal tracked ones are counted."""
    known = 0
    counts: dict[str, tuple[int, int]] = {}
    for v in values:
        if is_tracked(v):
            name = v.name  # type: ignore[attr-defined]
            counts[name] = v, counts.get(name, (v, 0))[1] + 1
        else:
            known += v
    return sum((count * v for v, count in counts.values()), start=known)


def _is_literal(value: Any) -> bool:
    return type(value) in _LITERALS or (type(value) is tuple and all(map(_is_literal, value)))


def _source(value: Any) -> str:
    return value.name if type(value) is Tracked else f"({value!r})"


class Trace:
    """What happened to the sizes of one call."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}  # expression -> its name; or a condition -> "", in the order of their events
        self._made: dict[str, Tracked] = {}
        self._known: dict[str, Any] = {}  # names of the code that are not made by it
        self._names: dict[int, str] = {}

    def size(self, name: str, value: int) -> int:
        """A size of the call under a name."""
        return Tracked(self, name, value)  # type: ignore[return-value]

    def made(self, source: str, value: Any) -> Any:
        """The result of an expression."""
        found = self._made.get(source)
        if found is None:
            name = f"v{len(self._made)}"
            found = self._made[source] = Tracked(self, name, value)
            self._lines[source] = name
        return found

    def condition(self, source: str, outcome: bool) -> bool:
        """Write down what a question was answered."""
        self._lines.setdefault(f"{'not ' if outcome else ''}({source})", "")
        return outcome

    def called(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        """The result of a function of which some arguments are tracked; of a tuple, the items."""
        sources = [_source(a) if type(a) is Tracked or _is_literal(a) else self._constant(a) for a in args]
        value = function(*map(plain, args))
        source = f"{self._constant(function)}({', '.join(sources)})"
        found = self.made(source, value)
        if not isinstance(value, tuple):
            return found
        return tuple(self.made(f"{found.name}[{k}]", v) for k, v in enumerate(value))

    def _constant(self, value: Any) -> str:
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = f"c{len(self._known)}"
            self._known[name] = value  # also keeps it, and with it its id
        return name

    def function(self, arguments: str, wanted: Iterable[Tracked]) -> Callable[..., list[Any] | None]:
        """What takes the sizes in a pattern such as `((a, b), (c,))` and gives the wanted values, or None where the
        calculation would go another way."""
        results = [t.name for t in wanted]
        # Conditions first, with what they need: another template may have to answer.
        asked = self._code(set(), conditions=True)
        rest = [line for line in self._code(set(results), conditions=False) if line not in set(asked)]
        lines = ["def values(sizes):", f" {arguments} = sizes", *asked, *rest, f" return [{', '.join(results)}]"]
        text = "\n".join(lines)
        space = dict(self._known)
        exec(text, space)
        found: Callable[..., list[Any] | None] = space["values"]
        return found

    def _code(self, needed: set[str], *, conditions: bool) -> list[str]:
        """The lines that make some names, and the conditions, with what those need."""
        kept: list[str] = []
        for source, name in reversed(self._lines.items()):
            if name in needed if name else conditions:
                needed.update(re.findall(r"[a-z]\d+", source))
                kept.append(f" {name} = {source}" if name else f" if {source}: return None")
        return kept[::-1]
