"""Weights of products on matrix tiles that are float32 numbers in memory, and split beside the products."""

from __future__ import annotations

import numpy as np
import pytest
from planned import on_tiles, tiles_always
from test_accuracy import KINDS, _error, _sequential
from test_tiles import conv, linear, operands, same_bits

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split, split_cost
from forwardpass.plan import Plan, Settings, make_plan
from tolerance import NOT_WORSE, native

CASES = {
    "one tile": {"shape": (1, 4, 4, 32), "outputs": 32, "kernel": 1},
    "an odd number of tiles": {"shape": (2, 3, 16, 160), "outputs": 64, "kernel": 1, "activation": "Relu"},
    "more tiles than L1 takes": {"shape": (1, 10, 16, 70), "outputs": 32, "kernel": 3, "pads": [1, 1, 1, 1]},
    "strides": {"shape": (2, 9, 9, 33), "outputs": 96, "kernel": 3, "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "residual": {"shape": (2, 5, 5, 48), "outputs": 64, "kernel": 3, "pads": [1, 1, 1, 1], "residual": True},
    "sums of chunks": {"shape": (1, 5, 5, 300), "outputs": 96, "kernel": 3, "pads": [1, 1, 1, 1], "activation": "Relu"},
    "chunks and a residual": {"shape": (1, 3, 3, 1500), "outputs": 64, "kernel": 1, "residual": True},
}  # fmt: skip


@pytest.fixture(autouse=True)
def floats_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    monkeypatch.setattr(split_cost, "_FLOAT_BYTES", 0)
    monkeypatch.setattr(split_cost, "_FLOAT_TILES", 1 << 30)
    monkeypatch.setattr(split_cost, "RESIDENT_BYTES", 1 << 30)


def floats(plan: Plan) -> list[int]:
    return [s.params["floats"] for s in plan.steps if s.kernel == "brgemm_split_f32"]


def run(graph: Graph, x: dict[str, np.ndarray], chosen: Settings) -> np.ndarray:
    plan = make_plan(graph, {k: v.shape for k, v in x.items()}, chosen, {})
    assert set(floats(plan)) == {1}
    return plan.run([np.ascontiguousarray(x[k]) for k in graph.inputs])[0]


@pytest.mark.parametrize("name", CASES)
def test_convolutions_compute_the_definition(name: str, isa: str, rng: np.random.Generator) -> None:
    graph, x = conv(rng, **CASES[name])
    want = evaluate(graph, x, dtype=np.float64)["y"]
    got = run(graph, x, on_tiles(isa))
    np.testing.assert_allclose(got, want, **native(want))
    assert same_bits(got, run(graph, x, on_tiles("scalar")))


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", CASES)
def test_neither_batch_nor_threads_change_the_bits(name: str, isa: str, rng: np.random.Generator) -> None:
    graph, x = conv(rng, **CASES[name])
    want = run(graph, {k: v[:1] for k, v in x.items()}, on_tiles(isa))
    others = {
        k: np.concatenate([rng.standard_normal((4, *v.shape[1:]), dtype=np.float32), v[:1]]) for k, v in x.items()
    }
    for threads in (1, 2, 3):
        assert same_bits(run(graph, others, on_tiles(isa, threads))[4:], want)


def test_a_product_that_makes_the_next_operand(isa: str, rng: np.random.Generator) -> None:
    """Panels go to threads in twos there."""
    x = rng.standard_normal((1, 4, 5, 64), dtype=np.float32)
    weights = {k: rng.standard_normal((1, 1, 64, 64), dtype=np.float32) for k in ("v", "w")}
    nodes = [
        Node("Conv", ["x", "v"], ["h"], {"kernel_shape": [1, 1]}, "nhwc"),
        Node("Conv", ["h", "w"], ["y"], {"kernel_shape": [1, 1]}, "nhwc"),
    ]
    graph = Graph({"x": TensorType.of(x)}, ["y"], nodes, weights)
    want = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    for threads in (1, 2):
        np.testing.assert_allclose(run(graph, {"x": x}, on_tiles(isa, threads)), want, **native(want))


@pytest.mark.parametrize("kind", [*KINDS, "one huge element"])
@pytest.mark.parametrize("k", [32, 200, 2304])
def test_float32_is_never_less_accurate_than_a_sequential_sum(
    kind: str, k: int, isa: str, rng: np.random.Generator
) -> None:
    a, b = operands(kind, rng, 48, k, 64)
    want = a.astype(np.float64) @ b.astype(np.float64)
    graph, x = linear(a, b)
    assert _error(run(graph, x, on_tiles(isa))[0], want) <= NOT_WORSE * _error(_sequential(a, b), want)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38])
