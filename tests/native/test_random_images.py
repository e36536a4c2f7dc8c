"""Random networks for images, in every precision: the same bits in any batch, on any number of threads, from a template
and whatever an earlier call left in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import settings, tiles_always

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate, lower_split, split_cost
from forwardpass.passes import optimize
from forwardpass.plan import Settings, make_plan
from forwardpass.plan.template import make_template
from tolerance import RANDOM_IMAGES

Shape = tuple[int, int, int]
"""Rows, columns and channels."""
ACTIVATIONS: tuple[dict[str, Any], ...] = (
    {}, {"activation": "Relu"}, {"activation": "Clip", "alpha": 0.0, "beta": 6.0}, {"activation": "HardSwish"},
)  # fmt: skip

BLOCKS = 4
"""Tests, which share the seeds: two processes may run them at once."""


class Grower:
    """A network of channels-last operators, that grows node by node from the newest values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: dict[str, Shape] = {
            "x": (self.number(5, 24), self.number(5, 40), self.one_of(2, 3, 4, 32, 33, 48))
        }

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *items: Any) -> Any:
        return items[self.number(0, len(items) - 1)]

    def const(self, *shape: int, scale: float = 1.0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return name

    def emit(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        domain, _, short = op.rpartition(".")
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(short, inputs, [name], attributes, domain, name))
        self.values[name] = shape
        return name

    def like(self, fits: Any) -> str:
        return str(self.one_of(*(v for v, s in self.values.items() if fits(s))))

    def grow(self) -> None:
        x = list(self.values)[-1 - self.number(0, min(2, len(self.values) - 1))]
        draw = self.one_of(*[self.conv] * 4, *[self.groups, self.depthwise, self.join] * 2, self.pool, self.gate,
                           self.normalise, self.add)  # fmt: skip
        draw(x, *self.values[x])

    def window(self, h: int, w: int, k: int, strides: list[int]) -> tuple[dict[str, Any], int, int] | None:
        pads = [k // 2] * 4 if self.number(0, 2) else [self.number(0, k - 1) for _ in range(4)]
        sizes = [(h + pads[0] + pads[2] - k) // strides[0] + 1, (w + pads[1] + pads[3] - k) // strides[1] + 1]
        how = {"kernel_shape": [k, k], "strides": strides, "pads": pads}
        return (how, sizes[0], sizes[1]) if min(sizes) > 0 and min(h, w) >= k else None

    def conv(self, x: str, h: int, w: int, c: int) -> None:
        k, n = self.one_of(1, 1, 3, 5), self.one_of(1, 8, 16, 32, 40, 64)
        found = self.window(h, w, k, [self.one_of(1, 1, 2), self.one_of(1, 1, 2)])
        if found is None:
            return
        how, oh, ow = found
        inputs = [x, self.const(k, k, c, n, scale=(k * k * c) ** -0.5), self.const(n)]
        if self.number(0, 1) and (oh, ow, n) in self.values.values():
            inputs.append(self.like(lambda s: s == (oh, ow, n)))
        self.emit("nhwc.Conv", inputs, (oh, ow, n), **how, **self.one_of(*ACTIVATIONS))

    def groups(self, x: str, h: int, w: int, c: int) -> None:
        count, k = self.one_of(*(g for g in (1, 2, 3, 4, 8, 16) if c % g == 0)), self.one_of(1, 3)
        found = self.window(h, w, k, [self.one_of(1, 2)] * 2)
        if found is not None:
            how, oh, ow = found
            n = count * self.one_of(4, 7, 16, 24)
            inputs = [x, self.const(k, k, c // count, n, scale=(k * k * c / count) ** -0.5), self.const(n)]
            self.emit("nhwc.Conv", inputs, (oh, ow, n), **how, group=count, **self.one_of(*ACTIVATIONS))

    def depthwise(self, x: str, h: int, w: int, c: int) -> None:
        k, stride = self.one_of(3, 3, 5), self.one_of(1, 1, 2)
        found = self.window(h, w, k, [stride, stride])
        if found is not None:
            how, oh, ow = found
            inputs = [x, self.const(k, k, 1, c, scale=1 / k), self.const(c)]
            self.emit("nhwc.Conv", inputs, (oh, ow, c), **how, group=c, **self.one_of(*ACTIVATIONS))

    def pool(self, x: str, h: int, w: int, c: int) -> None:
        found = self.window(h, w, self.one_of(2, 3), self.one_of([1, 1], [2, 2]))
        if found is not None:
            how, oh, ow = found
            self.emit(self.one_of("nhwc.MaxPool", "nhwc.AveragePool"), [x], (oh, ow, c), **how)

    def gate(self, x: str, h: int, w: int, c: int) -> None:
        mean = self.emit("nhwc.GlobalAveragePool", [x], (1, 1, c))
        weights = self.const(1, 1, c, c, scale=c**-0.5)
        factors = self.emit("nhwc.Conv", [mean, weights], (1, 1, c), kernel_shape=[1, 1], activation="Sigmoid")
        self.emit("Mul", [x, factors], (h, w, c))

    def normalise(self, x: str, h: int, w: int, c: int) -> None:
        self.emit("fused.ScaleShift", [x, self.const(c), self.const(c)], (h, w, c), **self.one_of(*ACTIVATIONS))

    def join(self, x: str, h: int, w: int, c: int) -> None:
        other = self.like(lambda s: s[:2] == (h, w))
        if c + self.values[other][2] < 160:
            self.emit("Concat", [x, other], (h, w, c + self.values[other][2]), axis=3)

    def add(self, x: str, h: int, w: int, c: int) -> None:
        self.emit("Add", [x, self.like(lambda s: s == (h, w, c))], (h, w, c))

    def graph(self) -> Graph:
        size = self.number(4, 12)
        while len(self.nodes) < size:
            self.grow()
        if not self.number(0, 3):
            last = self.nodes[-1].outputs[0]
            self.emit("nhwc.GlobalAveragePool", [last], (1, 1, self.values[last][2]))
        outputs = [n.outputs[0] for n in self.nodes[-1 - self.number(0, 1) :]]
        shape = ("N", *self.values["x"])
        made = Graph({"x": TensorType(np.dtype(np.float32), shape)}, outputs, self.nodes, self.constants)
        made.prune()
        return made


def same(found: list[np.ndarray], want: list[np.ndarray]) -> None:
    assert len(found) == len(want)
    for a, b in zip(found, want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("first", range(BLOCKS))
def test_random_images(first: int, exhaustive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, 400 if exhaustive else 16, BLOCKS):
        print(f"seed: {seed}")
        with monkeypatch.context() as patch:
            check(seed, patch, exhaustive)


def check(seed: int, patch: pytest.MonkeyPatch, exhaustive: bool) -> None:
    """One network: near its definition, and the same bits for other batches, threads, and memory before the call."""
    rng = np.random.default_rng(seed)
    grower = Grower(rng)
    graph, _ = optimize(grower.graph())
    isa, precision = grower.one_of(*_native.available_isas()), grower.one_of(*RANDOM_IMAGES)
    if grower.number(0, 2):
        patch.setattr(lower_split, "pays", tiles_always)
        patch.setattr(split_cost, "_FLOAT_BYTES", grower.one_of(0, 0, 1 << 21))
        patch.setattr(lower_split, "PART_BYTES", grower.one_of(1 << 13, 1 << 15, 3 << 18))
        patch.setattr(lower_split, "PART_WEIGHTS", grower.one_of(0, 0.5))
    patch.setattr(lower_split, "RESIDENT_BYTES", grower.one_of(1 << 14, 1 << 16, 1 << 20))
    patch.setattr(lower_split, "PART_BYTES_ONCE", grower.one_of(1 << 13, 1 << 15, 1 << 19))
    patch.setattr(lower_split, "_STREAMED_BYTES", grower.one_of(0, 1 << 21))
    tiles, l2, batch = bool(grower.number(0, 4)), grower.one_of(0, 1 << 15, 1 << 17), grower.number(2, 5)
    if isa == "scalar" and not exhaustive:
        tiles = False  # emulated element by element: half a minute for one large network
    packed: dict[Any, Any] = {}

    def chosen(threads: int = 1) -> Settings:
        return settings(isa, threads, precision, tiles=tiles, l2=l2)

    x = rng.standard_normal((batch, *graph.inputs["x"].shape[1:]), dtype=np.float32)
    plan = make_plan(graph, {"x": x.shape}, chosen(), packed)
    want = plan.run([x])
    for name, found in zip(graph.outputs, want):
        exact = evaluate(graph, {"x": x}, dtype=np.float64)[name]
        assert np.linalg.norm(found - exact) <= RANDOM_IMAGES[precision] * np.linalg.norm(exact)
    plan.run([np.full_like(x, np.nan)])
    same(plan.run([x]), want)
    for threads in (2, 3):
        same(make_plan(graph, {"x": x.shape}, chosen(threads), packed).run([x]), want)
    row = make_plan(graph, {"x": (1, *x.shape[1:])}, chosen(grower.number(1, 2)), packed)
    for k in range(batch):
        same(row.run([x[k : k + 1].copy()]), [y[k : k + 1] for y in want])
    template = make_template(graph, {"x": x.shape}, chosen(2), packed, _native.Arenas())
    for size in (batch, 1, 7) if template is not None else ():
        filled = template(((size, *x.shape[1:]),))
        if filled is not None:
            same([y[:1] for y in filled.run([np.resize(x, (size, *x.shape[1:]))])], [y[:1] for y in want])
