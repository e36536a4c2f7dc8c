"""If, Loop and Scan: by hand, and against onnxruntime."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from nodes import BOOL, FLOAT, INT, body, fits, floats, infer, loop_body, run

from forwardpass.dtypes import BFLOAT16, encode
from forwardpass.errors import GraphError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, infer_types
from tolerance import NETWORK_FLOAT64


def _both(text: str, inputs: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    from forwardpass.formats.onnx import import_model

    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    graph = import_model(model)
    types = infer_types(graph)
    found = evaluate(graph, inputs)
    for name, value in found.items():
        fits(types[name], value)
    return list(found.values()), expected


def _agree(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        if isinstance(z, list):
            assert isinstance(y, list)
            _agree(y, z)
        else:
            assert y.dtype == np.asarray(z).dtype
            np.testing.assert_array_equal(y, z)


_COUNTING = """
counted (int64 n, bool c, float[2] x) => (float[2] y, int64[m] ys, float[k, 2] zs) {
  y, ys, zs = Loop (%s, %s, x) <body =
  step (int64 i, bool go, float[2] s) => (bool more, float[2] t, int64 j, float[2] z) {
    one = Constant <value = float {1}> ()
    limit = Constant <value = float {40}> ()
    t = Add (s, x)
    z = Add (t, one)
    sum = ReduceSum <keepdims = 0> (t)
    more = Less (sum, limit)
    j = Identity (i)
  }>
}
"""


@pytest.mark.parametrize(("trips", "condition"), [("n", "c"), ("n", ""), ("", "c")])  # else it has no end
@pytest.mark.parametrize(("n", "c"), [(0, True), (3, True), (3, False), (50, True)])
def test_a_loop_ends_as_the_standard_says(trips: str, condition: str, n: int, c: bool) -> None:
    inputs = {"n": np.array(n), "c": np.array(c), "x": np.array([1.5, 2], np.float32)}
    found, expected = _both(_COUNTING % (trips or '""', condition or '""'), inputs)
    iterations = min(n if trips else 99, 11 if condition else 99) if c or not condition else 0
    assert found[1].tolist() == list(range(iterations))
    assert found[2].shape == (iterations, 2)
    # Without a condition onnxruntime stops where the body says so, though the text calls that ignored.
    if condition or n < 11:
        _agree(found, expected)


def test_bodies_see_the_values_around_them() -> None:
    text = """
    nested (int64 n, float[3] x, float[1] w) => (float[3] y) {
      c = Constant <value = bool {1}> ()
      two = Constant <value = int64 {2}> ()
      y = Loop (n, c, x) <body = outer (int64 i, bool go, float[3] s) => (bool go2, float[3] t) {
        go2 = Identity (go)
        scaled = Mul (s, w)
        t = Loop (two, go, scaled) <body = inner (int64 j, bool go3, float[3] u) => (bool go4, float[3] v) {
          go4 = Identity (go3)
          f = Cast <to = 1> (i)
          odd = Mod (j, two)
          is_odd = Cast <to = 9> (odd)
          g = If (is_odd) <
            then_branch = then () => (float[3] a) { a = Add (x, f) },
            else_branch = else () => (float[3] b) { b = Sub (x, scaled) }>
          v = Add (u, g)
        }>
      }>
    }
    """
    inputs = {"n": np.array(3), "x": np.array([1, 2, 3], np.float32), "w": np.array([2], np.float32)}
    _agree(*_both(text, inputs))


def test_a_loop_collects_a_sequence() -> None:
    text = """
    collect (int64 n, float[2] x) => (float[m] y, int64 length) {
      c = Constant <value = bool {1}> ()
      none = SequenceEmpty <dtype = 1> ()
      all = Loop (n, c, none) <body = step (int64 i, bool go, seq(float[m]) s) => (bool go2, seq(float[m]) t) {
        go2 = Identity (go)
        f = Cast <to = 1> (i)
        v = Mul (x, f)
        t = SequenceInsert (s, v)
      }>
      y = ConcatFromSequence <axis = 0> (all)
      length = SequenceLength (all)
    }
    """
    _agree(*_both(text, {"n": np.array(4), "x": np.array([1, 2], np.float32)}))


@pytest.mark.parametrize("directions", list(product((0, 1), repeat=3)))
@pytest.mark.parametrize("axes", [(0, 0, 0), (1, 2, -1), (-1, 0, 1)])
def test_scans_go_along_any_axis_both_ways(directions: tuple[int, ...], axes: tuple[int, ...], rng: Any) -> None:
    sizes = [[2, 3], [2, 3]]
    for size, axis in zip(sizes, axes):
        size.insert(axis % 3, 4)
    a, b = (rng.standard_normal(size).astype(np.float32) for size in sizes)
    text = f"""
    scanned (float[p, q, r] a, float[s, t, u] b, float[2, 3] h, float[1] w) => (float[2, 3] y, float[d, e, f] ys) {{
      y, ys = Scan <num_scan_inputs = 2, scan_input_axes = [{axes[0]}, {axes[1]}], scan_output_axes = [{axes[2]}],
        scan_input_directions = [{directions[0]}, {directions[1]}], scan_output_directions = [{directions[2]}],
        body = step (float[2, 3] s, float[2, 3] x, float[2, 3] z) => (float[2, 3] t, float[2, 3] o) {{
          product = Mul (s, w)
          more = Add (product, x)
          t = Sub (more, z)
          o = Add (t, x)
        }}> (h, a, b)
    }}
    """
    inputs = {"a": a, "b": b, "h": rng.standard_normal((2, 3)).astype(np.float32), "w": np.array([0.5], np.float32)}
    found, expected = _both(text, inputs)
    _agree(found, expected)


def _branch(value: np.ndarray, captured: dict[str, TensorType] | None = None) -> Graph:
    return body(captured or {}, [], ["v"], v=value)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [(((2, 3), (2, 3)), (2, 3)), (((2, 3), (2, 4)), (2, None)), (((2, 3), (2,)), None), (((), ()), ())],
)
def test_if_has_a_type_that_both_branches_fit(shapes: Any, expected: Any) -> None:
    branches = [_branch(np.zeros(s, np.float32)) for s in shapes]
    attributes = {"then_branch": branches[0], "else_branch": branches[1]}
    condition = TensorType(BOOL, ())
    assert infer("If", condition, **attributes) == [TensorType(FLOAT, expected)]
    for k, value in enumerate((True, False)):
        known = infer("If", condition, constants=[np.array(value)], **attributes)
        assert known == [TensorType(FLOAT, shapes[k])]
        assert run("If", np.array([value]), **attributes).shape == shapes[k]


def test_if_takes_no_notice_of_a_branch_for_other_shapes() -> None:
    x = floats(1, 3)
    squeeze = body({"x": x}, [Node("Squeeze", ["x", "axes"], ["y"])], ["y"], axes=[1])
    keep = body({"x": x}, [Node("Identity", ["x"], ["y"])], ["y"])
    found = infer("If", TensorType(BOOL, ()), x, then_branch=squeeze, else_branch=keep, captures=1)
    assert found == [x]
    with pytest.raises(GraphError, match="Squeeze"):
        infer("If", TensorType(BOOL, ()), x, then_branch=squeeze, else_branch=squeeze, captures=1)


def test_wrong_branches_are_errors() -> None:
    condition = TensorType(BOOL, ())
    one, other = _branch(np.zeros(2, np.float32)), _branch(np.zeros(2))
    with pytest.raises(GraphError, match="differs in type"):
        infer("If", condition, then_branch=one, else_branch=other)
    two = body({}, [], ["v", "w"], v=np.zeros(1), w=np.zeros(1))
    with pytest.raises(GraphError, match="differ in their outputs"):
        infer("If", condition, then_branch=one, else_branch=two)
    with pytest.raises(GraphError, match="no single value"):
        infer("If", TensorType(BOOL, (2,)), then_branch=one, else_branch=one)
    with pytest.raises(GraphError, match="a graph"):
        infer("If", condition, then_branch=one, else_branch=3)
    with pytest.raises(GraphError, match="1 inputs"):
        infer("If", condition, floats(2), then_branch=one, else_branch=one, captures=1)


_GROWS = loop_body(
    {"s": floats(None)},
    [Node("Concat", ["s", "one"], ["t"], {"axis": 0})],
    ["go", "t", "s"],
    one=np.ones(1, np.float32),
)
_KEEPS = loop_body({"s": floats(2)}, [Node("Neg", ["s"], ["t"]), Node("Identity", ["t"], ["u"])], ["go", "t", "u"])


def test_a_state_that_grows_has_an_unknown_size() -> None:
    trips = TensorType(INT, ())
    assert infer("Loop", trips, None, floats(2), body=_GROWS) == [floats(None), floats(None, None)]
    y, ys = run("Loop", np.array(1), np.array(True), np.zeros(2, np.float32), body=_GROWS, outputs=2)
    assert y.tolist() == [0, 0, 1]
    assert ys.shape == (1, 2)
    with pytest.raises(GraphError, match="scan output 's' changes its type"):
        run("Loop", np.array(2), np.array(True), np.zeros(2, np.float32), body=_GROWS, outputs=2)


def test_a_state_that_keeps_its_shape_has_it() -> None:
    trips, go = TensorType(INT, ()), TensorType(BOOL, ())
    assert infer("Loop", trips, None, floats(2, 3), body=_KEEPS) == [floats(2, 3), floats(None, 2, 3)]
    assert infer("Loop", trips, None, floats(2), body=_KEEPS, constants=[np.array(5)])[1] == floats(5, 2)
    known = [np.array(5), np.array(True)]
    assert infer("Loop", trips, go, floats(2), body=_KEEPS, constants=known)[1] == floats(5, 2)
    assert infer("Loop", trips, go, floats(2), body=_KEEPS, constants=[np.array(5)])[1] == floats(None, 2)
    assert infer("Loop", trips, go, floats(2), body=_KEEPS, constants=[np.array(-5), None])[1] == floats(0, 2)


def test_states_that_are_handed_around_lose_their_sizes() -> None:
    names = [f"s{k}" for k in range(12)]
    turned = loop_body({n: floats(None) for n in names}, [], ["go", *names[1:], names[0]])
    found = infer("Loop", TensorType(INT, ()), None, *[floats(k + 1, 2) for k in range(12)], body=turned)
    for k, t in enumerate(found):
        assert t.shape in (None, (None, 2)), k
    arrays = [np.full((k + 1, 2), k, np.float32) for k in range(12)]
    results = run("Loop", np.array(5), np.array(True), *arrays, body=turned, outputs=12)
    assert [len(r) for r in results] == [6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5]


def test_no_iterations_give_no_elements_of_the_inferred_shape() -> None:
    x = np.ones((2, 3), np.float32)
    y, ys = run("Loop", np.array(0), np.array(True), x, body=_KEEPS, outputs=2)
    np.testing.assert_array_equal(y, x)
    assert ys.shape == (0, 2, 3)
    assert ys.dtype == FLOAT
    step = body({"s": floats(2), "x": floats(3)}, [], ["s", "x"])
    y, ys = run("Scan", x[0, :2], x[:0], body=step, num_scan_inputs=1, scan_output_axes=[-1], outputs=2)
    assert y.tolist() == [1, 1]
    assert ys.shape == (3, 0)


def test_a_body_may_ask_for_its_scalars_as_vectors() -> None:
    vectors = {"i": TensorType(INT, (1,)), "go": TensorType(BOOL, (1,)), "s": TensorType(INT, (None,))}
    made = body(vectors, [Node("Concat", ["s", "i"], ["t"], {"axis": 0})], ["go", "t"])
    assert run("Loop", np.array([3]), np.array(True), np.array([7]), body=made).tolist() == [7, 0, 1, 2]


def test_scan_outputs_do_not_keep_what_they_are_views_of() -> None:
    slices = [Node("Slice", ["big", "start", "end"], ["u"])]
    made = loop_body({"big": floats(None)}, slices, ["go", "big", "u"], start=np.array([0]), end=np.array([2]))
    big = np.arange(1000, dtype=np.float32)
    _, ys = run("Loop", np.array(3), np.array(True), big, body=made, outputs=2)
    assert not np.shares_memory(ys, big)
    assert ys.tolist() == [[0, 1]] * 3


def test_narrow_values_pass_through_bodies() -> None:
    x = encode(np.array([1.5, -2], np.float32), BFLOAT16)
    kept = loop_body(
        {"s": TensorType(BFLOAT16, (2,))}, [Node("Neg", ["s"], ["t"]), Node("Identity", ["t"], ["u"])], ["go", "t", "u"]
    )
    y, ys = run("Loop", np.array(3), np.array(True), x, body=kept, outputs=2)
    assert y.dtype == ys.dtype == BFLOAT16
    np.testing.assert_array_equal(y, encode(np.array([-1.5, 2], np.float32), BFLOAT16))


def test_bodies_are_promoted_with_the_graph_around_them() -> None:
    third = np.float32(1) / np.float32(3)
    nodes = [Node("Mul", ["s", "third"], ["p"]), Node("Cast", ["p"], ["t"], {"to": 1})]
    made = loop_body({"s": floats(1)}, nodes, ["go", "t"], third=third)
    graph = Graph({"x": floats(1)}, ["y"], [Node("Loop", ["n", "", "x"], ["y"], {"body": made})], {"n": np.array(3)})
    x = np.array([0.1], np.float32)
    y = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, x.astype(np.float64) * np.float64(third) ** 3, **NETWORK_FLOAT64)
    assert evaluate(graph, {"x": x})["y"].dtype == FLOAT


def test_wrong_loops_and_scans_are_errors() -> None:
    trips = TensorType(INT, ())
    number = loop_body({}, [], ["i"])
    with pytest.raises(GraphError, match="condition is wrong"):
        infer("Loop", trips, body=number)
    with pytest.raises(GraphError, match="too few outputs"):
        infer("Loop", trips, None, floats(2), body=loop_body({"s": floats(2)}, [], ["go"]))
    with pytest.raises(GraphError, match="captures"):
        infer("Loop", trips, None, floats(2), body=_KEEPS, captures=2)
    cast = loop_body({"s": floats(2)}, [Node("Cast", ["s"], ["t"], {"to": 7})], ["go", "t"])
    with pytest.raises(GraphError, match="loop state 's' differs in type"):
        infer("Loop", trips, None, floats(2), body=cast)
    step = body({"x": floats(3)}, [], ["x"])
    with pytest.raises(GraphError, match="num_scan_inputs"):
        infer("Scan", floats(2, 3), body=step, num_scan_inputs=2)
    with pytest.raises(GraphError, match="scan_input_axes"):
        infer("Scan", floats(2, 3), body=step, num_scan_inputs=1, scan_input_axes=[2])
    with pytest.raises(GraphError, match="0 \\(forward\\) or 1"):
        infer("Scan", floats(2, 3), body=step, num_scan_inputs=1, scan_input_directions=[2])
    pair = body({"x": floats(3), "z": floats(3)}, [], ["x"])
    with pytest.raises(GraphError, match="lengths of the scan inputs"):
        infer("Scan", floats(2, 3), floats(4, 3), body=pair, num_scan_inputs=2)
