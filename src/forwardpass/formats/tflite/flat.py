"""FlatBuffers: tables, vectors and text at offsets that the file gives, each checked before it is followed.

The layout is that of https://flatbuffers.dev/internals/: a table begins with the distance back to its vtable, which
says how far from the table's beginning each field lies, by the field's number; 0 is a field that has its default.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ...errors import FileError
from ...graph import Array

__all__ = ["Buffer", "Table"]

_REPEATS = 16
"""Parts of a file may be shared; how often all of it may be read before that is called an attack."""


class Buffer:
    """The bytes of a file, and how many more may be read of it as lists and text.

    Parameters
    ----------
    data
        All of the file.
    where
        What messages call it.
    """

    def __init__(self, data: Any, where: str) -> None:
        self.data, self.where = memoryview(data), where
        self.left = _REPEATS * len(self.data) + 2**20

    def error(self, what: str, at: int) -> FileError:
        return FileError(f"{what} at byte {at} does not lie in the file", where=self.where, expected="a whole file")

    def number(self, form: str, at: int) -> Any:
        """The number in the format of `struct` at a place."""
        try:
            return struct.unpack_from("<" + form, self.data, at)[0] if at >= 0 else self._outside(at)
        except struct.error:
            return self._outside(at)

    def _outside(self, at: int) -> Any:
        raise self.error("a number", at)

    def spend(self, count: int) -> None:
        """Count bytes that are read."""
        self.left -= count
        if self.left < 0:
            raise FileError("the parts of the file overlap", where=self.where, expected="each part once")

    def span(self, at: int, item: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        count = self.number("I", at)
        if at + 4 + count * item > len(self.data):
            raise self.error(f"a list of {count}", at)
        return at + 4, count

    def root(self) -> Table:
        return Table(self, self.number("I", 0))


class Table:
    """A table; its fields by number.

    Raises
    ------
    FileError
        From every method: what is read does not lie in the file.
    """

    def __init__(self, buffer: Buffer, at: int) -> None:
        self.buffer, self.at = buffer, at
        buffer.spend(4)
        self._fields = at - buffer.number("i", at)
        self._size = buffer.number("H", self._fields)

    def _place(self, field: int) -> int:
        """Where a field lies; 0 where it has its default."""
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset = self.buffer.number("H", self._fields + entry)
        return self.at + offset if offset else 0

    def _target(self, field: int) -> int:
        """Where what a field refers to lies; 0 where there is none."""
        place = self._place(field)
        return place + self.buffer.number("I", place) if place else 0

    def number(self, field: int, form: str, default: Any = 0) -> Any:
        """A number, in a format of `struct`."""
        place = self._place(field)
        return self.buffer.number(form, place) if place else default

    def integer(self, field: int, default: int = 0) -> int:
        """An int32."""
        return int(self.number(field, "i", default))

    def flag(self, field: int, default: bool = False) -> bool:
        return bool(self.number(field, "B", default))

    def table(self, field: int) -> Table | None:
        target = self._target(field)
        return Table(self.buffer, target) if target else None

    def text(self, field: int) -> str:
        """Text; "" where there is none."""
        return bytes(self.bytes(field)).decode("utf-8", "replace")

    def bytes(self, field: int) -> memoryview:
        """The bytes of text."""
        target = self._target(field)
        start, count = self.buffer.span(target, 1) if target else (0, 0)
        self.buffer.spend(count)
        return self.buffer.data[start : start + count]

    def array(self, field: int, dtype: Any) -> Array:
        """A vector of numbers, as a view; empty where there is none."""
        found, target = np.dtype(dtype).newbyteorder("<"), self._target(field)
        start, count = self.buffer.span(target, found.itemsize) if target else (0, 0)
        return np.frombuffer(self.buffer.data, found, count, start) if count else np.zeros(0, found)

    def integers(self, field: int) -> list[int]:
        """A vector of int32."""
        values = self.array(field, np.int32)
        self.buffer.spend(values.nbytes)
        return [int(v) for v in values]

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        target = self._target(field)
        start, count = self.buffer.span(target, 4) if target else (0, 0)
        self.buffer.spend(4 * count)
        places = range(start, start + 4 * count, 4)
        return [Table(self.buffer, place + self.buffer.number("I", place)) for place in places]
