"""brgemm_f32 in each of its loop orders against the product in float64: parts, ISAs and tails."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerance
from forwardpass import _native
from forwardpass._native import run_kernel
from forwardpass.ops.lower_linear import entries, tile_rows
from forwardpass.ops.registry import Lowering

ISAS = [i for i in _native.isas() if i["available"]]
GAP = 5  # columns of C and of the residual that belong to nobody
UNTOUCHED = np.float32(-7777.0)


@dataclass(frozen=True)
class Product:
    rows: int
    n: int
    k: int
    length: int = 256
    residual: bool = False
    activation: str | None = None

    def __str__(self) -> str:
        return f"{self.rows}x{self.n}x{self.k}" + ("+" if self.residual else "")


PRODUCTS = [
    Product(50, 96, 16, activation="relu"),  # few weights: rows outside
    Product(31, 100, 64, residual=True),
    Product(3, 70, 24, residual=True, activation="relu"),
    Product(29, 700, 200, residual=True),  # many weights: panels outside
    Product(15, 333, 520, length=176),  # several sums
    Product(1, 40, 300, length=104),  # one row, its sums in parallel
    Product(2, 1003, 400, length=136, residual=True),  # few rows of weights that L2 does not keep: panel by panel
    Product(3, 700, 600, length=200, activation="relu"),
    Product(7, 0, 8),
    Product(5, 9, 0, residual=True),
]


def operands(case: Product) -> tuple[NDArray[np.float32], ...]:
    rng = np.random.default_rng(3)
    shapes = ((case.rows, case.k), (case.k, case.n), (case.n,), (case.rows, case.n + GAP))
    a, b, bias, residual = (rng.standard_normal(s, dtype=np.float32) for s in shapes)
    return a, b, bias, residual


def compute(case: Product, isa: dict[str, Any], tile_m: int, cuts: list[int]) -> NDArray[np.float32]:
    """The product, in parts that end at tiles `cuts`."""
    a, b, bias, residual = operands(case)
    panels = -(-case.n // isa["panel"])
    packed = np.full((panels, case.k, isa["panel"]), np.nan, np.float32)
    fields = {"batch": 1, "k": case.k, "n": case.n, "in_k": case.n, "in_n": 1, "out_batch": packed.size}
    run_kernel(isa["name"], "pack_b_f32", fields, [b], packed, 0, panels)
    table, chunks = entries([(0, case.k)] if case.k else [], case.length)
    c = np.full((case.rows, case.n + GAP), UNTOUCHED)
    params = {
        "batch": 1, "oh": 1, "ow": case.rows, "groups": 1, "n": case.n, "k": case.k, "a_col": case.k,
        "c_col": case.n + GAP, "r_col": case.n + GAP, "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
        "b": packed, "bias": bias, "tile_m": tile_m, "split_n": 0, "activation": case.activation,
    }  # fmt: skip
    tiles = -(-case.rows // tile_m)
    for begin, end in zip([0, *cuts], [*cuts, tiles]):
        run_kernel(isa["name"], "brgemm_f32", params, [a, residual if case.residual else None], c, begin, end)
    return c


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
def test_the_product_in_float64(isa: str, case: Product) -> None:
    info = next(i for i in ISAS if i["name"] == isa)
    a, b, bias, residual = (x.astype(np.float64) for x in operands(case))
    want = a @ b + bias + (residual[:, : case.n] if case.residual else 0)
    scale = np.abs(a) @ np.abs(b) + np.abs(bias) + 1
    if case.activation == "relu":
        want = np.maximum(want, 0)
    c = compute(case, info, min(len(info["tile_panels"]), case.rows), [])
    np.testing.assert_allclose(c[:, : case.n], want, **tolerance.dot(case.k + 2, float(np.max(scale, initial=0))))
    assert np.all(c[:, case.n :] == UNTOUCHED)


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
def test_tiles_parts_and_isas_give_the_same_bits(case: Product) -> None:
    want = compute(case, ISAS[0], 1, [])
    for isa in ISAS:
        most = min(len(isa["tile_panels"]), case.rows)
        for tile_m in {1, -(-most // 2), most}:
            tiles = -(-case.rows // tile_m)
            for cuts in ([], [tiles // 3, tiles // 2]):
                got = compute(case, isa, tile_m, cuts)
                np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32), err_msg=f"{isa} {tile_m} {cuts}")


def test_rows_that_meet_in_a_set_of_l1_are_few() -> None:
    """Where rows begin a multiple of 4 KiB apart, the lines of a tile's rows all want one set, of eight or more."""
    info = next(i for i in _native.isas() if i["name"] == "avx512")
    kind = cast(Lowering, SimpleNamespace(panel=info["panel"], tile_panels=info["tile_panels"]))
    rows = {pitch: tile_rows(kind, 196, 1024, 256, 256, pitch) for pitch in (1024, 3072, 512, 1040)}
    assert rows[1024] == rows[3072] <= 8 < rows[512] == rows[1040]
