"""Rotary embedding in one kernel: its forms, tails, positions, and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judged import judge, operands
from planned import run

from forwardpass.errors import InputError
from forwardpass.graph import Graph, Node, TensorType

B, S, N, ROWS = 2, 5, 3, 11
WIDTHS = [1, 4, 16, 20, 33]  # of vectors, of parts of them, and of both
Arrays = list[np.ndarray[Any, Any]]


def tables(width: int, *lead: int) -> Arrays:
    angles = np.random.default_rng(1).uniform(0, 6, (*(lead or (ROWS,)), width)).astype(np.float32)
    return [np.cos(angles), np.sin(angles)]


def positions(dtype: Any = np.int64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(0, ROWS, (B, S)).astype(dtype)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rest", [0, 2, 17])
def test_onnx(width: int, rest: int, interleaved: int) -> None:
    size = 2 * width + rest
    part: dict[str, Any] = {"rotary_embedding_dim": 2 * width} if rest else {}
    part["interleaved"] = interleaved
    heads = operands((B, N, S, size), 0)
    judge("RotaryEmbedding", (heads, *tables(width), positions()), **part)
    judge("RotaryEmbedding", (heads, *tables(width, B, S)), **part)
    flat = operands((B, S, N * size), 0)
    judge("RotaryEmbedding", (flat, *tables(width), positions()), num_heads=N, **part)
    judge("RotaryEmbedding", (flat, *tables(width, B, S)), num_heads=N, **part)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("places", ["each", "first", "scalar"])
def test_microsoft(places: str, dtype: Any, interleaved: int) -> None:
    at = {"each": positions(dtype), "first": np.array([3], dtype), "scalar": np.array(3, dtype)}[places]
    for width in WIDTHS:
        flat = operands((B, S, N * 2 * width), 0)
        judge("RotaryEmbedding", (flat, at, *tables(width)), (), "com.microsoft", interleaved=interleaved)
    part = {"num_heads": N, "rotary_embedding_dim": 8}
    judge("RotaryEmbedding", (operands((B, S, N * 12), 0), at, *tables(4)), (), "com.microsoft", **part)
    judge("RotaryEmbedding", (operands((B, N, S, 12), 0), at, *tables(4)), (), "com.microsoft")


@pytest.mark.parametrize("bad", [-1, ROWS, 2**40])
def test_positions_are_checked(bad: int, isa: str) -> None:
    given = {"x": operands((B, N, S, 8), 0), "p": positions()}
    given["p"][1, 2] = bad
    cosines, sines = tables(4)
    node = Node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"])
    graph = Graph({k: TensorType.of(v) for k, v in given.items()}, ["y"], [node], {"c": cosines, "s": sines})
    with pytest.raises(InputError, match="out of range"):
        run(graph, given, isa)


def test_a_row_alone_and_in_a_batch(isa: str) -> None:
    x, (cosines, sines), p = operands((B, N, S, 40), 0), tables(20), positions()
    node = Node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"])

    def turned(x: Any, p: Any) -> Any:
        given = {"x": x, "p": p}
        graph = Graph({k: TensorType.of(v) for k, v in given.items()}, ["y"], [node], {"c": cosines, "s": sines})
        return run(graph, given, isa)["y"]

    whole = turned(x, p)
    for b in range(B):
        np.testing.assert_array_equal(turned(x[b : b + 1], p[b : b + 1])[0], whole[b])