@pytest.mark.parametrize("where", ["image", "weights"])
def test_what_cannot_be_split(value: float, where: str, isa: str, rng: np.random.Generator) -> None:
    """Is computed by FMA; no other pixel or output changes."""
    graph, x = conv(rng, (1, 6, 6, 72), 32, 3, pads=[1, 1, 1, 1])
    plain = run(graph, x, on_tiles(isa))
    if where == "image":
        x["x"][0, 2, 3, 37] = value
    else:
        graph.constants["w"][1, 2, 3, 4] = value
    got = run(graph, x, on_tiles(isa))
    touched = np.zeros(got.shape, bool)
    if where == "image":
        touched[0, 1:4, 2:5] = True
    else:
        touched[..., 4] = True
    assert same_bits(got[~touched], plain[~touched])
    with np.errstate(all="ignore"):
        want = evaluate(graph, x, dtype=np.float64)["y"]
    if value == 3.4e38:
        safe = np.abs(want) < 3.39e38
        np.testing.assert_allclose(got[safe], want[safe], rtol=2e-5, atol=1e33)
    else:
        assert not np.isfinite(want).all()
        np.testing.assert_array_equal(got[~np.isfinite(want)], want[~np.isfinite(want)])


@pytest.mark.parametrize(("rows", "columns", "found"), [(49, 1024, 1), (49, 1040, 0), (130, 1024, 0), (49, 256, 0)])
def test_choice_is_of_large_weights_and_few_pixels(
    rows: int, columns: int, found: int, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    b = np.zeros((512, columns), np.float32)
    for batch in (1, 3):
        graph, _ = linear(np.zeros((rows, 512), np.float32), b)
        graph.inputs["x"] = TensorType(np.dtype(np.float32), ("n", rows, 512))
        assert set(floats(make_plan(graph, {"x": (batch, rows, 512)}, on_tiles(isa), {}))) == {found}
        precisions = (on_tiles(isa, precision=p) for p in ("fast", "bfloat16"))
        assert not any(any(floats(make_plan(graph, {"x": (batch, rows, 512)}, p, {}))) for p in precisions)


def test_parts_of_an_image_choose_as_the_whole(
    isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image is split in parts of its rows, two are not; and terms that are made beside products are other ones."""
    monkeypatch.undo()
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    monkeypatch.setattr(split_cost, "_FLOAT_BYTES", 0)
    monkeypatch.setattr(lower_split, "PART_BYTES", 1 << 14)
    monkeypatch.setattr(lower_split, "PART_WEIGHTS", 0)
    graph, x = conv(rng, (1, 12, 12, 64), 32, 3, pads=[1, 1, 1, 1])
    want = None
    for batch, threads in ((1, 1), (1, 2), (2, 1)):
        images = np.repeat(x["x"], batch, 0)
        plan = make_plan(graph, {"x": images.shape}, on_tiles(isa, threads), {})
        assert set(floats(plan)) == {0}
        assert len(floats(plan)) > 1
        found = plan.run([images])[0][:1]
        want = found if want is None else want
        assert same_bits(found, want)


def test_numbers_are_packed_as_they_are(isa: str, rng: np.random.Generator) -> None:
    b = rng.standard_normal((2, 33, 32), dtype=np.float32)
    packed = np.full((2, 2, 2, 32, 16), np.nan, np.float32)
    fields = {"terms": 0, "taps": 2, "k": 33, "n": 32, "in_tap": 33 * 32, "in_k": 32, "in_n": 1}
    _native.run_kernel(isa, "pack_split_f32", fields, [b], packed, 0, 2)
    filled = np.zeros((2, 64, 32), np.float32)
    filled[:, :33] = b
    np.testing.assert_array_equal(packed, filled.reshape(2, 2, 32, 2, 16).transpose(3, 1, 0, 2, 4))
