"""The native CRC-32: that of zlib on every ISA, and the one that files are read and written with."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import forwardpass as fp
from forwardpass import _native
from forwardpass.formats import archive, npz
from forwardpass.graph import Graph, Node, TensorType

DATA = np.random.default_rng(32).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()


def test_every_length_from_every_address(isa: str) -> None:
    for length in range(301):
        start = length * 5 % 67
        part = memoryview(DATA)[start : start + length]
        assert _native.crc32(part, isa=isa) == zlib.crc32(part), length


def test_what_a_polynomial_is_easy_on(isa: str) -> None:
    for data in (bytes(1000), b"\xff" * 1000, b"123456789", b"\x80" + bytes(500), bytes(500) + b"\1"):
        assert _native.crc32(data, isa=isa) == zlib.crc32(data)
    assert _native.crc32(b"123456789", isa=isa) == 0xCBF43926  # the check value of the catalogues


def test_pieces_continue_each_other(isa: str) -> None:
    crc, at = 0, 0
    for length in (0, 1, 15, 16, 17, 63, 127, 128, 129, 4095, 70_000, 1 << 19):
        crc = _native.crc32(DATA[at : at + length], crc, isa)
        at += length
    assert crc == zlib.crc32(DATA[:at])


def test_much_data(isa: str) -> None:
    assert _native.crc32(memoryview(DATA)[3:], 7, isa) == zlib.crc32(memoryview(DATA)[3:], 7)


def test_a_bit_that_changes_changes_it(isa: str) -> None:
    data = bytearray(DATA[:4096])
    was = _native.crc32(data, isa=isa)
    for bit in range(0, 8 * len(data), 997):
        data[bit // 8] ^= 1 << bit % 8
        assert _native.crc32(data, isa=isa) != was
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("data", ["text", 5, np.zeros((4, 4))[:, :2]])
def test_what_has_no_bytes_in_a_row_is_refused(data: object) -> None:
    with pytest.raises((TypeError, BufferError, ValueError)):
        _native.crc32(data)  # type: ignore[arg-type]


def test_an_unknown_isa_is_refused() -> None:
    with pytest.raises(ValueError, match="avx1024"):
        _native.crc32(b"", isa="avx1024")


def test_files_are_checked_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    weights = np.arange(4096, dtype=np.float32)
    x = TensorType(np.dtype("float32"), (4096,))
    npz.write(Graph({"x": x}, ["y"], [Node("Add", ["x", "w"], ["y"])], {"w": weights}), path)
    asked: list[int] = []

    def counted(data: memoryview, start: int = 0) -> int:
        asked.append(len(data))
        return zlib.crc32(data, start)

    monkeypatch.setattr(_native, "crc32", counted)
    npz.read(path)
    assert max(asked) > weights.nbytes
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    at = data.find(weights.tobytes()) + 4000
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(fp.FileError, match="the data is damaged"):
        fp.load(path)


def test_without_the_native_module_zlib_does_it() -> None:
    code = "from forwardpass.formats import archive; import sys, zlib; assert archive._crc32() is zlib.crc32"
    subprocess.run([sys.executable, "-c", code + "; assert 'forwardpass._native' not in sys.modules"], check=True)
    assert archive._crc32() is _native.crc32


def wide(path: Path) -> bytes:
    """A file with members large enough for another thread, and small ones."""
    rng = np.random.default_rng(3)
    arrays = {f"w{k}": rng.standard_normal(size, dtype=np.float32) for k, size in enumerate((20_000, 7, 33_333))}
    nodes = [Node("Mul", [f"w{k}", "x"], [f"y{k}"]) for k in range(len(arrays))]
    graph = Graph({"x": TensorType(np.dtype("float32"), (1,))}, [f"y{k}" for k in range(len(arrays))], nodes, arrays)
    npz.write(graph, path)
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 15, 4096, 70_001])
def test_another_thread_finds_the_same(size: int) -> None:
    data = memoryview(np.random.default_rng(size).bytes(size + 3))[3:]
    sums = np.zeros(30, np.uint32)
    background = _native.Background()
    for k in range(len(sums)):
        background.crc32(data[k:], sums[k : k + 1])
    background.wait()
    assert sums.tolist() == [zlib.crc32(data[k:]) for k in range(len(sums))]
    with pytest.raises(ValueError, match="CRC-32"):
        background.crc32(data, np.zeros(1, np.float32))
    with pytest.raises((TypeError, BufferError)):
        background.crc32(data.toreadonly()[::-1][:2] if size > 1 else 5, sums[:1])  # type: ignore[arg-type]


def test_files_are_checked_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    wide(path)
    made: list[int] = []
    native = _native.Background
    monkeypatch.setattr(_native, "Background", lambda: made.append(1) or native())
    one, two = (npz.read(path, threads=t) for t in (1, 2))
    assert len(made) == 1
    assert all(np.array_equal(one.constants[k], two.constants[k]) for k in one.constants)
    npz.read(path, verify=False, threads=2)
    assert len(made) == 1


def test_damage_is_refused_alike_by_two_threads(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    data = wide(path)
    rng = np.random.default_rng(4)
    starts = [k for k in range(len(data)) if data[k : k + 2] == b"PK" or data[k : k + 6] == b"\x93NUMPY"]
    places = [int(rng.choice(starts)) + int(rng.integers(0, 130)) for _ in range(150)]
    places += [int(k) for k in rng.integers(0, len(data), 50)]
    refused = 0
    for place in places:
        changed = bytearray(data)
        changed[min(place, len(data) - 1)] ^= 1 << int(rng.integers(8))
        path.unlink()
        path.write_bytes(changed)
        said = []
        for threads in (1, 2):
            try:
                npz.read(path, threads=threads)
                said.append("")
            except fp.FileError as error:
                said.append(str(error))
        assert said[0] == said[1]
        refused += bool(said[0])
    assert refused > 100
