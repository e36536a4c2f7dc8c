"""What callers and files get wrong: it works as the plain array does, or gives one typed error that names the place."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Maker

import forwardpass as fp
from forwardpass.errors import InputError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.run import Model

F32 = np.dtype(np.float32)


def small() -> Graph:
    """x[N, 6], image[N, 2, 3] -> y[N, 4]."""
    m = Maker(dtype=F32)
    x = m("Add", m.input("x", "N", 6), m("Flatten", m.input("image", "N", 2, 3)))
    return m.graph(m("Tanh", m("MatMul", x, m.const((6, 4))), out="y"))


@pytest.fixture
def model() -> Model:
    return Model(small())


def typed(e: pytest.ExceptionInfo[InputError], where: str) -> None:
    """One error of ours that says where, what was expected and what was found."""
    assert isinstance(e.value, InputError)
    assert isinstance(e.value, ValueError), "for code that knows NumPy's errors"
    assert e.value.where == where
    assert e.value.expected
    assert e.value.got
    assert where in str(e.value)


X, IMAGE = np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 6), np.ones((3, 2, 3), np.float32)


class OnlyDlpack:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class OnlyInterface:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array.astype(dtype or self.array.dtype)


class Raises:
    """Objects whose conversion fails in ways of their own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise self.error


# ---- arrays that are refused

