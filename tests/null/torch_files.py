"""PyTorch's files written by hand, opcode by opcode: tests need no PyTorch, and can write what it never would."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.formats import read_weights

__all__ = [
    "CONTAINERS",
    "FLOATS",
    "MAGIC",
    "VALUES",
    "Read",
    "dictionary",
    "empty",
    "integer",
    "legacy",
    "mutated",
    "name",
    "pickled",
    "reader",
    "storage",
    "tensor",
    "text",
    "zipped",
]

MAGIC = 0x1950A86A20F9469CFC6C
Array = np.ndarray[Any, Any]
Read = Callable[[bytes], dict[str, Array]]


def reader(path: Path) -> Read:
    """Reads the weights of what it writes there."""

    def read(data: bytes) -> dict[str, Array]:
        path.write_bytes(data)
        return read_weights(path)

    return read


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + value.to_bytes(4, "little", signed=True)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def integers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def empty() -> bytes:
    return name("collections", "OrderedDict") + b")R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return empty() + b"(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def storage(kind: str, key: str, count: int, more: bytes = b"") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + integer(count) + more + b"tQ"


def tensor(stored: bytes, shape: Sequence[int], strides: Sequence[int] | None = None, offset: int = 0) -> bytes:
    if strides is None:
        strides, step = [], 1
        for d in reversed(shape):
            strides, step = [step, *strides], step * max(d, 1)
    rest = integers(shape) + integers(strides) + b"\x89" + empty()
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + stored + integer(offset) + rest + b"tR"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def zipped(value: bytes, data: Mapping[str, bytes], order: str = "little", more: Mapping[str, bytes] = {}) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("net/data.pkl", pickled(value))
        if order:
            archive.writestr("net/byteorder", order)
        for key, raw in data.items():
            archive.writestr(f"net/data/{key}", raw)
        for entry, raw in more.items():
            archive.writestr(f"net/{entry}", raw)
        archive.writestr("net/version", "3\n")
    return file.getvalue()


def legacy(value: bytes, data: Mapping[str, tuple[int, bytes]]) -> bytes:
    """`data`: key -> number of elements, and the elements."""
    keys = b"](" + b"".join(map(text, data)) + b"e"
    head = [integer(MAGIC), integer(1001), b"}(" + text("little_endian") + b"\x88u", value, keys]
    stored = b"".join(count.to_bytes(8, "little") + raw for count, raw in data.values())
    return b"".join(map(pickled, head)) + stored


VALUES = np.arange(12, dtype=np.float32) - 5
FLOATS = storage("FloatStorage", "0", 12)
CONTAINERS = {
    "zip": lambda value, raw: zipped(value, {"0": raw}),
    "legacy": lambda value, raw: legacy(value, {"0": (len(raw) // 4, raw)}),
}


def mutated(data: bytes, rng: random.Random, tokens: Sequence[bytes]) -> bytes:
    """The data with some bytes changed, cut out, moved, or replaced by others or by tokens of its grammar."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(made) + 1)
        choice = rng.randrange(4)
        if choice == 0 and made:
            made[at % len(made)] ^= 1 << rng.randrange(8)
        elif choice == 1:
            made[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        elif choice == 2:
            other = rng.randrange(len(made) + 1)
            made[at:at] = made[other : other + rng.randrange(40)]
        else:
            made[at : at + rng.randrange(2)] = rng.choice(tokens)
    return bytes(made)
