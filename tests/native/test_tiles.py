"""Products on matrix tiles. Every ISA runs them here: those without tiles by an emulation that has the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from planned import on_tiles, settings, tiles_always
from test_accuracy import KINDS, _error, _operands, _sequential

import forwardpass as fp
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split
from forwardpass.plan import Plan, Settings, make_plan
from tolerance import BFLOAT16, FAST, NEAR_GELU, NOT_WORSE, ROUGH_GELU, native

AMX = pytest.mark.skipif("amx" not in _native.available_isas(), reason="no AMX here")


@pytest.fixture(autouse=True)
def always_on_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the layer is, but in the tests of the choice."""
    if "choice" not in request.node.name:
        monkeypatch.setattr(lower_split, "pays", tiles_always)


def run(graph: Graph, x: dict[str, np.ndarray], chosen: Settings) -> np.ndarray:
    plan = make_plan(graph, {k: v.shape for k, v in x.items()}, chosen, {})
    assert ("brgemm_split_f32" in kernels(plan)) == (chosen.precision != "portable")
    return plan.run([np.ascontiguousarray(x[k]) for k in graph.inputs])[0]


def kernels(plan: Plan) -> list[str]:
    return [s.kernel for s in plan.steps]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(
        np.where(np.isnan(a), 0, a).view(np.int32), np.where(np.isnan(b), 0, b).view(np.int32)
    )


