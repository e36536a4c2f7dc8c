"""Operands of products on matrix tiles that the product before makes: the same bits as of steps of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always

from forwardpass import plan as plans
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.plan import Plan, Settings, make_plan

PRECISIONS = ["float32", "fast", "bfloat16"]


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """But with images that are float32 numbers where one step hands them to another: half_values.py has tests of its
    own."""
    monkeypatch.setattr(lower_split, "pays", tiles_always)
    monkeypatch.setattr(plans, "halve", lambda steps, ctx: list(steps))


def chain(rng: np.random.Generator, shape: tuple[int, ...], *layers: dict[str, Any], **more: Any) -> Graph:
    """Convolutions one after another: `n` outputs, `kernel`, `residual` (the value that is added) and attributes."""
    nodes, constants, channels, value = [], {}, shape[-1], "x"
    for k, layer in enumerate(layers):
        a = {"kernel": 1, "n": 32, "residual": "", **layer}
        kernel, n, residual = a.pop("kernel"), a.pop("n"), a.pop("residual")
        constants[f"w{k}"] = rng.standard_normal((kernel, kernel, channels, n), dtype=np.float32)
        constants[f"b{k}"] = rng.standard_normal(n, dtype=np.float32)
        inputs = [value, f"w{k}", f"b{k}", *([residual] if residual else [])]
        value, channels = f"y{k}", n
        nodes.append(Node("Conv", inputs, [value], {"kernel_shape": [kernel, kernel], **a}, "nhwc"))
    outputs = more.get("outputs", [value])
    return Graph({"x": TensorType(np.dtype(np.float32), shape)}, outputs, nodes, constants)


def planned(graph: Graph, chosen: Settings) -> Plan:
    return make_plan(graph, {k: t.sizes for k, t in graph.inputs.items()}, chosen, {})


def made(plan: Plan) -> list[int]:
    return [s.params["makes"] for s in plan.steps if s.kernel == "brgemm_split_f32"]


def splits(plan: Plan) -> int:
    return sum(s.kernel == "split_f32" and not s.params["border_only"] for s in plan.steps)


SAME = [1, 1, 1, 1]
CHAINS: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "a line of pixels": ((1, 1, 40, 32), [{"n": 64}, {"n": 48}, {"n": 32}]),
    "borders": (
        (2, 5, 7, 35),
        [{"n": 64}, {"kernel": 3, "pads": SAME, "n": 33}, {"n": 64}, {"kernel": 3, "pads": [0, 2, 1, 0]}],
    ),
    "half a block": ((1, 4, 6, 16), [{"n": 16}, {"n": 20}, {"n": 1}, {"n": 49}, {"n": 8}]),
    "activations": (
        (1, 5, 5, 20),
        [{"n": 24, "activation": "Relu"}, {"n": 40, "activation": "Gelu"},
         {"n": 33, "activation": "Clip", "alpha": 1.0, "beta": 2.0}, {"n": 16, "activation": "Sigmoid"}, {}],
    ),
    "a residual": (
        (2, 6, 5, 32),
        [{"activation": "Relu"}, {"kernel": 3, "pads": SAME}, {"residual": "y0", "activation": "Relu"},
         {"n": 40}, {"n": 32, "residual": "y2"}, {}],
    ),
    "strides": ((1, 9, 9, 32), [{"n": 40}, {"kernel": 3, "strides": [2, 2], "pads": SAME}, {"strides": [2, 2]}, {}]),
    "sums of chunks": (
        (1, 2, 3, 32),
        [{"n": 288}, {"kernel": 3, "pads": SAME, "n": 64}, {"kernel": 3, "pads": SAME}, {}],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CHAINS)
def test_the_bits_stay(
    name: str, precision: str, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, layers = CHAINS[name]
    graph = chain(rng, shape, *layers)
    x = rng.standard_normal(shape, dtype=np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "split_in_epilogues", list)
        apart = planned(graph, on_tiles(isa, precision=precision))
    assert splits(apart) == len(layers)
    want = apart.run([x])[0].tobytes()
    for threads in (1, 2, 3):
        plan = planned(graph, on_tiles(isa, threads, precision))
        assert splits(plan) < len(layers) or precision != "bfloat16"
        assert plan.run([x])[0].tobytes() == want
    assert sum(n > 0 for n in made(plan)) + splits(plan) == len(layers)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38])
@pytest.mark.parametrize("activation", ["", "Relu", "Gelu"])
def test_what_cannot_be_split_stays_in_its_pixel(
    activation: str, value: float, precision: str, isa: str, rng: np.random.Generator
) -> None:
    """A block that the channels do not fill is filled with zeros, whatever the sums there were."""
    activated = {"activation": activation} if activation else {}
    graph = chain(rng, (1, 4, 4, 32), {"n": 20}, {"n": 40, **activated}, {"n": 16})
    x = rng.standard_normal((1, 4, 4, 32), dtype=np.float32)
    plan = planned(graph, on_tiles(isa, precision=precision))
    assert splits(plan) == 1
    plain = plan.run([x])[0].copy()
    x[0, 1, 2, 5] = value
    found = plan.run([x])[0]
    changed = (found != plain).any(axis=-1)
    assert changed[0, 1, 2]
    assert changed.sum() == 1


def test_results_that_others_read_are_there(isa: str, rng: np.random.Generator) -> None:
    """In bfloat16 the operand is made beside the result; with more terms a step of its own is as fast."""
    for precision, makes, count in (("bfloat16", [2, 0], 1), ("fast", [0, 0], 2), ("float32", [0, 0], 2)):
        graph = chain(rng, (1, 4, 4, 32), {}, {"kernel": 3, "pads": SAME}, outputs=["y1", "y0"])
        x = rng.standard_normal((1, 4, 4, 32), dtype=np.float32)
        plan = planned(graph, on_tiles(isa, precision=precision))
        assert (made(plan), splits(plan)) == (makes, count)
        weights = {k: graph.constants[k] for k in ("w0", "b0")}
        alone = planned(Graph(graph.inputs, ["y0"], graph.nodes[:1], weights), on_tiles(isa, precision=precision))
        assert plan.run([x])[1].tobytes() == alone.run([x])[0].tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_part_of_a_concatenation_is_there(precision: str, isa: str, rng: np.random.Generator) -> None:
    """Though the next product reads it alone, and writes the part behind it."""
    graph = chain(rng, (2, 4, 5, 32), {"n": 40}, {"n": 24}, {"n": 32})
    graph.nodes.append(Node("Concat", ["y0", "y1", "y2"], ["y"], {"axis": -1}))
    graph.nodes.append(Node("MaxPool", ["y"], ["z"], {"kernel_shape": [1, 1]}, "nhwc"))
    apart = Graph(graph.inputs, ["y0", "y1", "y2"], graph.nodes[:3], graph.constants)
    graph.outputs[:] = ["z"]
    x = rng.standard_normal((2, 4, 5, 32), dtype=np.float32)
    chosen = on_tiles(isa, precision=precision)
    (found,) = planned(graph, chosen).run([x])
    np.testing.assert_array_equal(found, np.concatenate(planned(apart, chosen).run([x]), axis=-1))


def test_what_two_products_read_is_split_once(isa: str, rng: np.random.Generator) -> None:
    w = {f"w{k}": rng.standard_normal((1, 1, 40, 24), dtype=np.float32) for k in range(3)}
    nodes = [Node("Conv", ["x", f"w{k}"], [f"y{k}"], {"kernel_shape": [1, 1]}, "nhwc") for k in range(3)]
    x = rng.standard_normal((1, 3, 5, 40), dtype=np.float32)
    graph = Graph({"x": TensorType.of(x)}, ["y0", "y1", "y2"], nodes, w)
    plan = planned(graph, on_tiles(isa))
    assert splits(plan) == 1
    for k, y in enumerate(plan.run([x])):
        alone = planned(Graph(graph.inputs, [f"y{k}"], [nodes[k]], {f"w{k}": w[f"w{k}"]}), on_tiles(isa))
        assert y.tobytes() == alone.run([x])[0].tobytes()


def test_a_batch_in_parts_is_split_by_steps(
    isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts follow each other in the same memory: a product cannot have made the next one's before."""
    graph = chain(rng, (4, 4, 4, 32), {}, {"kernel": 3, "pads": SAME}, {})
    x = rng.standard_normal((4, 4, 4, 32), dtype=np.float32)
    want = planned(graph, on_tiles(isa)).run([x])[0].tobytes()
    monkeypatch.setattr(lower_split, "PART_BYTES", 4 * 3 * 36 * 16)
    plan = planned(graph, on_tiles(isa))
    assert splits(plan) > 3
    assert plan.run([x])[0].tobytes() == want


def test_no_border_is_kept_for_a_result_that_is_left_out(isa: str, rng: np.random.Generator) -> None:
    graph = chain(rng, (1, 6, 6, 32), {"n": 64}, {"kernel": 3, "pads": SAME})
    plan = planned(graph, on_tiles(isa, precision="bfloat16"))
    assert [s.kernel for s in plan.steps] == ["split_f32", "brgemm_split_f32", "split_f32", "brgemm_split_f32"]
    assert plan.steps[2].params["border_only"]
    assert plan.steps[2].nbytes == 4 * 2 * 8 * 8 * 16 + 4 * 16 * 16  # the border's image, and what a tile reads behind


def test_the_explanation_says_so(isa: str, rng: np.random.Generator) -> None:
    plan = planned(chain(rng, (1, 6, 6, 32), {"n": 64}, {}), on_tiles(isa, precision="bfloat16"))
    first, second = (s["algorithm"] for s in plan.steps_report().steps if s["kernel"] == "brgemm_split_f32")
    assert first.endswith("splits the result")
    assert "splits" not in second
