"""The native format: what is written comes back, and files of others are read or named."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import bad_files
import numpy as np
import pytest
from bad_models import F32, same_bits, same_graph, small_graph

from forwardpass.errors import FileError, GraphError, UnsupportedError
from forwardpass.formats import archive, files, load_graph, npz
from forwardpass.graph import Graph, Node, TensorType


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


def one_constant(array: np.ndarray[Any, Any], name: str = "w") -> Graph:
    return Graph({"x": TensorType(F32, (1,))}, ["y"], [Node("Add", ["x", name], ["y"])], {name: array})


def test_round_trip_keeps_everything(path: Path, graph: Graph) -> None:
    assert same_graph(graph, npz.read(path))
    assert same_graph(graph, load_graph(str(path)))
    assert same_graph(graph, npz.read(path, verify=False))


def test_bytes(written: bytes, graph: Graph) -> None:
    assert npz.to_bytes(graph) == written
    assert same_graph(graph, npz.from_bytes(written))
    with pytest.raises(FileError, match="<bytes>: not a zip file"):
        npz.from_bytes(b"")
    with pytest.raises(FileError, match="the data is damaged"):
        npz.from_bytes(written.replace(b'"small"', b'"SMALL"'))


def test_equal_graphs_give_equal_bytes(path: Path, graph: Graph, tmp_path: Path) -> None:
    first = path.read_bytes()
    graph.constants = dict(reversed(graph.constants.items()))
    graph.metadata = dict(reversed(graph.metadata.items()))
    npz.write(graph, tmp_path / "again.npz")
    npz.write(npz.read(path), path)
    assert first == path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_arrays_are_mapped_aligned_and_read_only(tmp_path: Path) -> None:
    names = [f"w{'x' * k}" for k in range(70)]
    arrays = {name: np.arange(k + 1, dtype=np.float32) for k, name in enumerate(names)}
    nodes = [Node("Sum", ["x", *names], ["y"])]
    npz.write(Graph({"x": TensorType(F32, (1,))}, ["y"], nodes, arrays), tmp_path / "m.npz")
    read = npz.read(tmp_path / "m.npz").constants
    starts = set()
    for name, array in read.items():
        assert same_bits(array, arrays[name])
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable
        with pytest.raises(ValueError, match=r"WRITEABLE"):
            array.flags.writeable = True
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        starts.add(id(base.obj))
    assert len(starts) == 1, "one map for the whole file"


@pytest.mark.parametrize("advice", [22, 12345])
def test_large_arrays_are_fetched_where_the_system_can_do_it(
    tmp_path: Path, advice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.arange(1 << 18, dtype=np.float32)
    path = tmp_path / "m.npz"
    npz.write(Graph({"x": TensorType(F32, None)}, ["y"], [Node("Add", ["x", "w"], ["y"])], {"w": weights}), path)
    monkeypatch.setattr(files, "_POPULATE_READ", advice)
    asked: list[int] = []

    def fetch(data: Any, start: int, size: int) -> None:
        asked.append(size)
        files.fetch(data, start, size)

    monkeypatch.setattr(archive, "fetch", fetch)
    np.testing.assert_array_equal(npz.read(path).constants["w"], weights)
    assert asked == [weights.nbytes + 128]
    npz.read(path, verify=False)
    assert len(asked) == 1, "who does not read the weights does not wait for them"


def test_arrays_outlive_reader_and_file(path: Path, graph: Graph) -> None:
    kernel = npz.read(path).constants["dense/kernel"]
    path.unlink()
    assert same_bits(kernel, graph.constants["dense/kernel"])


def test_saving_over_the_mapped_file(path: Path, graph: Graph) -> None:
    read = npz.read(path)
    for _ in range(3):
        npz.write(read, path)
    assert same_graph(graph, read)
    assert same_graph(graph, npz.read(path))


def test_numpy_and_zipfile_open_it(path: Path, graph: Graph) -> None:
    with np.load(path, allow_pickle=False) as z:
        for name, array in graph.constants.items():
            assert same_bits(z[name], array)
        document = json.loads(z["graph.json"])
    assert document["schema"] == 1
    with zipfile.ZipFile(path) as zf:
        assert zf.testzip() is None
        assert all(i.compress_type == zipfile.ZIP_STORED for i in zf.infolist())
        assert all(i.date_time == (1980, 1, 1, 0, 0, 0) for i in zf.infolist())


ODD_NAMES = [
    *("a/b", "w:0", "MatMul:0", "é/ж", "日本", "a b", "\U0001f600", "w\u200b", "%2e%2e"),
    *("../up", "/root", "C:\\x", "a\\b", "a//b", "a/./b", ".", "..", "a\0b", "a\nb", "trailing/", "x" * 6000),
    *("w.npy", "graph.json", "attributes/0/array", "..up", "__up", "_/up", "_/up_1", "con", "file"),
]


def test_every_name_comes_back(tmp_path: Path) -> None:
    arrays = {name: np.full(k % 3, k, np.int32) for k, name in enumerate(ODD_NAMES)}
    node = Node("Sum", ["x", *arrays], ["y"], {"array": np.arange(3)})
    npz.write(Graph({"x": TensorType(F32, (1,))}, ["y"], [node], arrays), tmp_path / "m.npz")
    read = npz.read(tmp_path / "m.npz")
    assert read.constants.keys() == arrays.keys()
    assert all(same_bits(read.constants[k], v) for k, v in arrays.items())
    with zipfile.ZipFile(tmp_path / "m.npz") as z:
        members = z.namelist()
    assert not [m for m in members if archive.unsafe_name(m)]
    assert {"a/b.npy", "日本.npy", "MatMul:0.npy"} <= set(members), "safe names are kept as they are"
    with np.load(tmp_path / "m.npz", allow_pickle=False) as loaded:
        assert all(same_bits(loaded[m.removesuffix(".npy")], loaded[m]) for m in members if m != "graph.json")


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_dtypes_and_shapes(tmp_path: Path, dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    array = rng.integers(0, 2, shape).astype(dtype)
    npz.write(one_constant(array), tmp_path / "m.npz")
    assert same_bits(npz.read(tmp_path / "m.npz").constants["w"], array)


def test_special_floats_keep_their_bits(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x00000001, 0x80000000], np.uint32)
    npz.write(one_constant(bits.view(np.float32)), tmp_path / "m.npz")
    assert (npz.read(tmp_path / "m.npz").constants["w"].view(np.uint32) == bits).all()


@pytest.mark.parametrize("kind", ["fortran", "strided", "reversed", "big-endian", "read-only", "misaligned"])
def test_layouts_are_written_as_plain_ones(tmp_path: Path, kind: str) -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    raw = np.zeros(49, np.uint8)
    raw[1:] = plain.reshape(-1).view(np.uint8)
    frozen = plain.copy()
    frozen.flags.writeable = False
    array = {
        "fortran": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "reversed": plain[::-1].copy()[::-1],
        "big-endian": plain.astype(">f4"),
        "read-only": frozen,
        "misaligned": raw[1:].view(np.float32).reshape(3, 4),
    }[kind]
    npz.write(one_constant(array), tmp_path / "m.npz")
    assert same_bits(npz.read(tmp_path / "m.npz").constants["w"], plain)


def test_numpy_scalars_and_tuples_in_attributes(tmp_path: Path) -> None:
    given = {"a": np.float32(0.5), "b": np.int64(3), "c": (1, 2), "d": np.bool_(True), "e": None}
    g = Graph({"x": TensorType(F32, (np.int64(3), None))}, ["y"], [Node("Op", ["x"], ["y"], given)])  # type: ignore
    npz.write(g, tmp_path / "m.npz")
    read = npz.read(tmp_path / "m.npz")
    assert read.nodes[0].attributes == {"a": 0.5, "b": 3, "c": [1, 2], "d": True, "e": None}
    assert read.inputs["x"].shape == (3, None)


def test_zip64_is_written_and_read(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files above 4 GB are too large for a test: the thresholds come down instead.
    monkeypatch.setattr(archive, "_ZIP64_SIZE", 100)
    monkeypatch.setattr(archive, "_ZIP64_COUNT", 2)
    npz.write(graph, tmp_path / "m.npz")
    monkeypatch.undo()
    assert b"PK\6\6" in (tmp_path / "m.npz").read_bytes()
    assert same_graph(graph, npz.read(tmp_path / "m.npz"))
    with zipfile.ZipFile(tmp_path / "m.npz") as z:
        assert z.testzip() is None
        assert len(z.namelist()) == 7
    with np.load(tmp_path / "m.npz") as loaded:
        assert same_bits(loaded["dense/kernel"], graph.constants["dense/kernel"])


def test_a_failed_write_leaves_the_old_file(path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"model\.npz: cannot write the file \(No space left"):
        npz.write(one_constant(np.zeros(3)), path)
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == ["model.npz"]


def test_writing_where_nothing_can_be_written(tmp_path: Path, graph: Graph) -> None:
    with pytest.raises(FileError, match="cannot write"):
        npz.write(graph, tmp_path / "no folder" / "m.npz")
    with pytest.raises(FileError, match="cannot write"):
        npz.write(graph, tmp_path / "a\0b")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_replaced(tmp_path: Path, graph: Graph) -> None:
    """Such as a device or a pipe, which somebody else has open."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(FileError, match="not a regular file"):
            npz.write(graph, path)
    assert pipe.is_fifo()


