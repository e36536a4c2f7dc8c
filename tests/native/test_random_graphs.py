"""Random networks, run natively on every ISA: right, the same bits in any batch, and the same bits on every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
from graphs import Maker, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass import _native
from forwardpass.formats import npz
from forwardpass.ops import evaluate
from forwardpass.passes import optimize
from forwardpass.plan import Plan, partition
from forwardpass.run import Model
from forwardpass.saving import marked
from tolerance import network_of

F32 = np.dtype(np.float32)
Shape = tuple[int, ...]
"""Without the batch."""

UNARY = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign",
    "Gelu", "Swish", "Mish", "Erf", "Abs", "Neg", "Identity",
)  # fmt: skip


class Grower:
    """A network that grows node by node, from numbers that Hypothesis draws. No node mixes rows."""

    def __init__(self, choose: Any, image: Shape, length: int) -> None:
        self.m = Maker(dtype=F32)
        self.choose = choose
        self.values: dict[str, Shape] = {}
        self.keep(self.m.input("x", "N", *image), image)
        self.keep(self.m.input("u", "N", length), (length,))

    def number(self, low: int, high: int) -> int:
        return int(self.choose(st.integers(low, high)))

    def one_of(self, *items: Any) -> Any:
        return self.choose(st.sampled_from(items))

    def keep(self, name: str, shape: Shape) -> None:
        self.values[name] = tuple(shape)

    def pick(self, rank: int | None = None, like: Shape | None = None) -> tuple[str, Shape] | None:
        """A value of that rank or shape, rather a new one than an old one."""
        fitting = [v for v, s in self.values.items() if rank in (None, len(s)) and like in (None, s)]
        if not fitting:
            return None
        name = fitting[-1 - min(self.number(0, 5), len(fitting) - 1)]
        return name, self.values[name]

    def image(self) -> tuple[str, int, int, int] | None:
        found = self.pick(3)
        return None if found is None or 0 in found[1] else (found[0], *found[1])

    def grow(self) -> None:
        steps = [getattr(self, k) for k in dir(self) if k.startswith("add_")]
        self.one_of(*steps)()

    # ---- nodes that keep the shape

    def add_unary(self) -> None:
        x, s = self.pick() or ("", ())
        self.keep(self.m(self.one_of(*UNARY), x), s)

    def add_clip(self) -> None:
        x, s = self.pick() or ("", ())
        self.keep(self.m("Clip", x, self.m.const(np.float32(-0.5)), self.m.const(np.float32(0.75))), s)

    def add_constant(self) -> None:
        """A constant operand that broadcasts one way or another."""
        x, s = self.pick() or ("", ())
        form = tuple(self.one_of(1, d) for d in s)[self.number(0, len(s)) :]
        c = self.m.const(np.float32(self.m.rng.uniform(0.5, 1.5, form)))
        op = self.one_of("Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu", "rSub")
        self.keep(self.m("Sub", c, x) if op == "rSub" else self.m(op, x, c), s)

    def add_binary(self) -> None:
        x, s = self.pick() or ("", ())
        y, _ = self.pick(like=s) or (x, s)
        self.keep(self.m(self.one_of("Add", "Sub", "Max", "Min"), x, y), s)

    def add_gate(self) -> None:
        x, s = self.pick() or ("", ())
        y, _ = self.pick(like=s) or (x, s)
        self.keep(self.m("Mul", x, self.m(self.one_of("Sigmoid", "HardSigmoid", "Tanh"), y)), s)

    def add_norm(self) -> None:
        x, s = self.pick() or ("", ())
        if s and s[0]:
            self.keep(self.m.norm(x, s[0]), s)

    def add_softmax(self) -> None:
        x, s = self.pick() or ("", ())
        if s and 0 not in s:
            self.keep(self.m(self.one_of("Softmax", "LogSoftmax"), x, axis=self.number(1, len(s))), s)

    def add_through_float64(self) -> None:
        """A node without a native kernel."""
        if self.number(0, 4) == 0:
            x, s = self.pick() or ("", ())
            self.keep(self.m("Cast", self.m("Cast", x, to=11), to=1), s)

    # ---- layers

    def add_linear(self) -> None:
        x, s = self.pick() or ("", ())
        if not s:
            return
        n = self.number(1, 20)
        y = self.m("MatMul", x, self.m.const((s[-1], n)))
        self.keep(self.m("Add", y, self.m.const((n,))) if self.number(0, 1) else y, (*s[:-1], n))

    def add_conv(self) -> None:
        found = self.image()
        if found is None:
            return
        x, c, h, w = found
        group = self.one_of(1, 1, c, *(g for g in (2, 3) if c % g == 0))
        filters = group * self.number(1, 3)
        kernel = [min(self.number(1, 3), d) for d in (h, w)]
        pads = [self.number(0, 2) for _ in range(4)]
        strides, dilations = [self.number(1, 2), self.number(1, 2)], [1, 1]
        if min(h + pads[0] + pads[2], w + pads[1] + pads[3]) > 4:
            dilations = [self.number(1, 2), self.number(1, 2)]
        weights = [self.m.const((filters, c // group, *kernel))]
        bias = [self.m.const((filters,))] if self.number(0, 1) else []
        out = [
            (size + before + after - (k - 1) * d - 1) // stride + 1
            for size, before, after, k, d, stride in zip((h, w), pads[:2], pads[2:], kernel, dilations, strides)
        ]
        if min(out) < 1:
            return
        y = self.m("Conv", x, *weights, *bias, group=group, pads=pads, strides=strides, dilations=dilations)
        self.keep(y, (filters, *out))

    def add_pool(self) -> None:
        found = self.image()
        if found is None:
            return
        x, c, h, w = found
        kernel = [min(self.number(1, 3), d) for d in (h, w)]
        strides = [self.number(1, 2), self.number(1, 2)]
        pads = [self.number(0, k - 1) for k in kernel * 2]
        more = {"count_include_pad": self.number(0, 1)} if self.number(0, 1) else {}
        op = "AveragePool" if more else self.one_of("MaxPool", "AveragePool")
        out = [
            (size + before + after - k) // stride + 1
            for size, before, after, k, stride in zip((h, w), pads[:2], pads[2:], kernel, strides)
        ]
        self.keep(self.m(op, x, kernel_shape=kernel, strides=strides, pads=pads, **more), (c, *out))

    def add_global_pool(self) -> None:
        found = self.image()
        if found is not None:
            self.keep(self.m(self.one_of("GlobalAveragePool", "GlobalMaxPool"), found[0]), (found[1], 1, 1))

    def add_reduce(self) -> None:
        x, s = self.pick() or ("", ())
        axes = [k for k in range(len(s)) if self.number(0, 1)]
        keep = self.number(0, 1)
        if not axes or 0 in [s[k] for k in axes]:
            return
        op = self.one_of("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
        y = self.m(op, x, self.m.ints(*(k + 1 for k in axes)), keepdims=keep)
        self.keep(y, tuple(1 if k in axes else d for k, d in enumerate(s) if keep or k not in axes))

    # ---- nodes that move values

    def add_concat(self) -> None:
        x, s = self.pick() or ("", ())
        y, _ = self.pick(like=s) or (x, s)
        if s and max(s) < 40:
            axis = self.number(0, len(s) - 1)
            self.keep(self.m("Concat", x, y, axis=axis + 1), (*s[:axis], 2 * s[axis], *s[axis + 1 :]))

    def add_pad(self) -> None:
        x, s = self.pick() or ("", ())
        if not s or max(s) > 20:
            return
        before, after = ([self.number(0, 2) for _ in s] for _ in range(2))
        mode = self.one_of("constant", "edge") if 0 not in s else "constant"
        y = self.m("Pad", x, self.m.ints(0, *before, 0, *after), mode=mode)
        self.keep(y, tuple(b + d + a for b, d, a in zip(before, s, after)))

    def add_transpose(self) -> None:
        x, s = self.pick() or ("", ())
        order = self.choose(st.permutations(range(len(s))))
        self.keep(self.m("Transpose", x, perm=[0, *(k + 1 for k in order)]), tuple(s[k] for k in order))

    def add_view(self) -> None:
        x, s = self.pick() or ("", ())
        size = int(np.prod(s))
        how = self.one_of("flatten", "split", "unsqueeze")
        if how == "flatten":
            self.keep(self.m("Flatten", x), (size,))
        elif how == "split" and size and size % 2 == 0:
            self.keep(self.m("Reshape", x, self.m.ints(0, 2, size // 2)), (2, size // 2))
        elif how == "unsqueeze" and len(s) < 4:
            axis = self.number(0, len(s))
            self.keep(self.m("Unsqueeze", x, self.m.ints(axis + 1)), (*s[:axis], 1, *s[axis:]))


_SIZES = st.integers(1, 9)


@settings(max_examples=150)
@given(st.data(), st.tuples(_SIZES, _SIZES, _SIZES), st.integers(0, 7), st.integers(1, 12), st.integers(0, 3))
def test_random_network(data: st.DataObject, image: Shape, length: int, nodes: int, batch: int) -> None:
    grower = Grower(data.draw, image, length)
    for _ in range(nodes):
        grower.grow()
    names = list(grower.values)
    outputs = dict.fromkeys([names[-1], *data.draw(st.lists(st.sampled_from(names), max_size=2))])
    graph = grower.m.graph(*outputs)
    inputs = draw(graph, batch)
    before = {k: v.tobytes() for k, v in inputs.items()}
    values = evaluate(graph, inputs, outputs=names, dtype=np.float64)
    allowed = network_of(values.values())
    portable = {}
    for isa in _native.available_isas():
        model = Model(graph, threads=1, precision="portable", isa=isa)
        got = portable[isa] = model.run(inputs)
        for name in outputs:
            np.testing.assert_allclose(got[name], values[name], **allowed, err_msg=f"{isa} {name}\n{graph}")
        for i in range(batch):
            alone = model.run({k: v[i : i + 1] for k, v in inputs.items()})
            for name in outputs:
                assert alone[name][0].tobytes() == got[name][i].tobytes(), f"{isa}: row {i} of {name}\n{graph}"
    assert {k: v.tobytes() for k, v in inputs.items()} == before
    for isa, got in portable.items():
        for name in outputs:
            assert got[name].tobytes() == portable["scalar"][name].tobytes(), f"{isa} and scalar: {name}\n{graph}"
    _check_parts(Model(graph, threads=3), inputs, portable["scalar"])
    saved = npz.from_bytes(npz.to_bytes(marked(optimize(graph)[0])))
    again = Model(saved, threads=1, precision="portable", isa="scalar")
    for name, array in again.run(inputs).items():
        assert array.tobytes() == portable["scalar"][name].tobytes(), f"saved after the passes: {name}\n{graph}"


def _check_parts(model: Model, inputs: dict[str, Any], want: dict[str, Any]) -> None:
    """The same with every step shared among three threads, on memory that nothing else uses."""
    limits = partition._STEP_US, partition._PROGRAM_US, partition._PART
    partition._STEP_US = partition._PROGRAM_US = partition._PART = 0.0
    try:
        plan = model.plan({k: v.shape for k, v in inputs.items()})
    finally:
        partition._STEP_US, partition._PROGRAM_US, partition._PART = limits
    if not isinstance(plan, Plan):
        return
    live = [b for b in plan.buffers if b.kind == "arena" and b.first >= 0]
    for k, a in enumerate(live):
        for b in live[:k]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
            assert apart or not together, (a, b)
    got = model.run(inputs)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
