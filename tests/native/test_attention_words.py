"""Attention between products on matrix tiles: with operands of bfloat16 numbers from one to the other the same bits as
with float32 numbers in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import on_tiles, tiles_always

from forwardpass import plan as plans
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_split
from forwardpass.passes import optimize
from forwardpass.plan import Plan, make_plan

Floats = np.ndarray[Any, Any]

SHAPES = {
    # batch, length, heads, size, and what the linear layers see: rows of a batch, or of all
    "whole tiles": (1, 32, 2, 32, False),
    "part of a tile": (2, 21, 3, 64, False),
    "rows of all batches": (3, 20, 2, 32, True),
    "longer than a block of keys": (1, 290, 1, 32, False),
    "odd heads": (1, 20, 2, 48, False),
}


@pytest.fixture(autouse=True)
def always_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_split, "pays", tiles_always)


def network(rng: np.random.Generator, name: str, together: bool) -> tuple[Graph, Floats]:
    """LayerNormalization -> queries, keys and values by one product or by three -> attention -> a product."""
    batch, length, heads, size, flat = SHAPES[name]
    n = heads * size
    shape = (batch * length, n) if flat else (batch, length, n)
    constants = {"s": rng.standard_normal(n, dtype=np.float32), "o": rng.standard_normal((n, 40), dtype=np.float32)}
    constants["three"] = np.array([batch, length, 3, heads, size])
    constants["one"] = np.array([batch, length, heads, size])
    constants["back"] = np.array(shape)
    constants["scale"] = np.float32(0.2)
    nodes = [Node("LayerNormalization", ["x", "s"], ["l"], {"axis": -1})]

    def product(w: str, columns: int, out: str) -> None:
        constants[w] = rng.standard_normal((n, columns), dtype=np.float32) / np.float32(np.sqrt(n))
        nodes.append(Node("MatMul", ["l", w], [out]))

    if together:
        product("w", 3 * n, "qkv")
        nodes.append(Node("Reshape", ["qkv", "three"], ["apart"]))
        nodes.append(Node("Transpose", ["apart"], ["heads"], {"perm": [2, 0, 3, 1, 4]}))
        for i, t in enumerate("qkv"):
            constants[f"i{i}"] = np.array(i)
            nodes.append(Node("Gather", ["heads", f"i{i}"], [f"{t}h"], {"axis": 0}))
    else:
        for t in "qkv":
            product(f"w{t}", n, t)
            nodes.append(Node("Reshape", [t, "one"], [f"{t}r"]))
            nodes.append(Node("Transpose", [f"{t}r"], [f"{t}h"], {"perm": [0, 2, 1, 3]}))
    nodes += [
        Node("Transpose", ["kh"], ["kt"], {"perm": [0, 1, 3, 2]}),
        Node("MatMul", ["qh", "kt"], ["qk"]),
        Node("Mul", ["qk", "scale"], ["scores"]),
        Node("Softmax", ["scores"], ["weights"], {"axis": -1}),
        Node("MatMul", ["weights", "vh"], ["a"]),
        Node("Transpose", ["a"], ["at"], {"perm": [0, 2, 1, 3]}),
        Node("Reshape", ["at", "back"], ["ar"]),
        Node("MatMul", ["ar", "o"], ["y"]),
    ]
    graph, _ = optimize(Graph({"x": TensorType(np.dtype(np.float32), shape)}, ["y"], nodes, constants))
    return graph, rng.standard_normal(shape, dtype=np.float32)


def planned(graph: Graph, isa: str, threads: int = 1) -> Plan:
    return make_plan(graph, {k: t.sizes for k, t in graph.inputs.items()}, on_tiles(isa, threads, "bfloat16"), {})


def plain(graph: Graph, isa: str) -> Plan:
    """With float32 numbers between the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "words_in_attention", lambda steps, ctx: list(steps))
        patch.setattr(plans, "split_in_epilogues", list)
        return planned(graph, isa)


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_the_bits_stay(name: str, together: bool, isa: str, rng: np.random.Generator) -> None:
    graph, x = network(rng, name, together)
    for scale in (1.0, np.float32(2.0**120)):
        want = plain(graph, isa).run([x * scale])[0]
        for threads in (1, 3):
            assert planned(graph, isa, threads).run([x * scale])[0].tobytes() == want.tobytes()


def kernels(plan: Plan) -> list[str]:
    return [s.kernel for s in plan.steps]


def test_no_step_splits(isa: str, rng: np.random.Generator) -> None:
    graph, _ = network(rng, "part of a tile", together=False)
    plan = planned(graph, isa)
    assert "split_f32" in kernels(plain(graph, isa))
    assert "split_f32" not in kernels(plan)
    attention = next(s for s in plan.steps if s.kernel == "attention_bf16")
    assert attention.params["q_block"]
    assert attention.params["out_block"]
    assert all(s.params["in_block"] for s in plan.steps if s.kernel == "pack_heads_bf16")


def test_heads_of_parts_of_blocks_stay_float32(isa: str, rng: np.random.Generator) -> None:
    graph, _ = network(rng, "odd heads", together=False)
    attention = next(s for s in planned(graph, isa).steps if s.kernel == "attention_bf16")
    assert not attention.params["q_block"]
    assert not attention.params["out_block"]


def test_results_of_several_blocks_of_keys_stay_float32(isa: str, rng: np.random.Generator) -> None:
    graph, _ = network(rng, "longer than a block of keys", together=False)
    attention = next(s for s in planned(graph, isa).steps if s.kernel == "attention_bf16")
    assert attention.params["q_block"]
    assert not attention.params["out_block"]


@pytest.mark.parametrize("bits", [0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0x7F7FFFFF])
def test_numbers_that_round_to_none(bits: int, isa: str, rng: np.random.Generator) -> None:
    graph, x = network(rng, "part of a tile", together=True)
    x[1, 5, 7] = np.uint32(bits).view(np.float32)
    want = plain(graph, isa).run([x])[0]
    assert planned(graph, isa).run([x])[0].tobytes() == want.tobytes()
    if bits != 0x7F7FFFFF:
        assert np.isnan(want[1]).all()
