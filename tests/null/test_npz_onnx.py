"""The native format holds all that ONNX models need: element types, text, containers, bodies, long lists."""

from __future__ import annotations

import io
import json
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_models import edited, put, same_bits, same_graph, same_value
from refusals import cheap_refusal
from rich_models import BAD_RICH, nested, rich_graph, values

from forwardpass import dtypes
from forwardpass.errors import Error, FileError, GraphError, UnsupportedError
from forwardpass.formats import load_graph, npz, schema
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.ops.evaluate import is_pure

F32 = np.dtype(np.float32)
TYPES = [pytest.param(d, id=dtypes.name_of(d)) for d in dtypes.DTYPES.values()]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return rich_graph()


@pytest.fixture(scope="module")
def written(graph: Graph) -> bytes:
    return npz.to_bytes(graph)


def again(graph: Graph) -> Graph:
    return npz.from_bytes(npz.to_bytes(graph))


def one(array: np.ndarray[Any, Any], attribute: Any = 1) -> Graph:
    node = Node("Odd", ["x", "w"], ["y"], {"a": attribute})
    return Graph({"x": TensorType(array.dtype, (1,))}, ["y"], [node], {"w": array})


def test_everything_comes_back(graph: Graph, written: bytes, tmp_path: Path) -> None:
    read = npz.from_bytes(written)
    assert same_graph(graph, read)
    assert npz.to_bytes(read) == written
    npz.write(read, tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == written
    assert same_graph(graph, load_graph(tmp_path / "m.npz"))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_dtypes_and_shapes(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    array = values(dtype, shape, rng)
    read = again(one(array, array))
    assert read.inputs["x"].dtype == dtype
    for found in (read.constants["w"], read.nodes[0].attributes["a"]):
        assert same_bits(found, array)
        assert not found.flags.writeable


@pytest.mark.parametrize("dtype", [d for d in TYPES if dtypes.is_narrow(d.values[0])])  # type: ignore[arg-type]
def test_every_code_of_a_narrow_type(dtype: np.dtype[Any]) -> None:
    bits = {"uint4": 4, "int4": 4, "float4": 4, "uint2": 2, "int2": 2, "float6": 6, "bfloat16": 16}
    count = 1 << bits.get(dtypes.name_of(dtype).split("_")[0], 8)
    low = -count // 2 if dtype[0].kind == "i" else 0
    codes = np.arange(low, low + count).astype(dtype[0])
    assert same_bits(again(one(codes.view(dtype))).constants["w"], codes.view(dtype))


def test_narrow_codes_out_of_range_are_not_written() -> None:
    with pytest.raises(UnsupportedError, match=r"constant 'w': no value of its type: expected -8 to 7"):
        npz.to_bytes(one(np.full(2, 9, np.int8).view(dtypes.INT4)))


def test_special_complex_numbers_keep_their_bits() -> None:
    parts = np.array([0x7FC00001, 0x80000000, 0xFF800000, 0x00000001], np.uint32).view(np.float32)
    for array in (parts.view(np.complex64), parts.view(np.complex64)[::-1], parts.view(np.complex64).astype(">c8")):
        found = again(one(array)).constants["w"]
        assert found.dtype == np.complex64
        assert found.tobytes() == array.astype(np.complex64).tobytes()


def test_numpy_alone_reads_what_stands_for_narrow_and_complex_arrays(graph: Graph, written: bytes) -> None:
    with np.load(io.BytesIO(written), allow_pickle=False) as z:
        assert same_bits(z["c16"], graph.constants["c16"].view(np.uint16))
        assert same_bits(z["c22"], graph.constants["c22"].view(np.int8))
        assert same_bits(z["c14"][..., 1], graph.constants["c14"].imag)
        assert same_bits(z["attributes/0/ints"], np.array(graph.nodes[0].attributes["ints"]))
        document = json.loads(z["graph.json"])
    assert document["constants"]["c16"] == {"dtype": "bfloat16", "shape": [2, 3]}
    assert document["constants"]["c8"]["text"] == graph.constants["c8"].reshape(-1).tolist()
    assert document["inputs"][-1]["container"] == ["sequence", "map"]


def test_large_constants_stay_mapped(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.uint16).view(dtypes.BFLOAT16)
    npz.write(one(array), tmp_path / "m.npz")
    base: Any = npz.read(tmp_path / "m.npz").constants["w"]
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base.obj).__name__ == "mmap"


@pytest.mark.parametrize("container", [("sequence",), ("optional", "sequence"), ("sequence", "map"), ("optional",)])
def test_containers(container: tuple[str, ...]) -> None:
    made = Graph({"x": TensorType(dtypes.STRING, ("N", None), container)}, ["y"], [Node("Op", ["x"], ["y"])])
    assert again(made).inputs == made.inputs


def test_bodies_to_any_depth() -> None:
    """As deep as the importer of ONNX lets them be, and deeper ones are not written."""
    assert same_graph(nested(48), again(nested(48)))
    with pytest.raises(UnsupportedError, match=f"nested too deeply for a file: expected <= {schema.MAX_DEPTH} levels"):
        npz.to_bytes(nested(60))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedError, match="nested too deeply"):
        npz.to_bytes(one(np.zeros(1), endless))


