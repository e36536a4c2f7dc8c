"""Means of images from those of their rows, which a depthwise convolution writes beside them; and with factors of
channels by blocks of rows, as in squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import plan_of, same_everywhere

from forwardpass.graph import Graph, Node, TensorType
from tolerance import lanes, native

Data = dict[str, np.ndarray[Any, Any]]


def means(size: tuple[int, ...], kernel: int = 3, **attributes: Any) -> tuple[Graph, Data]:
    """A depthwise convolution, and the means of its channels."""
    rng = np.random.default_rng(size)
    c = size[3]
    constants = {
        "w": rng.standard_normal((kernel, kernel, 1, c), dtype=np.float32),
        "b": rng.standard_normal(c, dtype=np.float32),
    }
    attributes = {"group": c, "kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, **attributes}
    conv = Node("Conv", ["x", "w", "b"], ["y"], attributes, "nhwc")
    mean = Node("GlobalAveragePool", ["y"], ["m"], {}, "nhwc")
    data = {"x": rng.standard_normal(size, dtype=np.float32)}
    return Graph({"x": TensorType.of(data["x"])}, ["y", "m"], [conv, mean], constants), data


DEPTHWISE: list[tuple[tuple[int, ...], int, dict[str, Any]]] = [
    ((2, 9, 7, 20), 3, {"activation": "HardSwish"}),
    ((2, 12, 11, 150), 5, {"activation": "Relu", "strides": [2, 2]}),  # several vectors side by side, and a tail
    ((3, 1, 5, 16), 3, {}),
    ((1, 5, 1, 3), 3, {"activation": "Silu"}),
    ((1, 40, 60, 136), 3, {"activation": "Clip", "alpha": 0.0, "beta": 6.0}),  # whole rows, not blocks of channels
]


@pytest.mark.parametrize(("size", "kernel", "how"), DEPTHWISE, ids=str)
def test_rows_give_the_mean_of_an_image(size: tuple[int, ...], kernel: int, how: dict[str, Any], isa: str) -> None:
    graph, data = means(size, kernel, **how)
    plan = plan_of(graph, {"x": size}, isa)
    conv = next(s for s in plan.steps if s.kernel == "depthwise_f32")
    reduce = plan.steps[-1]
    assert reduce.inputs[0] is conv.inputs[1]
    y, got = plan.run([data["x"]])
    pixels = y.astype(np.float64).reshape(size[0], -1, size[3])
    limit = lanes(pixels.shape[1], float(np.abs(pixels).mean(axis=1).max()))
    limit["atol"] += lanes(16 * max(y.shape[2], 1), limit["atol"])["atol"]
    np.testing.assert_allclose(got[:, 0, 0], pixels.mean(axis=1), **limit)


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize(("size", "kernel", "how"), DEPTHWISE, ids=str)
def test_isas_threads_and_batches_give_the_same_bits(size: tuple[int, ...], kernel: int, how: dict[str, Any]) -> None:
    same_everywhere(*means(size, kernel, **how))


def test_other_means_read_the_image(isa: str) -> None:
    graph, data = means((2, 6, 6, 16))
    mean = Node("ReduceMean", ["y", "axes"], ["m"])
    for axes in ([1], [0, 2], [1, 2, 3]):
        graph.constants["axes"] = np.array(axes)
        graph.nodes[1] = mean
        plan = plan_of(graph, {"x": data["x"].shape}, isa)
        assert all(len(s.inputs) < 2 for s in plan.steps)
        y, m = plan.run([data["x"]])
        want = y.astype(np.float64).mean(axis=tuple(axes), keepdims=True)
        np.testing.assert_allclose(m, want, **native(want))


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (2, 1), (2, 2)])
def test_squeeze_and_excitation_by_blocks_of_rows(batch: int, threads: int, isa: str, rng: np.random.Generator) -> None:
    """Expansion, depthwise, factors and projection: the bits are those of whole steps."""
    size, c = (batch, 40, 33, 8), 64
    conv, constants = [], {}

    def add(x: list[str], name: str, shape: tuple[int, ...], **attributes: Any) -> str:
        constants[f"w{name}"] = rng.standard_normal(shape, dtype=np.float32)
        inputs = [x[0], f"w{name}", *x[1:]]
        conv.append(Node("Conv", inputs, [name], {"kernel_shape": list(shape[:2]), **attributes}, "nhwc"))
        return name

    h = add(["x"], "h", (1, 1, 8, c), activation="Relu")
    d = add([h], "d", (3, 3, 1, c), group=c, pads=[1] * 4, activation="HardSwish")
    conv.append(Node("GlobalAveragePool", [d], ["m"], {}, "nhwc"))
    s = add(["m"], "s", (1, 1, c, c), activation="HardSigmoid", alpha=0.2, beta=0.5)
    y = add([d, "", "", s], "y", (1, 1, c, 8))
    e = add([y], "e", (1, 1, 8, c), activation="Relu")
    z = add([e], "z", (3, 3, 1, c), group=c, pads=[1] * 4)
    graph = Graph({"x": TensorType(np.dtype(np.float32), size)}, [z], conv, constants)
    x = rng.standard_normal(size, dtype=np.float32)
    plan = plan_of(graph, {"x": size}, isa, threads, 1 << 18)
    assert plan.threads == threads
    members = [[m.step.kernel for m in chain.members] for chain in plan.chains if not chain.declined]
    assert members == [["brgemm_f32", "depthwise_f32"], ["brgemm_f32", "brgemm_f32", "depthwise_f32"]]
    (got,) = plan.run([x])
    (want,) = plan_of(graph, {"x": size}, isa).run([x])
    np.testing.assert_array_equal(got, want)