def conv(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    outputs: int,
    kernel: int,
    *,
    residual: bool = False,
    **attributes: Any,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A convolution of a random image, with a bias."""
    x = rng.standard_normal(shape, dtype=np.float32)
    w = rng.standard_normal((kernel, kernel, shape[-1], outputs), dtype=np.float32)
    bias = rng.standard_normal(outputs, dtype=np.float32)
    inputs = {"x": x}
    if residual:
        inputs["r"] = rng.standard_normal((*shape[:-1], outputs), dtype=np.float32)
    names = ["x", "w", "b", *(["r"] if residual else [])]
    node = Node("Conv", names, ["y"], {"kernel_shape": [kernel, kernel], **attributes}, "nhwc")
    return Graph({k: TensorType.of(v) for k, v in inputs.items()}, ["y"], [node], {"w": w, "b": bias}), inputs


def linear(a: np.ndarray, b: np.ndarray) -> tuple[Graph, dict[str, np.ndarray]]:
    """The product of one matrix, as the rows of one sequence."""
    node = Node("Linear", ["x", "w"], ["y"], {}, "fused")
    return Graph({"x": TensorType.of(a[None])}, ["y"], [node], {"w": b}), {"x": a[None]}


CASES: dict[str, dict[str, Any]] = {
    "one tile": {"shape": (1, 4, 4, 32), "outputs": 16, "kernel": 1},
    "tails everywhere": {"shape": (2, 5, 7, 35), "outputs": 33, "kernel": 3, "pads": [1, 1, 1, 1]},
    "one channel": {"shape": (1, 6, 6, 1), "outputs": 1, "kernel": 3, "dilations": [2, 1]},
    "uneven border": {"shape": (1, 5, 6, 40), "outputs": 20, "kernel": 3, "pads": [0, 2, 1, 0]},
    "wide rows": {"shape": (1, 2, 37, 16), "outputs": 17, "kernel": 3, "pads": [1, 1, 1, 1]},
    "strides": {"shape": (2, 9, 9, 33), "outputs": 18, "kernel": 3, "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "unlike strides": {"shape": (1, 8, 9, 8), "outputs": 40, "kernel": 2, "strides": [2, 1]},
    "dilations": {"shape": (1, 9, 9, 16), "outputs": 16, "kernel": 3, "dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "1x1 with strides": {"shape": (2, 7, 7, 20), "outputs": 48, "kernel": 1, "strides": [2, 2]},
    "few channels": {"shape": (2, 9, 11, 3), "outputs": 24, "kernel": 7, "strides": [2, 2], "pads": [3, 3, 3, 3]},
    "few channels without a border": {"shape": (1, 7, 7, 5), "outputs": 20, "kernel": 3, "dilations": [2, 1]},
    "relu": {"shape": (1, 3, 5, 16), "outputs": 24, "kernel": 1, "activation": "Relu"},
    "clip": {"shape": (1, 3, 5, 16), "outputs": 24, "kernel": 1, "activation": "Clip", "alpha": -1.0, "beta": 2.0},
    "gelu": {"shape": (1, 5, 5, 16), "outputs": 24, "kernel": 3, "pads": [1, 1, 1, 1], "activation": "Gelu"},
    "residual": {"shape": (2, 5, 5, 16), "outputs": 24, "kernel": 3, "pads": [1, 1, 1, 1], "residual": True},
    "sums of chunks": {"shape": (1, 5, 5, 300), "outputs": 40, "kernel": 3, "pads": [1, 1, 1, 1], "activation": "Relu"},
    "parts of sums for many pixels": {"shape": (1, 23, 24, 530), "outputs": 17, "kernel": 1, "activation": "Relu"},
    "chunks and a residual": {"shape": (1, 3, 3, 800), "outputs": 20, "kernel": 1, "residual": True},
}  # fmt: skip


def drawn(name: str, rng: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
    return conv(rng, **CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_convolutions_compute_the_definition(name: str, isa: str, rng: np.random.Generator) -> None:
    graph, x = drawn(name, rng)
    want = evaluate(graph, x, dtype=np.float64)["y"]
    np.testing.assert_allclose(run(graph, x, on_tiles(isa)), want, **native(want))


@pytest.mark.parametrize("rows", [1, 5, 16, 33])
def test_linear_layers_compute_the_definition(rows: int, isa: str, rng: np.random.Generator) -> None:
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((rows, 70), (70, 40)))
    graph, x = linear(a, b)
    want = evaluate(graph, x, dtype=np.float64)["y"]
    np.testing.assert_allclose(run(graph, x, on_tiles(isa)), want, **native(want))


@pytest.mark.parametrize("precision", ["float32", "fast", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_the_emulation_has_the_bits_of_the_instructions(name: str, precision: str, rng: np.random.Generator) -> None:
    graph, x = drawn(name, rng)
    results = {isa: run(graph, x, on_tiles(isa, precision=precision)) for isa in _native.available_isas()}
    for isa, got in results.items():
        assert same_bits(got, results["scalar"]), isa


@pytest.mark.parametrize("activation", ["Gelu", "GeluTanh"])
def test_gelu_of_one_term_is_a_polynomial_near_it(activation: str, isa: str) -> None:
    x = np.linspace(-12, 12, 40 * 32, dtype=np.float32).reshape(1, 40, 32)
    x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    node = Node("Linear", ["x", "w"], ["y"], {"activation": activation}, "fused")
    graph = Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": np.eye(32, dtype=np.float32)})
    want = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    np.testing.assert_allclose(run(graph, {"x": x}, on_tiles(isa, precision="bfloat16")), want, rtol=0, atol=ROUGH_GELU)


def test_gelu_of_more_terms_is_as_accurate_as_its_formula_in_float32(isa: str) -> None:
    """Not relative to its result, but to its operand; the step behind it is handed the terms of it."""
    x = np.linspace(-12, 12, 40 * 32, dtype=np.float32).reshape(1, 40, 32)
    one = np.eye(32, dtype=np.float32)
    nodes = [Node("Linear", ["x", "w"], ["y"], {"activation": "Gelu"}, "fused"),
             Node("Linear", ["y", "w"], ["z"], {}, "fused")]  # fmt: skip
    graph = Graph({"x": TensorType.of(x)}, ["z"], nodes, {"w": one})
    want = evaluate(graph, {"x": x}, dtype=np.float64)["z"]
    assert (np.abs(run(graph, {"x": x}, on_tiles(isa)) - want) <= NEAR_GELU * np.abs(x)).all()


@pytest.mark.parametrize("precision", ["float32", "fast"])
def test_gelu_of_infinities_is_that_of_its_formula(precision: str, isa: str) -> None:
    x = np.ones((1, 20, 32), np.float32)
    x[0, 3, 0], x[0, 4, 1], x[0, 5, 2] = np.inf, -np.inf, np.nan
    node = Node("Linear", ["x", "w"], ["y"], {"activation": "Gelu"}, "fused")
    graph = Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": np.ones((32, 8), np.float32)})
    got = run(graph, {"x": x}, on_tiles(isa, precision=precision))[0]
    assert (got[3] == np.inf).all()
    assert np.isnan(got[4:6]).all()
    assert (got[[0, 1, 2, 6, 19]] == np.float32(32)).all()


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("name", CASES)
def test_neither_batch_nor_threads_change_the_bits(name: str, isa: str, rng: np.random.Generator) -> None:
    graph, x = drawn(name, rng)
    alone = {k: v[:1] for k, v in x.items()}
    want = run(graph, alone, on_tiles(isa))
    others = {
        k: np.concatenate([rng.standard_normal((2, *v.shape[1:]), dtype=np.float32), v[:1]]) for k, v in x.items()
    }
    for threads in (1, 2, 3):
        assert same_bits(run(graph, others, on_tiles(isa, threads))[2:], want)


@pytest.mark.parametrize("together", [1, 2])
def test_a_batch_in_parts(together: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = conv(rng, (5, 4, 4, 32), 16, 3, pads=[1, 1, 1, 1])
    want = run(graph, x, on_tiles(isa))
    monkeypatch.setattr(lower_split, "PART_BYTES", together * 4 * 3 * 36 * 16)
    plan = make_plan(graph, {"x": x["x"].shape}, on_tiles(isa), {})
    assert kernels(plan).count("brgemm_split_f32") == -(-5 // together)
    assert same_bits(plan.run([x["x"]])[0], want)


@pytest.mark.parametrize("name", ["uneven border", "wide rows", "strides", "dilations", "residual", "relu"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_in_parts(
    name: str, threads: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, x = drawn(name, rng)
    x = {k: v[:1] for k, v in x.items()}
    want = run(graph, x, on_tiles(isa))
    monkeypatch.setattr(lower_split, "PART_BYTES", 4 * 200)
    monkeypatch.setattr(lower_split, "PART_WEIGHTS", 0.0)
    plan = make_plan(graph, {k: v.shape for k, v in x.items()}, on_tiles(isa, threads), {})
    assert kernels(plan).count("brgemm_split_f32") > 1
    assert same_bits(plan.run([x[k] for k in graph.inputs])[0], want)


@pytest.mark.parametrize(("columns", "parts"), [(64, 4), (512, 1)])
def test_large_weights_are_not_read_for_each_part(
    columns: int, parts: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """96 KiB of rows in parts of 24 KiB, unless the weights take twice as much as the rows."""
    a, b = rng.standard_normal((256, 64), dtype=np.float32), rng.standard_normal((64, columns), dtype=np.float32)
    graph, x = linear(a, b)
    want = run(graph, x, on_tiles(isa))
    monkeypatch.setattr(lower_split, "PART_BYTES", 24 * 1024)
    plan = make_plan(graph, {k: v.shape for k, v in x.items()}, on_tiles(isa), {})
    assert kernels(plan).count("brgemm_split_f32") == parts
    assert same_bits(plan.run([x[k] for k in graph.inputs])[0], want)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, -3.4e38])
@pytest.mark.parametrize("where", ["image", "weights"])
@pytest.mark.parametrize("precision", ["float32", "fast"])
def test_what_cannot_be_split(value: float, where: str, precision: str, isa: str, rng: np.random.Generator) -> None:
    """Sums that are not finite are those of FMA to the bit; no other pixel changes."""
    graph, x = conv(rng, (1, 6, 6, 72), 20, 3, pads=[1, 1, 1, 1])
    plain = run(graph, x, on_tiles(isa, precision=precision))
    if where == "image":
        x["x"][0, 2, 3, 37] = value
    else:
        graph.constants["w"][1, 2, 3, 4] = value
    got, want = run(graph, x, on_tiles(isa, precision=precision)), run(graph, x, settings(isa))
    finite = np.isfinite(want)
    if abs(value) < np.inf:
        exact = evaluate(graph, x, dtype=np.float64)["y"]
        limit = 3.39e38  # above, an intermediate sum may overflow in one order and not in the other
        safe = np.abs(exact) < limit
        np.testing.assert_allclose(got[safe], exact[safe], rtol=2e-5, atol=1e33)
    else:
        assert not finite.all()
        np.testing.assert_array_equal(np.isfinite(got), finite)
        assert same_bits(got[~finite], want[~finite])
    touched = np.zeros(got.shape, bool)
    if where == "image":
        touched[0, 1:4, 2:5] = True
    else:
        touched[..., 4] = True
    assert same_bits(got[~touched], plain[~touched])


def test_a_factor_that_bfloat16_cannot_round(isa: str) -> None:
    """The bfloat16 next to the largest float32 is infinite; its product with a small number is not."""
    a, b = np.full((16, 32), np.finfo(np.float32).max), np.zeros((32, 16), np.float32)
    b[5] = 0.25
    graph, x = linear(a.astype(np.float32), b)
    assert (run(graph, x, on_tiles(isa)) == np.finfo(np.float32).max / 4).all()


@pytest.mark.parametrize("tail", [0.0, 1.0])
def test_nothing_behind_a_run_is_read(tail: float, isa: str, rng: np.random.Generator) -> None:
    """A NaN in the next pixel's channels does not reach the pixels before it."""
    a, b = rng.standard_normal((32, 40), dtype=np.float32), rng.standard_normal((40, 16), dtype=np.float32)
    graph, x = linear(a, b)
    want = run(graph, x, on_tiles(isa))
    x["x"] = x["x"].copy()
    x["x"][0, 7, 0] = np.nan * tail if tail else np.inf
    got = run(graph, x, on_tiles(isa))
    others = np.arange(32) != 7
    assert not np.isfinite(got[0, 7]).any()
    assert same_bits(got[0, others], want[0, others])


def operands(kind: str, rng: np.random.Generator, m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    if kind != "one huge element":
        return _operands(kind, rng, m, k, n)
    a, b = _operands("normal", rng, m, k, n)
    a[np.arange(m), rng.integers(0, k, m)] *= 1e6
    return a, b


@pytest.mark.parametrize("kind", [*KINDS, "one huge element"])
@pytest.mark.parametrize("k", [32, 64, 200, 784, 2304, 4608])
def test_float32_is_never_less_accurate_than_a_sequential_sum(
    kind: str, k: int, isa: str, rng: np.random.Generator
) -> None:
    a, b = operands(kind, rng, 48, k, 48)
    want = a.astype(np.float64) @ b.astype(np.float64)
    graph, x = linear(a, b)
    assert _error(run(graph, x, on_tiles(isa))[0], want) <= NOT_WORSE * _error(_sequential(a, b), want)


@pytest.mark.parametrize("kind", [*KINDS, "one huge element"])
@pytest.mark.parametrize("k", [32, 784])
def test_fast_is_as_accurate_as_it_says(kind: str, k: int, isa: str, rng: np.random.Generator) -> None:
    a, b = (v.astype(np.float64) for v in operands(kind, rng, 48, k, 48))
    graph, x = linear(a.astype(np.float32), b.astype(np.float32))
    got = run(graph, x, on_tiles(isa, precision="fast"))[0]
    norms = np.linalg.norm(a, axis=1, keepdims=True) * np.linalg.norm(b, axis=0)
    assert (np.abs(got - a @ b) / norms).max() <= FAST


@pytest.mark.parametrize("kind", [*KINDS, "one huge element"])
@pytest.mark.parametrize("k", [32, 784])
def test_bfloat16_is_as_accurate_as_it_says(kind: str, k: int, isa: str, rng: np.random.Generator) -> None:
    a, b = (v.astype(np.float64) for v in operands(kind, rng, 48, k, 48))
    graph, x = linear(a.astype(np.float32), b.astype(np.float32))
    got = run(graph, x, on_tiles(isa, precision="bfloat16"))[0]
    norms = np.linalg.norm(a, axis=1, keepdims=True) * np.linalg.norm(b, axis=0)
    assert (np.abs(got - a @ b) / norms).max() <= BFLOAT16


def test_tiny_numbers_are_flushed_and_no_more(isa: str, rng: np.random.Generator) -> None:
    """Each operand is exact but for what is below the normal numbers."""
    a = (rng.standard_normal((16, 64)) * 1e-33).astype(np.float32)
    b = rng.standard_normal((64, 16), dtype=np.float32)
    graph, x = linear(a, b)
    error = np.abs(run(graph, x, on_tiles(isa))[0] - a.astype(np.float64) @ b.astype(np.float64))
    assert (error <= 8 * 2.0**-126 * (np.abs(b).sum(axis=0) + 64)).all()


# ---- the choice of tiles


def layers() -> Graph:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)
    narrow = rng.standard_normal((1, 1, 64, 4), dtype=np.float32)
    nodes = [
        Node("Conv", ["x", "w"], ["h"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "nhwc"),
        Node("Conv", ["h", "narrow"], ["y"], {"kernel_shape": [1, 1]}, "nhwc"),
    ]
    return Graph({"x": TensorType(np.dtype(np.float32), ("n", 14, 14, 64))}, ["y"], nodes, {"w": w, "narrow": narrow})


@pytest.mark.parametrize("precision", ["float32", "fast", "bfloat16", "portable"])
def test_choice_is_of_the_layer_and_the_precision(precision: str, isa: str) -> None:
    """Of the first of two convolutions; the second is too narrow, but where the first makes its operand."""
    for batch in (1, 2, 64):
        found = kernels(make_plan(layers(), {"x": (batch, 14, 14, 64)}, on_tiles(isa, precision=precision), {}))
        assert ("brgemm_split_f32" in found) == (precision != "portable")
        assert ("brgemm_f32" in found) == (precision != "bfloat16")
    without = make_plan(layers(), {"x": (1, 14, 14, 64)}, settings(isa), {})
    assert "brgemm_split_f32" not in kernels(without)


def dense(k: int, n: int) -> Graph:
    w = np.random.default_rng(0).standard_normal((k, n), dtype=np.float32)
    node = Node("Linear", ["x", "w"], ["y"], {}, "fused")
    return Graph({"x": TensorType(np.dtype(np.float32), ("n", k))}, ["y"], [node], {"w": w})


@pytest.mark.parametrize(("precision", "tiles"), [("float32", False), ("fast", False), ("bfloat16", True)])
def test_choice_of_a_layer_whose_rows_are_the_batch(precision: str, tiles: bool, isa: str) -> None:
    """Where the weights are smaller than those in float32, and more than a few."""
    chosen = on_tiles(isa, precision=precision)
    for batch in (1, 512):
        found = kernels(make_plan(dense(784, 512), {"x": (batch, 784)}, chosen, {}))
        assert list(dict.fromkeys(found)) == (["split_f32", "brgemm_split_f32"] if tiles else ["brgemm_f32"])
        assert kernels(make_plan(dense(64, 32), {"x": (batch, 64)}, chosen, {})) == ["brgemm_f32"]


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
def test_a_row_of_a_batch_is_the_row_alone(isa: str, rng: np.random.Generator) -> None:
    graph = dense(300, 250)
    x = rng.standard_normal((37, 300), dtype=np.float32)
    want = np.concatenate([run(graph, {"x": row[None]}, on_tiles(isa, precision="bfloat16")) for row in x])
    for threads in (1, 2):
        for count in (2, 17, 37):
            chosen = on_tiles(isa, threads, "bfloat16")
            assert same_bits(run(graph, {"x": x[:count]}, chosen), want[:count])


@AMX
def test_choice_is_told_by_explain() -> None:
    graph = layers()
    for precision, products in (("float32", 6), ("fast", 3), ("bfloat16", 1)):
        model = fp.Model(graph, threads=1, isa="amx", precision=precision)
        assert f"196x64x576, bf16x{products} tiles of" in str(fp.explain(model, {"x": (1, 14, 14, 64)}))


REFUSED = """
import ctypes, struct

# A seccomp filter: arch_prctl(ARCH_REQ_XCOMP_PERM, ...) fails, all else is allowed.
load, equal, leave = 0x20, 0x15, 0x06
program = [(load, 0, 0, 0), (equal, 0, 3, 158), (load, 0, 0, 16), (equal, 0, 1, 0x1023),
           (leave, 0, 0, 0x50001), (leave, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, head, 0, 0):
    raise SystemExit("no seccomp")
from forwardpass import _native
print(next(i["why_not"] for i in _native.isas() if i["name"] == "amx"))
print(_native.select_isa()[0])
"""


@AMX
def test_a_system_that_refuses_tiles_is_told_of() -> None:
    clean = {k: v for k, v in os.environ.items() if k != "FORWARDPASS_ISA"}
    done = subprocess.run([sys.executable, "-c", REFUSED], env=clean, capture_output=True, text=True, check=False)
    if "no seccomp" in done.stderr:
        pytest.skip("seccomp is not available")
    assert done.stdout == "amx_tile: the operating system refuses its registers to this process\navx512\n", done.stderr