def test_long_lists_are_arrays() -> None:
    lists = [
        [*range(-150, 150), (1 << 63) - 1],
        [float("inf"), -0.0, 0.1] * 100,
        ["a", "b"] * 200,
        [f"{k}" for k in range(300)],
        [True, False] * 200,
        [1, 2.0] * 200,
        [[1], [2]] * 200,
    ]
    for given in lists:
        assert same_value(given, again(one(np.zeros(1), given)).nodes[0].attributes["a"])
        assert same_value(given, again(one(np.zeros(1), tuple(given))).nodes[0].attributes["a"])
    with zipfile.ZipFile(io.BytesIO(npz.to_bytes(one(np.zeros(1), list(range(100_000)))))) as z:
        assert z.getinfo("graph.json").file_size < 1000
    with pytest.raises(UnsupportedError, match=r"attribute 'a'"):
        npz.to_bytes(one(np.zeros(1), [1 << 63] * 300))


def test_what_a_file_cannot_hold_is_named() -> None:
    body = Graph({}, ["y"], [Node("Deep", [], ["y"], {"odd": b"bytes"}, name="inner")])
    with pytest.raises(UnsupportedError, match=r"Odd.*'a': .*'inner'.*'odd': a file cannot hold this: .*got bytes"):
        npz.to_bytes(one(np.zeros(1), body))
    for odd in (np.array(["a", 1], object), np.array([b"a"], object), np.array([None])):
        with pytest.raises(UnsupportedError, match="'w': a file cannot hold this: expected text"):
            npz.to_bytes(one(odd))
    with pytest.raises(GraphError, match="not valid Unicode"):
        npz.to_bytes(one(np.array(["\ud800"], object)))


def test_more_than_a_file_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    long = np.array(["x" * (schema.MAX_BYTES + 1)], object)
    with pytest.raises(UnsupportedError, match="too much text for a file"):
        npz.to_bytes(one(long))
    monkeypatch.setattr(npz, "MAX_MEMBERS", 1)
    with pytest.raises(UnsupportedError, match="too many arrays for a file"):
        npz.to_bytes(one(np.zeros(1)))


# ---- bad files


def refused(read: Callable[[], Any]) -> Error:
    return cheap_refusal(read, FileError, memory=8 << 20, length=1500)


@pytest.mark.parametrize("name", BAD_RICH)
@pytest.mark.parametrize("deflated", [False, True])
def test_bad_models(written: bytes, tmp_path: Path, name: str, deflated: bool) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(edited(written, BAD_RICH[name], deflated=deflated))
    assert str(path) in refused(lambda: load_graph(path)).where


BODY = r"nodes\[0\]: attributes: body: "


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bfloat16 stored as float32", r"c16\.npy: .*expected uint16\[2, 3\], got float32\[2, 3\]"),
        ("int4 of 8", r"c22\.npy: no int4: expected -8 to 7"),
        ("float4 of 16", r"codes\.npy: no float4_e2m1fn: expected 0 to 15"),
        ("complex stored with three parts", r"c14\.npy: .*expected float32\[2, 3, 2\], got float32\[2, 3, 3\]"),
        ("text too short", r"constants: c8: the wrong number of texts: expected 6 for string\[2, 3\], got 1"),
        ("container unknown", r"inputs\[29\]: container: unknown container"),
        ("body with an unknown field", rf"{BODY}unknown field 'schema'"),
        ("body with an input twice", rf"{BODY}inputs\[2\]: input 'h' is there twice"),
        (
            "inner body with an unknown dtype",
            rf"{BODY}nodes\[0\]: attributes: then_branch: inputs\[0\]: dtype: unknown",
        ),
        ("inner body with an undefined input", r"node Add -> 'r': not a valid graph: input 'nothing' is undefined"),
        ("listed body that is not valid", r"attributes: bodies\[0\]: .*not a valid graph: output 'nothing'"),
        ("body whose array is missing", r"expected also body/0/body/body/0/then_branch/w\.npy"),
        ("list of text out of range", r"attributes/0/modes\.npy: not indices into the text: expected int64, 0 to 1"),
        ("attribute of bytes", r"attributes: narrow: malformed attribute"),
    ],
)
def test_messages(written: bytes, name: str, text: str) -> None:
    with pytest.raises(FileError, match=text):
        npz.from_bytes(edited(written, BAD_RICH[name]))


def test_small_files_of_long_lists_take_little_memory() -> None:
    """Zeros compress a thousand times, and become a list of several times their size."""
    zeros = np.zeros(4 << 20, np.int64)
    data = edited(npz.to_bytes(one(np.zeros(1), zeros)), put("nodes", 0, "attributes", "a", {"list": "attributes/0/a"}))
    assert len(npz.from_bytes(data).nodes[0].attributes["a"]) == len(zeros)
    small = edited(data, lambda document, entries: None, deflated=True)
    assert len(small) < 1 << 18
    with pytest.raises(FileError, match="the lists are suspiciously long"):
        npz.from_bytes(small)


