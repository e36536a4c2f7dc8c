"""Graphs of every form, run as a Model and compared with their definitions: fallbacks, views, odd shapes, aliases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import small_graphs  # noqa: F401 - registers the operator tests.Doubled
from graphs import Maker, draw

from forwardpass.errors import Error, GraphError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.plan import Plan
from forwardpass.plan.hybrid import Hybrid
from forwardpass.run import Model
from tolerance import NETWORK

F32 = np.dtype(np.float32)


def compared(graph: Graph, isa: str = "", *, batches: tuple[int, ...] = (3, 1, 0), kind: type | None = None) -> Model:
    """The model, after comparing it with the graph's definition; every output is called for twice."""
    model = Model(graph, threads=1, isa=isa)
    for batch in batches:
        inputs = draw(graph, batch)
        before = {k: v.copy() for k, v in inputs.items()}
        exact = evaluate(graph, inputs)
        want = evaluate(graph, inputs, dtype=np.float64)
        for _ in range(2):
            got = model.run(inputs)
            assert list(got) == list(graph.outputs)
            for name, array in want.items():
                assert got[name].shape == array.shape
                assert got[name].dtype == exact[name].dtype
                assert got[name].flags.writeable
                assert not any(np.shares_memory(got[name], v) for v in inputs.values())
                assert not any(np.shares_memory(got[name], v) for v in graph.constants.values())
                np.testing.assert_allclose(got[name], array, **NETWORK, err_msg=f"{name}, batch {batch}\n{graph}")
        into = {k: np.full_like(v, 0) for k, v in got.items()}
        model.run_into(inputs, into)
        for name, array in got.items():
            np.testing.assert_array_equal(into[name], array)
        for name, array in before.items():
            np.testing.assert_array_equal(inputs[name], array)
    if kind is not None:
        assert isinstance(model.plan(), kind)
    return model


def maker() -> Maker:
    return Maker(dtype=F32)


# ---- fallbacks


def _integer_add(m: Maker) -> Graph:
    m.dtype = np.dtype(np.int64)
    a = m.input("tokens", "N", 3)
    m.dtype = F32
    following = m("tests.Doubled", m("Add", a, m.ints(1, 2, 3)), out="next")
    return m.graph(following, m("Relu", m.input("x", "N", 2), out="y"))


def _embedding(m: Maker) -> Graph:
    m.dtype = np.dtype(np.int32)
    tokens = m.input("tokens", "N")
    m.dtype = F32
    h = m("tests.Doubled", m("Gather", m.const((9, 8)), tokens))
    return m.graph(m("Softmax", m("MatMul", h, m.const((8, 4))), out="y"))


def _between(m: Maker) -> Graph:
    """Native, definition, native, definition, native; one value crosses all of them."""
    x = m("Relu", m.input("x", "N", 6), out="kept")
    y = x
    for _ in range(2):
        y = m("tests.Doubled", y)
        y = m("Add", m("MatMul", y, m.const((6, 6))), x)
    return m.graph(m("Sigmoid", y, out="y"))


def _scalar_between(m: Maker) -> Graph:
    """A value without dimensions crosses from definitions to kernels."""
    total = m("ReduceSum", m.input("x", "N", 4), keepdims=0)
    back = m("tests.Doubled", total)
    return m.graph(m("Exp", m("Mul", back, m.const(np.float32(0.125))), out="y"))


def _shapes_cross(m: Maker) -> Graph:
    """Shape arithmetic of a native value is read after a node without a kernel."""
    x = m.input("x", "N", 2, 6)
    first = m("Relu", x)
    rows = m("Gather", m("Shape", first), m.ints(0), axis=0)
    wanted = m("Concat", rows, m.ints(12), axis=0)
    middle = m("tests.Doubled", first)
    return m.graph(m("MatMul", m("Reshape", middle, wanted), m.const((12, 5)), out="y"))


def _shape_is_an_output(m: Maker) -> Graph:
    x = m.input("x", "N", 3)
    return m.graph(m("Shape", m("Relu", x), out="shape"), m("Neg", x, out="y"))


def _data_decides_shape(m: Maker) -> Graph:
    m.dtype = np.dtype(np.int64)
    wanted = m.input("wanted", 2)
    m.dtype = F32
    x = m.const((2, 6))
    return m.graph(m("Sigmoid", m("Neg", m("Reshape", m("Relu", x), wanted)), out="y"))


