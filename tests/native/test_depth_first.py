"""Chains of steps by blocks of image rows: the same bits as one step after another, in less memory."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from filled import fitting
from graphs import Maker
from planned import plan_of, settings

import forwardpass as fp
from forwardpass.graph import Array, Graph, TensorType
from forwardpass.ops.evaluate import infer_types
from forwardpass.plan import Plan, depth_first
from forwardpass.plan.row_steps import RowStep
from forwardpass.plan.row_windows import Slice

L2 = 16 << 10


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch, every_step_split: None) -> None:
    """Take every chain that there is room for."""
    monkeypatch.setattr(depth_first, "_CALL_US", 0.0)
    monkeypatch.setattr(depth_first, "_NEAR", 1e30)
    monkeypatch.setattr(depth_first, "_LEAVES", 0.0)
    monkeypatch.setattr(depth_first, "_LITTLE", 0.0)
    monkeypatch.setattr(depth_first, "_WEIGHTS", 1e9)


class ImageMaker(Maker):
    """Image operators, one after another, and the shapes of their results."""

    def __init__(self, rng: np.random.Generator, *shape: int) -> None:
        super().__init__(dtype=np.float32)
        self.rng = rng
        self.input("x", *shape)
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        out = super().__call__(op, *inputs, **attributes)
        self.shapes = {k: t.sizes for k, t in infer_types(self.graph(out), self.inputs).items()}
        return out

    def conv(self, x: str, n: int, k: int, *residual: str, group: int = 1, **attributes: Any) -> str:  # type: ignore[override]
        w, b = self.const((k, k, self.shapes[x][3] // group, n)), self.const((n,))
        return self("nhwc.Conv", x, w, b, *residual, group=group, **attributes)


def results(plan: Plan, x: Array) -> list[Array]:
    """The outputs, after a run whose values are all NaN: what the plan forgets to write is then seen."""
    outputs = [np.full(t.sizes, np.nan, t.dtype) for t in plan.outputs.values()]
    for values in (np.full_like(x, np.nan), x):
        assert plan.program.run_profiled([values], outputs)[1] == 0
    return outputs


def rows_stay_inside(plan: Plan) -> None:
    """Check that no slice touches rows that its windows do not hold, at none of the turns of its loop."""
    for chain in taken(plan):
        members = {m.index: (m, advance) for m, advance in zip(chain.members, chain.advances(1)[0])}
        for s in plan.tape:
            m, advance = members.get(s.index, (None, 0))
            if m is None:
                continue
            if s.params is not m.step.params:
                assert chain.images == 1 or not any((s.shift, *s.moves)), "what serves the windows is so for each image"
                continue
            if chain.images == 1:
                assert s.shift % (advance * m.units) == 0
            else:
                assert s.loop is not None
                assert s.shift == m.height * m.units
                seen_by = [*s.inputs, s.output]
                strides = [0 if t is None or t.buffer not in chain.windows else -t.strides[0] for t in seen_by]
                assert list(s.moves) == strides
            for turn in range(s.loop.begin, s.loop.begin + s.loop.count) if s.loop is not None else (0,):
                _rows_stay_inside(s, m, chain, turn)


def _rows_stay_inside(s: Slice, m: RowStep, chain: depth_first.Chain, turn: int) -> None:
    first, last = (place + turn * s.shift for place in next(r for r in s.ranges if r != (0, 0)))
    image, begin = divmod(first // m.units, m.height)
    end = begin + (last - first) // m.units
    assert end <= m.height
    out = m.step.output
    top = out.offset // out.strides[1]
    touched = [(s.output, s.moves[-1], out, top + begin, top + end)]
    for seen, moved, whole, read in zip(s.inputs, s.moves, m.step.inputs, m.reads):
        if seen is not None and whole is not None and read is not None:
            touched.append((seen, moved, whole, read.begin(begin), read.end(end)))
    for seen, moved, whole, low, high in touched:
        if seen.buffer in chain.windows:
            row = whole.strides[1]
            base = (whole.offset - seen.offset - turn * moved) // row - image * whole.strides[0] // row
            assert base <= low < high <= base + seen.buffer.size // row


def taken(plan: Plan) -> list[depth_first.Chain]:
    return [c for c in plan.chains if not c.declined]


def same_bits(graph: Graph, isa: str, threads: int, l2: int = L2) -> Plan:
    """Check that a plan by rows has the outputs and no more memory than one without, and return it."""
    (shape,) = (t.sizes for t in graph.inputs.values())
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    plain, plan = (plan_of(graph, {"x": shape}, isa, threads, size) for size in (0, l2))
    assert not plain.chains
    rows_stay_inside(plan)
    for want, got in zip(results(plain, x), results(plan, x)):
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
    return plan


def inverted_residual(rng: np.random.Generator, batch: int, height: int, width: int, stride: int = 1) -> Graph:
    m = ImageMaker(rng, batch, height, width, 8)
    x = m.conv("x", 8, 1)
    h = m.conv(x, 24, 1, activation="Clip", alpha=0.0, beta=6.0)
    h = m.conv(h, 24, 3, group=24, pads=[1, 1, 1, 1], strides=[stride, stride], activation="Relu")
    y = m.conv(h, 8, 1, *([x] if stride == 1 else []))
    return m.graph(y)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 40, 17), (1, 41, 16), (3, 19, 23), (2, 24, 12)])
def test_inverted_residual(
    batch: int, height: int, width: int, stride: int, threads: int, isa: str, rng: np.random.Generator
) -> None:
    graph = inverted_residual(rng, batch, height, width, stride)
    plan = same_bits(graph, isa, threads, 4 * L2)
    (chain,) = taken(plan)
    assert len(chain.members) == 4
    assert len(plan.tape) > len(plan.steps)
    plain = plan_of(graph, {"x": (batch, height, width, 8)}, isa, threads)
    assert plan.arena_bytes < plain.arena_bytes
    if threads == 1 and batch > 1:
        more = plan_of(graph, {"x": (4 * batch, height, width, 8)}, isa, 1, 4 * L2)
        assert more.arena_bytes == plan.arena_bytes, "the windows are those of one image"


def _draw(m: ImageMaker, x: str, rng: np.random.Generator) -> str:
    """One more operator on a value."""
    _, h, w, c = m.shapes[x]
    k = int(rng.integers(1, 4))
    fits = h > 8 and w > 8
    pads = [int(p) for p in rng.integers(0, k, 4)] if fits else [k // 2] * 4
    strides = [int(s) for s in rng.integers(1, 3, 2)] if fits else [1, 1]
    dilations = [int(d) for d in rng.integers(1, 3, 2)] if h > 20 and w > 20 else [1, 1]
    window = {"kernel_shape": [k, k], "pads": pads, "strides": strides}
    same = [v for v, s in m.shapes.items() if s == (m.shapes[x][0], h, w, c) and v not in m.constants and v != x]
    kind = rng.choice(["conv", "point", "depthwise", "groups", "max", "mean", "unary", "scale", "add", "join"])
    if kind == "conv":
        return m.conv(x, int(rng.integers(1, 20)), k, **window, dilations=dilations, activation="Relu")
    if kind == "depthwise" and c > 1:
        return m.conv(x, c, k, group=c, **window, dilations=dilations)
    if kind == "groups" and c % 2 == 0:
        return m.conv(x, 2 * int(rng.integers(1, 9)), k, group=2, **window)
    if kind in ("max", "mean") and fits:
        return m("nhwc.MaxPool" if kind == "max" else "nhwc.AveragePool", x, **window)
    if kind == "unary":
        return m(str(rng.choice(["Relu", "Sigmoid", "HardSwish"])), x)
    if kind == "scale":
        return m("Mul", x, m.const((c,)))
    if kind == "add" and same:
        return m("Add", x, str(rng.choice(same)))
    if kind == "join" and same and c < 30:
        return m("Concat", x, str(rng.choice(same)), axis=3)
    return m.conv(x, int(rng.integers(1, 20)), 1, activation="Tanh")


def random_chain(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(16, 50)), int(rng.integers(9, 40)), int(rng.integers(1, 9)))
    m = ImageMaker(rng, *shape)
    x = "x"
    for _ in range(int(rng.integers(3, 11))):
        x = _draw(m, x, rng)
    others = [v for v in m.shapes if v.startswith("v") and v != x and rng.random() < 0.1]
    graph = m.graph(x, *others)
    graph.prune()
    return graph


def batches_of(graph: Graph, first: int, others: list[int], isa: str, threads: int, l2: int) -> int:
    """How many batch sizes a template for the first one fits; each is compared with the planner's plan."""
    ((_, *image),) = (t.sizes for t in graph.inputs.values())
    graph = graph.copy()
    graph.inputs = {"x": TensorType(np.dtype(np.float32), (None, *image))}
    shapes = [{"x": (n, *image)} for n in others]
    return fitting(graph, {"x": (first, *image)}, shapes, settings(isa, threads, l2=l2))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_templates(stride: int, threads: int, isa: str, rng: np.random.Generator) -> None:
    """A template fits all batches of which the threads take as many whole images, and parts of them, alike."""
    graph = inverted_residual(rng, 1, 21, 17, stride)
    first = 4 * threads + 1
    alike = [first + threads * k for k in range(1, 9)]
    assert batches_of(graph, first, alike, isa, threads, 4 * L2) == 1 + len(alike)
    assert batches_of(graph, first, [first + 1], isa, threads, 4 * L2) == (2 if threads == 1 else 1)


