"""Operators that move, choose and order elements: every element type, ties, duplicates, empty and unknown shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_node import run_node

from forwardpass.dtypes import BFLOAT16, DTYPES, STRING, decode, encode, is_narrow, name_of
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, evaluate_node, infer_node, infer_types
from tolerance import ONNX_FLOAT32, ONNX_FLOAT64

TYPES = [pytest.param(d, id=name_of(d)) for d in DTYPES.values()]
NUMBERS = [pytest.param(d, id=name_of(d)) for d in DTYPES.values() if d.kind in "fiu" or d == BFLOAT16]


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _several(dtype: np.dtype[Any], count: int) -> np.ndarray:
    """Elements that differ where the type has so many; the first is what padding gives."""
    if dtype == STRING:
        return np.array(["", *(f"s{k}" for k in range(1, count))], object)
    if is_narrow(dtype):
        codes = np.arange(count) % (2 if name_of(dtype) in ("int2", "int4") else 4)
        return np.ascontiguousarray(codes.astype(dtype[0])).view(dtype)
    return (np.arange(count) * (1 + 1j if dtype.kind == "c" else 1)).astype(dtype)


# Operator, shapes of the inputs that have the element type, their places among the inputs, other inputs, attributes.
MOVES: list[tuple[str, list[tuple[int, ...]], dict[int, np.ndarray], dict[str, Any]]] = [
    ("Gather", [(3, 4)], {1: np.array([[1, -1], [0, 2]])}, {"axis": 1}),
    ("Gather", [(5,)], {1: np.array(-2)}, {}),
    ("GatherElements", [(3, 4)], {1: np.array([[2, 0, -1, 1]])}, {}),
    ("GatherND", [(2, 3, 4)], {1: np.array([[[0, -1]], [[2, 1]]])}, {"batch_dims": 1}),
    ("GatherND", [(3,)], {1: np.array([2])}, {}),
    ("ScatterElements", [(3, 4), (3, 1)], {1: np.array([[1], [-1], [0]])}, {"axis": 1}),
    ("ScatterND", [(3, 4), (2, 4)], {1: np.array([[-1], [0]])}, {}),
    ("TensorScatter", [(2, 4, 3), (2, 2, 3)], {2: _ints(3, 1)}, {"mode": "circular"}),
    ("Split", [(5, 2)], {1: _ints(1, 0, 4)}, {}),
    ("Split", [(2, 5)], {}, {"num_outputs": 3, "axis": -1}),
    ("Tile", [(2, 3)], {1: _ints(2, 3)}, {}),
    ("Expand", [(3, 1)], {1: _ints(2, 1, 4)}, {}),
    ("Compress", [(3, 2)], {1: np.array([True, False, True])}, {"axis": 0}),
    ("Where", [(3, 1), (1, 2)], {0: np.array([[True], [False], [True]])}, {}),
    ("Where", [(), ()], {0: np.array(False)}, {}),
    ("ReverseSequence", [(4, 3)], {1: _ints(4, 2, 1)}, {}),
    ("DepthToSpace", [(1, 8, 2, 3)], {}, {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [(1, 2, 4, 6)], {}, {"blocksize": 2}),
    ("Transpose", [(2, 3, 4)], {}, {"perm": [2, 0, 1]}),
    ("Concat", [(2, 3), (2, 1)], {}, {"axis": -1}),
    ("Slice", [(5, 4)], {1: _ints(-1, 0), 2: _ints(-9, 3), 3: _ints(0, 1), 4: _ints(-2, 2)}, {}),
    ("Reshape", [(2, 6)], {1: _ints(3, -1)}, {}),
    ("Flatten", [(2, 3, 2)], {}, {}),
    ("Squeeze", [(2, 1, 3)], {}, {}),
    ("Unsqueeze", [(2, 3)], {1: _ints(0, -1)}, {}),
    ("Identity", [(2, 3)], {}, {}),
    ("Trilu", [(3, 4)], {1: np.array(-1)}, {}),
    ("Trilu", [(2, 3, 3)], {}, {"upper": 0}),
    ("CenterCropPad", [(5, 2)], {1: _ints(2, 5)}, {}),
    ("Pad", [(2, 3)], {1: _ints(1, 0, 0, 2)}, {}),
    ("Pad", [(2, 3), ()], {1: _ints(2, 1), 3: _ints(-2)}, {}),
    ("Pad", [(2, 3)], {1: _ints(1, 2, 1, 0)}, {"mode": "reflect"}),
    ("Pad", [(2, 3)], {1: _ints(1, 2, 1, 0)}, {"mode": "edge"}),
    ("Pad", [(2, 3)], {1: _ints(3, 4, 1, 0)}, {"mode": "wrap"}),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("op", "given", "fixed", "attributes"), MOVES, ids=[f"{m[0]}-{k}" for k, m in enumerate(MOVES)]
)
def test_elements_of_every_type_go_where_integers_go(
    op: str, given: list[tuple[int, ...]], fixed: dict[int, np.ndarray], attributes: dict[str, Any], dtype: Any
) -> None:
    sizes = [int(np.prod(s)) for s in given]
    starts = np.cumsum([1, *sizes])  # place 0 is what padding gives
    values = _several(dtype, int(starts[-1]))

    def inputs(source: np.ndarray) -> list[Any]:
        own = iter([source[a : a + n].reshape(s) for a, n, s in zip(starts, sizes, given)])
        count = len(given) + len(fixed)
        places = range(max([count - 1, *fixed]) + 1)
        free = [k for k in places if k not in fixed][: len(given)]
        return [fixed[k] if k in fixed else next(own) if k in free else None for k in places]

    node = Node(op, [f"v{k}" if v is not None else "" for k, v in enumerate(inputs(values))], ["y"], attributes)
    moved = evaluate_node(node, inputs(np.arange(starts[-1])))
    found = evaluate_node(node, inputs(values))
    assert len(found) == len(moved)
    for y, places in zip(found, moved):
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.asarray(values[places], dtype))


def test_split_leaves_the_last_parts_smaller_or_empty() -> None:
    x = np.arange(5.0)
    assert [len(p) for p in run_node("Split", x, outputs=4, num_outputs=4)] == [2, 2, 1, 0]
    assert [len(p) for p in run_node("Split", x, outputs=2, num_outputs=2)] == [3, 2]


def test_split_by_sizes_that_a_call_gives() -> None:
    node = Node("Split", ["x", "split"], ["a", "b"])
    types = {"x": TensorType(np.dtype(np.float32), ("N", 3)), "split": TensorType(np.dtype(np.int64), None)}
    graph = Graph(types, ["a", "b"], [node])
    assert infer_types(graph)["b"].shape == (None, 3)
    found = evaluate(graph, {"x": np.ones((5, 3), np.float32), "split": _ints(1, 4)})
    assert found["b"].shape == (4, 3)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_updates_of_one_place_come_one_after_the_other(op: str, reduction: str, rng: np.random.Generator) -> None:
    combine = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    x = rng.integers(-4, 5, 4).astype(np.float64)
    indices, updates = rng.integers(-4, 4, 12), rng.integers(-4, 5, 12).astype(np.float64)
    expected = x.copy()
    for k, v in zip(indices, updates):
        expected[k] = combine[reduction](expected[k], v)
    places = indices if op == "ScatterElements" else indices[:, None]
    np.testing.assert_array_equal(run_node(op, x, places, updates, reduction=reduction), expected)


def test_sums_of_narrow_updates_are_rounded_once() -> None:
    x, updates = encode(np.array([256.0, 1.0]), BFLOAT16), encode(np.ones(2), BFLOAT16)
    y = run_node("ScatterElements", x, np.array([0, 0]), updates, reduction="add")
    np.testing.assert_array_equal(decode(y), [258, 1])


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_takes_the_first_of_equals(dtype: Any, largest: int, rng: np.random.Generator) -> None:
    whole = rng.integers(0, 4, (5, 11))
    x = encode(whole, dtype) if is_narrow(dtype) else whole.astype(dtype)
    values, indices = run_node("TopK", x, _ints(7), outputs=2, largest=largest)
    for row, v, k in zip(whole, values, indices):
        order = sorted(range(11), key=lambda j: (-row[j] if largest else row[j], j))[:7]
        np.testing.assert_array_equal(k, order)
        np.testing.assert_array_equal(decode(v).astype(np.int64), row[order])


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg_max_and_min_of_ties(dtype: Any, op: str, rng: np.random.Generator) -> None:
    whole = rng.integers(0, 3, (4, 9))
    x = encode(whole, dtype) if is_narrow(dtype) else whole.astype(dtype)
    best = whole.max(1) if op == "ArgMax" else whole.min(1)
    places = [np.flatnonzero(row == b) for row, b in zip(whole, best)]
    first = run_node(op, x, axis=1, keepdims=0)
    last = run_node(op, x, axis=-1, select_last_index=1)
    assert first.dtype == last.dtype == np.int64
    np.testing.assert_array_equal(first, [p[0] for p in places])
    np.testing.assert_array_equal(last, [[p[-1]] for p in places])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique_elements_lead_back_to_all(dtype: Any, ordered: int) -> None:
    source = _several(dtype, 2)
    x = source[np.array([1, 0, 1, 1, 0])]
    y, first, inverse, counts = run_node("Unique", x, outputs=4, sorted=ordered)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[inverse], x)
    np.testing.assert_array_equal(x[first], y)
    np.testing.assert_array_equal(y, source if ordered else source[::-1])
    np.testing.assert_array_equal(counts, [2, 3] if ordered else [3, 2])


def test_unique_rows() -> None:
    x = np.array([["b", "a"], ["a", "z"], ["b", "a"]], object)
    y, first, inverse, counts = run_node("Unique", x, outputs=4, axis=0)
    np.testing.assert_array_equal(y, [["a", "z"], ["b", "a"]])
    np.testing.assert_array_equal(first, [1, 0])
    np.testing.assert_array_equal(inverse, [1, 0, 1])
    np.testing.assert_array_equal(counts, [1, 2])
    y, _, inverse, counts = run_node("Unique", np.zeros((3, 0)), outputs=4, axis=0)
    assert y.shape == (1, 0)
    np.testing.assert_array_equal(counts, [3])
    assert run_node("Unique", np.zeros((0, 3)), outputs=4, axis=0)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize(("op", "function"), [("CumSum", np.cumsum), ("CumProd", np.cumprod)])
def test_running_sums_and_products(dtype: Any, op: str, function: Any, rng: np.random.Generator) -> None:
    whole = rng.integers(1, 3, (3, 5))
    x = encode(whole, dtype) if is_narrow(dtype) else whole.astype(dtype)
    neutral = np.full((3, 1), op == "CumProd")
    np.testing.assert_array_equal(decode(run_node(op, x, np.array(1))), function(whole, axis=1))
    backwards = decode(run_node(op, x, np.array(-1), reverse=1, exclusive=1))
    expected = np.concatenate([function(whole[:, :0:-1], axis=1)[:, ::-1], neutral], axis=1)
    np.testing.assert_array_equal(backwards, expected)


def test_running_sums_of_halves_are_rounded_once() -> None:
    y = run_node("CumSum", np.ones(4096, np.float16), np.array(0))
    np.testing.assert_array_equal(y, np.arange(1, 4097).astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32, np.int64, BFLOAT16])
def test_ranges(dtype: Any) -> None:
    dtype = np.dtype(dtype)
    for start, limit, delta in ((2, 11, 3), (10, -4, -2), (3, 3, 1), (5, 1, 1)):
        ends = [np.array(v, np.float32 if is_narrow(dtype) else dtype) for v in (start, limit, delta)]
        y = run_node("Range", *(encode(e, dtype) if is_narrow(dtype) else e for e in ends))
        assert y.dtype == dtype
        np.testing.assert_array_equal(decode(y), np.arange(start, limit, delta))


def test_long_ranges_of_halves_do_not_stand_still() -> None:
    y = run_node("Range", *(np.array(v, np.float16) for v in (0, 4096, 1)))
    np.testing.assert_array_equal(y, np.arange(4096).astype(np.float16))


@pytest.mark.parametrize("dtype", TYPES)
def test_one_hot_of_every_type(dtype: Any) -> None:
    values = _several(dtype, 2)
    y = run_node("OneHot", np.array([2, -1, 7, -9], np.int32), np.array([3]), values)
    np.testing.assert_array_equal(y, values[np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]])])
    y = run_node("OneHot", np.array([1.9, np.nan, np.inf, 2**63], np.float32), np.float32(2.5), values, axis=0)
    np.testing.assert_array_equal(y, values[np.array([[0, 0, 0, 0], [1, 0, 0, 0]])])


def test_non_zero_of_any_rank() -> None:
    np.testing.assert_array_equal(run_node("NonZero", np.array([["", "a"], ["b", ""]], object)), [[0, 1], [1, 0]])
    assert run_node("NonZero", np.array(3.0)).shape == (0, 1)
    assert run_node("NonZero", np.array(0)).shape == (0, 0)


@pytest.mark.parametrize("dtype", [d for d in TYPES if d.id not in ("string", "complex64", "complex128")])
def test_eye_of_every_type(dtype: Any) -> None:
    code = next(c for c, d in DTYPES.items() if d == dtype)
    y = run_node("EyeLike", np.zeros((2, 3), np.int8), dtype=code, k=1)
    expected = np.eye(2, 3, k=1, dtype=np.float32)
    assert y.dtype == dtype
    np.testing.assert_array_equal(decode(y), decode(encode(expected, dtype)) if is_narrow(dtype) else expected)
    assert run_node("EyeLike", np.zeros((2, 3), np.int8), k=-(2**63)).sum() == 0


def test_size_is_known_where_the_shape_is() -> None:
    graph = Graph({"x": TensorType(STRING, (2**20, 2**30))}, ["n"], [Node("Size", ["x"], ["n"])])
    values: dict[str, np.ndarray] = {}
    infer_types(graph, values=values)
    assert int(values["n"]) == 2**50


@pytest.mark.parametrize("center", [0, 1])
def test_non_max_suppression_as_the_evaluator(center: int, rng: np.random.Generator) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    evaluator = pytest.importorskip("onnx.reference", reason="onnx is not installed (extra [test])").ReferenceEvaluator
    boxes = rng.uniform(0, 4, (2, 40, 4)).astype(np.float32)
    scores = rng.integers(0, 12, (2, 3, 40)).astype(np.float32) / 12  # many are equal
    inputs = [boxes, scores, _ints(9), np.array([0.25], np.float32), np.array([0.3], np.float32)]
    names = ["boxes", "scores", "most", "iou", "least"]
    made = onnx.helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=center)
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(i.dtype), i.shape)
        for n, i in zip(names, inputs)
    ]
    out = onnx.helper.make_tensor_value_info("y", 7, None)
    model = onnx.helper.make_model(onnx.helper.make_graph([made], "g", infos, [out]))
    (expected,) = evaluator(model).run(None, dict(zip(names, inputs)))
    found = run_node("NonMaxSuppression", *inputs, center_point_box=center)
    assert len(found) > 20
    np.testing.assert_array_equal(found, expected)
    assert run_node("NonMaxSuppression", boxes, scores).shape == (0, 3)


EQUATIONS = [
    ("ij,jk->ik", [(3, 4), (4, 2)]),
    ("ij , jk -> ik", [(3, 4), (4, 2)]),
    ("bij,bjk", [(2, 3, 4), (2, 4, 5)]),
    ("iji->j", [(3, 2, 3)]),
    ("ba", [(2, 3)]),
    ("zA", [(2, 3)]),
    ("...ii->...", [(2, 3, 4, 4)]),
    ("...,...->...", [(2, 3), (2, 1)]),
    ("a...b,b...c", [(2, 3, 4), (4, 3, 5)]),
    ("ab,ab,b->a", [(2, 3), (2, 3), (3,)]),
    ("ab,cd->", [(2, 3), (4, 5)]),
    (",a->a", [(), (3,)]),
    ("ab,b->a", [(2, 0), (0,)]),
]


@pytest.mark.parametrize(("equation", "given"), EQUATIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64"])
def test_einsum(equation: str, given: list[tuple[int, ...]], dtype: str, rng: np.random.Generator) -> None:
    arrays = [rng.integers(0, 2, s).astype(dtype) for s in given]
    y = run_node("Einsum", *arrays, equation=equation)
    expected = np.einsum(equation, *(a.astype(np.int64) for a in arrays))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


def test_einsum_repeats_dimensions_of_size_1() -> None:
    a, b = np.arange(3.0).reshape(1, 3), np.arange(8.0).reshape(2, 4)[:, :3]
    np.testing.assert_allclose(run_node("Einsum", a, b, equation="ij,ij->ij"), a * b, **ONNX_FLOAT64)


def test_sums_over_the_dimensions_of_an_ellipsis() -> None:
    assert run_node("Einsum", np.ones((2, 3, 4)), equation="...a->a").tolist() == [6, 6, 6, 6]


def test_determinants() -> None:
    x = np.random.default_rng(3).standard_normal((2, 5, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(run_node("Det", x), np.linalg.det(x.astype(np.float64)), **ONNX_FLOAT32)
    assert run_node("Det", np.zeros((2, 0, 0))).tolist() == [1, 1]


def test_identity_passes_containers_through() -> None:
    node = Node("Identity", ["x"], ["y"])
    arrays = [np.ones(2), np.zeros(3)]
    assert evaluate_node(node, [arrays]) == [arrays]
    assert evaluate_node(node, [None]) == [None]
    sequence = TensorType(np.dtype(np.int8), None, ("optional", "sequence"))
    assert infer_node(node, [sequence]) == [sequence]