def test_replacing_keeps_mode_and_link(path: Path, graph: Graph) -> None:
    path.chmod(0o640)
    link = path.parent / "link.npz"
    link.symlink_to(path)
    npz.write(graph, link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert same_graph(graph, npz.read(link))


@pytest.mark.parametrize("value", [object(), {"a": 1}, b"bytes", 1 << 63, np.array([object()]), 1j])
def test_attributes_that_no_file_can_hold(tmp_path: Path, value: Any) -> None:
    g = Graph({"x": TensorType(F32, (1,))}, ["y"], [Node("Op", ["x"], ["y"], {"odd": value}, name="n1")])
    with pytest.raises(UnsupportedError, match=r"n1.*'odd'"):
        npz.write(g, tmp_path / "m.npz")
    assert not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", [("a", "f4")], "f16"])
def test_constants_that_no_file_can_hold(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(UnsupportedError, match="constant 'odd'"):
        npz.write(one_constant(np.zeros(2, dtype), "odd"), tmp_path / "m.npz")


@pytest.mark.parametrize("shape", [(-1, 3), (2.5,), (True,), "N3", [2, 3]])
def test_input_types_that_no_file_can_hold(tmp_path: Path, graph: Graph, shape: Any) -> None:
    name = next(iter(graph.inputs))
    graph.inputs = {**graph.inputs, name: TensorType(np.dtype(np.float32), shape)}
    with pytest.raises(GraphError, match=f"input '{name}' has no type"):
        npz.write(graph, tmp_path / "m.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_graph_is_not_written(tmp_path: Path, graph: Graph) -> None:
    del graph.constants["dense/kernel"]
    with pytest.raises(GraphError, match="dense/kernel"):
        npz.write(graph, tmp_path / "m.npz")
    with pytest.raises(GraphError, match="not valid Unicode"):
        npz.write(one_constant(np.zeros(1), "\ud800"), tmp_path / "m.npz")
    assert list(tmp_path.iterdir()) == []


WEIGHTS = {
    "dense/kernel": np.arange(40, dtype=np.float32).reshape(8, 5),
    "bias": np.arange(5, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "scalar": np.array(True),
    "empty": np.zeros((0, 7), np.uint8),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_bare_weights(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "w.npz", **WEIGHTS)  # type: ignore[operator]
    read = npz.read_weights(tmp_path / "w.npz")
    assert list(read) == list(WEIGHTS)
    for name, array in read.items():
        native = WEIGHTS[name].astype(WEIGHTS[name].dtype.newbyteorder("="), order="C")
        assert same_bits(array, native)
        assert array.dtype.isnative
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not array.flags.writeable


def test_weights_written_to_a_pipe(tmp_path: Path) -> None:
    """Such zip files give sizes after the data, not before it."""

    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as z:  # type: ignore[arg-type]
        z.writestr("w.npy", bad_files.GOOD)
    (tmp_path / "w.npz").write_bytes(pipe.written)
    assert npz.read_weights(tmp_path / "w.npz")["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, ), }\n",
        '{"shape": (2,), "fortran_order": False, "descr": "<f4"}',
        "{'descr':'=f4','fortran_order':True,'shape':(2,)}   \n",
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_headers_of_other_writers(tmp_path: Path, text: str, version: int) -> None:
    data = np.array([1.5, -2.5], np.float32)
    (tmp_path / "w.npz").write_bytes(bad_files.single(bad_files.header(text, data.tobytes(), version)))
    assert same_bits(npz.read_weights(tmp_path / "w.npz")["w"], data)


def test_a_repacked_model(path: Path, graph: Graph) -> None:
    """Compressed members, folder entries and a comment, as zip programs make them."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.comment = b"repacked PK\5\6"
        z.mkdir("dense") if hasattr(z, "mkdir") else z.writestr("dense/", b"")
        for name, data in entries.items():
            z.writestr(name, data)
    assert same_graph(graph, npz.read(path))


def test_weights_and_models_are_told_apart(tmp_path: Path, path: Path) -> None:
    np.savez(tmp_path / "w.npz", **WEIGHTS)  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"w\.npz: not a model.*set_weights"):
        load_graph(tmp_path / "w.npz")
    with pytest.raises(FileError, match=r"model\.npz: a whole model.*forwardpass\.load"):
        npz.read_weights(path)


@pytest.mark.parametrize("name", ["m.mlmodel", "m.gguf", "m.engine", "m.safetensors", "m.npy"])
def test_other_formats_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(UnsupportedError, match=r"this format is not read: expected \*\.npz"):
        load_graph(tmp_path / name)


def test_the_content_decides_without_a_known_suffix(path: Path, graph: Graph, tmp_path: Path) -> None:
    bare = path.rename(tmp_path / "model")
    assert same_graph(graph, load_graph(bare))
    bare.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises((FileError, UnsupportedError), match="HDF5"):
        load_graph(bare)
    bare.write_bytes(b"")
    with pytest.raises(UnsupportedError, match="unknown"):
        load_graph(bare)


@pytest.mark.parametrize("name", ["nothing.npz", "nothing", "folder.npz", "folder", "nul\0.npz", "nul\0"])
def test_paths_that_are_no_files(tmp_path: Path, name: str) -> None:
    if "folder" in name:
        (tmp_path / name).mkdir()
    with pytest.raises(FileError) as e:
        load_graph(os.path.join(tmp_path, name))
    assert name in e.value.where


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    for name in ("pipe.npz", "pipe"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FileError, match="not a regular file"):
            load_graph(tmp_path / name)