@pytest.mark.parametrize("seed", range(20, 40))
def test_templates_of_random_chains(seed: int, isa: str) -> None:
    graph = random_chain(seed)
    for threads, l2 in ((1, L2), (2, 4 * L2)):
        assert batches_of(graph, 5, [1, 2, 3, 4, 6, 7, 8], isa, threads, l2) > 1


def test_the_tape_does_not_grow_with_the_batch(rng: np.random.Generator) -> None:
    graph = inverted_residual(rng, 1, 40, 17)
    for threads in (1, 2):
        tapes = [plan_of(graph, {"x": (n, 40, 17, 8)}, "scalar", threads, 4 * L2).tape for n in (4, 400)]
        assert len(tapes[0]) == len(tapes[1])


def test_blocks_that_do_the_same_are_a_loop(isa: str, rng: np.random.Generator) -> None:
    """Of a single image: whatever its height, few blocks have entries of their own."""
    for height in (120, 1200):
        plan = same_bits(inverted_residual(rng, 1, height, 17), isa, 1, 4 * L2)
        (turns,) = {s.loop for s in plan.tape if s.loop is not None}
        assert turns.count >= taken(plan)[0].blocks - 4
        assert len(plan.tape) < 24


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed: int, isa: str) -> None:
    graph = random_chain(seed)
    for threads, l2 in ((1, L2), (2, 4 * L2), (3, 8 * L2)):
        same_bits(graph, isa, threads, l2)


