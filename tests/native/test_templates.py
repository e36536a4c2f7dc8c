"""Plans that templates fill in are those that the planner makes, and no planner is asked for them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filled import Shapes, described, fitting
from graphs import Maker
from planned import settings
from small_graphs import decoder

import forwardpass as fp
import networks
from cases import graph_of, mlp, parameters
from forwardpass import _native
from forwardpass.errors import Error
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import Case, Operator, evaluate
from forwardpass.passes import optimize
from forwardpass.plan import Declined, Plan, Settings, make_plan
from forwardpass.plan.template import make_template
from forwardpass.run import Model


def opened(graph: Graph) -> Graph:
    """The graph with sizes of its inputs that a call decides."""
    graph = graph.copy()
    graph.inputs = {
        k: TensorType(t.dtype, None if t.shape is None else (None,) * len(t.shape)) for k, t in graph.inputs.items()
    }
    return graph


CASES = parameters(lambda o: o.lower is not None or o.view)


def planned(operator: Operator, case: Case, threads: int) -> tuple[Graph, Shapes, Settings, Plan] | None:
    """A case with open sizes and the planner's plan; None where the planner has none."""
    graph, inputs = graph_of(operator, case)
    graph, shapes = opened(graph), {k: v.shape for k, v in inputs.items()}
    given = settings(_native.available_isas()[0], threads)
    try:
        return graph, shapes, given, make_plan(graph, shapes, given, {})
    except (Declined, Error):
        return None


@pytest.mark.parametrize(("operator", "case"), CASES)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_operator(operator: Operator, case: Case, threads: int) -> None:
    found = planned(operator, case, threads)
    template = None if found is None else make_template(*found[:3], {}, None)
    if found is None or template is None:
        return  # how many of them, the next test looks at
    graph, shapes, given, made = found
    first = template(tuple(shapes.values()))
    assert first is not None, "a template fits the shapes that it was made for"
    assert described(first) == described(made)
    for axis in range(max(len(s) for s in shapes.values())):
        for factor in (2, 3, 17):
            grown = {k: tuple(d * factor if a == axis else d for a, d in enumerate(s)) for k, s in shapes.items()}
            plan = template(tuple(grown.values()))
            if plan is not None:
                assert described(plan) == described(make_plan(graph, grown, given, {}))


def test_most_operators_have_templates() -> None:
    plans = [f for f in (planned(*p.values, 1) for p in CASES) if f is not None]
    templates = [make_template(*found[:3], {}, None) for found in plans]
    assert len(plans) > 0.9 * len(CASES)
    assert sum(t is not None for t in templates) > 0.9 * len(plans)


def lengths(rng: np.random.Generator, count: int, shape: tuple[Any, ...], name: str, most: int) -> list[Shapes]:
    """Shapes in which the batch and the other open sizes are random."""
    found: list[Shapes] = []
    for _ in range(count):
        sizes = {k: int(rng.integers(1, most if k else 6)) for k in range(len(shape))}
        found.append({name: tuple(d if isinstance(d, int) else sizes[k] for k, d in enumerate(shape))})
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tiles", [False, True])
def test_sequences(isa: str, threads: int, tiles: bool, rng: np.random.Generator) -> None:
    graph, _ = optimize(decoder())
    given = settings(isa, threads, "float32", tiles=tiles)
    others = lengths(rng, 30, (None, None), "tokens", 200)
    assert fitting(graph, {"tokens": (3, 120)}, others, given) > 10


@pytest.mark.parametrize("name", ["mlp 100-10-20-1", "cifar cnn", "branches"])
@pytest.mark.parametrize("threads", [1, 2])
def test_batches(name: str, threads: int, isa: str, rng: np.random.Generator) -> None:
    graph, _ = optimize(networks.build(name).graph())
    input_name, t = next(iter(graph.inputs.items()))
    shape = t.shape or ()
    others = lengths(rng, 12, shape, input_name, 6)
    first = {input_name: tuple(d if isinstance(d, int) else 4 for d in shape)}
    assert fitting(graph, first, others, settings(isa, threads)) > 3


def test_the_planner_is_not_asked_again() -> None:
    model = Model(mlp([8, 16, 3], "Relu"), threads=1)
    for batch in range(2, 40):
        x = np.full((batch, 8), batch, np.float32)
        assert model(x).shape == (batch, 3)
    assert model._plans.maker.planned == 3
    assert model._plans.maker.filled == 35
    model(np.ones((1, 8), np.float32))  # strides of a single row say nothing, and merge
    assert model._plans.maker.planned + model._plans.maker.filled == 39


