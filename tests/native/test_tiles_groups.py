"""Groups of channels on matrix tiles, whose panels multiply other groups' channels with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, settings, tiles_always
from test_accuracy import _error, _sequential

import forwardpass as fp
from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split, split_cost
from forwardpass.ops.split_groups import blocks_of
from forwardpass.plan import Plan, Settings, make_plan
from tolerance import NOT_WORSE, TILES_OF_GROUPS

PRECISIONS = ["float32", "fast", "bfloat16"]
SAME = [1, 1, 1, 1]

# Channels of a group, its outputs, and how many of them.
WIDTHS: dict[str, tuple[int, int, int]] = {
    "a quarter of a panel": (4, 4, 10),
    "half a panel": (8, 8, 5),
    "panels": (16, 16, 3),
    "blocks": (32, 32, 3),
    "two blocks": (64, 64, 2),
    "across blocks": (24, 24, 7),
    "odd": (7, 5, 9),
    "wide": (80, 40, 3),
    "more outputs": (6, 40, 2),
    "fewer outputs": (40, 3, 5),
}


@pytest.fixture(autouse=True)
def always_on_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "choice" not in request.node.name:
        monkeypatch.setattr(lower_split, "pays", tiles_always)


def layer(rng: np.random.Generator, name: str, kernel: int = 3, **attributes: Any) -> Graph:
    into, out, groups = WIDTHS[name]
    w = rng.standard_normal((kernel, kernel, into, out * groups), dtype=np.float32)
    b = rng.standard_normal(out * groups, dtype=np.float32)
    how = {"kernel_shape": [kernel, kernel], "group": groups, **attributes}
    node = Node("Conv", ["x", "w", "b"], ["y"], how, "nhwc")
    x = TensorType(np.dtype(np.float32), ("N", 4, 9, into * groups))
    return Graph({"x": x}, ["y"], [node], {"w": w, "b": b})


def image(rng: np.random.Generator, graph: Graph, count: int = 1) -> np.ndarray:
    _, *size = graph.inputs["x"].shape or ()
    return rng.standard_normal((count, *size), dtype=np.float32)


def planned(graph: Graph, x: np.ndarray, chosen: Settings) -> Plan:
    plan = make_plan(graph, {"x": x.shape}, chosen, {})
    kernel = "brgemm_f32" if chosen.precision == "portable" else "brgemm_split_f32"
    assert kernel in {s.kernel for s in plan.steps}
    return plan


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("how", [{"pads": SAME}, {"strides": [2, 1], "activation": "Relu"}, {"kernel": 1}])
@pytest.mark.parametrize("name", WIDTHS)
def test_the_definition(name: str, how: dict[str, Any], precision: str, isa: str, rng: np.random.Generator) -> None:
    graph = layer(rng, name, **how)
    x = image(rng, graph, 2)
    want = evaluate(graph, {"x": x}, dtype=np.float64)["y"]
    got = planned(graph, x, on_tiles(isa, precision=precision)).run([x])[0]
    assert np.linalg.norm(got - want) <= TILES_OF_GROUPS[precision] * np.linalg.norm(want)
    emulated = planned(graph, x, on_tiles("scalar", precision=precision)).run([x])[0]
    assert got.tobytes() == emulated.tobytes()


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", WIDTHS)
def test_neither_batch_nor_threads_nor_parts_change_the_bits(
    name: str, precision: str, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_cost, "_FLOAT_BYTES", 0)
    graph = layer(rng, name, pads=SAME)
    x = image(rng, graph, 2)
    want = planned(graph, x[1:], on_tiles(isa, precision=precision)).run([x[1:]])[0]
    for part, threads in ((lower_split.PART_BYTES, 3), (1 << 12, 2)):
        monkeypatch.setattr(lower_split, "PART_BYTES", part)
        plans = [planned(graph, v, on_tiles(isa, threads, precision)) for v in (x, x[1:])]
        assert plans[0].run([x])[0][1:].tobytes() == plans[1].run([x[1:]])[0].tobytes() == want.tobytes()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("name", WIDTHS)
def test_what_cannot_be_split_stays_in_its_group(
    name: str, floats: bool, value: float, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has there the bits of FMA."""
    monkeypatch.setattr(split_cost, "_FLOAT_BYTES", 0 if floats else 1 << 30)
    graph = layer(rng, name, pads=SAME)
    into, out, groups = WIDTHS[name]
    x = image(rng, graph)
    plan = planned(graph, x, on_tiles(isa))
    plain = plan.run([x])[0].copy()
    group = groups // 2
    x[0, 2, 3, group * into + into - 1] = value
    got, want = plan.run([x])[0], planned(graph, x, settings(isa)).run([x])[0]
    touched, beside = (np.zeros(got.shape, bool) for _ in range(2))
    beside[0, 1:4, 2:5] = True
    touched[0, 1:4, 2:5, group * out : (group + 1) * out] = True
    assert got[~beside].tobytes() == plain[~beside].tobytes()
    beside &= ~touched
    # What shares its panels is summed by FMA too.
    assert ((got == plain) | (got == want))[beside].all()
    np.testing.assert_array_equal(got[touched], want[touched])
    assert not np.isfinite(got[touched]).any()