def _dtypes_pass_through(m: Maker) -> Graph:
    """Outputs that are an input and a constant of integers, of float64, and of bools."""
    m.dtype = np.dtype(np.int64)
    i = m.input("i", "N", 3)
    m.dtype = np.dtype(np.float64)
    d = m.input("d", "N")
    m.dtype = F32
    flags = m.const(np.array([True, False, True]))
    return m.graph(i, d, flags, m.ints(4, 5), m("Relu", m.input("x", "N", 2), out="y"))


def _float64(m: Maker) -> Graph:
    m.dtype = np.dtype(np.float64)
    return m.graph(m("Tanh", m("MatMul", m.input("x", "N", 4), m.const((4, 3))), out="y"))


FALLBACKS: list[Callable[[Maker], Graph]] = [
    _integer_add, _embedding, _between, _scalar_between, _shapes_cross, _float64,
]  # fmt: skip


@pytest.mark.parametrize("make", [_shape_is_an_output, _dtypes_pass_through])
def test_other_dtypes_in_a_plan(make: Callable[[Maker], Graph], isa: str) -> None:
    compared(make(maker()), isa, kind=Plan)


@pytest.mark.parametrize("make", FALLBACKS)
def test_fallback(make: Callable[[Maker], Graph], isa: str) -> None:
    m = maker()
    graph = make(m)
    if make is _embedding:  # tokens have to be rows of the table
        model = Model(graph, isa=isa)
        tokens = np.array([0, 8, 3, 3], np.int32)
        want = evaluate(graph, {"tokens": tokens}, dtype=np.float64)["y"]
        np.testing.assert_allclose(model(tokens), want, **NETWORK)
        np.testing.assert_allclose(model(tokens.tolist()), want, **NETWORK)
        assert isinstance(model.plan(), Hybrid)
        return
    compared(graph, isa, kind=Hybrid)


def test_values_decide_a_shape(isa: str) -> None:
    graph = _data_decides_shape(maker())
    model = Model(graph, isa=isa)
    for wanted in ([3, 4], [12, 1], [-1, 2], [3, 4]):
        want = evaluate(graph, {"wanted": wanted}, dtype=np.float64)["y"]
        got = model(wanted)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, **NETWORK)
        y = np.empty(want.shape, np.float32)
        model.run_into(np.array(wanted), y)
        np.testing.assert_array_equal(y, got)
    with pytest.raises(ValueError, match="wrong array"):
        model.run_into(np.array([3, 4]), np.empty((4, 3), np.float32))


def test_fallbacks_keep_native_stretches_native() -> None:
    model = compared(_between(maker()), kind=Hybrid)
    plan = model.plan()
    assert isinstance(plan, Hybrid)
    parts = list(plan.planned())
    assert [isinstance(p, Plan) for p in parts] == [True, False, True, False, True]
    assert {n.op for n in plan.reasons} == {"Doubled"}


def test_shape_arithmetic_is_no_fallback() -> None:
    m = maker()
    x = m.input("x", "N", 2, 6)
    rows = m("Gather", m("Shape", m("Relu", x)), m.ints(0), axis=0)
    y = m("Reshape", x, m("Concat", rows, m.ints(12), axis=0))
    model = compared(m.graph(m("MatMul", y, m.const((12, 3)), out="y")), kind=Plan)
    plan = model.plan()
    assert isinstance(plan, Plan)
    assert [s.kernel for s in plan.steps] == ["brgemm_f32"], "the Relu, of which only the shape is read, does not run"


# ---- outputs


def _graph_of_views(m: Maker) -> Graph:
    """Outputs that are an input, a constant, views of both, a value and two views of it."""
    x = m.input("x", "N", 2, 6)
    c = m.const((3, 4))
    v = m("Relu", x, out="v")
    views = [m("Reshape", x, m.ints(-1, 12), out="of input"), m("Reshape", c, m.ints(2, 6), out="of constant")]
    views += [m("Reshape", v, m.ints(0, 12), out="a"), m("Flatten", v, out="b")]
    return m.graph(x, c, v, *views, m("Neg", v, out="reader"))


