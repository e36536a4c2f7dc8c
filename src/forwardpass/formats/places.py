"""Strict JSON of bounded size, depth and numbers, whose values know their place for messages."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from ..errors import FileError
from .archive import excerpt

__all__ = ["INT64", "MAX_BYTES", "MAX_DEPTH", "Place", "depth", "parse", "text"]

MAX_BYTES = 16 << 20
MAX_DEPTH = 200
"""Levels of objects and lists. A graph inside of a graph takes four."""
INT64 = 1 << 63
"""The first integer that is none."""

_LONG, _AS_ZEROS = b"0" * 19, bytes.maketrans(b"123456789", b"0" * 9)
_CHUNK = 1 << 16
_NO_MARKS = bytes(set(range(256)) - set(b'"[{]}'))
_NO_BRACKETS, _AS_STEPS = bytes(set(range(256)) - set(b"[{]}")), bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
_TEXT = frozenset({str})
_LONG_PLACE = 400


def text(value: Any) -> str:
    """A value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class Place:
    """A JSON value and the way to it, for messages."""

    __slots__ = ("key", "parent", "value")

    def __init__(self, value: Any, parent: Place | None, key: str | int) -> None:
        self.value, self.parent, self.key = value, parent, key

    @property
    def where(self) -> str:
        """The way from the top."""
        steps, place = [], self
        while place.parent is not None:
            steps.append(f"[{place.key}]" if isinstance(place.key, int) else f": {excerpt(place.key)}")
            place = place.parent
        way = "".join(reversed(steps))
        if len(way) > _LONG_PLACE:
            way = f"{way[: _LONG_PLACE // 2]} ... {way[-_LONG_PLACE // 2 :]}"
        return f"{place.key}{way}"

    def error(self, message: str, expected: str = "", got: str = "") -> FileError:
        """What to raise where the value is wrong; found is the value itself unless `got` says more."""
        return FileError(message, where=self.where, expected=expected, got=got or excerpt(repr(self.value)))

    @property
    def fields(self) -> dict[str, Any]:
        """The value, which must be an object."""
        if not isinstance(self.value, dict):
            raise self.error("wrong kind of value", "an object")
        return self.value

    def only(self, known: frozenset[str]) -> None:
        """Refuse an object with other fields."""
        if known.issuperset(self.fields):
            return
        key = next(k for k in self.fields if k not in known)
        expected = ", ".join(sorted(known))
        raise FileError(f"unknown field {excerpt(repr(key))}", where=self.where, expected=expected)

    def __getitem__(self, key: str) -> Place:
        fields = self.fields
        if key not in fields:
            raise self.error(f"the field {key!r} is missing")
        return Place(fields[key], self, key)

    def items(self) -> list[tuple[str, Place]]:
        """The fields of an object."""
        return [(k, Place(v, self, k)) for k, v in self.fields.items()]

    def list(self) -> list[Place]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self.error("wrong kind of value", "a list")
        return [Place(v, self, k) for k, v in enumerate(self.value)]

    def text(self) -> str:
        """The value, which must be text."""
        if not isinstance(self.value, str):
            raise self.error("wrong kind of value", "text")
        return self.value

    def text_of(self, key: str, default: str | None = None) -> str:
        """The text of a field; without a default the field must be there."""
        value = self.fields.get(key, default)
        return value if type(value) is str else self[key].text()

    def texts_of(self, key: str) -> Any:
        """The list of texts in a field."""
        value = self.fields.get(key)
        if type(value) is list and _TEXT.issuperset(map(type, value)):
            return value
        return [v.text() for v in self[key].list()]  # raises, saying which is wrong

    def integer(self) -> int:
        """The value, which must be a whole number."""
        if type(self.value) is not int:
            raise self.error("wrong kind of value", "a whole number")
        return self.value


def parse(data: memoryview, where: str) -> Any:
    """The JSON value, if it is strict JSON of bounded size, depth and numbers.

    Raises
    ------
    FileError
        It is not.
    """
    if len(data) > MAX_BYTES:
        raise FileError("the text is too long", where=where, expected=f"<= {MAX_BYTES} bytes", got=str(len(data)))
    raw = bytes(data)
    # A short text has no room for so many levels.
    levels = depth(raw) if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH else 0
    if levels > MAX_DEPTH:
        raise FileError("nested too deeply", where=where, expected=f"<= {MAX_DEPTH} levels", got=str(levels))
    try:
        string = str(raw, "utf-8")
        # To look at every number in Python takes long, and only those of so many digits need it.
        decoder = _CAREFUL if _LONG in raw.translate(_AS_ZEROS) else _PLAIN
        value = decoder.decode(string)
        if b"\\" in raw and "\\u" in string:  # a half of a surrogate pair alone is no text
            text(value).encode()
        return value
    except (ValueError, RecursionError) as e:
        raise FileError(f"not valid JSON: {excerpt(e)}", where=where) from None


def depth(data: bytes) -> int:
    """How deep objects and lists nest: found without recursion, since the parser recurses on the C stack."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # of the escapes, these could hide the end of a string
    # Between brackets outside of strings there are even numbers of quotes: mostly none of these is left then.
    marks = plain.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' not in marks:
        plain = marks
    deepest = level = inside = 0
    for at in range(0, len(plain), _CHUNK):  # whose pieces take little memory, however many there are
        pieces = plain[at : at + _CHUNK].split(b'"')
        steps = b"".join(pieces[inside::2]).translate(_AS_STEPS, _NO_BRACKETS)
        deepest = max(deepest, max(accumulate(memoryview(steps).cast("b"), initial=level)))
        level += 2 * steps.count(1) - len(steps)
        inside ^= len(pieces) % 2 == 0
    return deepest


def _integer(digits: str) -> int:
    # The conversion of a long number takes quadratic time.
    if len(digits) > 20 or not -INT64 <= int(digits) < INT64:
        raise ValueError(f"the number {excerpt(digits, 40)} is not an int64")
    return int(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


_PLAIN = json.JSONDecoder(parse_constant=_refuse)
_CAREFUL = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer)
