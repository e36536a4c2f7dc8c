"""`record`: what this package needs of `dataclasses`, at a tenth of the time that those take to import.

A record is a class with `__slots__`, made from its annotations: an initialiser, a `repr` and, unless `eq=False`,
equality by value. A frozen one has a hash too, and refuses assignments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["field", "record"]

if TYPE_CHECKING:
    # Type checkers know these, and `record` means nothing else.
    from dataclasses import dataclass as record
    from dataclasses import field
else:
    from operator import attrgetter

    class field:  # noqa: N801 - the name that it has in dataclasses
        """A default that is made anew for every record."""

        def __init__(self, *, default_factory):
            self.make = default_factory

    def record(*, frozen=False, eq=True, slots=True):
        """Make the decorated class a record."""
        assert slots
        return lambda cls: _made(cls, frozen, eq)

    def _made(cls, frozen, eq):
        names = tuple(cls.__annotations__)
        own = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__", *names)}
        defaults = {k: vars(cls)[k] for k in names if k in vars(cls)}
        # An attrgetter of one name gives the value itself.
        values = attrgetter(*names) if len(names) > 1 else lambda self: tuple(getattr(self, n) for n in names)
        space = {
            "__slots__": names,
            "__repr__": lambda self: f"{cls.__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})",
            "__reduce__": lambda self: (type(self), values(self)),
        }
        if eq:
            space["__eq__"] = lambda a, b: values(a) == values(b) if type(a) is type(b) else NotImplemented
            space["__hash__"] = (lambda self: hash(values(self))) if frozen else None
        if frozen:
            space["__setattr__"] = space["__delattr__"] = _refuse
        made = type(cls)(cls.__name__, cls.__bases__, space | own)
        made.__init__ = _initialiser(made, names, defaults, frozen)
        return made

    def _refuse(self, name, value=None):
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be changed")

    def _initialiser(made, names, defaults, frozen):
        known = {f"default_{n}": d for n, d in defaults.items()} | {"field": field}
        head = ", ".join(["self", *(f"{n}=default_{n}" if n in defaults else n for n in names)])
        lines = []
        for n in names:
            value = n
            if isinstance(defaults.get(n), field):
                value = f"default_{n}.make() if {n} is default_{n} else {n}"
            # The slot's own setter gets past the __setattr__ that refuses.
            known[f"set_{n}"] = made.__dict__[n].__set__
            lines.append(f" set_{n}(self, {value})" if frozen else f" self.{n} = {value}")
        exec(f"def __init__({head}):\n" + ("\n".join(lines) or " pass"), known)
        return known["__init__"]
