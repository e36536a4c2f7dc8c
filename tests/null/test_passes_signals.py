"""Operators on signals and volumes become channels-last ones, and so does ConvTranspose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Maker, checked, ops, reasons

from forwardpass.graph import TensorType
from forwardpass.passes import optimize

BEFORE, BEHIND = ["Unsqueeze", "Transpose"], ["Transpose", "Squeeze"]


def _signal(m: Maker, *shape: int | str | None) -> str:
    return m.input("x", *(shape or ("N", 4, 11)))


def _conv(m: Maker, x: str, channels: int = 4, **attributes: Any) -> str:
    group = attributes.get("group", 1)
    attributes.setdefault("pads", [1, 1])
    return m("Conv", x, m.const((4, channels // group, 3)), m.const((4,)), **attributes)


_WINDOWS: list[dict[str, Any]] = [
    {},
    {"strides": [2], "pads": [0, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2]},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"dilations": [3]},
]


@pytest.mark.parametrize("window", _WINDOWS)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_convolutions_of_signals(window: dict[str, Any], group: int) -> None:
    m = Maker()
    made, _ = checked(m.graph(m("Conv", _signal(m), m.const((4, 4 // group, 3)), group=group, **window)))
    assert ops(made) == [*BEFORE, "nhwc.Conv", *BEHIND]


@pytest.mark.parametrize("window", [*_WINDOWS, {"ceil_mode": 1, "strides": [2]}])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_of_signals(op: str, window: dict[str, Any]) -> None:
    for more in ({}, {"count_include_pad": 1}) if op == "AveragePool" else ({},):
        m = Maker()
        made, _ = checked(m.graph(m(op, _signal(m), kernel_shape=[4], **window, **more)))
        assert ops(made) == [*BEFORE, f"nhwc.{op}", *BEHIND]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools_of_signals(op: str) -> None:
    m = Maker()
    made, _ = checked(m.graph(m("Flatten", m(op, _conv(m, _signal(m))))))
    assert ops(made) == ["Unsqueeze", "Transpose", "nhwc.Conv", f"nhwc.{op}", "Reshape"]


_BETWEEN: dict[str, Any] = {
    "nothing": lambda m, a, b: a,
    "Relu": lambda m, a, b: m("Relu", m("Neg", a)),
    "constants": lambda m, a, b: m("Sub", m.const((4, 1)), m("Mul", m.const((1, 4, 11)), m("Pow", a, m.const(2.0)))),
    "two signals": lambda m, a, b: m("Max", m("Add", a, b), b, a),
    "norm": lambda m, a, b: m("Tanh", m.norm(m("Exp", a), 4)),
    "Concat": lambda m, a, b: m("Concat", a, b, m.const((0, 4, 11)), axis=0),
    "Pad": lambda m, a, b: m("Pad", a, m.ints(0, 0, 2, 0, 0, 1), m.const(0.5)),
    "Pad of axes": lambda m, a, b: m("Pad", a, m.ints(1, 0), "", m.ints(-1), mode="edge"),
    "Softmax": lambda m, a, b: m("LogSoftmax", m("Softmax", a, axis=1), axis=-1),
    "gate": lambda m, a, b: m("Mul", a, m("ReduceMean", b, m.ints(2))),
    "Slice": lambda m, a, b: m(
        "Slice", m("Slice", a, m.ints(0, 0, 1), m.ints(9, 9, 9)), m.ints(3), m.ints(0), m.ints(-1), m.ints(-2)
    ),
    "Resize": lambda m, a, b: m("Resize", a, "", m.const(np.array([1, 1, 2.5])), mode="linear"),
}


@pytest.mark.parametrize("name", _BETWEEN)
def test_between_signals_nothing_is_moved(name: str) -> None:
    m = Maker()
    x = _signal(m)
    made, _ = checked(m.graph(_conv(m, _BETWEEN[name](m, _conv(m, x), _conv(m, x)))))
    found = ops(made)
    assert found.count("Transpose") == 2, made
    assert found.count("Unsqueeze") == found.count("Squeeze") == 1, made


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2,), (1,), (0, -1), ()])
def test_reductions_of_signals(axes: tuple[int, ...], keepdims: int) -> None:
    m = Maker()
    y = _conv(m, _signal(m))
    checked(m.graph(m("ReduceSum", y, m.ints(*axes), keepdims=keepdims)), batches=(2, 1))


def test_a_causal_convolution_takes_in_its_pad() -> None:
    m = Maker()
    x = m("Pad", _signal(m), m.ints(0, 0, 2, 0, 0, 0))
    made, _ = checked(m.graph(_conv(m, x, pads=[0, 0])))
    assert ops(made) == [*BEFORE, "nhwc.Conv", *BEHIND]
    assert next(n for n in made.nodes if n.op == "Conv").attributes["pads"] == [0, 2, 0, 0]


def test_signals_with_channels_last_need_no_transpose() -> None:
    m = Maker()
    x = m("Transpose", m.input("x", "N", 11, 4), perm=[0, 2, 1])
    made, _ = checked(m.graph(m("Transpose", m("Relu", _conv(m, x)), perm=[0, 2, 1])))
    assert ops(made) == ["Unsqueeze", "nhwc.Conv", "Squeeze"]


@pytest.mark.parametrize("perm", [[2, 0, 1], [1, 0, 2], [0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_any_transpose_of_a_signal(perm: list[int]) -> None:
    m = Maker()
    made, _ = checked(m.graph(m("Transpose", _conv(m, _signal(m)), perm=perm)), batches=(3, 1))
    assert ops(made).count("Transpose") <= 2


@pytest.mark.parametrize("flat", ["Flatten", "Reshape"])
def test_weights_after_flattened_signals_are_put_in_order(flat: str) -> None:
    m = Maker()
    x = _conv(m, _signal(m))
    y = m("Flatten", x) if flat == "Flatten" else m("Reshape", x, m.ints(0, -1))
    made, _ = checked(m.graph(m("Gemm", y, m.const((44, 3)))))
    assert ops(made) == ["Unsqueeze", "Transpose", "nhwc.Conv", "Flatten", "fused.Linear"] or "Reshape" in ops(made)
    assert ops(made).count("Transpose") == 1


def test_a_rank_that_only_the_weights_say() -> None:
    m = Maker()
    x = m("Reshape", m.input("x", "N", 44), m.input("shape", 3))
    m.inputs["shape"] = TensorType(np.dtype(np.int64), (3,))
    graph = m.graph(m("Conv", x, m.const((4, 4, 3))))
    assert "nhwc.Conv" in ops(optimize(graph, check=True)[0])


_TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": 2, "pads": 1},
    {"strides": 3, "output_padding": 2, "group": 2},
    {"strides": 2, "auto_pad": "SAME_UPPER"},
    {"strides": 2, "auto_pad": "SAME_LOWER", "dilations": 2},
    {"strides": 4, "auto_pad": "SAME_UPPER"},
    {"strides": 2, "output_shape": 12},
    {"strides": 3, "output_shape": 25},
    {"auto_pad": "VALID", "pads": 1},
]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("given", _TRANSPOSED)
def test_transposed_convolutions(given: dict[str, Any], rank: int) -> None:
    m = Maker()
    times = {"pads": 2 * rank, "group": 0, "auto_pad": 0}
    window = {k: [v] * times.get(k, rank) if times.get(k, rank) else v for k, v in given.items()}
    group = window.get("group", 1)
    x = m.input("x", "N", 4, *(6, 7)[:rank])
    y = m("ConvTranspose", x, m.const((4, 6 // group, *[3] * rank)), m.const((6,)), **window)
    made, _ = checked(m.graph(m("Relu", m("Add", y, m.const((6, *[1] * rank))))))
    images = ["Transpose", "nhwc.ConvTranspose", "Transpose"]
    assert ops(made) == (images if rank == 2 else ["Unsqueeze", *images, "Squeeze"])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: m("ConvTranspose", _signal(m), m.input("w", 4, 2, 3)), "the weights 'w' are not constant"),
        (
            lambda m: m("ConvTranspose", _signal(m, "N", 4, "L"), m.const((4, 2, 3)), output_shape=[9]),
            "output_shape needs the size of 'x'",
        ),
        (
            lambda m: m("ConvTranspose", _signal(m, "N", 4, 2, 2, 2), m.const((4, 2, 1, 1, 1))),
            "3 spatial dimensions, not 1 to 2",
        ),
    ],
)
def test_transposed_convolutions_decline(make: Any, reason: str) -> None:
    m = Maker()
    made, log = checked(m.graph(make(m)), batches=(4,))
    assert "ConvTranspose" in ops(made)
    assert reason in reasons(log, "layout_nhwc")


def test_same_padding_needs_no_size_of_a_transposed_convolution() -> None:
    m = Maker()
    y = m("ConvTranspose", _signal(m, "N", 4, "L"), m.const((4, 2, 3)), auto_pad="SAME_UPPER", strides=[2])
    made, _ = checked(m.graph(y), batches=(5,))
    assert "nhwc.ConvTranspose" in ops(made)


def test_volumes() -> None:
    m = Maker()
    x = m.input("x", "N", 4, 6, 7, 8)
    y = m("Relu", m("Conv", x, m.const((6, 2, 2, 3, 3)), m.const((6,)), group=2, pads=[1, 0, 1, 1, 1, 0]))
    y = m("MaxPool", m("Pad", y, m.ints(0, 0, 0, 1, 0, 0, 0, 0, 0, 1)), kernel_shape=[2, 2, 2], strides=[2, 1, 2])
    y = m(
        "Conv", m("Mul", m.const((6, 1, 1, 1)), m("AveragePool", y, kernel_shape=[1, 2, 2])), m.const((4, 6, 1, 1, 1))
    )
    made, _ = checked(m.graph(m("Flatten", m("GlobalAveragePool", y))))
    pools = ["Pad", "nhwc.MaxPool", "nhwc.AveragePool", "nhwc.GlobalAveragePool", "nhwc.Conv"]
    assert ops(made) == ["Transpose", "nhwc.Conv", *pools, "Reshape"]


def test_pads_fold_into_the_convolution_of_volumes() -> None:
    m = Maker()
    x = m("Pad", m.input("x", "N", 2, 4, 5, 6), m.ints(0, 0, 1, 0, 2, 0, 0, 0, 1, 0))
    made, _ = checked(m.graph(m("Conv", x, m.const((3, 2, 2, 2, 2)))))
    assert [n.attributes["pads"] for n in made.nodes if n.op == "Conv"] in ([[1, 0, 2, 0, 1, 0]], [[0] * 6])


def test_resized_images_stay_channels_last() -> None:
    m = Maker()
    x = m.input("x", "N", 4, 6, 6)
    y = m("Resize", m.conv(x, 4, 4), "", "", m.ints(9, 11), mode="cubic", axes=[2, 3])
    y = m.conv(m("Resize", y, "", m.const(np.array([1, 1, 2, 0.5]))), 4, 4)
    made, _ = checked(m.graph(y))
    assert ops(made) == ["Transpose", "nhwc.Conv", "Resize", "Resize", "nhwc.Conv", "Transpose"]
