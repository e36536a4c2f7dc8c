"""Zip archives for arrays: read over one memory map, written with every member stored and 64-byte aligned.

The reader takes nothing on trust: sizes, offsets and names are checked against the file before anything is
allocated, the central directory must agree with the local headers, and members must not overlap. It is
written out here because the standard `zipfile` accepts much more than a model file may contain, and takes
longer to import than a model to load. The format is that of APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from mmap import mmap
from struct import Struct
from typing import Any

import numpy as np

from ..errors import FileError
from ..graph import Array
from ..records import record
from .files import fetch, mapped

__all__ = ["ALIGNMENT", "Archive", "Member", "archive_bytes", "excerpt", "unsafe_name", "write_archive"]

_FETCHED = 1 << 16
"""Bytes of a member from which on its pages are mapped at once before they are read."""

ALIGNMENT = 64
"""Bytes at whose multiples the data of a written member starts: a cache line, and the widest vector."""

MAX_MEMBERS = 100_000
MAX_NAME_BYTES = 4096
MAX_RATIO = 1100
"""Deflate cannot reach more than 1032:1, so a larger declared ratio is a lie."""
INFLATED_BASE, INFLATED_PER_BYTE = 64 << 20, 8
"""All deflated members together may declare at most base + per_byte * (size of the file) bytes."""

_END = Struct("<4s4H2LH")
_LOCATOR64 = Struct("<4sLQL")
_END64 = Struct("<4sQ2H2L4Q")
_CENTRAL = Struct("<4s6H3L5H2L")
_LOCAL = Struct("<4s5H3L2H")
_EXTRA = Struct("<2H")
_M16, _M32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_SIZE = _M32
_ZIP64_COUNT = _M16
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_ZIP64, _PADDING = 0x0001, 0xD935
_NO_NAMES = frozenset({"", ".", ".."})


@record(frozen=True, slots=True)
class Member:
    """One file of the archive: `stored` bytes at `offset`, which become `size` bytes."""

    name: str
    header: int
    offset: int
    stored: int
    size: int
    crc: int
    deflated: bool


def excerpt(text: object, limit: int = 120) -> str:
    """The text of something read from a file, cut to what a message can hold."""
    shown = str(text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def unsafe_name(name: str) -> str:
    """Why a member must not have this name, or "".

    A safe name is a relative path that stays inside its folder on every system.
    """
    if name.replace(".", "_").isidentifier() and name.isascii() and name[0] != ".":
        return ""
    if not name:
        return "it is empty"
    if not name.isprintable() and any(c < " " or c == "\x7f" for c in name):
        return "it has control characters"
    if "\\" in name:
        return "it has a backslash"
    if name[0] == "/" or (name[1:2] == ":" and name[0].isascii() and name[0].isalpha()):
        return "it is an absolute path"
    if not _NO_NAMES.isdisjoint(name.split("/")):
        return "a part of its path is empty, '.' or '..'"
    return ""


def _crc32() -> Callable[..., int]:
    """The native CRC-32 where that module is loaded, which this layer does not do: weights have to be read anyway, and
    it goes as fast as they come from memory."""
    native = sys.modules.get("forwardpass._native")
    return zlib.crc32 if native is None else native.crc32


class Archive:
    """The members of a zip file, over a read-only memory map.

    Parameters
    ----------
    path
        The file. Members may be stored or deflated; nothing else is accepted.
    data
        Its bytes, if it is no file; `path` is then only how messages name it.

    Raises
    ------
    FileError
        The file cannot be opened, is no zip file, is damaged, or claims more data than its size can justify.
    """

    def __init__(self, path: str | os.PathLike[str], data: bytes | None = None) -> None:
        self.path = os.fsdecode(path)
        self._map = mapped(self.path) if data is None else data
        self._crc32 = _crc32()
        self._ahead: frozenset[str] = frozenset()  # members at whose checksums another thread looks
        self.members: dict[str, Member] = {}
        first, count, end = self._locate()
        self._index(first, count, end)
        self._check_layout(first)

    def _error(self, message: str, entry: str = "", **fields: str) -> FileError:
        where = f"{self.path}: {excerpt(entry)}" if entry else self.path
        return FileError(message, where=where, **fields)

    def _locate(self) -> tuple[int, int, int]:
        """Where the central directory starts, its number of entries, and where it ends."""
        size = len(self._map)
        at, lowest = size - _END.size, max(0, size - _END.size - _M16)
        # The end stands before a comment, in which its mark may occur too: its length has to fit.
        while at >= 0:
            mark, disk, first_disk, here, count, length, first, comment = _END.unpack_from(self._map, at)
            if mark == b"PK\5\6" and at + _END.size + comment == size:
                break
            at = self._map.rfind(b"PK\5\6", lowest, at + 3)
        else:
            raise self._error("not a zip file, or cut short", expected="an end of central directory")
        end = at
        if at >= _LOCATOR64.size and self._map[at - _LOCATOR64.size :][:4] == b"PK\6\7":
            _, _, end, _ = _LOCATOR64.unpack_from(self._map, at - _LOCATOR64.size)
            if end + _END64.size > at - _LOCATOR64.size or self._map[end : end + 4] != b"PK\6\6":
                raise self._error("damaged zip file", expected="a zip64 end of central directory")
            _, _, _, _, disk, first_disk, here, count, length, first = _END64.unpack_from(self._map, end)
        if disk or first_disk or here != count:
            raise self._error("zip files in several parts are not read")
        if first + length != end:
            raise self._error("damaged central directory", expected=f"its end at {end}", got=f"{first + length}")
        if count > MAX_MEMBERS or count * _CENTRAL.size > length:
            most = min(MAX_MEMBERS, length // _CENTRAL.size)
            raise self._error("too many members", expected=f"at most {most}", got=str(count))
        return first, count, end

    def _index(self, at: int, count: int, end: int) -> None:
        whole, fixed = self._map, _CENTRAL.size
        for _ in range(count):
            if at + fixed > end:
                raise self._error("damaged central directory", expected=f"{count} entries")
            fields = _CENTRAL.unpack_from(whole, at)
            name_end = at + fixed + fields[10]
            extra_end = name_end + fields[11]
            if fields[0] != b"PK\1\2" or extra_end + fields[12] > end:
                raise self._error("damaged central directory", got=f"a bad entry at byte {at}")
            member = self._member(whole[at + fixed : name_end], fields, whole[name_end:extra_end])
            if member.name in self.members:
                raise self._error("the entry is there twice", member.name)
            if not (member.name.endswith("/") and member.size == 0):
                self.members[member.name] = member
            at = extra_end + fields[12]
        if at != end:
            raise self._error("damaged central directory", expected=f"its end at {end}", got=str(at))

    def _member(self, raw: bytes, fields: tuple[Any, ...], extra: bytes) -> Member:
        """Check one entry of the central directory and the local header that it points to."""
        _, _, _, flags, method, _, _, crc, stored, size = fields[:10]
        try:
            name = raw.decode("utf-8" if flags & _UTF8 or raw.isascii() else "cp437")
        except UnicodeDecodeError:
            raise self._error("the name of an entry is not UTF-8", got=excerpt(raw[:40])) from None
        reason = "it is too long" if len(raw) > MAX_NAME_BYTES else unsafe_name(name.removesuffix("/"))
        if reason:
            raise self._error(f"unsafe name of an entry: {reason}", got=excerpt(repr(name)))
        if flags & _ENCRYPTED:
            raise self._error("the entry is encrypted", name)
        if method not in (_STORED, _DEFLATED):
            raise self._error("unknown compression", name, expected="stored or deflated", got=f"method {method}")
        size, stored, header = self._widen(extra, [size, stored, fields[16]], name)
        offset = self._local(name, raw, header, (flags, method, crc, stored, size))
        if method == _STORED and stored != size:
            raise self._error("damaged entry", name, expected=f"{size} bytes", got=str(stored))
        if size > MAX_RATIO * stored:
            raise self._error(
                "the entry claims more data than it can hold",
                name,
                expected=f"<= {MAX_RATIO}:1",
                got=f"{size} bytes",
            )
        return Member(name, header, offset, stored, size, crc, method == _DEFLATED)

    def _widen(self, extra: bytes, values: list[int], name: str) -> list[int]:
        """Replace values that are 2^32-1 by those of the zip64 field, which holds only these, in order."""
        if _M32 not in values:
            return values
        at = 0
        while at + _EXTRA.size <= len(extra):
            kind, length = _EXTRA.unpack_from(extra, at)
            at += _EXTRA.size
            if kind == _ZIP64 and at + length <= len(extra):
                wide = [int.from_bytes(extra[k : k + 8], "little") for k in range(at, at + length - 7, 8)]
                if len(wide) >= values.count(_M32):
                    return [wide.pop(0) if v == _M32 else v for v in values]
            at += length
        raise self._error("damaged entry", name, expected="a zip64 field")

    def _local(self, name: str, raw: bytes, header: int, central: tuple[int, int, int, int, int]) -> int:
        """Check that the local header says the same, and return where its data starts."""
        if header + _LOCAL.size > len(self._map):
            raise self._error("the entry lies outside the file", name, got=f"offset {header}")
        fields = _LOCAL.unpack_from(self._map, header)
        _, _, flags, method, _, _, crc, stored, size, name_length, extra_length = fields
        name_at = header + _LOCAL.size
        offset: int = name_at + name_length + extra_length
        if fields[0] != b"PK\3\4" or self._map[name_at : name_at + name_length] != raw:
            raise self._error("damaged entry", name, expected=f"its local header at byte {header}")
        if flags & _DESCRIPTOR:
            crc, stored, size = central[2:]
        elif size == _M32 or stored == _M32:
            size, stored = self._widen(self._map[name_at + name_length : offset], [size, stored], name)
        if (flags, method, crc, stored, size) != central:
            raise self._error("the local header and the central directory disagree", name)
        return offset

    def _check_layout(self, end: int) -> None:
        """Members must follow each other without overlap, and what they inflate to must be bounded."""
        previous = None
        for m in sorted(self.members.values(), key=lambda m: m.header):
            if previous is not None and m.header < previous.offset + previous.stored:
                raise self._error("the entry overlaps another", m.name, got=excerpt(previous.name))
            previous = m
        if previous is not None and previous.offset + previous.stored > end:
            raise self._error("the entry lies outside the file", previous.name)
        inflated = sum(m.size for m in self.members.values() if m.deflated)
        limit = INFLATED_BASE + INFLATED_PER_BYTE * len(self._map)
        if inflated > limit:
            raise self._error(
                "the compressed entries are suspiciously large",
                expected=f"at most {limit} bytes for a file of {len(self._map)}",
                got=str(inflated),
                hint="if the file is yours, save it uncompressed with numpy.savez",
            )

    def data(self, name: str, *, verify: bool = True) -> memoryview:
        """The bytes of a member: a slice of the map where it is stored, else inflated.

        Raises
        ------
        FileError
            Its bytes do not have the CRC-32 or the size that the directory says.
        """
        m = self.members[name]
        data = memoryview(self._map)[m.offset : m.offset + m.stored]
        verify = verify and name not in self._ahead
        if verify and m.stored >= _FETCHED and isinstance(self._map, mmap):
            fetch(self._map, m.offset, m.stored)
        if m.deflated:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = memoryview(inflate.decompress(data, m.size + 1))
            except zlib.error as e:
                raise self._error(f"damaged compressed data ({excerpt(e)})", name) from e
            if len(data) != m.size or not inflate.eof or inflate.unused_data:
                raise self._error("damaged compressed data", name, expected=f"{m.size} bytes")
        if verify:
            self._check(m, self._crc32(data))
        return data

    def _check(self, m: Member, crc: int) -> None:
        if crc != m.crc:
            raise self._error("the data is damaged", m.name, expected=f"CRC-32 {m.crc:08x}", got=f"{crc:08x}")

    @contextmanager
    def checked_ahead(self) -> Iterator[None]:
        """Have another thread look at the checksums of large members meanwhile; `data` then gives them unchecked.

        Raises
        ------
        FileError
            At the end, or in place of another one: one of them is wrong.
        """
        native = sys.modules.get("forwardpass._native")
        large = [m for m in self.members.values() if m.stored >= _FETCHED and not m.deflated]
        if native is None or not large or not isinstance(self._map, mmap):
            yield
            return
        whole, sums, background = memoryview(self._map), np.empty(len(large), np.uint32), native.Background()
        for k, m in enumerate(large):
            background.crc32(whole[m.offset : m.offset + m.stored], sums[k : k + 1])
        self._ahead = frozenset(m.name for m in large)
        try:
            yield
        except FileError:
            self._check_all(background, large, sums)
            raise
        self._check_all(background, large, sums)

    def _check_all(self, background: Any, large: list[Member], sums: Array) -> None:
        background.wait()
        for m, crc in zip(large, sums.tolist()):
            self._check(m, crc)


def archive_bytes(members: Iterable[tuple[str, Sequence[Any]]]) -> bytes:
    """The file that `write_archive` would write."""
    file = io.BytesIO()
    _write(file, members)
    return file.getvalue()


def write_archive(path: str | os.PathLike[str], members: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Write members, stored and aligned, and put the file in place only when it is complete.

    Parameters
    ----------
    path
        The file. An old one stays as it is until the new one is complete; arrays mapped from it stay valid.
    members
        Name, and buffers of bytes that follow each other. Names must be unique and safe.

    Raises
    ------
    FileError
        The operating system refuses; no partial file is left.
    """
    from .replace import replaced  # which a program that only loads models does not need

    with replaced(path) as file:
        _write(file, members)


