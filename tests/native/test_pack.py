"""Panels of B, from weights that lie in any order."""

from __future__ import annotations

import numpy as np
import pytest

from forwardpass._native import isas, run_kernel

PANEL = {i["name"]: i["panel"] for i in isas() if i["available"]}


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0)], ids=str)
@pytest.mark.parametrize(("batch", "k", "n"), [(1, 37, 32), (2, 16, 50), (3, 5, 16), (1, 64, 3), (2, 1, 17), (1, 0, 4)])
def test_panels_hold_their_columns_and_zeros(isa: str, batch: int, k: int, n: int, order: tuple[int, ...]) -> None:
    want = np.random.default_rng(k).standard_normal((batch, k, n)).astype(np.float32)
    source = np.ascontiguousarray(want.transpose(order))
    b = source.transpose(np.argsort(order))  # `want`, in another order of memory
    panel = PANEL[isa]
    panels = -(-n // panel)
    strides = dict(zip(("in_batch", "in_k", "in_n"), (s // 4 for s in b.strides)))
    packed = np.full((batch, panels, k, panel), np.nan, np.float32)
    fields = {"batch": batch, "k": k, "n": n, **strides, "out_batch": panels * k * panel}
    run_kernel(isa, "pack_b_f32", fields, [source], packed, 0, batch * panels)
    filled = np.zeros((batch, k, panels * panel), np.float32)
    filled[:, :, :n] = want
    np.testing.assert_array_equal(packed, filled.reshape(batch, k, panels, panel).swapaxes(1, 2))