def test_most_random_chains_run_by_rows() -> None:
    """The generator of the test above makes what it is about."""
    graphs = [random_chain(seed) for seed in range(40)]
    shapes = [{k: t.sizes for k, t in g.inputs.items()} for g in graphs]
    assert sum(bool(taken(plan_of(g, s, "scalar", 1, 4 * L2))) for g, s in zip(graphs, shapes)) > 20


def test_a_value_that_others_read_keeps_its_memory(isa: str, rng: np.random.Generator) -> None:
    graph = inverted_residual(rng, 1, 40, 17)
    inner = graph.nodes[1].outputs[0]
    graph.outputs.append(inner)
    plan = same_bits(graph, isa, 1, 4 * L2)
    assert all(b.name != inner for c in taken(plan) for b in c.between)


def test_the_longest_chain_that_there_is_room_for(isa: str, rng: np.random.Generator) -> None:
    """Every step down makes a row of the result need twice the rows of what is above it."""
    m = ImageMaker(rng, 1, 96, 40, 4)
    x = "x"
    for _ in range(5):
        x = m.conv(x, 4, 3, group=4, pads=[1, 1, 1, 1], strides=[2, 1])
    counts = []
    for l2 in (4 << 10, 8 << 10, 32 << 10, 64 << 10):
        plan = same_bits(m.graph(x), isa, 1, l2)
        counts.append(max((len(c.members) for c in taken(plan)), default=0))
    assert counts == sorted(counts)
    assert counts[0] < 3 < counts[-1]
    chains = plan_of(m.graph(x), {"x": (1, 96, 40, 4)}, isa, 1, 1 << 10).chains
    assert chains
    assert all("one row takes" in c.declined for c in chains)


def test_memory_is_that_of_the_windows(rng: np.random.Generator) -> None:
    plan = plan_of(inverted_residual(rng, 1, 64, 32), {"x": (1, 64, 32, 8)}, "scalar", 1, 4 * L2)
    (chain,) = taken(plan)
    assert sum(w.nbytes for w in chain.windows) <= 2 * L2 + 4096
    assert chain.nbytes > 3 * sum(w.nbytes for w in chain.windows)
    assert plan.arena_bytes == plan.program.arena_bytes
    assert {b for b in plan.buffers if b.kind == "arena"} == set(chain.windows)
    assert all(0 <= b.first <= b.last < len(plan.steps) for b in plan.buffers)


