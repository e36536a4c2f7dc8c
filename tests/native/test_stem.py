"""stem_f32 and pools in epilogues: the bits of the steps that they replace, and of every ISA and batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from planned import on_tiles, plan_of, run, same_everywhere

import forwardpass.plan as plans
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_conv
from forwardpass.passes import optimize

FLOAT = np.dtype(np.float32)
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


@dataclass(frozen=True)
class Layer:
    """A convolution of [batch, channels, height, width], and what follows it."""

    size: tuple[int, int, int, int]
    n: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = ""
    pooled: bool = False
    pixels: bool = False

    def graph(self, rng: np.random.Generator) -> Graph:
        """As ONNX has it, channels first; with `pixels` behind a Transpose."""
        w = rng.standard_normal((self.n, self.size[1], *self.kernel), dtype=np.float32)
        constants = {"w": w, "b": rng.standard_normal(self.n, dtype=np.float32)}
        attributes = {"kernel_shape": list(self.kernel), "strides": list(self.strides), "pads": list(self.pads)}
        shape, nodes, last = self.size, [], "x"
        if self.pixels:
            shape = (shape[0], *shape[2:], shape[1])
            nodes, last = [Node("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]})], "t"
        nodes.append(Node("Conv", [last, "w", "b"], ["c"], attributes))
        last = "c"
        for op, more in ((self.activation, {}), ("MaxPool" if self.pooled else "", POOL), ("Transpose", {})):
            if op:
                more = {"perm": [0, 2, 3, 1]} if op == "Transpose" else more
                nodes.append(Node(op, [last], [op], more))
                last = op
        made, _ = optimize(Graph({"x": TensorType(FLOAT, shape)}, [last], nodes, constants))
        return made


STEMS = [
    Layer((2, 3, 12, 19), 32, activation="Relu"),
    Layer((1, 3, 31, 70), 37, (7, 7), (2, 2), (3, 3, 3, 3)),
    Layer((3, 3, 9, 70), 16, strides=(2, 2), pads=(0, 1, 1, 0), activation="HardSwish"),
    Layer((1, 1, 5, 4), 70, (2, 3), (1, 2), (1, 0, 0, 0)),  # rows shorter than a tile
    Layer((2, 2, 11, 9), 20, (5, 1), (3, 1), (2, 0, 2, 0), pixels=True),
    Layer((1, 3, 14, 33), 24, pads=(1, 1, 1, 1), activation="Relu", pixels=True),
]
POOLED = [
    Layer((2, 3, 16, 17), 32, activation="Relu", pooled=True),  # a column that no window has
    Layer((1, 3, 13, 70), 40, (5, 5), (2, 2), (2, 2, 2, 2), pooled=True, pixels=True),
    Layer((1, 2, 4, 5), 6, pads=(1, 0, 1, 0), pooled=True),
    Layer((2, 32, 13, 15), 40, activation="Relu", pooled=True),  # Winograd's method, odd
    Layer((1, 64, 8, 12), 33, pads=(1, 1, 1, 1), pooled=True),
]


def kernels(graph: Graph, isa: str) -> list[str]:
    return [s.kernel for s in plan_of(graph, {k: t.sizes for k, t in graph.inputs.items()}, isa).steps]


def values(layer: Layer, rng: np.random.Generator) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    graph = layer.graph(rng)
    x = rng.standard_normal(graph.inputs["x"].sizes, dtype=np.float32)
    x.ravel()[:: x.size // 6][:6] = [np.nan, -0.0, np.inf, 1e-40, -np.inf, 3e38]
    return graph, {"x": x}


@pytest.mark.parametrize("layer", [*STEMS, *POOLED], ids=str)
def test_the_bits_of_separate_steps(
    layer: Layer, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, arrays = values(layer, rng)
    found = kernels(graph, isa)
    assert "max_pool_f32" not in found
    assert found == ["stem_f32"] or layer.size[1] > 3, "neither a copy nor a border"
    got = run(graph, arrays, isa)
    monkeypatch.setattr(lower_conv, "on_stem", lambda *_: False)
    monkeypatch.setattr(plans, "pool_in_epilogues", lambda steps, _: list(steps))
    apart = kernels(graph, isa)
    assert "stem_f32" not in apart
    assert ("max_pool_f32" in apart) == layer.pooled
    for name, want in run(graph, arrays, isa).items():
        np.testing.assert_array_equal(got[name], want)


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("layer", [*STEMS, *POOLED], ids=str)
def test_isas_threads_and_batches_give_the_same_bits(layer: Layer, rng: np.random.Generator) -> None:
    same_everywhere(*values(layer, rng))


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "HardSwish"},  # which is no monotone function
        {"size": (1, 40, 12, 12), "kernel": (1, 1)},  # whose kernel cannot pool
    ],
    ids=str,
)
def test_what_is_pooled_apart(change: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    layer = Layer(**{"size": (1, 3, 12, 12), "n": 32, "pooled": True, **change})
    assert kernels(layer.graph(rng), isa)[-1] == "max_pool_f32"


def test_a_small_image_is_copied_with_its_border(isa: str, rng: np.random.Generator) -> None:
    layer = Layer((2, 3, 6, 7), 8, pads=(1, 1, 1, 1))
    graph, arrays = values(layer, rng)
    assert "stem_f32" not in kernels(graph, isa)
    (got,) = run(graph, arrays, isa).values()
    padded = np.pad(arrays["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    whole = Graph({"x": TensorType(FLOAT, padded.shape)}, graph.outputs, graph.nodes, graph.constants)
    whole.nodes[0].attributes["pads"] = [0, 0, 0, 0]
    assert kernels(whole, isa) == ["stem_f32"]
    (want,) = run(whole, {"x": padded}, isa).values()
    np.testing.assert_array_equal(got, want)


def test_threads_share_the_row_of_a_signal(isa: str, rng: np.random.Generator) -> None:
    layer = Layer((1, 1, 1, 5000), 36, (1, 256), (1, 64), activation="Relu")
    graph, arrays = values(layer, rng)
    (step,) = plan_of(graph, {k: v.shape for k, v in arrays.items()}, isa).steps
    assert step.kernel == "brgemm_f32"
    assert step.units > 1


def test_a_result_that_others_read_is_not_pooled_away(isa: str, rng: np.random.Generator) -> None:
    graph = Layer((1, 3, 12, 12), 32, pooled=True).graph(rng)
    conv = next(n for n in graph.nodes if n.op == "Conv")
    both = Graph(graph.inputs, [*graph.outputs, conv.outputs[0]], graph.nodes, graph.constants)
    assert kernels(both, isa) == ["stem_f32", "max_pool_f32"]


@pytest.mark.parametrize("pooled", [True, False])
def test_small_layers_leave_the_tiles_where_a_pool_follows(pooled: bool, rng: np.random.Generator) -> None:
    size = 15
    graph = Layer((1, 64, size, size), 64, activation="Relu", pooled=pooled).graph(rng)
    plan = plans.make_plan(graph, {"x": (1, 64, size, size)}, on_tiles("scalar"), {})
    assert ("winograd_f32" in [s.kernel for s in plan.steps]) == pooled
