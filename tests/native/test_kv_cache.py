"""Attention with a cache that it reads where it was and writes where it goes: the bits are those of a copy first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from planned import plan_of

from forwardpass import plan
from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.plan import kv_cache

Data = dict[str, Array]
HEADS_INSIDE = [0, 2, 1, 3]


def written_out(batch: int, heads: int, groups: int, past: int, queries: int, size: int, value: int) -> Graph:
    """As exporters of decoders have it: the caches are concatenated with what is new, then attention."""
    shapes = {
        "q": (batch, heads, queries, size), "k": (batch, groups, queries, size), "v": (batch, groups, queries, value),
        "past_k": (batch, groups, past, size), "past_v": (batch, groups, past, value),
    }  # fmt: skip
    nodes = [
        Node("Concat", ["past_k", "k"], ["present_k"], {"axis": 2}),
        Node("Concat", ["past_v", "v"], ["present_v"], {"axis": 2}),
        Node("Attention", ["q", "present_k", "present_v"], ["y"], {"scale": size**-0.5}, "fused"),
    ]
    return graph_of(shapes, nodes)


def graph_of(shapes: dict[str, tuple[int, ...]], nodes: list[Node]) -> Graph:
    types = {k: TensorType(np.dtype(np.float32), s) for k, s in shapes.items()}
    return Graph(types, ["y", "present_k", "present_v"], nodes)


def standard(past: int, queries: int, **attributes: Any) -> Graph:
    """ONNX's Attention, of 4 heads that share 2 of keys and values."""
    shapes = {
        "q": (2, 4, queries, 16), "k": (2, 2, queries, 16), "v": (2, 2, queries, 16),
        "past_k": (2, 2, past, 16), "past_v": (2, 2, past, 16),
    }  # fmt: skip
    node = Node("Attention", ["q", "k", "v", "", "past_k", "past_v"], ["y", "present_k", "present_v"], attributes)
    return graph_of(shapes, [node])


def data_of(graph: Graph) -> Data:
    rng = np.random.default_rng(0)
    return {k: rng.standard_normal(t.sizes, dtype=np.float32) for k, t in graph.inputs.items()}


def run(graph: Graph, isa: str, threads: int = 1, *, shift: int = 0) -> tuple[list[Array], bool]:
    """The outputs, at addresses so many floats behind a cache line, and whether a cache was moved on the way."""
    data = data_of(graph)
    made = plan_of(graph, {k: v.shape for k, v in data.items()}, isa, threads)
    outputs = []
    for t in made.outputs.values():
        room = np.full(math.prod(t.sizes) + 32, np.nan, np.float32)
        start = -room.__array_interface__["data"][0] % 64 // 4 + shift
        outputs.append(room[start:][: math.prod(t.sizes)].reshape(t.sizes))
    made.run([*data.values()], into=outputs)
    return outputs, any(s.params.get("past") for s in made.steps)


CASES = {
    "one query": written_out(1, 3, 3, 17, 1, 64, 64),
    "more blocks than one": written_out(1, 2, 2, 300, 1, 64, 32),
    "a whole block": written_out(2, 2, 1, 256, 1, 16, 16),
    "some queries, and tails": written_out(2, 4, 2, 270, 3, 20, 13),
    "one past key": written_out(1, 1, 1, 1, 4, 5, 7),
    "nothing is past": written_out(1, 2, 2, 0, 1, 16, 16),
    "causal": standard(33, 3, is_causal=1),
    "groups": standard(259, 1),
}


@pytest.mark.parametrize("graph", CASES.values(), ids=CASES)
@pytest.mark.parametrize("far", [0, 1 << 40], ids=["streams", "stores"])
@pytest.mark.usefixtures("every_step_split")
def test_bits_are_those_of_a_copy(graph: Graph, far: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "_FAR_BYTES", far)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "copy_in_attention", list)
        want, moved = run(graph, isa)
        assert not moved
    data = data_of(graph)
    np.testing.assert_array_equal(want[1], np.concatenate([data["past_k"], data["k"]], 2))
    for threads, shift in ((1, 0), (1, 3), (2, 0), (3, 1)):
        got, moved = run(graph, isa, threads, shift=shift)
        assert moved
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a, b)


def test_heads_may_lie_inside(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    perms = {f"{letter}_perm": HEADS_INSIDE for letter in ("q", "k", "v", "out")}
    shapes = {name: (2, length, 3, 16) for name, length in zip(("q", "k", "v", "past_k", "past_v"), (1, 1, 1, 40, 40))}
    nodes = [
        Node("Concat", ["past_k", "k"], ["present_k"], {"axis": 1}),
        Node("Concat", ["past_v", "v"], ["present_v"], {"axis": 1}),
        Node("Attention", ["q", "present_k", "present_v"], ["y"], perms, "fused"),
    ]
    got, moved = run(graph_of(shapes, nodes), isa)
    assert moved
    monkeypatch.setattr(plan, "copy_in_attention", list)
    for a, b in zip(got, run(graph_of(shapes, nodes), isa)[0]):
        np.testing.assert_array_equal(a, b)


def test_what_reads_the_cache_before_sees_all_of_it(isa: str) -> None:
    graph = CASES["one query"]
    between = Node("Neg", ["present_k"], ["negated"])
    nodes = [*graph.nodes[:2], between, graph.nodes[2]]
    got, moved = run(Graph(graph.inputs, [*graph.outputs, "negated"], nodes), isa)
    assert not moved
    np.testing.assert_array_equal(got[3], -got[1])


def test_what_reads_it_afterwards_too(isa: str) -> None:
    graph = CASES["one query"]
    nodes = [*graph.nodes, Node("Neg", ["present_k"], ["negated"])]
    got, moved = run(Graph(graph.inputs, [*graph.outputs, "negated"], nodes), isa, threads=2)
    assert moved
    np.testing.assert_array_equal(got[3], -got[1])


@pytest.mark.parametrize(
    "graph",
    [standard(33, 1, left_window_size=5), standard(33, 5)],
    ids=["a window hides some", "keys are packed"],
)
def test_left_alone(graph: Graph, isa: str) -> None:
    got, moved = run(graph, isa)
    assert not moved
    data = data_of(graph)
    np.testing.assert_array_equal(got[1], np.concatenate([data["past_k"], data["k"]], 2))
