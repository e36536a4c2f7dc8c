"""Graphs of one Attention for the tests of its kernels: forms, masks, and what its bits must not depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType

Arrays = dict[str, np.ndarray[Any, Any]]
NAMES = ("q", "k", "v", "mask", "past_key", "past_value", "lengths")


def attention(inputs: Arrays, outputs: int = 1, **attributes: Any) -> Graph:
    """A graph of one Attention; the inputs have these names."""
    names = [n if n in inputs else "" for n in NAMES]
    node = Node("Attention", names, ["y", "present_key", "present_value"][:outputs], attributes)
    return Graph({n: TensorType.of(inputs[n]) for n in NAMES if n in inputs}, node.outputs, [node])


def draw(rng: np.random.Generator, **shapes: tuple[int, ...]) -> Arrays:
    return {k: rng.standard_normal(s, dtype=np.float32) for k, s in shapes.items()}


def same(a: Arrays, b: Arrays) -> bool:
    return all(a[k].tobytes() == b[k].tobytes() for k in b)


FORMS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "4-D": ({"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 6)}, {}),
    "3-D": ({"q": (2, 5, 24), "k": (2, 7, 24), "v": (2, 7, 30)}, {"q_num_heads": 3, "kv_num_heads": 3}),
    "groups": ({"q": (2, 5, 48), "k": (2, 7, 16), "v": (2, 7, 16)}, {"q_num_heads": 6, "kv_num_heads": 2}),
    "two queries of odd heads": ({"q": (2, 2, 2, 37), "k": (2, 1, 21, 37), "v": (2, 1, 21, 69)}, {}),
    "four queries": ({"q": (1, 4, 4, 96), "k": (1, 2, 530, 96), "v": (1, 2, 530, 96)}, {"is_causal": 1}),
    "one query": ({"q": (1, 4, 1, 64), "k": (1, 2, 300, 64), "v": (1, 2, 300, 64)}, {}),
    "many keys": ({"q": (1, 2, 70, 16), "k": (1, 2, 600, 16), "v": (1, 2, 600, 16)}, {}),
    "causal": ({"q": (1, 2, 300, 16), "k": (1, 2, 300, 16), "v": (1, 2, 300, 20)}, {"is_causal": 1}),
    "more keys than queries": ({"q": (1, 2, 9, 16), "k": (1, 2, 40, 16), "v": (1, 2, 40, 16)}, {"is_causal": 1}),
    "window": (
        {"q": (1, 1, 400, 8), "k": (1, 1, 400, 8), "v": (1, 1, 400, 8)},
        {"is_causal": 1, "left_window_size": 20},
    ),
    "right window": (
        {"q": (1, 1, 60, 8), "k": (1, 1, 60, 8), "v": (1, 1, 60, 8)},
        {"left_window_size": 3, "right_window_size": 5},
    ),
    "scale": ({"q": (1, 2, 20, 17), "k": (1, 2, 33, 17), "v": (1, 2, 33, 3)}, {"scale": 0.7}),
    "soft cap": ({"q": (1, 2, 20, 16), "k": (1, 2, 33, 16), "v": (1, 2, 33, 16)}, {"softcap": 2.0, "scale": 1.0}),
    "wide heads": ({"q": (1, 1, 3, 600), "k": (1, 1, 5, 600), "v": (1, 1, 5, 600)}, {}),
    "one element": ({"q": (1, 1, 3, 1), "k": (1, 1, 5, 1), "v": (1, 1, 5, 1)}, {}),
}

MASKS = {
    "numbers": lambda rng: rng.standard_normal((2, 3, 9, 40), dtype=np.float32),
    "of the batch": lambda rng: rng.standard_normal((2, 1, 1, 40), dtype=np.float32),
    "of the heads": lambda rng: rng.standard_normal((3, 9, 40), dtype=np.float32),
    "of queries": lambda rng: rng.standard_normal((9, 40), dtype=np.float32),
    "of keys": lambda rng: rng.standard_normal(40, dtype=np.float32),
    "bools": lambda rng: rng.random((2, 1, 9, 40)) < 0.5,
    "few bools": lambda rng: rng.random((2, 3, 9, 40)) < 0.02,
    "fewer keys": lambda rng: rng.random((9, 21)) < 0.5,
    "one key": lambda rng: np.ones((9, 1), bool),
    "integers": lambda rng: rng.integers(-2, 2, (9, 40)),
}


def form(rng: np.random.Generator, name: str) -> tuple[Graph, Arrays]:
    """One of `FORMS` and its inputs."""
    shapes, attributes = FORMS[name]
    inputs = draw(rng, **shapes)
    return attention(inputs, **attributes), inputs


def masked(rng: np.random.Generator, name: str, causal: int) -> tuple[Graph, Arrays]:
    """Attention with one of `MASKS`, and its inputs."""
    inputs = draw(rng, q=(2, 3, 9, 16), k=(2, 3, 40, 16), v=(2, 3, 40, 16))
    inputs["mask"] = np.asarray(MASKS[name](rng))
    return attention(inputs, is_causal=causal), inputs


def same_everywhere(run: Callable[..., Arrays], graph: Graph, inputs: Arrays, threads: Sequence[int]) -> None:
    """Every ISA gives the same bits with so many threads."""
    want = run(graph, inputs, "scalar")
    for isa in _native.available_isas():
        for n in threads:
            assert same(run(graph, inputs, isa, n), want), f"{isa} with {n} threads"