def loads_alike_or_fails(data: bytes, graph: Graph) -> bool:
    """Whether the bytes still load; as anything but the same graph they must not."""
    try:
        read = npz.from_bytes(data)
    except FileError:
        return False
    assert same_graph(graph, read)
    return True


def test_truncated(written: bytes, graph: Graph, rng: np.random.Generator) -> None:
    cuts = {*rng.integers(0, len(written), 500).tolist(), *range(100), *range(len(written) - 300, len(written))}
    assert not any(loads_alike_or_fails(written[:k], graph) for k in cuts)


@pytest.mark.parametrize("deflated", [False, True])
def test_flipped_bits(written: bytes, graph: Graph, deflated: bool, rng: np.random.Generator) -> None:
    data = edited(written, lambda document, entries: None, deflated=True) if deflated else written
    survived = 0
    for k in rng.permutation(len(data))[:1500]:
        flipped = bytearray(data)
        flipped[k] ^= 1 << int(rng.integers(8))
        survived += loads_alike_or_fails(bytes(flipped), graph)
    # Times, versions, padding and permissions say nothing about the graph.
    assert 0 < survived < 750


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or list inside of a JSON value, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


ODD_VALUES = (
    None,
    True,
    -1,
    1 << 62,
    0.5,
    "",
    "x",
    "c1",
    "string",
    "int4",
    [],
    {},
    [-1],
    ["x"],
    [[]],
    {"float": "nan"},
)


def test_other_descriptions(written: bytes, graph: Graph, rng: np.random.Generator) -> None:
    """Values of `graph.json` replaced, moved, removed or renamed, at random; checksums are right."""
    with zipfile.ZipFile(io.BytesIO(written)) as z:
        arrays = npz._arrays(npz.Archive("x", written), True)
        text = z.read("graph.json")
    refusals = 0
    for _ in range(1500):
        document = json.loads(text)
        for _ in range(int(rng.integers(1, 4))):
            found = list(places(document))
            holder, key = found[rng.integers(len(found))]
            other, from_key = found[rng.integers(len(found))]
            action = rng.integers(4)
            if action == 0:
                del holder[key]
            elif action == 1 and isinstance(holder, dict):
                holder["nodes" if rng.random() < 0.5 else "text"] = holder.pop(key)
            else:
                # A copy, since a value inside of itself is no JSON.
                odd = ODD_VALUES[rng.integers(len(ODD_VALUES))]
                holder[key] = odd if action == 2 else json.loads(json.dumps(other[from_key]))
        try:
            schema.load(memoryview(json.dumps(document).encode()), arrays, "x").verify()
        except (FileError, GraphError):
            refusals += 1
    assert refusals > 1000


# ---- ONNX's own cases

_SPECIAL = ("sequence", "optional", "loop", "scan", "if", "string", "bfloat16", "int4", "float8", "ai_onnx_ml", "tfidf")


def _node_cases() -> dict[str, Any]:
    """Every fifth of ONNX's node tests, and those of which the name speaks of something special."""
    cases = pytest.importorskip("onnx.backend.test.case.node", reason="onnx is not installed (extra [test])")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the making of the expected values
        found = {c.name: c for c in cases.collect_testcases(None)}
    training = ("test_adagrad", "test_adam", "test_gradient_of", "test_momentum", "test_nesterov_momentum")
    names = [n for n in sorted(found) if not n.startswith(training)]
    return {n: found[n] for k, n in enumerate(names) if k % 5 == 0 or any(s in n.lower() for s in _SPECIAL)}


def _ours(value: Any) -> Any:
    """An input of a case as a value here."""
    from onnx import TensorProto, numpy_helper

    if isinstance(value, (list, tuple)):
        return [_ours(v) for v in value]
    value = numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(object) if value.dtype.kind in "US" else dtypes.from_foreign(value)


def _sorted(graph: Graph) -> str:
    made = graph.copy()
    made.constants = dict(sorted(made.constants.items()))
    return str(made)


def test_node_tests_of_onnx() -> None:
    from forwardpass.formats.onnx import import_model

    cases = _node_cases()
    assert len(cases) > 500
    start, compared = time.perf_counter(), 0
    for name, case in cases.items():
        graph = import_model(case.model)
        data = npz.to_bytes(graph)
        read = npz.from_bytes(data)
        assert _sorted(read) == _sorted(graph), name
        assert npz.to_bytes(read) == data, name
        if not all(map(is_pure, graph.nodes)):
            continue
        inputs = dict(zip((i.name for i in case.model.graph.input), map(_ours, case.data_sets[0][0])))
        with np.errstate(all="ignore"):
            want, got = evaluate(graph, inputs), evaluate(read, inputs)
        assert want.keys() == got.keys()
        for output, value in want.items():
            assert same_value(got[output], value), f"{name}: {output}"
        compared += 1
    assert compared > 500
    print(f"{compared} cases in {time.perf_counter() - start:.1f} s")
