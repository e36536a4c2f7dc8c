"""Promise 1: never less accurate than a plain sequential float32 FMA sum, measured against float64."""

from __future__ import annotations

import numpy as np
import pytest
from planned import run

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from tolerance import NOT_WORSE

KINDS = ("normal", "positive", "cancelling", "wide")


def _operands(kind: str, rng: np.random.Generator, m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    elif kind == "cancelling":  # the second half of each sum takes away most of the first
        a[:, k // 2 :] = -a[:, : k - k // 2]
        b[k // 2 :] = b[: k - k // 2] * (1 + 1e-3 * rng.standard_normal((k - k // 2, n)))
    elif kind == "wide":  # magnitudes over eight decades
        a *= 10.0 ** rng.uniform(-4, 4, (m, k))
    return a.astype(np.float32), b.astype(np.float32)


def _sequential(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 sums, one product after another. The float64 product is exact, so each step rounds like an FMA but
    for rare double roundings."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total = (total.astype(np.float64) + np.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))).astype(
            np.float32
        )
    return total


def _error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - want) ** 2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [5, 64, 200, 257, 784, 2304, 4608])
@pytest.mark.parametrize("n", [1, 10, 70])
def test_linear(kind: str, k: int, n: int, isa: str, rng: np.random.Generator) -> None:
    a, b = _operands(kind, rng, max(16, 512 // n), k, n)
    want = a.astype(np.float64) @ b.astype(np.float64)
    graph = Graph({"x": TensorType.of(a)}, ["y"], [Node("Linear", ["x", "w"], ["y"], {}, "fused")], {"w": b})
    got = run(graph, {"x": a}, isa)["y"]
    assert _error(got, want) <= NOT_WORSE * _error(_sequential(a, b), want)


@pytest.mark.parametrize("channels", [3, 64, 160])
def test_convolution(channels: int, isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 6, 6, channels), dtype=np.float32)
    w = rng.standard_normal((3, 3, channels, 8), dtype=np.float32)
    node = Node("Conv", ["x", "w"], ["y"], {"kernel_shape": [3, 3], "pads": [0, 0, 0, 0]}, "nhwc")
    graph = Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": w})
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    rows = windows.reshape(16, -1)
    want = evaluate(graph, {"x": x}, dtype=np.float64)["y"].reshape(16, 8)
    got = run(graph, {"x": x}, isa)["y"].reshape(16, 8)
    assert _error(got, want) <= NOT_WORSE * _error(_sequential(rows, w.reshape(-1, 8)), want)
