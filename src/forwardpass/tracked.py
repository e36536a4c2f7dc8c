"""Numbers that remember how they were made: a calculation over the sizes of one call becomes a function of any sizes.

A `Tracked` number takes the place of an int. Arithmetic gives tracked numbers again; whatever turns one into an
ordinary value (a comparison, a truth test, a hash, a conversion, also by NumPy or by C) is written down as a condition.
Where all conditions hold for other sizes, the calculation would go the same way there, so its expressions give what
it would have given.

Sizes have bounds, and so have sums, differences, products and quotients of them. What follows from the bounds alone,
such as that some bytes are not too many, is no condition. Products are kept as a factor and the numbers that it is
multiplied with, so that equal ones are one number, and what divides evenly whatever the sizes are is divided.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["Trace", "Tracked", "call", "integer", "is_tracked", "plain", "total"]

_LITERALS = frozenset({int, float, bool})
_COMMUTE = frozenset({"+", "*", "&", "|"})
_LARGEST, _FACTOR = 4096, 64
"""Bounds of a size: this, or so many times what it is."""

Bounds = tuple[int, int]


class Tracked:
    """A number, or a value that `call` made, of which it is known how it follows from the sizes.

    It is no int for C, which must ask for one and so leaves a condition, but `isinstance` takes it for one.
    """

    __slots__ = ("bounds", "name", "trace", "value")

    def __init__(self, trace: Trace, name: str, value: Any, bounds: Bounds | None) -> None:
        self.trace, self.name, self.value, self.bounds = trace, name, value, bounds

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.value)

    def __bool__(self) -> bool:
        if self.bounds is not None and (self.bounds[0] > 0 or self.bounds[1] < 0):
            return True
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
        return self.trace.product(-1, self) if _is_int(self) else self.trace.made(f"-{self.name}", -self.value)

    def __pos__(self) -> Tracked:
        return self

    def __invert__(self) -> Any:
        return self.trace.made(f"~{self.name}", ~self.value)


def _is_int(value: Any) -> bool:
    return type(plain(value)) is int


def _bounds_of(value: Any) -> Bounds | None:
    if type(value) is Tracked:
        return value.bounds
    return (value, value) if type(value) is int else None


def _bounds(symbol: str, one: Any, other: Any) -> Bounds | None:
    """Those of the result of an operation; None where they are not known."""
    a, b = _bounds_of(one), _bounds_of(other)
    if a is None or b is None:
        return None
    if symbol == "+":
        return a[0] + b[0], a[1] + b[1]
    if symbol == "-":
        return a[0] - b[1], a[1] - b[0]
    if symbol == "%" and b[0] > 0:
        return 0, b[1] - 1
    if symbol == "*":
        corners = [x * y for x in a for y in b]
    elif symbol == "//" and b[0] > 0:
        corners = [x // y for x in a for y in b]
    else:
        return None
    return min(corners), max(corners)


def _decided(function: Callable[[Any, Any], bool], one: Any, other: Any) -> bool | None:
    """What a comparison comes to within the bounds; None where that depends."""
    a, b = _bounds_of(one), _bounds_of(other)
    if a is None or b is None:
        return None
    if function is operator.eq or function is operator.ne:
        return function(0, 1) if a[1] < b[0] or b[1] < a[0] else None
    first = function(a[0], b[1])
    return first if first == function(a[1], b[0]) else None


def _key(symbol: str, one: Tracked, other: Any) -> Any:
    """Of a result that is kept; None for numbers of other kinds."""
    kind = type(other)
    if kind is Tracked:
        return symbol, one.name, other.name
    return (symbol, one.name, kind, other) if kind in _LITERALS else None


def _arithmetic(symbol: str, function: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    def forward(self: Tracked, other: Any) -> Any:
        key = _key(symbol, self, other)
        if key is None:
            return NotImplemented
        found = self.trace.results.get(key)
        if found is None:
            found = self.trace.results[key] = self.trace.operated(symbol, function, self, other)
        return found

    def backward(self: Tracked, other: Any) -> Any:
        key = _key(f"{symbol} from", self, other)
        if key is None:
            return NotImplemented
        found = self.trace.results.get(key)
        if found is None:
            found = self.trace.results[key] = self.trace.operated(symbol, function, other, self)
        return found

    return forward, backward


def _comparison(symbol: str, function: Callable[[Any, Any], bool]) -> Any:
    def compare(self: Tracked, other: Any) -> Any:
        if self is other:
            return function(0, 0)
        key = _key(symbol, self, other)
        if key is None:
            return NotImplemented
        found = self.trace.results.get(key)
        if found is None:
            found = _decided(function, self, other)
            if found is None:
                source = f"{self.name} {symbol} {_source(other)}"
                found = self.trace.condition(source, function(self.value, plain(other)))
            self.trace.results[key] = found
        return found

    return compare


for _name, _symbol in (
    ("add", "+"), ("sub", "-"), ("mul", "*"), ("floordiv", "//"), ("truediv", "/"), ("mod", "%"), ("and_", "&"),
    ("or_", "|"), ("lshift", "<<"), ("rshift", ">>"),
):  # fmt: skip
    _forward, _backward = _arithmetic(_symbol, getattr(operator, _name))
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
        self.results: dict[Any, Any] = {}  # of operations and comparisons that were met
        self._products: dict[str, tuple[int, list[Tracked]]] = {}  # by the names of what they come to

    def size(self, name: str, value: int) -> int:
        """A size of the call under a name. Of one that is 0 or 1 much follows: it stays what it is."""
        if value <= 1:
            self.condition(f"{name} == {value}", True)
            return value
        high = max(_LARGEST, _FACTOR * value)
        self.condition(f"1 < {name} <= {high}", True)
        return Tracked(self, name, value, (2, high))  # type: ignore[return-value]

    def made(self, source: str, value: Any, symbol: str = "", one: Any = None, other: Any = None) -> Any:
        """The result of an expression: of an operation on two numbers, if a symbol says which."""
        found = self._made.get(source)
        if found is None:
            name = f"v{len(self._made)}"
            found = self._made[source] = Tracked(self, name, value, _bounds(symbol, one, other))
            self._lines[source] = name
        return found

    def operated(self, symbol: str, function: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
        """The result of an operation on two numbers."""
        if _is_int(one) and _is_int(other):
            found = self._simple(symbol, one, other)
            if found is not None:
                return found
        a, b = _source(one), _source(other)
        if symbol in _COMMUTE and b < a:
            a, b = b, a
        return self.made(f"{a} {symbol} {b}", function(plain(one), plain(other)), symbol, one, other)

    def _simple(self, symbol: str, one: Any, other: Any) -> Any:
        """Of integers, where there is a shorter way to write it."""
        if symbol == "*":
            return self.product(one, other)
        if symbol in ("//", "%"):
            return self._divided(symbol, one, other)
        if type(other) is int and other == 0 and symbol in ("+", "-"):
            return one
        if type(one) is int and one == 0 and symbol in ("+", "-"):
            return other if symbol == "+" else self.product(-1, other)
        return None

    def product(self, one: Any, other: Any) -> Any:
        """Of two integers."""
        (a, first), (b, second) = self._factors_of(one), self._factors_of(other)
        return self._multiplied(a * b, [*first, *second])

    def _divided(self, symbol: str, one: Any, other: Any) -> Any:
        """The quotient of two integers, or its rest; None unless it has none whatever the sizes are."""
        (a, factors), (b, divisors) = self._factors_of(one), self._factors_of(other)
        if b == 0 or a % b or any(d.bounds is None or d.bounds[0] <= 0 for d in divisors):
            return None
        left = list(factors)
        for d in divisors:
            if not any(d is f for f in left):
                return None
            left = [*(f for f in left if f is not d), *[d] * (sum(f is d for f in left) - 1)]
        return self._multiplied(a // b, left) if symbol == "//" else 0

    def _factors_of(self, number: Any) -> tuple[int, list[Tracked]]:
        return self._products.get(number.name, (1, [number])) if type(number) is Tracked else (number, [])

    def _multiplied(self, times: int, factors: list[Tracked]) -> Any:
        if times == 0 or not factors:
            return times
        factors = sorted(factors, key=lambda f: f.name)
        made = factors[0]
        for k, f in enumerate(factors[1:], 2):
            made = self.made(f"{made.name} * {f.name}", made.value * f.value, "*", made, f)
            self._products[made.name] = 1, factors[:k]
        if times != 1:
            made = self.made(f"{made.name} * ({times})", made.value * times, "*", made, times)
            self._products[made.name] = times, factors
        return made

    def condition(self, source: str, outcome: bool) -> bool:
        """Write down what a question was answered."""
        self._lines.setdefault(f"{'not ' if outcome else ''}({source})", "")
        return outcome

    def called(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        """The result of a function of which some arguments are tracked; of a tuple, the items."""
        sources = [_source(a) if type(a) is Tracked or _is_literal(a) else self._constant(a) for a in args]
        source = f"{self._constant(function)}({', '.join(sources)})"
        found = self._made.get(source)
        if found is None:
            found = self.made(source, function(*map(plain, args)))
        if not isinstance(found.value, tuple):
            return found
        return tuple(self.made(f"{found.name}[{k}]", v) for k, v in enumerate(found.value))

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
