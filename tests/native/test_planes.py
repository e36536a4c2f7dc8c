"""planes_f32: the bits of the products that it replaces, and of every ISA, number of threads and batch."""

from __future__ import annotations

import numpy as np
import pytest
from planned import plan_of, run, same_everywhere
from test_stem import Layer, values

from forwardpass.graph import Graph
from forwardpass.ops import lower_conv, lower_planes

LAYERS = [
    Layer((2, 8, 12, 70), 8, (3, 13), pads=(1, 6, 1, 6), activation="Relu"),
    Layer((1, 20, 9, 33), 1, (5, 5), pads=(2, 2, 2, 2), activation="Sigmoid", pixels=True),
    Layer((1, 17, 15, 90), 3, (3, 3), (2, 2), (0, 1, 1, 0)),
    Layer((1, 1, 1, 5000), 1, (1, 300), (1, 2)),  # several blocks and sums
    Layer((2, 1, 3, 1200), 2, (2, 64), (1, 3), pads=(1, 5, 0, 9)),
    Layer((1, 6, 9, 40), 5, (6, 5), (3, 1), activation="HardSwish"),
    Layer((3, 34, 5, 50), 7, (3, 3), pads=(1, 1, 1, 1), pixels=True),
]


def kernels(graph: Graph, isa: str) -> set[str]:
    return {s.kernel for s in plan_of(graph, {k: t.sizes for k, t in graph.inputs.items()}, isa).steps}


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_bits_of_products(
    layer: Layer, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, arrays = values(layer, rng)
    assert "planes_f32" in kernels(graph, isa)
    (got,) = run(graph, arrays, isa).values()
    monkeypatch.setattr(lower_conv, "on_planes", lambda *_: False)
    assert not {"planes_f32", "winograd_f32"} & kernels(graph, isa)
    (want,) = run(graph, arrays, isa).values()
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_isas_threads_and_batches_give_the_same_bits(layer: Layer, rng: np.random.Generator) -> None:
    same_everywhere(*values(layer, rng))


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("strides", [(1, 1), (1, 2)], ids=str)
def test_rows_of_any_length(
    n: int, strides: tuple[int, int], isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where tiles reach over the end of a row, and of the workspace's lines."""
    monkeypatch.setattr(lower_planes, "_GAIN", 9.0)
    on_planes = lower_conv.on_planes
    for width in range(32, 150, 5):
        layer = Layer((1, 3, 2, width * strides[1]), n, (2, 1), strides, pixels=True)
        graph, arrays = values(layer, rng)
        assert "planes_f32" in kernels(graph, isa)
        (got,) = run(graph, arrays, isa).values()
        monkeypatch.setattr(lower_conv, "on_planes", lambda *_: False)
        (want,) = run(graph, arrays, isa).values()
        monkeypatch.setattr(lower_conv, "on_planes", on_planes)
        np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32), str(width))


@pytest.mark.parametrize("columns", [16, 32, 48, 400])
def test_any_block_gives_the_same_bits(
    columns: int, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, arrays = values(Layer((1, 8, 6, 333), 4, (3, 5), pads=(1, 2, 1, 2)), rng)
    (want,) = run(graph, arrays, isa).values()
    monkeypatch.setattr(lower_planes, "_block", lambda *_: columns)
    (got,) = run(graph, arrays, isa, 2).values()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "layer",
    [
        Layer((1, 8, 12, 70), 9, (3, 3)),  # more outputs
        Layer((1, 64, 12, 70), 1, (1, 1)),  # nothing that a window shares with the next
        Layer((1, 8, 12, 24), 1, (5, 5)),  # short rows
    ],
    ids=str,
)
def test_what_products_do_faster(layer: Layer, isa: str, rng: np.random.Generator) -> None:
    assert "planes_f32" not in kernels(layer.graph(rng), isa)
