"""LiteRT files: every table is followed with care, and the operators mean what NumPy says."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_files import model, operator, saved, tensor

from forwardpass.errors import Error, FileError, GraphError, UnsupportedError
from forwardpass.formats import load_graph
from forwardpass.formats.tflite.flat import Buffer
from forwardpass.ops import evaluate
from tolerance import EXACT, FLOAT32_OF_FLOAT64, ONNX_FLOAT32

Array = np.ndarray[Any, Any]


def run(data: bytes, *inputs: Array) -> list[Array]:
    """The outputs of a model, by the definitions."""
    with tempfile.TemporaryDirectory() as folder:
        graph = load_graph(saved(Path(folder), data))
    return list(evaluate(graph, dict(zip(graph.inputs, inputs))).values())


def one(kind: str, x: Array, result: tuple[str, Sequence[int]], *constants: Array, **options: Any) -> Array:
    """The output of one operator; `options` are f0, f1, ...: field -> number."""
    tensors = [tensor(str(x.dtype), x.shape), *(tensor(str(c.dtype), c.shape, c) for c in constants), tensor(*result)]
    fields = {int(k[1:]): v for k, v in options.items()} or None
    last = len(tensors) - 1
    (found,) = run(model(tensors, [operator(kind, range(last), [last], fields)], [0], [last]), x)
    return found


# ---- what is read


def test_a_dense_layer(tmp_path: Path, rng: np.random.Generator) -> None:
    w, b = rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    tensors = [tensor("float32", [-1, 4]), tensor("float32", [3, 4], w), tensor("float32", [3], b)]
    tensors.append(tensor("float32", [-1, 3]))
    dense = operator("FULLY_CONNECTED", [0, 1, 2], [3], {0: ("b", 1)})
    names: Any = {"inputs_of": {0: "x"}, "outputs_of": {3: "y"}}
    graph = load_graph(saved(tmp_path, model(tensors, [dense], [0], [3], **names)))
    assert [str(t) for t in graph.inputs.values()] == ["float32[N, 4]"]
    assert (list(graph.inputs), graph.outputs, graph.name) == (["x"], ["y"], "model")
    assert graph.metadata == {"producer": "LiteRT", "description": "made by a test"}
    x = rng.standard_normal((5, 4)).astype(np.float32)
    (y,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_allclose(y, np.maximum(x @ w.T + b, 0), **ONNX_FLOAT32)


def test_a_file_without_a_suffix_is_known_by_its_mark(tmp_path: Path) -> None:
    data = model([tensor("float32", [2]), tensor("float32", [2])], [operator("RELU", [0], [1])], [0], [1])
    (tmp_path / "model").write_bytes(data)
    assert load_graph(tmp_path / "model").outputs == ["t1"]


def test_integers_stand_for_real_numbers(rng: np.random.Generator) -> None:
    """Of weights along an axis, of one scale, and of a bias in 32 bits: as in integer arithmetic, to one step."""
    w, b = rng.integers(-127, 128, (3, 4)), rng.integers(-500, 500, 3)
    scales = np.float32([0.01, 0.02, 0.005])
    tensors = [
        tensor("int8", [2, 4], scale=[0.1], zero=[-3]),
        tensor("int8", [3, 4], w, scale=scales),
        tensor("int32", [3], b, scale=0.1 * scales),
        tensor("int8", [2, 3], scale=[0.25], zero=[5]),
    ]
    dense = operator("FULLY_CONNECTED", [0, 1, 2], [3], {0: ("b", 1)})
    x = rng.integers(-128, 128, (2, 4)).astype(np.int8)
    (found,) = run(model(tensors, [dense], [0], [3]), x)
    sums = ((x.astype(np.int64) + 3) @ w.T + b) * (0.1 * scales.astype(np.float64))
    want = np.clip(np.round(np.maximum(sums, 0) / 0.25) + 5, -128, 127)
    assert found.dtype == np.int8
    assert np.abs(found - want).max() <= 1
    assert (found == want).mean() > 0.8


def test_what_only_moves_stays_as_it_is_stored(tmp_path: Path) -> None:
    same = {"scale": [0.5], "zero": [1]}
    tensors = [tensor("int8", [2, 3], **same), tensor("int32", [2], [1, 0]), tensor("int8", [3, 2], **same)]
    data = model(tensors, [operator("TRANSPOSE", [0, 1], [2])], [0], [2])
    assert [n.op for n in load_graph(saved(tmp_path, data)).nodes] == ["Transpose"]
    tensors[2] = tensor("int8", [3, 2], scale=[0.25])
    data = model(tensors, [operator("TRANSPOSE", [0, 1], [2])], [0], [2])
    x = np.int8([[1, 3, 5], [-1, 0, 2]])
    np.testing.assert_array_equal(run(data, x)[0], 2 * (x.T - 1))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions(padding: str, stride: int, rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((1, 7, 6, 2)), rng.standard_normal((3, 3, 2, 2))
    out = [-(-s // stride) if padding == "same" else (s - k) // stride + 1 for s, k in zip((7, 6), (3, 2))]
    total = [max((o - 1) * stride + k - s, 0) if padding == "same" else 0 for o, k, s in zip(out, (3, 2), (7, 6))]
    padded = np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
    want = np.zeros((1, *out, 3))
    for i, j in np.ndindex(*out):
        patch = padded[0, i * stride : i * stride + 3, j * stride : j * stride + 2]
        want[0, i, j] = np.einsum("hwc,ohwc->o", patch, w)
    options = {"f0": ("b", padding == "valid"), "f1": ("i", stride), "f2": ("i", stride)}
    result = ("float32", want.shape)
    found = one("CONV_2D", x.astype(np.float32), result, w.astype(np.float32), np.zeros(3, np.float32), **options)
    np.testing.assert_allclose(found, want, **FLOAT32_OF_FLOAT64)


@st.composite
def slices(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Any]]:
    """A shape, and what may stand in brackets behind an array of it."""
    shape = tuple(draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 3))))
    index: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        if draw(st.booleans()):
            index.append(None)
        if draw(st.booleans()):
            index.append(draw(st.integers(-size, size - 1)))
        else:
            ends = st.none() | st.integers(-size - 1, size + 1)
            index.append(slice(draw(ends), draw(ends), draw(st.sampled_from([1, 2, -1, -2]))))
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), Ellipsis)
    return shape, index


@settings(max_examples=300, deadline=None)
@given(slices())
def test_slices_are_those_of_numpy(case: tuple[tuple[int, ...], list[Any]]) -> None:
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    if Ellipsis in index:  # it leaves the places behind it to the last axes
        behind = [i for i in index[index.index(Ellipsis) + 1 :] if i is not None]
        before = [i for i in index[: index.index(Ellipsis)] if i is not None]
        places = [*zip(before, shape), *zip(behind[::-1], shape[::-1])]
        if any(isinstance(i, int) and not -size <= i < size for i, size in places):
            return
    want = x[tuple(index)]
    rows, masks = np.zeros((3, len(index)), np.int32), [0] * 5
    for k, i in enumerate(index):
        bit = 1 << k
        rows[:, k] = 0, 0, 1
        if i is Ellipsis:
            masks[2] |= bit
        elif i is None:
            masks[3] |= bit
        elif isinstance(i, int):
            masks[4] |= bit
            rows[:, k] = i, i + 1, 1
        else:
            masks[0] |= bit * (i.start is None)
            masks[1] |= bit * (i.stop is None)
            rows[:, k] = i.start or 0, i.stop or 0, i.step
    options = {f"f{k}": ("i", mask) for k, mask in enumerate(masks)}
    found = one("STRIDED_SLICE", x, ("float32", want.shape), *rows, **options)
    assert found.shape == want.shape
    np.testing.assert_array_equal(found, want)


X = np.float32([[[1, -2, 3], [0.5, 4, -1]]])
CASES: dict[str, Any] = {
    "SQUARED_DIFFERENCE": ([np.float32([1, 2, 3])], {}, lambda x, b: (x - b) ** 2),
    "RSQRT": ([], {}, lambda x: 1 / np.sqrt(np.abs(x))),
    "L2_NORMALIZATION": ([], {}, lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True))),
    "SOFTMAX": ([], {"f0": ("f", 2.0)}, lambda x: np.exp(2 * x) / np.exp(2 * x).sum(-1, keepdims=True)),
    "MEAN": ([np.int32([1])], {"f0": ("B", 1)}, lambda x, a: x.mean(1, keepdims=True)),
    "SUM": ([np.int32([-1, 0])], {}, lambda x, a: x.sum((2, 0))),
    "PAD": ([np.int32([[0, 0], [1, 0], [0, 2]])], {}, np.pad),
    "SLICE": ([np.int32([0, 1, 0]), np.int32([-1, 1, 2])], {}, lambda x, a, b: x[:, 1:2, :2]),
    "REVERSE_V2": ([np.int32([2])], {}, lambda x, a: x[:, :, ::-1]),
    "EXPAND_DIMS": ([np.int32([-1])], {}, lambda x, a: x[..., None]),
    "TILE": ([np.int32([2, 1, 2])], {}, np.tile),
    "RELU_N1_TO_1": ([], {}, lambda x: np.clip(x, -1, 1)),
    "ADD": ([np.float32(2)], {"f0": ("b", 3)}, lambda x, b: np.clip(x + 2, 0, 6)),
    "ZEROS_LIKE": ([], {}, np.zeros_like),
    "CUMSUM": ([np.int32([1])], {"f1": ("B", 1)}, lambda x, a: x[:, ::-1].cumsum(1)[:, ::-1]),
}


@pytest.mark.parametrize("kind", CASES)
def test_operators(kind: str) -> None:
    constants, options, meaning = CASES[kind]
    x = np.abs(X) if kind == "RSQRT" else X
    want = np.asarray(meaning(x, *constants), np.float32)
    found = one(kind, x, ("float32", want.shape), *constants, **options)
    np.testing.assert_allclose(found, want, **(EXACT if kind in ("PAD", "SLICE", "TILE") else ONNX_FLOAT32))


def test_a_batch_that_is_free_stays_free_when_it_is_flattened(tmp_path: Path) -> None:
    """Keras' Flatten: the shape is computed from that of the input, and the file says what is known of it."""
    tensors = [
        tensor("float32", [-1, 2, 3]), tensor("int32", [3]), tensor("int32", [1], [0]), tensor("int32", [1], [1]),
        tensor("int32", [1], [1]), tensor("int32", []), tensor("int32", [], 6), tensor("int32", [2]),
        tensor("float32", [-1, 6]),
    ]  # fmt: skip
    operators = [
        operator("SHAPE", [0], [1], {0: ("b", 2)}),
        operator("STRIDED_SLICE", [1, 2, 3, 4], [5], {4: ("i", 1)}),
        operator("PACK", [5, 6], [7], {0: ("i", 2)}),
        operator("RESHAPE", [0, 7], [8]),
    ]
    graph = load_graph(saved(tmp_path, model(tensors, operators, [0], [8])))
    assert [n.op for n in graph.nodes] == ["Reshape"]
    for count in (0, 1, 5):
        x = np.arange(6 * count, dtype=np.float32).reshape(count, 2, 3)
        np.testing.assert_array_equal(evaluate(graph, {"t0": x})["t8"], x.reshape(count, 6))