def test_threads_wait_at_the_ends_alone(rng: np.random.Generator) -> None:
    """Inside of a chain a thread reads only what it wrote."""
    plan = plan_of(inverted_residual(rng, 2, 40, 17), {"x": (2, 40, 17, 8)}, "scalar", 3, 4 * L2)
    (chain,) = taken(plan)
    assert chain.parts == 3
    inside = [s for s in plan.tape if chain.first <= s.index <= chain.last]
    assert not any(s.barrier for s in inside)
    assert all(sum(b < e for b, e in s.ranges) == 1 for s in inside)
    for window in chain.windows:
        users = [s.ranges for s in inside if window in [t.buffer for t in (*s.inputs, s.output) if t is not None]]
        assert len({next(k for k, (b, e) in enumerate(r) if b < e) for r in users}) == 1


@pytest.mark.frameworks  # scikit-learn brings threadpoolctl
def test_threads_that_do_the_parts_of_several(rng: np.random.Generator) -> None:
    """Under a limit a thread runs the chains of several, one after another."""
    limits = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed").threadpool_limits
    importlib.import_module("forwardpass.threadpool")
    x = rng.standard_normal((2, 40, 17, 8), dtype=np.float32)
    plan = plan_of(inverted_residual(rng, 2, 40, 17), {"x": x.shape}, "scalar", 3, 4 * L2)
    assert taken(plan)
    (want,) = results(plan, x)
    for count in (1, 2):
        with limits({"forwardpass": count}):
            np.testing.assert_array_equal(results(plan, x)[0], want)


def test_profile_and_explain(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = inverted_residual(rng, 1, 40, 17)
    monkeypatch.setattr("forwardpass._native.cache_sizes", lambda: (0, 4 * L2, 0))
    model = fp.Model(graph, threads=1)
    x = rng.standard_normal((1, 40, 17, 8), dtype=np.float32)
    want = model(x)
    plan = model.plan({"x": x.shape})
    with model.profile() as profile:
        np.testing.assert_array_equal(model(x), want)
    assert [s["kernel"] for s in profile.steps] == [s.kernel for s in plan.steps]
    assert all(s["calls"] == 1 for s in profile.steps)
    explanation = fp.explain(model, {"x": x.shape})
    (chain,) = explanation.chains
    assert chain["steps"] == len(plan.steps)
    assert chain["bytes"] > chain["window_bytes"] > 0
    assert "by blocks of rows" in str(explanation)
    assert f"{chain['blocks']} x {chain['rows']} rows" in str(explanation)
    monkeypatch.setattr(depth_first, "_CALL_US", 1e9)
    declined = fp.explain(fp.Model(graph, threads=1), {"x": x.shape})
    assert declined.chains[0]["declined"] == "it costs more than it saves"
    assert "it costs more than it saves" in str(declined)


def test_capture(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = inverted_residual(rng, 1, 40, 17)
    inner = [n.outputs[0] for n in graph.nodes[:3]]
    x = {"x": rng.standard_normal((1, 40, 17, 8), dtype=np.float32)}
    plain = fp.Model(graph, threads=1).run(x, capture=inner)
    monkeypatch.setattr("forwardpass._native.cache_sizes", lambda: (0, 4 * L2, 0))
    for name in inner:
        found = fp.Model(graph, threads=1).run(x, capture=[name])
        np.testing.assert_array_equal(found[name], plain[name])


def test_small_networks_are_left_alone(isa: str, rng: np.random.Generator) -> None:
    graph = inverted_residual(rng, 1, 16, 16)
    assert not plan_of(graph, {"x": (1, 16, 16, 8)}, isa, 1, 1 << 21).chains


def test_threads_keep_images_in_their_own_cores(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that would have room in two L2s together, but not in one."""
    monkeypatch.setattr(depth_first, "_LEAVES", 3 / 4)
    graph = inverted_residual(rng, 1, 40, 17)
    for threads in (1, 2):
        assert taken(plan_of(graph, {"x": (1, 40, 17, 8)}, "scalar", threads, 9 * L2))
