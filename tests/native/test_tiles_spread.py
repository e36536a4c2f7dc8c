"""Epilogues of products on matrix tiles that are spread among the next products: the bits of those that are not.

Only the instructions spread them, of three terms, two tiles of pixels and two panels at a time; their emulation does
not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.plan import make_plan

LAYERS: dict[str, dict[str, Any]] = {
    "dense rows": {"shape": (1, 5, 16, 64), "n": 96},
    "rows that end within a tile": {"shape": (2, 7, 9, 64), "n": 64},
    "a border between the rows": {"shape": (1, 7, 9, 64), "n": 64, "behind": 3},
    "tiles of whole rows": {"shape": (1, 6, 14, 40), "n": 80, "behind": 3},
    "a panel that is not full": {"shape": (1, 6, 16, 64), "n": 90},
    "an odd number of panels": {"shape": (1, 5, 16, 64), "n": 80},
    "fewer steps than rows": {"shape": (1, 6, 16, 16), "n": 128},
    "sums of chunks": {"shape": (1, 6, 16, 1100), "n": 64},
}
EPILOGUES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "relu": {"activation": "Relu"},
    "clip": {"activation": "Clip", "alpha": -3.0, "beta": 4.0},
    "gelu": {"activation": "Gelu"},
    "a residual": {"residual": True, "activation": "Relu"},
}


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)


def layers(
    rng: np.random.Generator, shape: tuple[int, ...], n: int, behind: int = 1, *, residual: bool = False, **more: Any
) -> tuple[Graph, list[np.ndarray]]:
    """A layer, whose result goes to a second one, or out of the graph where something is added to it."""
    width = shape[-1]
    x = rng.standard_normal(shape, dtype=np.float32)
    added = rng.standard_normal((*shape[:-1], n), dtype=np.float32)
    constants = {
        "w": rng.standard_normal((1, 1, width, n), dtype=np.float32),
        "b": rng.standard_normal(n, dtype=np.float32),
        "v": np.abs(rng.standard_normal((behind, behind, n, 16), dtype=np.float32)),  # an infinity stays one
    }
    names = ["x", "w", "b", *(["r"] if residual else [])]
    nodes = [Node("Conv", names, ["y"], {"kernel_shape": [1, 1], **more}, "nhwc")]
    pads = [behind // 2] * 4
    nodes += [Node("Conv", ["y", "v"], ["z"], {"kernel_shape": [behind] * 2, "pads": pads}, "nhwc")][residual:]
    inputs = {"x": x, **({"r": added} if residual else {})}
    if residual:
        del constants["v"]
    graph = Graph({k: TensorType.of(v) for k, v in inputs.items()}, [nodes[-1].outputs[0]], nodes, constants)
    return graph, list(inputs.values())


def run(graph: Graph, inputs: list[np.ndarray], isa: str, threads: int = 1) -> np.ndarray:
    plan = make_plan(graph, {k: t.sizes for k, t in graph.inputs.items()}, on_tiles(isa, threads), {})
    return plan.run(inputs)[0].copy()


def bits(x: np.ndarray) -> bytes:
    """Of whatever is no NaN: those have payloads."""
    return np.where(np.isnan(x), np.float32(np.nan), x).tobytes()


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("name", LAYERS)
def test_the_bits_are_those_of_the_emulation(name: str, epilogue: str, rng: np.random.Generator) -> None:
    graph, inputs = layers(rng, **LAYERS[name], **EPILOGUES[epilogue])
    want, isa = bits(run(graph, inputs, "scalar")), _native.available_isas()[0]
    for threads in (1, 2):
        assert bits(run(graph, inputs, isa, threads)) == want


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38])
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("name", ["dense rows", "rows that end within a tile", "sums of chunks"])
def test_sums_that_are_not_finite_stay_in_their_pixels(
    name: str, epilogue: str, value: float, rng: np.random.Generator
) -> None:
    """And have the bits of the emulation, in the first block of tiles and in the last."""
    graph, inputs = layers(rng, **LAYERS[name], **EPILOGUES[epilogue])
    isa = _native.available_isas()[0]
    plain = run(graph, inputs, isa)
    for pixel in ((0, 0, 3), (0, 2, 1), (-1, -1, -1)):
        inputs[0][(*pixel, 5)] = value
    found = run(graph, inputs, isa)
    changed = np.argwhere((found.view(np.int32) != plain.view(np.int32)).any(axis=-1))
    last = [n - 1 for n in found.shape[:-1]]
    assert changed.tolist() == [[0, 0, 3], [0, 2, 1], last]
    assert bits(found) == bits(run(graph, inputs, "scalar"))
