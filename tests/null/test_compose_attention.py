"""Attention as exporters write it out: each style becomes one operator, or the log says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graphs import Maker

from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.passes import optimize
from tolerance import NETWORK

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
HEADS, SIZE = 3, 4
WIDTH = HEADS * SIZE
LOWEST = float(np.finfo(np.float32).min)


class Exporter(Maker):
    """A network of one layer of attention on x [batch, length, WIDTH], sizes known only to a call."""

    def __init__(self) -> None:
        super().__init__(dtype=F32)
        self.x = self.input("x", "batch", "length", WIDTH)
        self.counter = 0

    def number(self, value: float) -> str:
        return self.const(np.array(value, np.float32))

    def project(self, x: str, width: int = WIDTH) -> str:
        return self("Add", self("MatMul", x, self.const((WIDTH, width))), self.const((width,)))

    def heads(self, x: str, count: int = HEADS, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
        """[batch, count, length, SIZE], by a Reshape that copies sizes."""
        return self("Transpose", self("Reshape", x, self.ints(0, 0, count, SIZE)), perm=list(perm))

    def merge(self, y: str, out: str = "y") -> str:
        turned = self("Transpose", y, perm=[0, 2, 1, 3])
        return self("Reshape", turned, self.ints(0, 0, WIDTH), out=out)

    def size(self, x: str, axis: int) -> str:
        """One size of a value, as tracing gives it: Shape, Gather, Unsqueeze."""
        one = self("Gather", self("Shape", x), self.const(np.array(axis, np.int64)), axis=0)
        return self("Unsqueeze", one, self.ints(0))


def bert() -> Graph:
    """The mask is added to the divided scores."""
    m = Exporter()
    mask = m.input("mask", "batch", 1, 1, "length")
    q, k, v = (m.project(m.x) for _ in range(3))
    scores = m("MatMul", m.heads(q), m.heads(k, perm=(0, 2, 3, 1)))
    scores = m("Add", m("Div", scores, m.number(SIZE**0.5)), mask)
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), m.heads(v))))


def gpt2() -> Graph:
    """One projection, a causal mask that is selected, a cache that is returned."""
    m = Exporter()
    past = [m.input(f"past_{n}", "batch", HEADS, "before", SIZE) for n in ("key", "value")]
    seen = m.const(np.tril(np.ones((1, 1, 64, 64), bool))[:, :, -1:, :])
    parts = ["q", "k", "v"]
    m.nodes.append(Node("Split", [m.project(m.x, 3 * WIDTH), m.ints(WIDTH, WIDTH, WIDTH)], parts, {"axis": 2}))
    q, k, v = (m.heads(p) for p in parts)
    k = m("Concat", past[0], k, axis=2, out="present_key")
    v = m("Concat", past[1], v, axis=2, out="present_value")
    scores = m("Div", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(SIZE**0.5))
    window = m("Slice", seen, m.ints(0), m.size(k, 2), m.ints(3))
    scores = m("Where", window, scores, m.number(LOWEST))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)), k, v)


def t5() -> Graph:
    """No scale; a bias of positions and a mask are added."""
    m = Exporter()
    mask, bias = m.input("mask", "batch", 1, 1, "length"), m.input("bias", 1, HEADS, "length", "length")
    q, k, v = (m("MatMul", m.x, m.const((WIDTH, WIDTH))) for _ in range(3))
    scores = m("MatMul", m.heads(q), m("Transpose", m.heads(k), perm=[0, 1, 3, 2]))
    scores = m("Add", m("Add", scores, bias), mask)
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=3), m.heads(v))))


def llama() -> Graph:
    """Fewer heads of keys and values, each repeated; a mask."""
    m = Exporter()
    mask = m.input("mask", "batch", 1, "length", "length")
    groups = 1

    def repeated(x: str) -> str:
        wide = m("Unsqueeze", x, m.ints(2))
        sizes = [m.size(x, 0), m.ints(groups), m.ints(HEADS), m.size(x, 2), m.size(x, 3)]
        wide = m("Expand", wide, m("Concat", *sizes, axis=0))
        flat = [m.size(x, 0), m.ints(HEADS), m.size(x, 2), m.size(x, 3)]
        return m("Reshape", wide, m("Concat", *flat, axis=0))

    q = m.heads(m("MatMul", m.x, m.const((WIDTH, WIDTH))))
    k, v = (repeated(m.heads(m("MatMul", m.x, m.const((WIDTH, SIZE))), groups)) for _ in range(2))
    scores = m("Mul", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(SIZE**-0.5))
    return m.graph(m.merge(m("MatMul", m("Softmax", m("Add", scores, mask), axis=-1), v)))


def torch_sdpa() -> Graph:
    """Both operands take the root of the scale, the keys are swapped as matrices, and NaN becomes zero."""
    m = Exporter()
    mask = m.input("mask", "batch", 1, 1, "length")
    q, k, v = (m.heads(m.project(m.x)) for _ in range(3))
    shape = m("Shape", k)
    end = m.ints(np.iinfo(np.int64).max)
    last, other = m("Slice", shape, m.ints(-1), end), m("Slice", shape, m.ints(-2), m.ints(-1))
    lead = m("Slice", shape, m.ints(np.iinfo(np.int64).min), m.ints(-2))
    flat = m("Reshape", k, m("Concat", m.ints(-1), other, last, axis=0))
    across = m("Reshape", m("Transpose", flat, perm=[0, 2, 1]), m("Concat", lead, last, other, axis=0))
    root = m.number(SIZE**-0.25)
    weights = m("Softmax", m("Add", m("MatMul", m("Mul", q, root), m("Mul", across, root)), mask), axis=-1)
    safe = m("Where", m("IsNaN", weights), m.number(0), weights)
    return m.graph(m.merge(m("MatMul", safe, v)))


def packed() -> Graph:
    """One projection whose parts and heads are dimensions of their own."""
    m = Exporter()
    parts = m("Reshape", m.project(m.x, 3 * WIDTH), m.ints(0, 0, 3, HEADS, SIZE))
    turned = m("Transpose", parts, perm=[2, 0, 3, 1, 4])
    q, k, v = (m("Gather", turned, m.const(np.array(i, np.int64)), axis=0) for i in range(3))
    scores = m("Mul", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(SIZE**-0.5))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


def packed_split() -> Graph:
    m = Exporter()
    parts = m("Reshape", m.project(m.x, 3 * WIDTH), m.ints(0, 0, 3, HEADS, SIZE))
    turned = m("Transpose", parts, perm=[2, 0, 3, 1, 4])
    m.nodes.append(Node("Split", [turned, m.ints(1, 1, 1)], ["part_q", "part_k", "part_v"], {"axis": 0}))
    q, k, v = (m("Squeeze", n, m.ints(0)) for n in ("part_q", "part_k", "part_v"))
    scores = m("Mul", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(SIZE**-0.5))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


def soft_cap() -> Graph:
    """Gemma: the scores pass through tanh."""
    m = Exporter()
    q, k, v = (m.heads(m.project(m.x)) for _ in range(3))
    scores = m("Mul", m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(0.3))
    scores = m("Mul", m("Tanh", m("Div", scores, m.number(2.0))), m.number(2.0))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


def one_head() -> Graph:
    """A query that attends to a memory; no heads."""
    m = Exporter()
    memory = m.input("memory", "batch", "steps", WIDTH)
    scores = m("MatMul", m.project(m.x), m("Transpose", memory, perm=[0, 2, 1]))
    return m.graph(m("MatMul", m("Softmax", scores, axis=-1), memory, out="y"))


STYLES = [bert, gpt2, t5, llama, torch_sdpa, packed, packed_split, soft_cap, one_head]


def draw(graph: Graph, rng: np.random.Generator, **sizes: int) -> dict[str, Any]:
    sizes = {"batch": 2, "length": 5, "before": 3, "steps": 6, **sizes}
    shapes = {k: [sizes.get(str(d), d) for d in t.shape or ()] for k, t in graph.inputs.items()}
    return {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}


def composed(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.qualified == "fused.Attention"]


@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.__name__)
def test_styles(style: Callable[[], Graph], rng: np.random.Generator) -> None:
    graph = style()
    fused, log = optimize(graph, check=True)
    assert len(composed(fused)) == 1, log
    assert not any(n.op in ("Softmax", "Transpose", "Expand", "IsNaN") for n in fused.nodes if style is not gpt2), fused
    inputs = draw(graph, rng)
    want, got = evaluate(graph, inputs), evaluate(fused, inputs)
    for name, y in want.items():
        np.testing.assert_allclose(got[name], y, **NETWORK)


@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.__name__)
def test_sizes_that_are_known(style: Callable[[], Graph], rng: np.random.Generator) -> None:
    graph = style()
    inputs = draw(graph, rng)
    fused, log = optimize(graph, {k: TensorType.of(v) for k, v in inputs.items()}, check=True)
    assert len(composed(fused)) == 1, log
    want, got = evaluate(graph, inputs), evaluate(fused, inputs)
    for name, y in want.items():
        np.testing.assert_allclose(got[name], y, **NETWORK)


def test_layers_share_their_mask(rng: np.random.Generator) -> None:
    m = Exporter()
    mask, x = m.input("seen", "batch", 1, 1, "length"), m.x
    m.inputs["seen"] = TensorType(np.dtype(bool), m.inputs["seen"].shape)
    for _ in range(3):
        q, k, v = (m.heads(m.project(x)) for _ in range(3))
        scores = m("Where", mask, m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), m.number(LOWEST))
        x = m.merge(m("MatMul", m("Softmax", scores, axis=-1), v), out="")
    graph = m.graph(x)
    fused, _ = optimize(graph, check=True)
    assert len(composed(fused)) == 3
    assert len({n.inputs[3] for n in composed(fused)}) <= 3
    inputs = draw(graph, rng)
    inputs["seen"] = inputs["seen"] > -1
    inputs["seen"][..., 0] = True
    np.testing.assert_allclose(evaluate(fused, inputs)[x], evaluate(graph, inputs)[x], **NETWORK)


def plain(m: Exporter) -> tuple[str, str]:
    """Scores and values."""
    q, k, v = (m.heads(m.project(m.x)) for _ in range(3))
    return m("MatMul", q, m("Transpose", k, perm=[0, 1, 3, 2])), v


def weights_returned() -> Graph:
    m = Exporter()
    scores, v = plain(m)
    weights = m("Softmax", scores, axis=-1, out="weights")
    return m.graph(m.merge(m("MatMul", weights, v)), weights)


def scores_returned() -> Graph:
    m = Exporter()
    scores, v = plain(m)
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)), scores)


def hidden_is_high() -> Graph:
    m = Exporter()
    scores, v = plain(m)
    low = m("Less", m.input("bias", "batch", 1, 1, "length"), m.number(0))
    scores = m("Where", low, scores, m.number(-100.0))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


def scores_used_twice() -> Graph:
    m = Exporter()
    scores, v = plain(m)
    scores = m("Where", m("Less", scores, m.number(0)), scores, m.number(LOWEST))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


def scaled_mask() -> Graph:
    m = Exporter()
    mask = m.input("mask", "batch", 1, 1, "length")
    scores, v = plain(m)
    scores = m("Mul", m("Add", scores, mask), m.number(0.5))
    return m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=-1), v)))


DECLINED = [
    (weights_returned, "the weights are used elsewhere"),
    (scores_returned, "is a graph output"),
    (hidden_is_high, "hidden scores become -100, which is not low enough"),
    (scores_used_twice, "is used by 2 nodes"),
    (scaled_mask, "the mask or the soft cap comes before the scale"),
]


@pytest.mark.parametrize(("style", "reason"), DECLINED, ids=lambda s: getattr(s, "__name__", ""))
def test_declines(style: Callable[[], Graph], reason: str, rng: np.random.Generator) -> None:
    graph = style()
    fused, log = optimize(graph, check=True)
    assert not composed(fused)
    assert any(reason in e.detail for e in log.declined("compose_attention")), log
    inputs = draw(graph, rng)
    want = evaluate(graph, inputs)["y"]
    np.testing.assert_allclose(evaluate(fused, inputs)["y"], want, **NETWORK)


def test_softmax_over_another_axis_is_none(rng: np.random.Generator) -> None:
    m = Exporter()
    scores, v = plain(m)
    graph = m.graph(m.merge(m("MatMul", m("Softmax", scores, axis=1), v)))
    fused, _ = optimize(graph, check=True)
    assert not composed(fused)
