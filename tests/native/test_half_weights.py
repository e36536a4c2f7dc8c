"""Weights kept as bfloat16: the bits of float32 products with the rounded numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import settings

from forwardpass.dtypes import nearest_bfloat16
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import lower_linear
from forwardpass.plan import Plan, make_plan
from forwardpass.run import Model


def planned(graph: Graph, isa: str, precision: str, threads: int = 1) -> Plan:
    shapes = {k: t.sizes for k, t in graph.inputs.items()}
    return make_plan(graph, shapes, settings(isa, threads, precision), {})


def kernels(plan: Plan) -> list[str]:
    return [s.kernel for s in plan.steps if s.kernel.startswith("brgemm")]


def rounded(w: np.ndarray) -> np.ndarray:
    return (nearest_bfloat16(w).astype(np.uint32) << 16).view(np.float32)


def dense(x: np.ndarray, w: np.ndarray, **attributes: Any) -> Graph:
    bias = np.linspace(-1, 1, w.shape[1], dtype=np.float32)
    node = Node("Linear", ["x", "w", "b"], ["y"], attributes, "fused")
    return Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": w, "b": bias})


def conv(x: np.ndarray, w: np.ndarray, **attributes: Any) -> Graph:
    node = Node("Conv", ["x", "w"], ["y"], {"kernel_shape": list(w.shape[:2]), **attributes}, "nhwc")
    return Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": w})


def drawn(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Any, dict[str, Any]]:
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any, dict[str, Any]]] = {
        "a row": ((1, 700), (700, 603), dense, {}),
        "rows": ((17, 300), (300, 90), dense, {"activation": "Gelu"}),
        "few columns": ((1, 3000), (3000, 5), dense, {"activation": "Relu"}),
        "few columns, rows": ((3, 2000), (2000, 20), dense, {}),
        "rows of a sequence": ((2, 5, 80), (80, 33), dense, {}),
        "an image": ((2, 3, 4, 40), (3, 3, 40, 50), conv, {"pads": [1, 1, 1, 1]}),
        "groups": ((1, 4, 4, 24), (3, 3, 12, 40), conv, {"group": 2, "activation": "Relu"}),
    }
    x, w, make, attributes = shapes[kind]
    return rng.standard_normal(x, dtype=np.float32), rng.standard_normal(w, dtype=np.float32), make, attributes


KINDS = ["a row", "rows", "few columns", "few columns, rows", "rows of a sequence", "an image", "groups"]


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_of_rounded_weights(
    kind: str, isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower_linear, "_HALF_BYTES", 0)
    x, w, make, attributes = drawn(kind, rng)
    want = planned(make(x, rounded(w), **attributes), isa, "portable").run([x])[0]
    for threads in (1, 2, 3):
        plan = planned(make(x, w, **attributes), isa, "bfloat16", threads)
        assert set(kernels(plan)) == {"brgemm_bf16"}
        assert plan.run([x])[0].tobytes() == want.tobytes()


def test_the_choice_is_of_the_layer_alone(isa: str, rng: np.random.Generator) -> None:
    """Weights that L2 does not hold, of few products each, whatever the batch is."""
    large = rng.standard_normal((1024, 600), dtype=np.float32)

    def kernel(shape: tuple[int, ...], w: np.ndarray, precision: str = "bfloat16") -> list[str]:
        return kernels(planned(dense(np.empty(shape, np.float32), w), isa, precision))

    assert kernel((1, 1024), large) == kernel((64, 1024), large) == kernel((3, 16, 1024), large) == ["brgemm_bf16"]
    assert kernel((1, 17, 1024), large) == kernel((1, 200), large[:200]) == ["brgemm_f32"]
    for precision in ("float32", "fast", "portable"):
        assert kernel((1, 1024), large, precision) == ["brgemm_f32"]


def test_half_the_memory(isa: str, rng: np.random.Generator) -> None:
    w = rng.standard_normal((1024, 640), dtype=np.float32)
    (step,) = planned(dense(np.empty((1, 1024), np.float32), w), isa, "bfloat16").steps
    assert step.params["b"].nbytes == w.nbytes // 2


def test_numbers_near_the_ends(isa: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finite weight stays finite; infinities, NaN and denormal numbers stay what they are."""
    monkeypatch.setattr(lower_linear, "_HALF_BYTES", 0)
    w = np.array([[3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -0.0]], np.float32)
    x = np.ones((1, 1), np.float32)
    node = Node("Linear", ["x", "w"], ["y"], {}, "fused")
    plan = planned(Graph({"x": TensorType.of(x)}, ["y"], [node], {"w": w}), isa, "bfloat16")
    y = plan.run([x])[0][0]
    assert y[0] == -y[1] == np.float32(3.3895314e38)
    np.testing.assert_array_equal(y[2:6], w[0, 2:6])
    assert abs(y[6] - np.float32(1e-40)) <= np.float32(1e-40) / 256 or y[6] == 0  # where denormals count as zero


def test_a_sequence_has_the_bits_of_its_pieces(isa: str, rng: np.random.Generator) -> None:
    """Where a call decides how many rows there are; where the model does, its weights stay as they are."""
    w, x = (rng.standard_normal(s, dtype=np.float32) for s in ((1024, 600), (1, 40, 1024)))
    graph = dense(x, w)
    fixed = Model(graph, isa=isa, precision="bfloat16", threads=1)(x)
    graph = graph.copy()
    graph.inputs = {"x": TensorType(x.dtype, ("n", "steps", 1024))}
    model = Model(graph, isa=isa, precision="bfloat16", threads=1)
    whole = model(x)
    assert whole.tobytes() == np.concatenate([model(x[:, t : t + 1]) for t in range(40)], axis=1).tobytes()
    assert whole.tobytes() == planned(dense(x, rounded(w)), isa, "portable").run([x])[0].tobytes()
    assert fixed.tobytes() == planned(dense(x, w), isa, "portable").run([x])[0].tobytes()
