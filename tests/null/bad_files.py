"""Files that neither hold a model nor weights: each a name and a function that makes its bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """The array as `numpy.save` writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """A `.npy` with any header."""
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode("latin1") + data


def described(descr: str = "'<f4'", shape: str = "(2,)", data: bytes = bytes(8), fortran: str = "False") -> bytes:
    """A `.npy` whose header has these values."""
    return header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n", data)


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


class Zip:
    """A zip file of which every field can be made wrong."""

    def __init__(self) -> None:
        self.body, self.central, self.count = b"", b"", 0
        self.at: dict[bytes, int] = {}

    def add(
        self,
        name: bytes,
        data: bytes,
        *,
        packed: bytes | None = None,
        method: int = 0,
        flags: int = 0,
        local: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Zip:
        """Append an entry. `fields` change both headers, `local` the local one alone."""
        stored = packed if packed is not None else deflate(data) if method == 8 else data
        f = {"name": name, "crc": zlib.crc32(data), "stored": len(stored), "size": len(data), "extra": b""}
        f |= {"method": method, "flags": flags, "offset": len(self.body)} | fields
        self.at[name] = len(self.body)
        here = f | (local or {})
        self.body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *_common(here)) + here["name"] + here["extra"] + stored
        return self.entry(f)

    def entry(self, f: dict[str, Any]) -> Zip:
        """Append an entry of the central directory alone."""
        fixed = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *_common(f), 0, 0, 0, 0, f["offset"])
        self.central += fixed + f["name"] + f["extra"]
        self.count += 1
        return self

    def bytes(self, **fields: int) -> bytes:
        """The file; `fields` change its end."""
        f = {"disk": 0, "count": self.count, "length": len(self.central), "at": len(self.body), "comment": 0}
        f |= fields
        end = (f["disk"], 0, f["count"], f["count"], f["length"], f["at"], f["comment"])
        return self.body + self.central + struct.pack("<4s4H2LH", b"PK\5\6", *end)


def _common(f: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(f["flags"], f["method"], 0, 0x21, f["crc"], f["stored"], f["size"]),
        *(len(f["name"]), len(f["extra"])),
    )


def single(data: bytes, name: bytes = b"w.npy", **fields: Any) -> bytes:
    """A zip file of one entry."""
    return Zip().add(name, data, **fields).bytes()


GOOD = npy(np.arange(4, dtype=np.float32))