WRONG_VALUES: dict[str, Any] = {
    "none": None,
    "text": "1.0",
    "bytes": bytes(72),
    "dict": {"a": 1},
    "object": object(),
    "generator": (v for v in X),
    "ragged": [[1.0], [1.0, 2.0]],
    "texts": np.array([["a"] * 6] * 3),
    "byte strings": np.array([[b"a"] * 6] * 3),
    "objects": X.astype(object),
    "none inside": np.array([[None] * 6] * 3),
    "structured": np.zeros(3, [("a", "f4", 6)]),
    "complex": X.astype(np.complex64),
    "dates": np.zeros((3, 6), "M8[s]"),
    "durations": np.zeros((3, 6), "m8[s]"),
    "huge integers": [[1 << 70] * 6] * 3,
    "void": np.zeros((3, 6), "V4"),
    "raises TypeError": Raises(TypeError("on a GPU")),
    "raises RuntimeError": Raises(RuntimeError("requires grad")),
    "raises KeyError": Raises(KeyError("lost")),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
@pytest.mark.parametrize("warm", [False, True])
def test_wrong_value(name: str, warm: bool, model: Model) -> None:
    want = Model(small())(X, IMAGE)
    if warm:
        model(X, IMAGE)
    for call in (lambda v: model(v, IMAGE), lambda v: model.predict({"x": v, "image": IMAGE})):
        with pytest.raises(InputError) as e:
            call(WRONG_VALUES[name])
        typed(e, "input 'x'")
    np.testing.assert_array_equal(model(X, IMAGE), want)


@pytest.mark.parametrize(
    ("x", "words", "hint"),
    [
        (X[0], r"wrong rank: expected \[N, 6\], got \[6\]", "x[None]"),
        (X[None], r"wrong rank: expected \[N, 6\], got \[1, 3, 6\]", ""),
        (np.float32(1), r"wrong rank: .* got \[\]", ""),
        (X[:, :5], r"wrong size of axis 1: expected \[N, 6\], got \[3, 5\]", ""),
        (np.empty((3, 0), np.float32), r"wrong size of axis 1: .* got \[3, 0\]", ""),
        (X.T, r"wrong size of axis 1: .* got \[6, 3\]", ""),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_wrong_shape(x: Any, words: str, hint: str, warm: bool, model: Model) -> None:
    if warm:
        model(X, IMAGE)
    with pytest.raises(InputError, match=words) as e:
        model(x, IMAGE)
    typed(e, "input 'x'")
    assert hint in e.value.hint


def test_sizes_that_disagree(model: Model) -> None:
    with pytest.raises(InputError, match=r"size 'N' is 2 here but 3 in input 'x': expected \[N, 2, 3\]") as e:
        model(X, IMAGE[:2])
    typed(e, "input 'image'")


@pytest.mark.parametrize("call", [lambda m, v: m(**v), lambda m, v: m.run(v), lambda m, v: m.predict(v)])
def test_wrong_name(call: Callable[[Model, Any], Any], model: Model) -> None:
    with pytest.raises(InputError, match=r"unknown input 'imge'.*did you mean 'image'\?") as e:
        call(model, {"x": X, "imge": IMAGE})
    typed(e, "call")
    with pytest.raises(InputError, match="missing inputs") as e:
        call(model, {"image": IMAGE})
    typed(e, "call")


def test_integers_do_not_wrap() -> None:
    m = Maker(dtype=np.dtype(np.int32))
    model = Model(m.graph(m("Add", m.input("i", "N"), m.const(np.int32(1)), out="y")))
    np.testing.assert_array_equal(model(np.array([5, -7])), [6, -6])
    np.testing.assert_array_equal(model(np.array([5], np.uint64)), [6])
    np.testing.assert_array_equal(model(np.array([], np.int64)), [])
    for value in (1 << 31, -(1 << 31) - 1):
        with pytest.raises(InputError, match="values out of range") as e:
            model(np.array([0, value]))
        typed(e, "input 'i'")
    with pytest.raises(InputError, match="wrong dtype: expected int32, got float64"):
        model(np.array([1.0]))


@pytest.mark.parametrize("wanted", ["int8", "uint8", "uint16", "uint32", "uint64"])
def test_integers_of_python_become_those_of_the_model(wanted: str) -> None:
    m = Maker(dtype=F32)
    m.inputs["i"] = TensorType(np.dtype(wanted), ("N",))
    model = Model(m.graph(m("Cast", "i", to=1, out="y")))
    np.testing.assert_array_equal(model([1, 2]), [1, 2])
    np.testing.assert_array_equal(model(np.array([1, 127], np.int16)), [1, 127])
    for value in (-129, 1 << 64) if wanted == "int8" else (-1, 1 << 64):
        with pytest.raises(InputError, match=r"values out of range|wrong dtype"):
            model([0, value])


def test_more_memory_than_there_is(model: Model) -> None:
    huge = np.broadcast_to(np.float32(1), (1 << 44, 6))
    with pytest.raises(InputError, match=r"not enough memory|too large") as e:
        model(huge, np.broadcast_to(np.float32(1), (1 << 44, 2, 3)))
    assert "x" in e.value.where


def test_predict_more_than_memory_holds(model: Model) -> None:
    count = 1 << 44  # 256 TiB of results
    given = {"x": np.broadcast_to(X[:1], (count, 6)), "image": np.broadcast_to(IMAGE[:1], (count, 2, 3))}
    with pytest.raises(InputError, match=r"not enough memory for all rows: got float32\[17592186044416, 4\]") as e:
        model.predict(given)
    assert e.value.where == "output 'y'"


# ---- arrays that work


def _odd_address(x: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)


def _read_only(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


def _mapped(x: np.ndarray, path: Path) -> np.ndarray:
    np.save(path / "x.npy", x)
    return np.load(path / "x.npy", mmap_mode="r")


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f4"),
    "big-endian float64": lambda x: x.astype(">f8"),
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "backwards columns": lambda x: x[..., ::-1].copy()[..., ::-1],
    "a window": lambda x: np.pad(x, [(1, 1)] * x.ndim)[(slice(1, -1),) * x.ndim],
    "transposed": lambda x: x.transpose(*range(1, x.ndim), 0).copy().transpose(-1, *range(x.ndim - 1)),
    "odd address": _odd_address,
    "read-only": _read_only,
    "float64": lambda x: x.astype(np.float64),
    "long double": lambda x: x.astype(np.longdouble),
    "list": lambda x: x.tolist(),
    "tuple of arrays": tuple,
    "nested": lambda x: [list(row) for row in x],
    "DLPack": OnlyDlpack,
    "__array__": OnlyInterface,
    "memoryview": memoryview,
    "matrix": lambda x: np.asmatrix(x) if x.ndim == 2 else x,
    "subclass": lambda x: x.view(np.recarray),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_layout(name: str, warm: bool, isa: str) -> None:
    model = Model(small(), isa=isa)
    if warm:
        model(X, IMAGE)
    want = Model(small(), isa=isa)(X, IMAGE)
    change = LAYOUTS[name]
    np.testing.assert_array_equal(np.asarray(change(X) if not name.startswith("DLP") else X), X)
    for x, image in ((change(X), IMAGE), (X, change(IMAGE)), (change(X), change(IMAGE))):
        assert model(x, image).tobytes() == want.tobytes()
        assert model.predict({"x": x, "image": image}, batch_size=2).tobytes() == want.tobytes()
        y = np.empty_like(want)
        model.run_into({"x": x, "image": image}, {"y": y})
        assert y.tobytes() == want.tobytes()


def test_memory_mapped(model: Model, tmp_path: Path) -> None:
    assert model(_mapped(X, tmp_path), IMAGE).tobytes() == model(X, IMAGE).tobytes()


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float16"])
def test_dtypes_that_convert(dtype: str, model: Model) -> None:
    x = (np.arange(18) % 2).reshape(3, 6).astype(dtype)
    assert model(x, IMAGE).tobytes() == model(x.astype(np.float32), IMAGE).tobytes()


def test_float64_beyond_float32_is_infinite(model: Model) -> None:
    x = X.astype(np.float64)
    x[1, 2] = 1e300
    y = model(x, IMAGE)
    assert (np.abs(y[1]) == 1).all()
    np.testing.assert_array_equal(y[[0, 2]], model(X, IMAGE)[[0, 2]])


def test_no_rows(model: Model) -> None:
    for rows in (X[:0], np.empty((0, 6)), []):
        if isinstance(rows, list):
            with pytest.raises(InputError, match="wrong rank"):
                model(rows, IMAGE[:0])
        else:
            assert model(rows, IMAGE[:0]).shape == (0, 4)


def test_inputs_are_not_changed(model: Model) -> None:
    arrays = [change(X) for name, change in LAYOUTS.items() if name != "matrix"]
    arrays = [a for a in arrays if isinstance(a, np.ndarray)]
    before = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).digest() for a in arrays]
    for x in arrays:
        model(x, IMAGE)
        model(x, IMAGE)
    assert [hashlib.sha256(np.ascontiguousarray(a).tobytes()).digest() for a in arrays] == before


# ---- values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stay_in_their_row(value: float, model: Model) -> None:
    x = X.copy()
    x[1, 3] = value
    y = model(x, IMAGE)
    np.testing.assert_array_equal(y[[0, 2]], model(X, IMAGE)[[0, 2]])
    assert np.isnan(y[1]).all() if np.isnan(value) else (np.abs(y[1]) == 1).all()


def denormals_work() -> bool:
    """Whether this thread computes with denormal numbers, in NumPy."""
    tiny = np.full(64, np.finfo(np.float32).tiny, np.float32)
    return bool(((tiny * np.float32(0.5)) * np.float32(2) == tiny).all())


def test_denormals(isa: str) -> None:
    """They are zero or themselves, they are not slow, and the caller still has them afterwards."""
    m = Maker(dtype=F32)
    half = m("Mul", m.input("x", "N", 256), m.const(np.float32(0.5)))
    model = Model(m.graph(m("MatMul", half, m.const((256, 256)))), isa=isa, threads=1)
    normal, tiny = np.ones((64, 256), np.float32), np.full((64, 256), 1e-40, np.float32)
    assert denormals_work()
    for x in (normal, tiny):
        model(x)
        assert denormals_work()
    y = model(tiny)
    assert np.abs(y).max() <= 256 * 1e-39
    times: dict[int, list[float]] = {id(normal): [], id(tiny): []}
    for _ in range(20):
        for x in (normal, tiny):
            start = time.perf_counter()
            model(x)
            times[id(x)].append(time.perf_counter() - start)
    assert min(times[id(tiny)]) < 5 * min(times[id(normal)]), "a denormal operand costs a hundred cycles"
    y = np.empty_like(y)
    model.run_into(tiny, y)
    with model.profile():
        model(tiny)
    assert denormals_work()


def test_graphs_that_do_not_fit_together() -> None:
    m = Maker(dtype=F32)
    graph = m.graph(m("MatMul", m.input("x", "N", 6), m.const((5, 4)), out="y"))
    with pytest.raises(fp.GraphError, match="node 'y' \\(MatMul\\)"):
        Model(graph)
    with pytest.raises(fp.UnsupportedError, match="unknown operator Convolve"):
        Model(_unknown_operator())


def _unknown_operator() -> Graph:
    m = Maker(dtype=F32)
    return m.graph(m("Convolve", m.input("x", "N", 6), out="y"))


def test_types_of_graph_inputs() -> None:
    graph = small()
    graph.inputs["x"] = TensorType(F32, None)
    model = Model(graph)
    assert model(X, IMAGE).shape == (3, 4)
    with pytest.raises(fp.GraphError):
        model(X[:, :5], IMAGE)


def _scaled(constant: Any) -> Graph:
    x = TensorType(np.dtype(np.float32), ("N", 4))
    return Graph({"x": x}, ["y"], [Node("Mul", ["x", "c"], ["y"])], {"c": constant})


def test_scalars_of_numpy_are_constants(tmp_path: Path) -> None:
    x, graph = np.ones((2, 4), np.float32), _scaled(np.float32(3))
    np.testing.assert_array_equal(Model(graph)(x), 3 * x)
    fp.save(graph, tmp_path / "net.npz")
    np.testing.assert_array_equal(fp.load(tmp_path / "net.npz")(x), 3 * x)


@pytest.mark.parametrize("constant", [3.0, [1.0], None])
def test_constants_that_are_no_arrays(constant: Any) -> None:
    with pytest.raises(fp.GraphError, match="constant 'c' is no array"):
        Model(_scaled(constant))
