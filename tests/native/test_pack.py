"""Panels of B, from weights that lie in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import settings

from forwardpass._native import isas, run_kernel
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.plan import make_plan, packing

PANEL = {i["name"]: i["panel"] for i in isas() if i["available"]}


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0)], ids=str)
@pytest.mark.parametrize(
    ("batch", "k", "n"),
    [(1, 37, 32), (2, 16, 50), (3, 5, 16), (1, 64, 3), (2, 1, 17), (1, 0, 4), (1, 9, 147), (3, 19, 82)],
)
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


def _split(isa: str, b: np.ndarray, terms: int) -> np.ndarray:
    taps, k, n = b.shape
    panels, blocks = -(-n // 16), -(-k // 32)
    fields = {"terms": terms, "taps": taps, "k": k, "n": n}
    fields.update(zip(("in_tap", "in_k", "in_n"), (s // 4 for s in b.strides)))
    packed = np.full((panels, blocks, taps, terms, 16, 16), np.nan, np.float32)
    run_kernel(isa, "pack_split_f32", fields, [b], packed, 0, panels)
    return packed.view(np.uint32)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize(("taps", "k", "n"), [(1, 64, 32), (9, 33, 17), (2, 5, 40), (3, 1, 1)])
def test_terms_of_weights_in_any_order(isa: str, taps: int, k: int, n: int, order: tuple[int, ...]) -> None:
    want = np.random.default_rng(k).standard_normal((taps, k, n)).astype(np.float32)
    b = np.ascontiguousarray(want.transpose(order)).transpose(np.argsort(order))  # `want`, in another order of memory
    words = _split(isa, b, 3)
    # A word has row i of the block in its low half and row i + 16 in its high half; three terms are all of a number.
    halves = np.concatenate([words << 16, words & 0xFFFF0000], axis=4).view(np.float32).astype(np.float64)
    found = halves.sum(3).transpose(2, 1, 3, 0, 4)
    filled = np.zeros((taps, words.shape[1] * 32, words.shape[0] * 16))
    filled[:, :k, :n] = want
    np.testing.assert_array_equal(found.reshape(filled.shape), filled)
    for terms in (1, 2):
        np.testing.assert_array_equal(_split(isa, b, terms), words[:, :, :, :terms])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 0, 1), (1, 3, 0, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "channels", "n"), [(3, 96, 320), (3, 128, 97), (1, 600, 250), (5, 40, 70)])
@pytest.mark.parametrize("threads", [1, 2])
def test_large_weights_are_packed_as_small_ones(
    kernel: int, channels: int, n: int, threads: int, order: tuple[int, ...], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some panels after others, from weights in any order of memory."""
    rng = np.random.default_rng(channels)
    w = rng.standard_normal((kernel, kernel, channels, n)).astype(np.float32)
    constants = {"w": np.ascontiguousarray(w.transpose(order)).transpose(np.argsort(order))}
    node = Node("Conv", ["x", "w"], ["y"], {"kernel_shape": [kernel] * 2, "strides": [2, 2]}, domain="nhwc")
    graph = Graph({"x": TensorType(np.dtype(np.float32), (1, 9, 9, channels))}, ["y"], [node], constants)
    made = []
    for together, least in ((1 << 16, 1 << 16), (1 << 20, 1 << 40)):
        monkeypatch.setattr(packing, "_TOGETHER_BYTES", together)
        monkeypatch.setattr(packing, "_BACKGROUND_BYTES", least)
        packed: dict[Any, np.ndarray] = {}
        make_plan(graph, {"x": (1, 9, 9, channels)}, settings(isa, threads, "portable"), packed)
        made.append(packed)
    assert made[0].keys() == made[1].keys()
    for key, array in made[0].items():
        np.testing.assert_array_equal(array, made[1][key])
