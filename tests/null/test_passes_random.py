"""Random graphs: whatever the passes do, the results stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from graphs import Maker, checked, ops
from hypothesis import given, settings
from hypothesis import strategies as st

Step = tuple[int, int, int]
Shape = tuple[int, ...]
"""Without the batch: (C, H, W) of an image, (K,) of a vector."""


class Grower:
    """A graph that grows by steps; each picks an operator and operands among the values that fit it."""

    def __init__(self, seed: int) -> None:
        self.m = Maker(seed)
        self.values: dict[str, Shape] = {}
        self.add(self.m.input("x", "N", 4, 6, 5), (4, 6, 5))
        self.add(self.m("Transpose", self.m.input("z", "N", 6, 5, 4), perm=[0, 3, 1, 2]), (4, 6, 5))
        self.add(self.m.input("u", "N", 3), (3,))

    def add(self, name: str, shape: Shape) -> None:
        self.values[name] = shape

    def pick(self, k: int, rank: int = 0, like: Shape | None = None) -> str:
        """A value, of that rank or shape, the newest first."""
        fitting = [v for v, s in self.values.items() if rank in (0, len(s)) and like in (None, s)]
        return fitting[-1 - k % len(fitting)]

    def step(self, op: int, a: int, b: int) -> None:
        steps: list[Callable[[int, int], None]] = [
            self.conv,
            self.pointwise,
            self.constant,
            self.binary,
            self.norm,
            self.linear,
            self.pool,
            self.reduce,
            self.concat,
            self.pad,
            self.flatten,
            self.nothing,
            self.gate,
            self.softmax,
        ]
        steps[op % len(steps)](a, b)

    def conv(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        c, h, w = self.values[x]
        group = c if b % 3 == 0 else 2 if b % 3 == 1 and c % 2 == 0 else 1
        filters, stride, pads = c if b % 2 else 2 * c, 1 + (b // 3) % 2, [1, b % 2, 1, (b // 2) % 2]
        k = 1 + 2 * ((b // 5) % 2) if min(h, w) > 2 else 1
        y = self.m.conv(x, c, filters, k, bias=bool(b % 5), group=group, strides=[stride, 1], pads=pads)
        out = (h + pads[0] + pads[2] - k) // stride + 1, w + pads[1] + pads[3] - k + 1
        self.add(y, (filters, *out))

    def pointwise(self, a: int, b: int) -> None:
        x = self.pick(a)
        op = ("Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Clip")[b % 6]
        more = [self.m.const(-0.5), self.m.const(0.5)] if op == "Clip" else []
        self.add(self.m(op, x, *more), self.values[x])

    def constant(self, a: int, b: int) -> None:
        x = self.pick(a)
        s = self.values[x]
        form: tuple[Shape, ...] = ((), s, (s[0],) + (1,) * (len(s) - 1), (1, *s[1:]) if len(s) > 1 else (1,))
        operands = [x, self.m.const(np.asarray(self.m.rng.uniform(0.5, 1.5, form[b % 4])))]
        op = ("Add", "Mul", "Sub", "Max", "Div")[b % 5]
        self.add(self.m(op, *(operands[::-1] if b % 7 == 0 and op != "Div" else operands)), s)

    def binary(self, a: int, b: int) -> None:
        x = self.pick(a)
        self.add(self.m(("Add", "Mul", "Min")[b % 3], x, self.pick(b, like=self.values[x])), self.values[x])

    def norm(self, a: int, b: int) -> None:
        x = self.pick(a)
        self.add(self.m.norm(x, self.values[x][0]), self.values[x])

    def linear(self, a: int, b: int) -> None:
        x = self.pick(a, 1)
        k = self.values[x][0]
        n = k if b % 2 else 5
        if b % 3:
            y = self.m("Gemm", x, self.m.const((n, k)), self.m.const((n,)), transB=1)
        else:
            y = self.m("MatMul", x, self.m.const((k, n)))
        self.add(y, (n,))

    def pool(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        c, h, w = self.values[x]
        if min(h, w) < 2:
            return
        op = ("MaxPool", "AveragePool")[b % 2]
        self.add(self.m(op, x, kernel_shape=[2, 2], strides=[2, 1]), (c, (h - 2) // 2 + 1, w - 1))

    def reduce(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        c, h, w = self.values[x]
        if b % 2:
            self.add(self.m("GlobalAveragePool", x), (c, 1, 1))
        else:
            axes, left = (((2, 3), (c,)), ((1,), None), ((1, 3), (h,)))[b // 2 % 3]
            y = self.m("ReduceMean", x, self.m.ints(*axes), keepdims=int(left is None))
            self.add(y, left or (1, h, w))

    def concat(self, a: int, b: int) -> None:
        x = self.pick(a)
        s = self.values[x]
        self.add(self.m("Concat", x, self.pick(b, like=s), axis=1), (2 * s[0], *s[1:]))

    def pad(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        c, h, w = self.values[x]
        self.add(self.m("Pad", x, self.m.ints(0, 0, 1, 0, 0, 0, b % 2, 1)), (c, h + 1 + b % 2, w + 1))

    def flatten(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        size = int(np.prod(self.values[x]))
        y = self.m("Flatten", x) if b % 2 else self.m("Reshape", x, self.m.ints(0, -1))
        self.add(y, (size,))

    def nothing(self, a: int, b: int) -> None:
        x = self.pick(a, 3 if b % 2 else 0)
        s = self.values[x]
        y = self.m.first(self.m.last(x)) if b % 2 else self.m("Identity", x)
        self.add(y, s)

    def gate(self, a: int, b: int) -> None:
        x = self.pick(a, 3)
        c, h, w = self.values[x]
        g = self.m.conv(self.m("GlobalAveragePool", x), c, c, 1, bias=True)
        self.add(self.m("Mul", x, self.m(("Sigmoid", "HardSigmoid")[b % 2], g)), (c, h, w))

    def softmax(self, a: int, b: int) -> None:
        x = self.pick(a)
        self.add(self.m("Softmax", x, axis=(-1, 1)[b % 2]), self.values[x])


_STEPS = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 5), st.integers(0, 29)), min_size=1, max_size=12)


@settings(max_examples=120)
@given(_STEPS, st.integers(0, 2**16), st.lists(st.integers(0, 8), max_size=2, unique=True))
def test_optimised_graphs_give_the_same(steps: list[Step], seed: int, more: list[int]) -> None:
    grower = Grower(seed)
    for step in steps:
        grower.step(*step)
    names = list(grower.values)[::-1]
    outputs = dict.fromkeys([names[0], *(names[k % len(names)] for k in more)])
    made, _ = checked(grower.m.graph(*outputs), batches=(2, 0))
    left = ops(made)
    assert not {"Identity", "BatchNormalization", "Conv", "MaxPool", "Gemm"} & set(left) or set(outputs) & {
        n.outputs[0] for n in made.nodes if n.op == "Identity"
    }