def _write(file: Any, members: Iterable[tuple[str, Sequence[Any]]]) -> None:
    central: list[bytes] = []
    crc32 = _crc32()
    at = 0
    for name, parts in members:
        raw = name.encode()
        size = sum(memoryview(p).nbytes for p in parts)
        crc = 0
        for p in parts:
            crc = crc32(p, crc)
        header, entry = _headers(raw, at, size, crc)
        central.append(entry)
        file.write(header)
        for p in parts:
            file.write(p)
        at += len(header) + size
    directory = b"".join(central)
    file.write(directory)
    file.write(_end(at, len(directory), len(central)))


def _headers(raw: bytes, at: int, size: int, crc: int) -> tuple[bytes, bytes]:
    """The local header, padded so that the data is aligned, and the entry of the central directory.

    The time is always 1980-01-01, the earliest there is: equal models make equal files.
    """
    wide = size >= _ZIP64_SIZE or at >= _ZIP64_SIZE
    version = 45 if wide else 20
    flags = 0 if raw.isascii() else _UTF8
    narrow = _M32 if wide else size
    sizes = size.to_bytes(8, "little") * 2
    extra = _EXTRA.pack(_ZIP64, 16) + sizes if wide else b""
    gap = -(at + _LOCAL.size + len(raw) + len(extra)) % ALIGNMENT
    if gap:
        gap += ALIGNMENT if gap < _EXTRA.size + 2 else 0
        payload = ALIGNMENT.to_bytes(2, "little").ljust(gap - _EXTRA.size, b"\0")
        extra += _EXTRA.pack(_PADDING, len(payload)) + payload
    common = (flags, _STORED, 0, 0x21, crc, narrow, narrow, len(raw))
    local = _LOCAL.pack(b"PK\3\4", version, *common, len(extra)) + raw + extra
    extra = _EXTRA.pack(_ZIP64, 24) + sizes + at.to_bytes(8, "little") if wide else b""
    mode = 0o100644 << 16
    made_by = 3 << 8 | version
    entry = _CENTRAL.pack(b"PK\1\2", made_by, version, *common, len(extra), 0, 0, 0, mode, _M32 if wide else at)
    return local, entry + raw + extra


def _end(at: int, length: int, count: int) -> bytes:
    end = b""
    if at >= _ZIP64_SIZE or count >= _ZIP64_COUNT:
        end = _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, length, at)
        end += _LOCATOR64.pack(b"PK\6\7", 0, at + length, 1)
        at, length, count = _M32, _M32, _M16
    return end + _END.pack(b"PK\5\6", 0, 0, count, count, length, at, 0)
