"""safetensors files: every type, and every way in which a header and its data can disagree."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.dtypes import decode, name_of
from forwardpass.errors import Error, FileError
from forwardpass.formats import read_weights
from forwardpass.formats.safetensors import DTYPES, MAX_HEADER_BYTES

Array = np.ndarray[Any, Any]
Read = Callable[[bytes], dict[str, Array]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(data: bytes) -> dict[str, Array]:
        path = tmp_path / "net.safetensors"
        path.write_bytes(data)
        return read_weights(path)

    return read


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file(header: Any, data: bytes = b"", pad: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode() + b" " * pad
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("pad", range(8))
def test_arrays(pad: int, read: Read) -> None:
    values = np.arange(6, dtype=np.float32)
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry("I64", [2], 24, 40),
        "a.weight": entry("F32", [2, 3], 0, 24),
        "empty": entry("F16", [0, 4], 40, 40),
        "scalar": entry("U8", [], 40, 41),
    }
    found = read(file(header, values.tobytes() + np.array([7, -7]).tobytes() + b"\5", pad))
    assert list(found) == ["a.weight", "b", "empty", "scalar"]
    np.testing.assert_array_equal(found["a.weight"], values.reshape(2, 3))
    np.testing.assert_array_equal(found["b"], [7, -7])
    assert found["empty"].shape == (0, 4)
    assert found["scalar"] == 5
    for array in found.values():
        assert not array.flags.writeable
        assert array.flags.aligned


@pytest.mark.parametrize("kind", DTYPES)
def test_types(kind: str, read: Read) -> None:
    size = DTYPES[kind].itemsize
    raw = bytes([1, 0] * (2 * size))
    found = read(file({"x": entry(kind, [4], 0, 4 * size)}, raw))["x"]
    assert found.dtype == DTYPES[kind]
    assert found.tobytes() == raw


def test_bfloat16(read: Read) -> None:
    values = np.array([1.0, -2.5], np.float32)
    raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    found = read(file({"x": entry("BF16", [2], 0, 4)}, raw))["x"]
    assert name_of(found.dtype) == "bfloat16"
    np.testing.assert_array_equal(decode(found), values)


ONE = entry("F32", [2], 0, 8)
BAD = {
    "nothing": b"",
    "seven bytes": b"\1" * 7,
    "no header": b"\5" + bytes(7),
    "a huge header": b"\xff" * 8 + b"{}",
    "a header longer than the limit": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{" + b" " * MAX_HEADER_BYTES,
    "no JSON": file(b"{"),
    "text that is not UTF-8": file(b'{"\xff": 1}'),
    "a list": file([]),
    "two values": file(b"{} {}"),
    "deep nesting": file(b"[" * 5000 + b"]" * 5000),
    "a float": file({"x": entry("F32", [2.0], 0, 8)}, bytes(8)),
    "NaN": file(b'{"x": NaN}'),
    "a long number": file(
        b'{"x": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}', bytes(8)
    ),
    "metadata that is no text": file({"__metadata__": {"a": 1}}),
    "metadata that is a list": file({"__metadata__": []}),
    "an entry that is a list": file({"x": []}),
    "a field too many": file({"x": {**ONE, "more": 1}}, bytes(8)),
    "no dtype": file({"x": {k: v for k, v in ONE.items() if k != "dtype"}}, bytes(8)),
    "an unknown dtype": file({"x": entry("F128", [2], 0, 8)}, bytes(8)),
    "a bool for a size": file({"x": entry("F32", [True, 2], 0, 8)}, bytes(8)),
    "a negative size": file({"x": entry("F32", [-2], 0, 8)}, bytes(8)),
    "two negative sizes": file({"x": entry("F32", [-2, -1], 0, 8)}, bytes(8)),
    "too many axes": file({"x": entry("F32", [1] * 33 + [2], 0, 8)}, bytes(8)),
    "an overflow": file({"x": entry("F32", [1 << 62, 4], 0, 0)}),
    "three offsets": file({"x": {**ONE, "data_offsets": [0, 4, 8]}}, bytes(8)),
    "offsets back to front": file({"x": entry("F32", [2], 8, 0)}, bytes(8)),
    "a negative offset": file({"x": entry("F32", [2], -8, 0)}, bytes(8)),
    "beyond the file": file({"x": entry("F32", [2], 0, 8)}, bytes(7)),
    "another size": file({"x": entry("F32", [3], 0, 8)}, bytes(8)),
    "data left over": file({"x": ONE}, bytes(9)),
    "data of nothing": file({}, bytes(1)),
    "a hole": file({"x": ONE, "y": entry("F32", [1], 12, 16)}, bytes(16)),
    "a hole at the start": file({"x": entry("F32", [2], 4, 12)}, bytes(12)),
    "an overlap": file({"x": ONE, "y": entry("F32", [2], 4, 12)}, bytes(12)),
    "the same data twice": file({"x": ONE, "y": ONE}, bytes(8)),
    "a bool of two": file({"x": entry("BOOL", [2], 0, 2)}, b"\1\2"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(what: str, read: Read) -> None:
    with pytest.raises(FileError) as error:
        read(BAD[what])
    assert "net.safetensors" in error.value.where


def test_damaged(read: Read) -> None:
    header = {"a.weight": entry("F32", [2, 3], 0, 24), "a.bias": entry("F16", [4], 24, 32)}
    data, rng = file(header, bytes(range(32))), random.Random(0)
    assert list(read(data)) == ["a.weight", "a.bias"]
    refused = 0
    for _ in range(2000):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(mutant))
            if rng.random() < 0.7:
                mutant[at] ^= 1 << rng.randrange(8)
            else:
                mutant[at : at + rng.randrange(5)] = rng.randbytes(rng.randrange(5))
        try:
            found = read(bytes(mutant))
        except Error:
            refused += 1
        else:
            assert all(isinstance(v, np.ndarray) for v in found.values())
    assert refused > 800
    for end in range(len(data)):
        with pytest.raises(Error):
            read(data[:end])
