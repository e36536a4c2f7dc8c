"""linear_split_f32 and the recurrent layers that take it: accuracy, bits, numbers too large for terms, the choice."""

from __future__ import annotations

import numpy as np
import pytest

import forwardpass as fp
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import FAST, FLOAT32_OF_FLOAT64, NOT_WORSE, native, network_of

TILES = pytest.mark.skipif("amx" not in _native.available_isas(), reason="no AMX here")


def split(isa: str, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, terms: int = 3) -> np.ndarray:
    (rows, k), n = x.shape, w.shape[1]
    b = np.empty((n // 16, -(-k // 32), 1, terms, 16, 16), np.float32)
    weights = {"terms": terms, "taps": 1, "k": k, "n": n, "in_tap": k * n, "in_k": n, "in_n": 1}
    _native.run_kernel(isa, "pack_split_f32", weights, [w[None]], b, 0, n // 16)
    out = np.full((rows, n), np.nan, np.float32)
    params = {"terms": terms, "rows": rows, "k": k, "n": n, "b": b, "bias": bias}
    _native.run_kernel(isa, "linear_split_f32", params, [x], out, 0, -(-rows // 16))
    return out


def sequential(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """As the FMA kernels have it: the bias comes last."""
    total = np.zeros((len(x), w.shape[1]), np.float32)
    for k in range(x.shape[1]):
        total = (total + np.outer(x[:, k].astype(np.float64), w[k].astype(np.float64))).astype(np.float32)
    return total + bias


def drawn(rng: np.random.Generator, rows: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shapes = ((rows, k), (k, n), (n,))
    x, w, bias = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return x, w, bias


@pytest.mark.parametrize("k", [12, 31, 32, 64, 100, 256])
@pytest.mark.parametrize(("rows", "n"), [(1, 16), (15, 32), (16, 48), (33, 80), (70, 512)])
def test_no_less_accurate_than_a_sum_of_float32(isa: str, k: int, rows: int, n: int, rng: np.random.Generator) -> None:
    x, w, bias = drawn(rng, rows, k, n)
    want = x.astype(np.float64) @ w.astype(np.float64) + bias
    got, plain = split(isa, x, w, bias), sequential(x, w, bias)
    error, limit = (np.sqrt(np.mean((y - want) ** 2)) for y in (got, plain))
    assert error <= NOT_WORSE * limit
    np.testing.assert_allclose(split(isa, x, w, None), want - bias, **native(want))
    norms = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(w, axis=0)) + np.abs(bias)
    assert np.all(np.abs(split(isa, x, w, bias, 2) - want) <= FAST * norms)


@TILES
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_bits_of_the_definition(terms: int, rng: np.random.Generator) -> None:
    x, w, bias = drawn(rng, 37, 90, 112)
    assert split("amx", x, w, bias, terms).tobytes() == split("scalar", x, w, bias, terms).tobytes()


def test_a_row_alone(isa: str, rng: np.random.Generator) -> None:
    x, w, bias = drawn(rng, 35, 64, 96)
    x[20] *= 1e30  # a row that needs float32 changes no other
    together = split(isa, x, w, bias)
    for i in range(35):
        assert split(isa, x[i : i + 1], w, bias).tobytes() == together[i : i + 1].tobytes()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, 1e20])
def test_numbers_that_are_too_large_for_terms(isa: str, value: float, rng: np.random.Generator) -> None:
    x, w, bias = drawn(rng, 17, 40, 32)
    x[3, 5] = x[16, 39] = value
    with np.errstate(all="ignore"):
        want = sequential(x, w, np.zeros(32, np.float32)).astype(np.float64) + bias
    np.testing.assert_allclose(split(isa, x, w, bias), want, **FLOAT32_OF_FLOAT64)


def layer(
    op: str, steps: int | str, width: int = 64, hidden: int = 32, *, scale: float = 0.1, layout: int = 0
) -> Graph:
    rng = np.random.default_rng(1)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * hidden
    shapes = {"w": (1, gates, width), "r": (1, gates, hidden), "b": (1, 2 * gates)}
    weights = {k: (scale * rng.standard_normal(s)).astype(np.float32) for k, s in shapes.items()}
    node = Node(op, ["x", *weights], ["y"], {"hidden_size": hidden, "layout": layout}, "", "layer")
    shape = ("n", steps, width) if layout else (steps, "n", width)
    return Graph({"x": TensorType(np.dtype(np.float32), shape)}, ["y"], [node], weights)


def kernels(model: fp.Model, *shape: int) -> list[str]:
    return [s.kernel for s in model.plan({"x": shape}).steps]


@TILES
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_layers(op: str, rng: np.random.Generator) -> None:
    graph = layer(op, 20)
    x = rng.standard_normal((20, 5, 64), dtype=np.float32)
    want = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    for threads in (1, 2):
        model = fp.Model(graph, threads=threads)
        assert "linear_split_f32" in kernels(model, 20, 5, 64)
        assert model.plan({"x": x.shape}).threads == threads
        y = model(x)
        np.testing.assert_allclose(y, want, **network_of([want]))
        for i in range(5):
            assert model(x[:, i : i + 1]).tobytes() == np.ascontiguousarray(y[:, :, i : i + 1]).tobytes()


@TILES
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_a_row_has_its_steps_between_tiles_of_inputs(op: str, layout: int, rng: np.random.Generator) -> None:
    """From given states on, with the last states and those of all steps: the bits of a batch, whose inputs are
    multiplied at once."""
    hidden = 224
    graph = layer(op, 40, hidden=hidden, layout=layout)
    outputs = ["y", "y_h", *(["y_c"] if op == "LSTM" else [])]
    states = ["h", *(["c"] if op == "LSTM" else [])]
    (node,) = graph.nodes
    node = Node(op, [*node.inputs, "", *states], outputs, node.attributes, "", "layer")
    shape = ("n", 1, hidden) if layout else (1, "n", hidden)
    inputs = {**graph.inputs, **{s: TensorType(np.dtype(np.float32), shape) for s in states}}
    model = fp.Model(Graph(inputs, outputs, [node], graph.constants), threads=1)
    axis = 0 if layout else 1
    x = rng.standard_normal((2, 40, 64) if layout else (40, 2, 64), dtype=np.float32)
    given = {s: rng.standard_normal((2, 1, hidden) if layout else (1, 2, hidden), dtype=np.float32) for s in states}
    both = model(x=x, **given)
    shapes = {"x": (1, 40, 64) if layout else (40, 1, 64), **dict.fromkeys(states, (1, 1, hidden))}
    cut = [s.kernel for s in model.plan(shapes).steps]
    assert cut.count("linear_split_f32") == cut.count(f"{op.lower()}_f32") == 3
    for i in range(2):
        alone = model(x=x.take([i], axis), **{s: v.take([i], axis) for s, v in given.items()})
        for name in outputs:
            at = {"y": 0 if layout else 2}.get(name, axis)
            assert getattr(alone, name).tobytes() == getattr(both, name).take([i], at).tobytes()


@TILES
def test_a_row_is_cut_where_that_pays() -> None:
    """Into few pieces, and only where a step takes a while."""

    def tiles(hidden: int, batch: int) -> int:
        model = fp.Model(layer("GRU", 1100, hidden=hidden), threads=1)
        return kernels(model, 1100, batch, 64).count("linear_split_f32")

    assert 2 < tiles(128, 1) <= 32
    assert tiles(128, 2) == 1
    assert tiles(96, 1) == 1


@TILES
@pytest.mark.parametrize("layout", [0, 1])
def test_choice(layout: int) -> None:
    """By the layer and by steps that the model says; never by those of a call."""

    def chosen(steps: int | str, shape: int, precision: str = "float32", **how: float) -> bool:
        model = fp.Model(layer("LSTM", steps, layout=layout, **how), threads=1, precision=precision)
        width = int(how.get("width", 64))
        return "linear_split_f32" in kernels(model, *((3, shape) if layout else (shape, 3)), width)

    assert chosen(16, 16)
    assert chosen(16, 16, "fast")
    assert not chosen(16, 16, "portable")
    assert not chosen(16, 16, "bfloat16")
    assert not chosen(15, 15)
    assert not chosen("t", 64)
    assert not chosen(16, 16, width=257)
    assert not chosen(16, 16, hidden=7)
    assert not chosen(16, 16, scale=1e18)
