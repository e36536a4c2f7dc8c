"""Random valid ONNX models of a few nodes, with inputs: a Hypothesis strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from forwardpass.dtypes import code_of
from onnx_graphs.grower import Array, Grower, Root, Val
from onnx_graphs.kinds import grow

__all__ = ["Drawn", "onnx_graphs"]


class Drawn:
    """A model and what to feed it.

    `exact`: the values that no precision rounds. `steps`: operator, attributes and inputs of every node, as in the
    newest opset. `threads`: of the run.
    """

    def __init__(self, model: onnx.ModelProto, root: Root, threads: int) -> None:
        self.model = model
        self.feeds = root.feeds
        self.exact = frozenset(root.exact)
        self.steps = root.steps
        self.opset = root.opset
        self.threads = threads

    def __repr__(self) -> str:
        with np.printoptions(threshold=200, edgeitems=4, linewidth=110):
            fed = "\n".join(
                f"{k}: {v.dtype}{list(v.shape)} = {v.tolist() if v.size < 50 else v}" for k, v in self.feeds.items()
            )
        return f"\n{onnx.printer.to_text(self.model)}\n{fed}\nthreads: {self.threads}"


def _declared(g: Grower, name: str, array: Array) -> onnx.ValueInfoProto:
    """An input whose sizes are given, named or unknown. Sizes of one name are equal."""
    how = g.one_of("sizes", "sizes", "sizes", "names", "ranks")
    shape: list[Any] = list(array.shape)
    if how == "names":
        shape = [f"d{d}" if g.chance(2) else d for d in shape]
    elif how == "ranks":
        shape = [None] * len(shape)
    return helper.make_tensor_value_info(name, code_of(array.dtype), shape)


def _model(g: Grower, outputs: Sequence[Val]) -> onnx.ModelProto:
    inputs = [_declared(g, k, v) for k, v in g.root.feeds.items()]
    # Without sizes: inference has to find them, and where it cannot the run does.
    results = [helper.make_tensor_value_info(v.name, code_of(v.dtype), [None] * v.rank) for v in outputs]
    graph = helper.make_graph(g.nodes, "random", inputs, results, g.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", g.root.opset)], ir_version=8)


@st.composite
def onnx_graphs(draw: Any, opsets: Sequence[int], most: int = 8) -> Drawn:
    """Models of 1 to `most` nodes or so, of one of the opsets."""
    opset = draw(st.sampled_from(opsets))
    root = Root(draw, opset, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    g = Grower(root)
    wanted = g.number(1, most)
    for _ in range(3 * wanted):
        grow(g)
        if len(g.made) >= wanted:
            break
    if not g.made:
        g.emit("Identity", [g.source(np.float32, (2,))])
    read = {name for n in g.nodes for name in n.input}
    more = [v for v in g.made[:-1] if g.number(0, 3) > (2 if v.name in read else 0)]
    model = _model(g, [*more, g.made[-1]])
    return Drawn(model, root, g.one_of(1, 1, 2))