def _bomb(size: int = 300 << 20) -> bytes:
    """A valid array of zeros that deflate makes a thousand times smaller."""
    start = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}\n")
    packer = zlib.compressobj(9, wbits=-15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    chunk = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(start)
    for _ in range(size >> 20):
        crc = zlib.crc32(bytes(1 << 20), crc)
    packed = first + chunk * (size >> 20) + packer.flush()
    return Zip().add(b"w.npy", b"", packed=packed, method=8, size=len(start) + size, crc=crc).bytes()


def _many_bombs() -> bytes:
    """Entries that share one compressed body, as David Fifield's zip bomb: small file, unbounded total."""
    z = Zip().add(b"a0.npy", npy(np.zeros(1 << 20, np.uint8)), method=8)
    size = len(npy(np.zeros(1 << 20, np.uint8)))
    for k in range(1, 500):
        fields = {
            "name": f"a{k}.npy".encode(),
            "crc": 0,
            "stored": len(z.body) - 36,
            "size": size,
            "extra": b"",
        }
        z.entry(fields | {"method": 8, "flags": 0, "offset": 0})
    return z.bytes()


def _overlap() -> bytes:
    """Two entries of the directory with one name each, but the second lies inside of the first one's data."""
    inner = Zip().add(b"b.npy", GOOD)
    outer = npy(np.frombuffer(inner.body, np.uint8))
    z = Zip().add(b"a.npy", outer)
    offset = z.body.rindex(b"PK\3\4")
    fields = {"name": b"b.npy", "crc": zlib.crc32(GOOD), "stored": len(GOOD), "size": len(GOOD), "extra": b""}
    return z.entry(fields | {"method": 0, "flags": 0, "offset": offset}).bytes()


def _zip64(*values: int) -> bytes:
    extra = struct.pack("<2H", 1, 8 * len(values)) + b"".join(v.to_bytes(8, "little") for v in values)
    return single(GOOD, size=0xFFFFFFFF, stored=0xFFFFFFFF, extra=extra)


def _lost_end64() -> bytes:
    """A zip64 locator that points nowhere."""
    data = single(GOOD)
    return data[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 5, 1) + data[-22:]


def _objects(array: np.ndarray[Any, Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        np.savez(file, w=array)
        return file.getvalue()

    return make


_names = [
    *(b"../w.npy", b"a/../../w.npy", b"/etc/w.npy", b"a\\b.npy", b"C:w.npy", b"a//b.npy", b"./w.npy", b""),
    *(b"w.npy\0.txt", b"a\nb.npy", b"..", b"x" * 5000 + b".npy"),
]

BAD_FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"P",
    "text": lambda: b"not a zip file at all, but long enough to be one",
    "no members, junk before": lambda: b"x" * 100 + Zip().bytes(),
    "end only, count lies": lambda: Zip().bytes(count=65535),
    "junk after": lambda: single(GOOD) + b"x",
    "junk before": lambda: b"x" * 64 + single(GOOD),
    "directory outside": lambda: Zip().add(b"w.npy", GOOD).bytes(at=1 << 31),
    "directory too long": lambda: Zip().add(b"w.npy", GOOD).bytes(length=1 << 31),
    "more entries than there are": lambda: Zip().add(b"w.npy", GOOD).bytes(count=2),
    "fewer entries than there are": lambda: Zip().add(b"v.npy", GOOD).add(b"w.npy", GOOD).bytes(count=1),
    "several disks": lambda: Zip().add(b"w.npy", GOOD).bytes(disk=1),
    "comment cut": lambda: Zip().add(b"w.npy", GOOD).bytes(comment=10),
    **{f"name {name[:20]!r}": (lambda name=name: single(GOOD, name)) for name in _names},
    "name not UTF-8": lambda: single(GOOD, b"\xff\xfe.npy", flags=0x800),
    "duplicate": lambda: Zip().add(b"w.npy", GOOD).add(b"w.npy", GOOD).bytes(),
    "not an array": lambda: Zip().add(b"w.npy", GOOD).add(b"readme.txt", b"hi").bytes(),
    "encrypted": lambda: single(GOOD, flags=1),
    "strongly encrypted": lambda: single(GOOD, flags=0x41),
    "bzip2": lambda: single(GOOD, method=12),
    "wrong CRC": lambda: single(GOOD, crc=1),
    "wrong CRC, deflated": lambda: single(GOOD, crc=1, method=8),
    "size lies": lambda: single(GOOD, size=1 << 20),
    "size lies, deflated": lambda: single(GOOD, size=len(GOOD) - 1, method=8),
    "size lies more, deflated": lambda: single(GOOD, size=len(GOOD) + 1, method=8),
    "ratio lies": lambda: single(GOOD, size=1 << 31, method=8),
    "not deflate": lambda: single(GOOD, packed=b"\xff" * 50, method=8),
    "deflate with a tail": lambda: single(GOOD, packed=deflate(GOOD) + b"tail", method=8),
    "deflate cut": lambda: single(GOOD, packed=deflate(GOOD)[:-3], method=8),
    "stored outside": lambda: single(GOOD, stored=1 << 30, size=1 << 30),
    "offset outside": lambda: Zip().add(b"w.npy", GOOD, offset=1 << 30).bytes(),
    "offset elsewhere": lambda: Zip().add(b"w.npy", GOOD, offset=7).bytes(),
    "headers differ in name": lambda: single(GOOD, local={"name": b"v.npy"}),
    "headers differ in size": lambda: single(GOOD, local={"size": 5}),
    "headers differ in CRC": lambda: single(GOOD, local={"crc": 5}),
    "headers differ in method": lambda: single(GOOD, local={"method": 8}),
    "headers differ in flags": lambda: single(GOOD, local={"flags": 1}),
    "zip64 without its field": lambda: single(GOOD, size=0xFFFFFFFF, stored=0xFFFFFFFF),
    "zip64 too short": lambda: _zip64(len(GOOD)),
    "zip64 lies": lambda: _zip64(1 << 62, 1 << 62),
    "zip64 end elsewhere": _lost_end64,
    "bomb": _bomb,
    "bomb of shared data": _many_bombs,
    "overlap": _overlap,
    "object array": _objects(np.array([{}, None], dtype=object)),
    "structured array": _objects(np.zeros(3, [("a", "f4"), ("b", "O")])),
    "text array": _objects(np.array(["a", "b"])),
    "bytes array": _objects(np.array([b"a", b"b"])),
    "complex array": _objects(np.zeros(2, np.complex64)),
    "dates": _objects(np.zeros(2, "M8[s]")),
    "Fortran object array": lambda: single(described("'|O'", "(1, 2)", fortran="True")),
    "no array": lambda: single(b"hello, this is no array"),
    "array cut to nothing": lambda: single(b""),
    "array cut in the magic": lambda: single(GOOD[:7]),
    "array cut in the header": lambda: single(GOOD[:40]),
    "array cut in the data": lambda: single(GOOD[:-1]),
    "array too long": lambda: single(GOOD + b"\0"),
    "npy version 3": lambda: single(header("{}", version=3)),
    "npy version 255": lambda: single(header("{}", version=255)),
    "npy header of 4 GB": lambda: single(b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(100)),
    "npy header too long": lambda: single(header("{" + " " * 20_000 + "}", version=2)),
    "npy header is code": lambda: single(header("__import__('os').abort()")),
    "npy header nested": lambda: single(header("(" * 9000)),
    "npy header without shape": lambda: single(header("{'descr': '<f4', 'fortran_order': False}")),
    "npy header key twice": lambda: single(header("{'descr': '<f4', 'descr': '<f4', 'shape': ()}")),
    "npy header with more": lambda: single(header("{'descr':'<f4','fortran_order':False,'shape':(),'x':1}")),
    "npy order no bool": lambda: single(described(fortran="1")),
    "dtype of 3 bytes": lambda: single(described("'<f3'")),
    "dtype f16": lambda: single(described("'<f16'", "(1,)", bytes(16))),
    "dtype empty": lambda: single(described("''")),
    "dtype of no order": lambda: single(described("'f4'")),
    **{
        f"shape {shape[:30]}": (lambda shape=shape: single(described(shape=shape)))
        for shape in (
            *(
                f"({1 << 62},)",
                f"({1 << 31}, {1 << 31})",
                f"(0, {1 << 62})",
                f"({1 << 64},)",
                f"({1 << 62}, 4)",
            ),
            *(
                "(-2,)",
                "(2.0,)",
                "(nan,)",
                "(True,)",
                "(2)",
                "2",
                "(2,,)",
                "(,)",
                "(None,)",
                "[2]",
                "((2,),)",
            ),
            *(f"({'9' * 5000},)", f"({'1, ' * 33}2)", f"({'1, ' * 3000}2)", "(3,)", "(1,)", "()"),
        )
    },
    "bool that is 2": lambda: single(described("'|b1'", "(2,)", b"\1\2")),
}
"""Name -> the bytes of a file that is neither a model nor weights."""