def test_images_between_them_are_bfloat16_numbers(isa: str, rng: np.random.Generator) -> None:
    """As between other products of one term."""
    graph = layer(rng, "half a panel", pads=SAME)
    for k, v in (("w0", (1, 1, 40, 40)), ("w1", (1, 1, 40, 8))):
        graph.constants[k] = rng.standard_normal(v, dtype=np.float32)
    grouped = graph.nodes[0]
    nodes = [Node("Conv", ["x", "w0"], ["before"], {}, "nhwc"), grouped, Node("Conv", ["y", "w1"], ["z"], {}, "nhwc")]
    grouped.inputs[0] = "before"
    graph.nodes, graph.outputs = nodes, ["z"]
    x = image(rng, graph, 2)
    plan = planned(graph, x, on_tiles(isa, precision="bfloat16"))
    assert [s.params["makes"] for s in plan.steps if s.kernel == "brgemm_split_f32"] == [1, 1, 0]
    want = evaluate(graph, {"x": x}, dtype=np.float64)["z"]
    got = plan.run([x])[0]
    assert np.linalg.norm(got - want) <= 2 * TILES_OF_GROUPS["bfloat16"] * np.linalg.norm(want)


@pytest.mark.parametrize(("precision", "tiles"), [("float32", True), ("bfloat16", True), ("portable", False)])
def test_choice_is_told_by_explain(precision: str, tiles: bool) -> None:
    if tiles and "amx" not in _native.available_isas():
        pytest.skip("no AMX here")
    w = np.ones((3, 3, 8, 256), np.float32)
    node = Node("Conv", ["x", "w"], ["y"], {"group": 32, "pads": SAME}, "nhwc")
    shape = (1, 28, 28, 256)
    graph = Graph({"x": TensorType(np.dtype(np.float32), shape)}, ["y"], [node], {"w": w})
    told = str(fp.explain(fp.Model(graph, threads=1, precision=precision), {"x": shape}))
    assert "32 groups of " in told
    assert "x8x72" in told
    assert ("bf16x" in told) == tiles


@pytest.mark.parametrize("channels", [8, 16])
def test_float32_is_never_less_accurate_than_a_sequential_sum(
    channels: int, isa: str, rng: np.random.Generator
) -> None:
    groups = 3
    w, x = rng.standard_normal((3, 3, channels, 64 * groups)), rng.standard_normal((1, 18, 18, channels * groups))
    x *= 10.0 ** rng.uniform(-4, 4, x.shape)
    constants, image = {"w": w.astype(np.float32)}, x.astype(np.float32)
    node = Node("Conv", ["x", "w"], ["y"], {"group": groups}, "nhwc")
    graph = Graph({"x": TensorType.of(image)}, ["y"], [node], constants)
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (3, 3), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    rows = windows[..., :channels].reshape(256, -1)
    sums = _sequential(rows, constants["w"][..., :64].reshape(-1, 64))
    want = evaluate(graph, {"x": image}, dtype=np.float64)["y"][0, ..., :64].reshape(256, -1)
    got = planned(graph, image, on_tiles(isa)).run([image])[0][0, ..., :64].reshape(256, -1)
    assert _error(got, want) <= NOT_WORSE * _error(sums, want)


def test_narrow_groups_keep_the_accuracy_of_fma() -> None:
    """They take more additions of terms than of products."""

    def pays(terms: int, width: int) -> bool:
        channels = 32 * width
        return split_cost.pays(terms, 9, True, False, 30, 30, channels, 28, 28, channels, 32, 1)

    assert [pays(3, width) for width in (4, 7, 8)] == [False, False, True]
    assert [pays(2, width) for width in (4, 7, 8)] == [True, True, True]


def test_blocks_of_groups() -> None:
    assert blocks_of(1, 70, 64) == (3, (0,))
    assert blocks_of(32, 128, 128) == (1, (0, 1, 2, 3))
    assert blocks_of(2, 128, 128) == (2, (0, 0, 2, 2))
    # Of 24 channels two panels have a part of two groups or three, which begin anywhere.
    assert blocks_of(8, 192, 192) == (3, (0, 0, 1, 3, 3, 3))