def _view_of_view(m: Maker) -> Graph:
    a = m("Reshape", m("Neg", m.input("x", "N", 2, 6)), m.ints(0, 3, 4))
    b = m("Unsqueeze", a, m.ints(1), out="b")
    return m.graph(m("Squeeze", m("Reshape", b, m.ints(0, 1, 12)), m.ints(1), out="c"), b)


def _view_is_read_and_returned(m: Maker) -> Graph:
    a = m("Reshape", m("Exp", m.input("x", "N", 4)), m.ints(0, 2, 2), out="a")
    return m.graph(a, m("Relu", m("Neg", a), out="b"))


def _transposed_view(m: Maker) -> Graph:
    t = m("Transpose", m.input("x", "N", 3, 4), perm=[0, 2, 1])
    return m.graph(m("Reshape", t, m.ints(0, 12), out="y"), m("Reshape", m("Relu", t), m.ints(0, 6, 2), out="z"))


def _used_twice(m: Maker) -> Graph:
    """A value that a node which could work in place reads, and others read afterwards."""
    v = m("Exp", m.input("x", "N", 8))
    return m.graph(m("Add", m("Neg", m("Neg", v)), m("Mul", v, m("Sigmoid", v)), out="y"), m("Add", v, v, out="z"))


def _view_then_in_place(m: Maker) -> Graph:
    """The view of a value must not be overwritten through the value, nor the value through the view."""
    v = m("Exp", m.input("x", "N", 6))
    w = m("Reshape", v, m.ints(0, 2, 3))
    p, q = m("Tanh", w), m("Sqrt", v)
    return m.graph(m("Mul", p, m("Reshape", q, m.ints(0, 2, 3)), out="y"))


def _minimum_of_three(m: Maker) -> Graph:
    a, b = m("Neg", m.input("a", "N", 4)), m("Exp", m.input("b", "N", 4))
    return m.graph(m("Max", a, b, m("Tanh", b), m("Min", b, a), a, out="y"))


def _scalars(m: Maker) -> Graph:
    s = m("Exp", m.input("s"))
    return m.graph(m("Mul", s, s, out="square"), m("Add", m.input("x", "N", 3), s, out="moved"), s)


def _rank_six(m: Maker) -> Graph:
    x = m.input("x", "N", 2, 1, 3, 2, 2)
    t = m("Transpose", m("Relu", x), perm=[5, 0, 3, 2, 4, 1])
    return m.graph(m("ReduceMean", t, m.ints(1, 4), out="y"), m("Softmax", t, axis=2, out="z"))


def _rank_nine(m: Maker) -> Graph:
    x = m.input("x", "N", 2, 1, 2, 1, 2, 1, 2, 1)
    return m.graph(m("Neg", m("Transpose", x, perm=[8, 3, 0, 1, 2, 4, 5, 6, 7]), out="y"))


def _many_outputs(m: Maker) -> Graph:
    x = m.input("x", "N", 5)
    return m.graph(*(m("Add", x, m.const(np.float32(k)), out=f"y{k}") for k in range(20)))


def _many_inputs(m: Maker) -> Graph:
    parts = [m.input(f"x{k}", "N", k) for k in range(20)]
    return m.graph(m("Concat", *parts, axis=1, out="y"))


def _empty_dimension(m: Maker) -> Graph:
    x = m.input("x", "N", 0)
    c = m("Concat", x, m("MatMul", x, m.const((0, 4))), axis=1)
    return m.graph(m("Add", c, m.const((4,)), out="y"), m("ReduceSum", x, m.ints(1), keepdims=0, out="s"))