# ---- what is refused


def test_all_operators_that_are_not_known_are_named_at_once(tmp_path: Path) -> None:
    tensors = [tensor("float32", [2])] * 4
    operators = [operator(k, [i], [i + 1]) for i, k in enumerate(("WHILE", "RELU", "custom Magic"))]
    with pytest.raises(UnsupportedError, match="WHILE, custom Magic") as e:
        load_graph(saved(tmp_path, model(tensors, operators, [0], [3])))
    assert "RELU" not in str(e.value)


RELU = operator("RELU", [0], [1])
T = tensor("float32", [2])
BAD: dict[str, Any] = {
    "no such tensor": ([T, T], [operator("RELU", [7], [1])], FileError),
    "used before it is computed": ([T, T, T], [operator("ADD", [0, 2], [1])], FileError),
    "of another size": ([T, tensor("float32", [3], [1, 2, 3, 4])], [RELU], FileError),
    "an input is missing": ([T, T], [operator("ADD", [0, -1], [1])], FileError),
    "the scales are wrong": ([tensor("int8", [2], scale=[0]), T], [RELU], FileError),
    "the scales do not fit": ([tensor("int8", [2], scale=[1, 2, 3]), T], [RELU], FileError),
    "wrong number of outputs": ([T, T, T], [operator("RELU", [0], [1, 2])], FileError),
    "must be constant": ([T, T], [operator("TRANSPOSE", [0, 0], [1])], UnsupportedError),
    "not images": ([T, T], [operator("MAX_POOL_2D", [0], [1])], FileError),
    "do not broadcast|shape": ([T, tensor("float32", [3], [1, 2, 3]), T], [operator("ADD", [0, 1], [2])], GraphError),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_models(what: str, tmp_path: Path) -> None:
    tensors, operators, kind = BAD[what]
    path = saved(tmp_path, model(tensors, operators, [0], [operators[-1][2][-1]]))
    with pytest.raises(kind, match=what) as e:
        load_graph(path)
    assert str(path) in e.value.where


def sample() -> bytes:
    rng = np.random.default_rng(0)
    q = {"scale": [0.1], "zero": [2]}
    tensors = [
        tensor("int8", [-1, 4, 4, 2], **q),
        tensor("int8", [3, 3, 3, 2], rng.integers(-9, 9, (3, 3, 3, 2)), scale=[0.1, 0.2, 0.3]),
        tensor("int32", [3], [1, 2, 3], scale=[0.01, 0.02, 0.03]),
        tensor("int8", [-1, 4, 4, 3], **q),
        tensor("int32", [2], [-1, 48]),
        tensor("int8", [-1, 48], **q),
        tensor("float32", [-1, 48]),
    ]
    operators = [
        operator("CONV_2D", [0, 1, 2], [3], {1: ("i", 1), 2: ("i", 1), 3: ("b", 1)}),
        operator("RESHAPE", [3, 4], [5]),
        operator("DEQUANTIZE", [5], [6]),
    ]
    names: Any = {"inputs_of": {0: "x"}, "outputs_of": {6: "y"}}
    return model(tensors, operators, [0], [6], **names)


def test_files_that_end_too_early(tmp_path: Path) -> None:
    data = sample()
    assert len(load_graph(saved(tmp_path, data)).nodes) > 4
    for length in range(1, len(data) - 64, 7):  # the last bytes are names
        with pytest.raises(Error):
            load_graph(saved(tmp_path, data[:length]))


def test_damaged_files(tmp_path: Path) -> None:
    """1,000 files with bytes of others, or numbers that are too large: a graph or a typed error, and no more memory
    than a file of that size deserves."""
    rng, data, refused = np.random.default_rng(0), np.frombuffer(sample(), np.uint8), 0
    for k in range(1000):
        damaged = data.copy()
        if k % 2:
            at = rng.integers(0, len(data) // 4, rng.integers(1, 4))
            damaged.view(np.uint32)[at] = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65536], len(at))
        else:
            damaged[rng.integers(0, len(data), rng.integers(1, 20))] = rng.integers(0, 256)
        try:
            load_graph(saved(tmp_path, damaged.tobytes()))
        except Error as error:
            refused += 1
            assert "model.tflite" in error.where  # noqa: PT017 - most are refused, but not all
    assert 300 < refused < 1000


def test_tables_that_refer_to_each_other_end(tmp_path: Path) -> None:
    """A list of operators that all share one long list of inputs would take hours to read."""
    shared = np.zeros(5000, np.int32)
    shared[0] = 1
    data = model([T, T], [operator("ADD_N", shared, [1])], [0], [1])
    at = data.index(shared.tobytes()) - 4
    many = bytearray(model([T, T], [operator("ADD_N", [0], [1])] * 3000, [0], [1]))
    base = len(many)
    many += data[at : at + 4 + shared.nbytes]
    root = Buffer(many, "").root()
    for node in root.tables(2)[0].tables(3):
        place = node._place(1)
        many[place : place + 4] = (base - place).to_bytes(4, "little")
    with pytest.raises(FileError, match="overlap"):
        load_graph(saved(tmp_path, bytes(many)))