def test_the_template_for_the_nearest_sizes_is_asked_first() -> None:
    class Known:
        def __init__(self, least: int, most: int) -> None:
            self.least, self.most = least, most

        def __call__(self, key: Shapes) -> None:
            asked.append(self)

    asked: list[Known] = []
    model = Model(mlp([8, 16, 3], "Relu"), threads=1)
    known = [Known(8, 16), Known(400, 800), Known(24, 48)]
    model._plans.maker._templates[:] = known
    model(np.ones((5, 8), np.float32))
    assert asked == [known[2], known[0], known[1]]


def test_a_real_transformer(models: Path, isa: str, rng: np.random.Generator) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    model = fp.from_onnx(models / "minilm_int8" / "model.onnx")
    given = Model(model.optimized, isa=isa, threads=2).settings
    packed: dict[Any, Any] = {}
    templates: list[Any] = []
    fits = runs = 0
    for batch, length in rng.integers(1, (3, 150), (30, 2)):
        shapes = {k: (int(batch), int(length)) for k in model.inputs}
        plan = next((p for p in (t(tuple(shapes.values())) for t in templates) if p is not None), None)
        if plan is None:
            templates.append(make_template(model.optimized, shapes, given, packed, None))
            continue
        made = make_plan(model.optimized, shapes, given, packed)
        assert described(plan) == described(made)
        fits += 1
        if length < 40 and runs < 4:
            runs += 1
            values = [np.ones(t.sizes, t.dtype) for t in made.inputs.values()]
            assert plan.run(values)[0].tobytes() == made.run(values)[0].tobytes()
    assert fits > 10


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_numbers_made_of_sizes(axis: int, known: bool, rng: np.random.Generator) -> None:
    """As exported attention divides by the root of its width: a size that the model says, or that a call decides."""
    nodes = [
        Node("Shape", ["x"], ["sizes"]),
        Node("Gather", ["sizes", "axis"], ["size"]),
        Node("Cast", ["size"], ["number"], {"to": 1}),
        Node("Sqrt", ["number"], ["root"]),
        Node("Div", ["x", "root"], ["y"]),
    ]
    declared = ("n", "m") if not known else ("n", 6) if axis else (6, "n")
    graph = Graph({"x": TensorType(np.dtype(np.float32), declared)}, ["y"], nodes, {"axis": np.array([axis])})
    model = Model(graph)
    for n in (9, *range(2, 12), 1):
        x = rng.standard_normal((n, 6) if axis else (6, n), np.float32)
        np.testing.assert_allclose(model(x), x / np.sqrt(np.float32(6)), rtol=1e-6)
    assert model._plans.maker.filled > 5


def test_the_nearest_pixels_of_a_computed_size() -> None:
    """Scales round as Python's numbers do, whether sizes are tracked or not."""
    m = Maker(dtype=np.float32)
    size = m("Add", m("Mul", m("Shape", m.input("x", 1, 1, "h"), start=2), m.ints(2)), m.ints(3))
    target = m("Concat", m.ints(1, 1), size, axis=0)
    graph = m.graph(m("Resize", "x", "", "", target, mode="nearest"))
    images = {h: np.arange(h, dtype=np.float32).reshape(1, 1, h) for h in range(4, 160, 4)}
    want = {h: evaluate(graph, {"x": x})[graph.outputs[0]] for h, x in images.items()}
    for third in (16, 36, 72):
        model = Model(graph)
        for h in (4, 20, third, *images):
            np.testing.assert_array_equal(model(images[h]), want[h], err_msg=f"{h} after {third}")


def test_sizes_that_must_agree() -> None:
    graph, _ = optimize(decoder())
    given = settings(_native.available_isas()[0])
    template = make_template(graph, {"tokens": (2, 40)}, given, {}, None)
    assert template is not None
    assert template(((2, 41),)) is not None
    assert template(((2, 41, 1),)) is None, "another rank"
    assert template(((0, 41),)) is None, "nothing to do: other steps"


def test_threads_with_lengths_of_their_own() -> None:
    model = Model(decoder(), threads=1)
    alone = Model(decoder(), threads=1)
    wanted = {n: alone(np.arange(n)[None] % 50) for n in range(3, 60)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        for n in np.random.default_rng(seed).integers(3, 60, 60):
            if not np.array_equal(model(np.arange(n)[None] % 50), wanted[int(n)]):
                wrong.append(int(n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert model._plans.maker.filled > 10
