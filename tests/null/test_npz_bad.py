"""The native format: what is damaged, hostile or of another kind is refused with one typed error, cheaply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import BAD_FILES
from bad_models import BAD_MODELS, edited, same_graph, small_graph
from refusals import cheap_refusal

from forwardpass.errors import Error, FileError
from forwardpass.formats import archive, load_graph, npz, places
from forwardpass.graph import Graph


@pytest.fixture
def graph() -> Graph:
    return small_graph()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "model.npz"
    npz.write(small_graph(), path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, written: bytes) -> Path:
    (tmp_path / "model.npz").write_bytes(written)
    return tmp_path / "model.npz"


def refused(path: Path, read: Any) -> Error:
    """The error, after checking that it names the file, is short, and cost little memory."""
    error = cheap_refusal(lambda: read(path), FileError, memory=(8 << 20) + 4 * path.stat().st_size, length=1500)
    assert str(path) in error.where
    return error


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.npz"
    file.write_bytes(BAD_FILES[name]())
    refused(file, npz.read_weights)
    refused(file, load_graph)


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("deflated", [False, True])
def test_bad_models(path: Path, name: str, deflated: bool) -> None:
    path.write_bytes(edited(path.read_bytes(), BAD_MODELS[name], deflated=deflated))
    refused(path, load_graph)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NaN in a shape", r"graph\.json: not valid JSON: NaN is not"),
        ("negative size", r"inputs\[0\]: shape\[1\]: a size is negative: expected .*, got -1"),
        ("missing array", r"expected also dense/kernel\.npy"),
        ("missing array, not declared either", r"input 'dense/kernel' is undefined"),
        ("extra array", r"expected no others, got also surprise\.npy"),
        ("array of another shape", r"dense/kernel\.npy: .*expected float32\[8, 5\], got float32\[5, 8\]"),
        ("newer schema", r"expected schema 1, got 2 \(upgrade forwardpass"),
        (
            "private operators of another revision",
            r"private: optimised by another version: expected .* 1, got 2 \(optimise",
        ),
        ("revision missing", r"graph\.json: the field 'private' is missing"),
        ("JSON deep", r"nested too deeply: expected <= 200 levels, got 100000"),
        ("nodes out of order", r"not a valid graph"),
    ],
)
def test_messages_about_models(path: Path, name: str, text: str) -> None:
    path.write_bytes(edited(path.read_bytes(), BAD_MODELS[name]))
    with pytest.raises(FileError, match=text):
        load_graph(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("object array", r"w\.npy: a dtype that is not read: .*got '\|O' \(Python objects\)"),
        ("structured array", r"w\.npy: .*structured arrays are not read"),
        (f"shape ({1 << 62},)", r"w\.npy: the array is too large"),
        ("shape (-2,)", r"w\.npy: malformed shape: expected sizes >= 0, got \(-2,\)"),
        ("array cut in the data", r"w\.npy: the data has the wrong size: expected 16 bytes .*, got 15"),
        ("name b'../w.npy'", r"unsafe name of an entry.*got '\.\./w\.npy'"),
        ("wrong CRC", r"w\.npy: the data is damaged: expected CRC-32 00000001"),
        ("duplicate", r"w\.npy: the entry is there twice"),
        ("overlap", r"b\.npy: the entry overlaps another"),
        ("bomb", r"suspiciously large"),
        ("ratio lies", r"w\.npy: the entry claims more data than it can hold"),
        ("encrypted", r"w\.npy: the entry is encrypted"),
    ],
)
def test_messages_about_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "bad.npz").write_bytes(BAD_FILES[name]())
    with pytest.raises(FileError, match=text):
        npz.read_weights(tmp_path / "bad.npz")


def test_a_compressed_graph_of_one_long_list_is_refused(path: Path) -> None:
    edit = lambda document, entries: "[" + "[]," * (4 << 20) + "[]]"  # noqa: E731
    path.write_bytes(edited(path.read_bytes(), edit, deflated=True))
    assert "too long" in str(refused(path, load_graph))


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    np.savez(tmp_path / "w.npz", *np.zeros((4, 1)))
    with pytest.raises(FileError, match="too many members: expected at most 3, got 4"):
        npz.read_weights(tmp_path / "w.npz")


def test_unverified_reading_still_checks_the_structure(path: Path, graph: Graph) -> None:
    data = bytearray(path.read_bytes())
    start = data.index(graph.constants["dense/kernel"].tobytes())
    data[start] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"dense/kernel\.npy: the data is damaged"):
        npz.read(path)
    assert not same_graph(graph, npz.read(path, verify=False))


def loads_alike_or_fails(path: Path, data: bytes, graph: Graph) -> bool:
    """Whether the bytes still load; as anything but the same graph they must not."""
    # Some file systems wait for the disk when a file is overwritten.
    path.unlink()
    path.write_bytes(data)
    try:
        read = load_graph(path)
    except FileError:
        return False
    assert same_graph(graph, read)
    return True


def test_truncated_at_every_byte(path: Path, graph: Graph) -> None:
    data = path.read_bytes()
    assert not any(loads_alike_or_fails(path, data[:k], graph) for k in range(len(data)))


@pytest.mark.parametrize("deflated", [False, True])
def test_a_flipped_bit_at_every_byte(path: Path, graph: Graph, deflated: bool, rng: np.random.Generator) -> None:
    data = edited(path.read_bytes(), lambda document, entries: None, deflated=True) if deflated else path.read_bytes()
    survived = 0
    for k, bit in enumerate(rng.integers(0, 8, len(data))):
        flipped = bytearray(data)
        flipped[k] ^= 1 << int(bit)
        survived += loads_alike_or_fails(path, bytes(flipped), graph)
    # Times, versions, padding and permissions say nothing about the graph.
    assert 0 < survived < len(data) / 2


def test_mutations(path: Path, graph: Graph, rng: np.random.Generator) -> None:
    """Bytes overwritten, moved, removed and inserted, mostly in headers."""
    data = path.read_bytes()
    marks = [k for k in range(len(data)) if data[k : k + 2] == b"PK" or data[k : k + 6] == b"\x93NUMPY"]
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.choice(marks)) + int(rng.integers(0, 80))
            count = int(rng.choice([1, 2, 4, 8]))
            new = rng.choice([b"\0", b"\xff", b"\x7f", b"PK", rng.bytes(1)]) * count
            end = at + (len(new) if rng.random() < 0.8 else int(rng.integers(0, 20)))
            changed[at:end] = new[:count]
        loads_alike_or_fails(path, bytes(changed), graph)


LIMITED = """
import resource, sys, time
import numpy as np
import forwardpass.formats.npz as npz
from forwardpass.errors import FileError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
for path in sys.argv[1:]:
    for read in (npz.read, npz.read_weights):
        start = time.perf_counter()
        try:
            read(path)
        except FileError:
            assert time.perf_counter() - start < 2, path
        else:
            raise SystemExit(f"{path} was read")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs procfs to know its own size")
def test_bad_files_in_little_memory(tmp_path: Path) -> None:
    """96 MiB of address space, and two seconds for each file."""
    files = []
    for k, make in enumerate(BAD_FILES.values()):
        file = tmp_path / f"{k}.npz"
        file.write_bytes(make())
        files.append(str(file))
    source = str(Path(npz.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *files],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["plain", 'a "quoted" [one]', "{[", "]}", "\\", '\\"[', '"', '""[', "]]]]", "é["])
def test_depth_is_that_of_brackets_outside_of_text(text: str, rng: np.random.Generator) -> None:
    value: Any = text
    for _ in range(60):
        value = [text, value] if rng.random() < 0.5 else {text: value, "b": [text] if rng.random() < 0.1 else 1}
        deepest = levels_of(value)
        assert places.depth(json.dumps(value).encode()) == deepest
        assert places.depth(places.text(value).encode()) == deepest


def levels_of(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(levels_of, inside), default=0) + isinstance(value, (dict, list))
