"""Small graphs for the tests of the passes, and the check that optimising one changes nothing but its nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

import tolerance
from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.passes import Log, optimize

F64 = np.dtype(np.float64)


class Maker:
    """Collects nodes. Values are float64, so that the tolerance is that of rounding in float64."""

    def __init__(self, seed: int = 0, dtype: Any = F64) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.inputs: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        self.nodes: list[Node] = []

    def input(self, name: str, *shape: int | str | None) -> str:
        """An input of that shape."""
        self.inputs[name] = TensorType(self.dtype, shape)
        return name

    def const(self, value: Any) -> str:
        """A constant: an array, or a tuple for random values of that shape, or a number."""
        name = f"c{len(self.constants)}"
        if isinstance(value, tuple):
            array = self.rng.normal(size=value) / max(1.0, np.sqrt(np.prod(value[1:])))
        else:
            array = np.asarray(value)
        self.constants[name] = array.astype(self.dtype) if array.dtype.kind == "f" else array
        return name

    def ints(self, *values: int) -> str:
        """A constant of integers."""
        return self.const(np.array(values, np.int64))

    def __call__(self, op: str, *inputs: str, out: str = "", outputs: int = 1, **attributes: Any) -> str:
        """A node; returns its first output, which is also its name."""
        domain, _, short = op.rpartition(".")
        name = out or f"v{len(self.nodes)}"
        names = [name] + [f"{name}_{k}" for k in range(1, outputs)]
        self.nodes.append(Node(short, list(inputs), names, attributes, domain, name))
        return name

    def conv(self, x: str, channels: int, filters: int, k: int = 3, *, bias: bool = False, **attributes: Any) -> str:
        """A convolution that keeps the size of the image."""
        group = attributes.get("group", 1)
        inputs = [x, self.const((filters, channels // group, k, k))]
        attributes.setdefault("pads", [k // 2] * 4)
        return self("Conv", *inputs, *([self.const((filters,))] if bias else []), **attributes)

    def norm(self, x: str, channels: int) -> str:
        """A BatchNormalization."""
        positive = self.const(self.rng.uniform(0.5, 2, channels))
        return self("BatchNormalization", x, *(self.const((channels,)) for _ in range(3)), positive)

    def last(self, x: str) -> str:
        """To channels last."""
        return self("Transpose", x, perm=[0, 2, 3, 1])

    def first(self, x: str) -> str:
        """To channels first."""
        return self("Transpose", x, perm=[0, 3, 1, 2])

    def graph(self, *outputs: str) -> Graph:
        made = Graph(self.inputs, outputs, self.nodes, self.constants)
        made.verify()
        return made


def draw(graph: Graph, batch: int, seed: int = 1) -> dict[str, Array]:
    """Values for the inputs, every unknown size being `batch`."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, t in graph.inputs.items():
        assert t.shape is not None
        shape = [d if isinstance(d, int) else batch for d in t.shape]
        values = rng.normal(size=shape) if t.dtype.kind == "f" else rng.integers(-9, 9, shape)
        found[name] = np.asarray(values, t.dtype)
    return found


def checked(graph: Graph, *, batches: tuple[int, ...] = (2, 1, 0), **options: Any) -> tuple[Graph, Log]:
    """The optimised graph, after a check that it gives what the graph gives and that the graph is as it was."""
    before, arrays = str(graph), {k: v.copy() for k, v in graph.constants.items()}
    made, log = optimize(graph, check=True, **options)
    assert str(graph) == before
    for name, array in arrays.items():
        np.testing.assert_array_equal(graph.constants[name], array)
    assert made.inputs == graph.inputs
    assert made.outputs == graph.outputs
    limit = tolerance.NETWORK_FLOAT64
    for batch in batches:
        inputs = draw(graph, batch)
        want = evaluate(graph, inputs, dtype=np.float64)
        got = evaluate(made, inputs, dtype=np.float64)
        for name, array in want.items():
            assert got[name].dtype == array.dtype
            np.testing.assert_allclose(got[name], array, **limit, err_msg=f"{name}, batch {batch}\n{made}")
    return made, log


def ops(graph: Graph) -> list[str]:
    """The operators, in order."""
    return [n.qualified for n in graph.nodes]


def reasons(log: Log, name: str) -> str:
    """Why a pass declined, in one text."""
    return "\n".join(str(e) for e in log.declined(name))
