"""Every error that forwardpass raises on purpose is an `Error`: one sentence that says where, what was expected and
what was found, with the same three things as fields."""

from __future__ import annotations

from collections.abc import Collection, Iterable

__all__ = ["ConfigError", "Error", "FileError", "GraphError", "InputError", "UnsupportedError"]


def suggest(name: object, known: Iterable[str]) -> str:
    """A hint for a misspelt name, or nothing: what a caller gives as a name need not be text."""
    import difflib

    near = difflib.get_close_matches(name, list(known), 1) if isinstance(name, str) else []
    return f"did you mean {near[0]!r}?" if near else ""


class Error(Exception):
    """The base of all forwardpass errors.

    Parameters
    ----------
    message
        What went wrong, as one sentence without a final full stop.
    where
        The file, entry, node, value or argument that it concerns.
    expected, got
        What would have been right, and what was found instead.
    hint
        What to do next.

    Attributes
    ----------
    message, where, expected, got, hint : str
        As they were given; empty where there is nothing to say.
    """

    def __init__(self, message: str, *, where: str = "", expected: str = "", got: str = "", hint: str = "") -> None:
        self.message, self.where, self.expected, self.got, self.hint = message, where, expected, got, hint
        text = f"{where}: {message}" if where else message
        if expected:
            text += f": expected {expected}" + (f", got {got}" if got else "")
        elif got:
            text += f": got {got}"
        super().__init__(text + (f" ({hint})" if hint else ""))

    @property
    def node(self) -> str:
        """The node that it concerns: its name, or that of its first output where it has none. Empty for no node."""
        return self._named(r"\bnode (?:\S+ -> )?")

    @property
    def input(self) -> str:
        """The input that it concerns, of the model or of `node`. Empty for no input."""
        return self._named(r"\binput ")

    def _named(self, before: str) -> str:
        """The quoted name behind some words. Messages name things in few ways, so that one can rely on them."""
        import ast
        import re

        found = re.search(before + r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", f"{self.where}: {self.message}")
        return str(ast.literal_eval(found.group(1))) if found else ""

    def __reduce__(self) -> tuple[object, ...]:
        fields = {k: getattr(self, k) for k in ("where", "expected", "got", "hint")}
        return _rebuild, (type(self), self.message, fields)


def _rebuild(kind: type[Error], message: str, fields: dict[str, str]) -> Error:
    return kind(message, **fields)


class FileError(Error):
    """A model file that cannot be read: damaged, of another format or version, or unsafe."""


class GraphError(Error):
    """A graph that is not valid: cycles, missing values, attributes or shapes that contradict each other."""


class InputError(Error, ValueError):
    """An argument of a call that does not fit the model: name, shape, dtype or value."""


def unknown(what: str, name: object, where: str, known: Collection[str]) -> InputError:
    """The error for a name that is none of the known ones."""
    hint = suggest(name, known)
    return InputError(f"unknown {what} {name!r}", where=where, expected=", ".join(known), got=str(name), hint=hint)


class UnsupportedError(Error):
    """A valid model or setting that this version does not support."""


class ConfigError(Error, ValueError):
    """A setting that is unknown or not available here: ISA, threads, precision."""