def _padded_twice(m: Maker) -> Graph:
    """One image, read by convolutions with other pads, by a pool, and by a residual."""
    x = m("Relu", m.conv(m.input("x", "N", 3, 7, 6), 3, 4, k=1))
    a = m.conv(x, 4, 4, pads=[1, 0, 1, 2], strides=[1, 1])
    b = m.conv(x, 4, 4, k=5)
    p = m("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return m.graph(m("Add", m("Add", b, x), p, out="y"), m("Relu", a, out="z"))


def _one_pixel(m: Maker) -> Graph:
    """An image of one pixel with a border looks dense; working in place must not lose the border."""
    x = m("Relu", m.conv(m.input("x", "N", 3, 1, 1), 3, 8, k=1))
    y = m.conv(m("Sigmoid", x), 8, 8)
    return m.graph(m("Flatten", m.conv(y, 8, 4), out="y"))


def _weights_shared(m: Maker) -> Graph:
    """One constant is the weights of convolutions with other numbers of groups, of a product, and an operand."""
    w = m.const((6, 2, 1, 1))
    one = m("Conv", m.input("x", "N", 2, 4, 3), w)
    three = m("Conv", m.input("z", "N", 6, 4, 3), w, group=3)
    flat = m("Reshape", w, m.ints(6, 2))
    product = m("MatMul", m.input("u", "N", 6), flat)
    return m.graph(m("Add", one, three, out="y"), m("Mul", product, m("ReduceSum", flat, m.ints(0)), out="p"))


def _image_is_output(m: Maker) -> Graph:
    x = m("Relu", m.conv(m.input("x", "N", 3, 5, 5), 3, 4), out="image")
    return m.graph(m.conv(x, 4, 2), x)


SHAPES: list[Callable[[Maker], Graph]] = [
    _graph_of_views, _view_of_view, _view_is_read_and_returned, _transposed_view, _used_twice, _view_then_in_place,
    _minimum_of_three, _scalars, _rank_six, _rank_nine, _many_outputs, _many_inputs, _empty_dimension, _padded_twice,
    _one_pixel, _image_is_output, _weights_shared,
]  # fmt: skip


@pytest.mark.parametrize("make", SHAPES)
def test_native(make: Callable[[Maker], Graph], isa: str) -> None:
    compared(make(maker()), isa, kind=Plan)


@pytest.mark.parametrize("make", SHAPES)
def test_native_without_passes(make: Callable[[Maker], Graph]) -> None:
    """With every value captured nothing is fused, and every value is an output."""
    graph = make(maker())
    model = Model(graph, threads=1)
    inputs = draw(graph, 2)
    names = list(graph.producers())
    want = evaluate(graph, inputs, outputs=names, dtype=np.float64)
    got = model.run(inputs, capture=names)
    for name in names:
        np.testing.assert_allclose(got[name], want[name], **NETWORK, err_msg=name)


@pytest.mark.parametrize("order", ["C", "F", "big-endian", "odd address"])
def test_constants_of_any_layout(order: str, isa: str) -> None:
    """Constants that the user's graph holds in memory that kernels cannot read."""
    m = maker()
    w = m.const((6, 5))
    array: Any = m.constants[w]
    if order == "odd address":
        raw = np.empty(array.nbytes + 1, np.uint8)[1:]
        raw[:] = np.frombuffer(array.tobytes(), np.uint8)
        array = raw.view(np.float32).reshape(array.shape)
        assert not array.flags.aligned
    elif order == "big-endian":
        array = array.astype(">f4")
    else:
        array = np.array(array, order=order)  # type: ignore[call-overload]
    m.constants[w] = array
    x = m.input("x", "N", 6)
    compared(m.graph(m("MatMul", x, w, out="y"), m("Add", x, m("Neg", m.const((6,))), out="z")), isa)


@pytest.mark.parametrize("wanted", [(5, 3), (2, 7), (0, 3), (-1, 3)])
def test_a_shape_to_which_nothing_can_be_expanded(wanted: tuple[int, int]) -> None:
    """Known when the model runs, and of a result whose shape would be known if it fitted."""
    m = Maker(dtype=F32)
    x = m.input("x", 2, 3)
    m.inputs["shape"] = TensorType(np.dtype(np.int64), (2,))
    model = Model(m.graph(m("Expand", x, "shape")))
    ones = np.ones((2, 3), np.float32)
    assert model.run({"x": ones, "shape": np.array([1, 3])})["v0"].shape == (2, 3)
    with pytest.raises(GraphError, match="Expand"):
        model.run({"x": ones, "shape": np.array(wanted)})


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_a_division_by_zero_names_its_node(op: str) -> None:
    numbers = TensorType(np.dtype(np.int64), ("n",))
    model = Model(Graph({"x": numbers, "z": numbers}, ["y"], [Node(op, ["x", "z"], ["y"])]))
    with pytest.raises(Error, match=f"node {op} -> 'y'.*division by zero"):
        model.run({"x": np.array([1, 2]), "z": np.array([1, 0])})
