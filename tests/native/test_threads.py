"""Which steps the threads share, and where they wait for each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from planned import plan_of

from forwardpass.graph import Array, Graph, Node, TensorType
from forwardpass.plan import Plan
from forwardpass.plan.row_windows import Slice

pytestmark = pytest.mark.threads

SHAPE = (1, 12, 9, 64)
CUT = [(0, 6), (6, 12)]


def image_graph(rng: np.random.Generator, *operators: str, shape: tuple[int, ...] = SHAPE) -> Graph:
    """Operators one after another: products of pixels, depthwise convolutions with a border, element-wise ones."""
    constants: dict[str, Array] = {}
    made = []
    c = shape[3]
    for k, op in enumerate(operators):
        x, y = f"v{k}", f"v{k + 1}"
        if op == "Product":
            constants[f"w{k}"] = rng.standard_normal((1, 1, c, c), np.float32)
            made.append(Node("Conv", [x, f"w{k}"], [y], {"kernel_shape": [1, 1]}, "nhwc"))
        elif op == "Depthwise":
            constants[f"w{k}"] = rng.standard_normal((3, 3, 1, c), np.float32)
            window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": c}
            made.append(Node("Conv", [x, f"w{k}"], [y], window, "nhwc"))
        else:
            made.append(Node(op, [x], [y]))
    return Graph({"v0": TensorType(np.dtype(np.float32), shape)}, [f"v{len(operators)}"], made, constants)


def by_kernel(plan: Plan) -> dict[str, Slice]:
    """The last entry of the tape of each kernel."""
    return {e.kernel: e for e in plan.tape}


def plan_for_two(graph: Graph, rng: np.random.Generator) -> Plan:
    """The plan for two threads, which computes the bits of the plan for one, again and again in the same memory."""
    x = rng.standard_normal(SHAPE, np.float32)
    alone, both = (plan_of(graph, {"v0": SHAPE}, "scalar", threads) for threads in (1, 2))
    (expected,) = alone.run([x])
    for _ in range(20):
        np.testing.assert_array_equal(both.run([x])[0], expected)
    assert not any(e.barrier for e in alone.tape)
    return both


def test_a_border_is_zeroed_by_rows_without_a_wait(rng: np.random.Generator) -> None:
    """Each thread zeroes it around its own rows, and need not wait for the other one's product."""
    steps = by_kernel(plan_for_two(image_graph(rng, "Product", "Depthwise", "Product"), rng))
    assert steps["halo_f32"].ranges == CUT
    assert [e.kernel for e in steps.values() if e.barrier] == ["halo_f32", "depthwise_f32"]


def test_a_border_around_a_copy(rng: np.random.Generator) -> None:
    """The input of the graph has none: it is copied between zeros, which nobody reads before both are there."""
    steps = by_kernel(plan_for_two(image_graph(rng, "Depthwise", "Product", "Product"), rng))
    assert list(steps) == ["halo_f32", "copy_f32", "depthwise_f32", "brgemm_f32"]
    assert not steps["halo_f32"].barrier
    assert steps["copy_f32"].barrier


@pytest.mark.usefixtures("every_step_split")
def test_a_border_waits_for_what_one_thread_does_alone(rng: np.random.Generator) -> None:
    """The others would zero it while the first thread still is some steps behind, in the same memory."""
    shape = (1, 4, 2, 8)  # of which an element-wise step makes one part
    graph = image_graph(rng, "Product", "Relu", "Neg", "Abs", "Depthwise", shape=shape)
    tape = plan_of(graph, {"v0": shape}, "scalar", 2).tape
    before, border = next(pair for pair in pairwise(tape) if pair[1].kernel == "halo_f32")
    assert [sum(b < e for b, e in entry.ranges) for entry in (before, border)] == [1, 2]
    assert before.barrier
    x = rng.standard_normal(shape, np.float32)
    (expected,) = plan_of(graph, {"v0": shape}, "scalar", 1).run([x])
    both = plan_of(graph, {"v0": shape}, "scalar", 2)
    for _ in range(200):
        np.testing.assert_array_equal(both.run([x])[0], expected)


def test_a_small_step_between_shared_ones_is_shared(rng: np.random.Generator) -> None:
    plan = plan_for_two(image_graph(rng, "Product", "Relu", "Product"), rng)
    assert [e.kernel for e in plan.tape] == ["brgemm_f32", "relu_f32", "brgemm_f32"]
    assert [sum(b < e for b, e in entry.ranges) for entry in plan.tape] == [2, 2, 2]
    assert [e.barrier for e in plan.tape] == [True, True, False]


def test_small_steps_are_not_shared(rng: np.random.Generator) -> None:
    """Two of them: the other thread would wait for each."""
    plan = plan_for_two(image_graph(rng, "Product", "Relu", "Relu", "Product"), rng)
    assert [sum(b < e for b, e in entry.ranges) for entry in plan.tape] == [2, 1, 1, 2]
    assert [e.barrier for e in plan.tape] == [True, False, True, False]
