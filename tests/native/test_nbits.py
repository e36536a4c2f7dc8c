"""Products with weights of a few bits in a native kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judged import judge
from planned import run

from cases import graph_of
from forwardpass.ops import Case, load_all, registry

DOMAIN = "com.microsoft"


def operands(
    rng: np.random.Generator, rows: int, n: int, k: int, bits: int, block: int, points: str, bias: bool
) -> tuple[Any, ...]:
    blocks = -(-k // block)
    x = rng.standard_normal((rows, k), dtype=np.float32)
    b = rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8)
    scales = rng.uniform(0.5, 1.5, n * blocks).astype(np.float32) / 2 ** (bits - 1)
    zero: Any = None
    if points == "packed":
        zero = rng.integers(0, 256, n * -(-blocks * bits // 8), np.uint8)
    elif points == "numbers":
        zero = rng.uniform(0, 2**bits, n * blocks).astype(np.float32)
    return x, b, scales, zero, None, rng.standard_normal(n, dtype=np.float32) if bias else None


SIZES = [(1, 64, 64, 32), (1, 200, 96, 16), (3, 33, 100, 32), (9, 16, 256, 128), (4, 70, 40, 64), (1, 1, 1, 16)]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("points", ["none", "packed", "numbers"])
@pytest.mark.parametrize(("rows", "n", "k", "block"), SIZES)
def test_products(rng: np.random.Generator, rows: int, n: int, k: int, block: int, bits: int, points: str) -> None:
    given = operands(rng, rows, n, k, bits, block, points, bias=rows != 3)
    judge("MatMulNBits", given, tuple(i for i in (1, 2, 3, 5) if given[i] is not None), DOMAIN, N=n, K=k, bits=bits,
          block_size=block)  # fmt: skip


@pytest.mark.parametrize("rows", [2, 4, 5, 11])
def test_a_row_alone_and_in_a_batch(rows: int, isa: str, rng: np.random.Generator) -> None:
    load_all()
    given = operands(rng, rows, 90, 100, 4, 32, "packed", True)
    constants = {"N": 90, "K": 100, "bits": 4, "block_size": 32}

    def product(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        case = Case((x, *given[1:]), constants, constants=(1, 2, 3, 5))
        graph, inputs = graph_of(registry[DOMAIN, "MatMulNBits"], case)
        return run(graph, inputs, isa)["out0"]

    whole = product(given[0])
    for i in range(rows):
        assert product(given[0][i : i + 1])[0].tobytes() == whole[i].tobytes()
