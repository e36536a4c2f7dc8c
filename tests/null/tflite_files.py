"""LiteRT files, written here field by field: tables are dicts from a field's number to its value."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.formats.tflite.schema import _NAMES

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
KINDS = _NAMES.split()
Number = tuple[str, Any]
"""A number with its format of `struct`."""


class _Writer:
    """What a table refers to is written behind it."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0\0\0\0TFL3")

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def place(self, value: Any) -> int:
        if isinstance(value, dict):
            return self.table(value)
        if isinstance(value, list):
            return self.offsets(value)
        if isinstance(value, str):
            value = np.frombuffer(value.encode() + b"\0", np.uint8)
            return self.vector(value, len(value) - 1)
        return self.vector(value, value.size)

    def vector(self, array: Any, count: int) -> int:
        self.align(8)
        self.data += bytes(4)  # so that elements of eight bytes are aligned
        at = len(self.data)
        self.data += struct.pack("<I", count) + array.tobytes()
        return at

    def offsets(self, values: list[Any]) -> int:
        self.align(4)
        at = len(self.data)
        self.data += struct.pack("<I", len(values)) + bytes(4 * len(values))
        for k, value in enumerate(values):
            self.patch(at + 4 + 4 * k, value)
        return at

    def patch(self, at: int, value: Any) -> None:
        self.data[at : at + 4] = struct.pack("<I", self.place(value) - at)

    def table(self, fields: dict[int, Any]) -> int:
        offsets, body, later = [0] * (max(fields, default=-1) + 1), bytearray(4), {}
        for field, value in fields.items():
            size = struct.calcsize(value[0]) if isinstance(value, tuple) else 4
            body += bytes(-len(body) % size)
            offsets[field] = len(body)
            if isinstance(value, tuple):
                body += struct.pack("<" + value[0], value[1])
            else:
                later[len(body)] = value
                body += bytes(4)
        vtable = struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), len(body), *offsets)
        self.data += bytes(-(len(self.data) + len(vtable)) % 8) + vtable
        at = len(self.data)
        body[:4] = struct.pack("<i", len(vtable))
        self.data += body
        for offset, value in later.items():
            self.patch(at + offset, value)
        return at


def tensor(
    dtype: str,
    shape: Sequence[int],
    data: Any = None,
    *,
    scale: Sequence[float] = (),
    zero: Sequence[int] = (),
    axis: int = 0,
) -> dict[str, Any]:
    """A tensor; sizes of -1 are free."""
    return {"dtype": dtype, "shape": shape, "data": data, "scale": scale, "zero": zero, "axis": axis}


def operator(kind: str, inputs: Sequence[int], outputs: Sequence[int], options: dict[int, Number] | None = None) -> Any:
    """An operator; options are a table."""
    return kind, inputs, outputs, options


def model(
    tensors: Sequence[dict[str, Any]],
    operators: Sequence[Any],
    inputs: Sequence[int],
    outputs: Sequence[int],
    **signature: dict[int, str],
) -> bytes:
    """The bytes of a file. A signature is `inputs_of` and `outputs_of`, tensor -> name."""
    blocks: list[dict[int, Any]] = [{}]
    made = []
    for k, t in enumerate(tensors):
        fields: dict[int, Any] = {1: ("b", TYPES[t["dtype"]]), 2: ("I", 0), 3: f"t{k}"}
        fields[0] = np.array([abs(s) for s in t["shape"]], np.int32)
        if min(t["shape"], default=0) < 0:
            fields[7] = np.array(t["shape"], np.int32)
        if t["data"] is not None:
            fields[2] = ("I", len(blocks))
            blocks.append({0: np.frombuffer(np.asarray(t["data"], t["dtype"]).tobytes(), np.uint8)})
        if len(t["scale"]):
            zeros = np.array(t["zero"] if len(t["zero"]) else [0] * len(t["scale"]), np.int64)
            fields[4] = {2: np.array(t["scale"], np.float32), 3: zeros, 6: ("i", t["axis"])}
        made.append(fields)
    kinds = list(dict.fromkeys(kind for kind, *_ in operators))
    nodes = [
        {0: ("I", kinds.index(kind)), 1: np.array(given, np.int32), 2: np.array(found, np.int32)}
        | ({} if options is None else {4: options})
        for kind, given, found, options in operators
    ]
    graph = {0: made, 1: np.array(inputs, np.int32), 2: np.array(outputs, np.int32), 3: nodes}
    root: dict[int, Any] = {0: ("I", 3), 1: [_code(k) for k in kinds], 2: [graph], 3: "made by a test", 4: blocks}
    if signature:
        parts = [signature.get(k, {}) for k in ("inputs_of", "outputs_of")]
        maps = [[{0: name, 1: ("I", index)} for index, name in part.items()] for part in parts]
        root[7] = [{0: maps[0], 1: maps[1], 2: "serve"}]
    writer = _Writer()
    writer.data[:4] = struct.pack("<I", writer.table(root))
    writer.align(4)
    return bytes(writer.data)


def _code(kind: str) -> dict[int, Any]:
    if kind.startswith("custom "):
        return {0: ("b", KINDS.index("CUSTOM")), 1: kind.removeprefix("custom "), 3: ("i", KINDS.index("CUSTOM"))}
    number = KINDS.index(kind)
    return {0: ("b", min(number, 127)), 3: ("i", number)}


def saved(folder: Path, data: bytes) -> Path:
    """The path of a file with these bytes."""
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path
