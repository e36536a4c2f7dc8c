"""Image operators become channels-last, Transposes move to the edges, and scales, pads and residuals are folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Maker, checked, ops, reasons

from forwardpass.graph import TensorType
from forwardpass.passes import optimize

F64 = np.dtype(np.float64)


def _image(m: Maker, *shape: int | str | None) -> str:
    return m.input("x", *(shape or ("N", 4, 6, 6)))


_WINDOWS = [
    {},
    {"strides": [2, 1], "pads": [1, 0, 2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"dilations": [2, 1]},
]
_CEIL: list[dict[str, Any]] = [
    {"ceil_mode": 1, "strides": [2, 3]},
    {"ceil_mode": 1, "strides": [2, 3], "auto_pad": "SAME_UPPER"},
]


@pytest.mark.parametrize("window", _WINDOWS)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv_becomes_nhwc(window: dict[str, Any], group: int) -> None:
    m = Maker()
    w, b = m.const((4, 4 // group, 3, 2)), m.const((4,))
    made, _ = checked(m.graph(m("Conv", _image(m), w, b, group=group, **window)))
    assert ops(made) == ["Transpose", "nhwc.Conv", "Transpose"]


@pytest.mark.parametrize("window", [*_WINDOWS, *_CEIL])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_become_nhwc(op: str, window: dict[str, Any]) -> None:
    for more in ({}, {"count_include_pad": 1}) if op == "AveragePool" else ({},):
        m = Maker()
        made, _ = checked(m.graph(m(op, _image(m), kernel_shape=[3, 2], **window, **more)))
        assert ops(made) == ["Transpose", f"nhwc.{op}", "Transpose"]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_a_global_pool_before_flatten_needs_no_transpose(op: str) -> None:
    m = Maker()
    made, _ = checked(m.graph(m("Flatten", m(op, m.conv(_image(m), 4, 5)))))
    assert ops(made) == ["Transpose", "nhwc.Conv", f"nhwc.{op}", "Reshape"]


@pytest.mark.parametrize(
    ("make", "op", "reason"),
    [
        (lambda m: m("Conv", _image(m), m.input("w", 4, 4, 3, 3)), "Conv", "the weights 'w' are not constant"),
        (
            lambda m: m("Conv", _image(m, "N", 4, *[2] * 4), m.const((4, 4, 1, 1, 1, 1))),
            "Conv",
            "4 spatial dimensions, not",
        ),
        (
            lambda m: m(
                "Conv", _image(m, "N", 4, "H", 6), m.const((4, 4, 3, 3)), auto_pad="SAME_UPPER", strides=[2, 1]
            ),
            "Conv",
            "SAME_UPPER needs the size of 'x'",
        ),
        (
            lambda m: m("Neg", m("MaxPool", _image(m), kernel_shape=[2, 2], outputs=2) + "_1"),
            "MaxPool",
            "the indices 'v0_1' are used",
        ),
    ],
)
def test_layout_declines(make: Any, op: str, reason: str) -> None:
    m = Maker()
    made, log = checked(m.graph(make(m)), batches=(6,))
    assert op in ops(made)
    assert reason in reasons(log, "layout_nhwc")


def test_images_of_unknown_size_become_nhwc_too() -> None:
    m = Maker()
    x = _image(m, None, 4, None, None)
    made, _ = checked(m.graph(m("Relu", m("MaxPool", m.conv(x, 4, 3), kernel_shape=[2, 2]))), batches=(5,))
    assert ops(made) == ["Transpose", "nhwc.Conv", "nhwc.MaxPool", "Relu", "Transpose"]


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
def test_same_pads_of_steps_of_one_need_no_size(auto: str) -> None:
    m = Maker()
    x = m("Conv", _image(m, "N", 4, None, 6), m.const((4, 4, 4, 2)), auto_pad=auto, dilations=[2, 1], strides=[1, 3])
    made, _ = checked(m.graph(x), batches=(5,))
    assert ops(made) == ["Transpose", "nhwc.Conv", "Transpose"]
    assert made.nodes[1].attributes["pads"] == [3, 0, 3, 0]


_BETWEEN: dict[str, Any] = {
    "Relu": lambda m, a, b: m("Relu", m("Neg", a)),
    "constant": lambda m, a, b: m("Sub", m.const((4, 1, 1)), m("Pow", m("Abs", a), m.const(2.0))),
    "full constant": lambda m, a, b: m("Mul", a, m.const((1, 4, 6, 6))),
    "PRelu": lambda m, a, b: m("PRelu", a, m.const((4, 1, 1))),
    "two images": lambda m, a, b: m("Max", m("Add", a, b), b, a),
    "Clip": lambda m, a, b: m("Clip", a, m.const(-1.0), m.const(1.0)),
    "Cast": lambda m, a, b: m("Cast", m("Cast", a, to=7), to=11),
    "norm": lambda m, a, b: m("Tanh", m.norm(m("Exp", a), 4)),
    "Concat": lambda m, a, b: m("Concat", a, b, m.const((0, 4, 6, 6)), axis=0),
    "channels": lambda m, a, b: m("Slice4", m("Concat", a, b, axis=-3)),
    "Pad": lambda m, a, b: m("Pad", a, m.ints(0, 0, 1, 2, 0, 0, 0, 1), m.const(0.5)),
    "Pad of axes": lambda m, a, b: m("Pad", a, m.ints(1, 0), "", m.ints(-1), mode="edge"),
    "Slice": lambda m, a, b: m(
        "Slice", m("Slice", a, m.ints(0, 0, 1), m.ints(9, 9, 9)), m.ints(1), m.ints(5), m.ints(-1)
    ),
    "Softmax": lambda m, a, b: m("LogSoftmax", m("Softmax", a, axis=1), axis=-1),
    "Reduce": lambda m, a, b: m("Mul", a, m("ReduceMean", b, m.ints(2, 3))),
    "ReduceMax of channels": lambda m, a, b: m("Sub", a, m("ReduceMax", a, m.ints(1))),
    "gate": lambda m, a, b: m("Mul", a, m("Unsqueeze", m("ReduceMean", b, m.ints(2, 3), keepdims=0), m.ints(2, 3))),
    "gate of the caller": lambda m, a, b: m("Mul", a, m.input("gate", "N", 4, 1, 1)),
}
_BETWEEN["channels"] = lambda m, a, b: m.conv(m("Concat", a, b, axis=-3), 8, 4)


@pytest.mark.parametrize("name", _BETWEEN)
def test_transposes_move_past(name: str) -> None:
    """Between two convolutions nothing but the operators is left, and views of gates."""
    m = Maker()
    x = _image(m)
    a, b = m.conv(x, 4, 4), m.conv(x, 4, 4)
    made, _ = checked(m.graph(m.conv(_BETWEEN[name](m, a, b), 4, 3), m("Neg", b)))
    found = ops(made)
    # One at the beginning and one for each output; b may be an output in either layout.
    assert found.count("Transpose") == 3, made


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_what_a_reduction_leaves_is_transposed(axis: int) -> None:
    m = Maker()
    y = m.conv(_image(m, "N", 4, 6, 5), 4, 3)
    made, _ = checked(m.graph(m("Exp", m("ReduceSum", y, m.ints(axis), keepdims=0))), batches=(2, 1))
    # N, C and one of H and W are left, in another order than before; or the channels are gone, and H and W.
    assert ops(made).count("Transpose") == (1 if axis == 1 else 2)


def test_a_transpose_that_meets_none_stays_where_the_graph_has_it() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 5)
    y = m("Relu", m("Transpose", x, perm=[0, 2, 1]))
    made, _ = checked(m.graph(y))
    assert ops(made) == ["Transpose", "Relu"]


def test_other_transposes_move_where_they_meet() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 5)
    y = m("Transpose", m.norm(m("Transpose", x, perm=[0, 2, 1]), 5), perm=[0, 2, 1])
    assert ops(checked(m.graph(y))[0]) == ["fused.ScaleShift"]


def test_an_operand_in_another_layout_declines() -> None:
    m = Maker()
    x = _image(m)
    _, log = checked(m.graph(m("Add", m.conv(x, 4, 4), x), m("Concat", m.conv(x, 4, 4), x, axis=1)))
    assert reasons(log, "layout_nhwc").count("operand 'x' is not transposed alike") == 2


@pytest.mark.parametrize("flat", ["Flatten", "Reshape", "Reshape rows"])
def test_weights_after_flatten_are_put_in_order(flat: str) -> None:
    m = Maker()
    x = m.conv(_image(m), 4, 3)
    shape = {"Reshape": (0, -1), "Reshape rows": (-1, 3 * 36)}.get(flat)
    y = m("Flatten", x) if shape is None else m("Reshape", x, m.ints(*shape))
    y = m("Gemm", y, m.const((7, 3 * 36)), m.const((7,)), transB=1)
    batches = (2, 1) if flat == "Reshape rows" else (2, 1, 0)
    made, _ = checked(m.graph(m("Relu", y)), batches=batches)
    assert ops(made) == ["Transpose", "nhwc.Conv", "Flatten", "fused.Linear"]


def test_weights_after_flatten_of_unknown_size_stay() -> None:
    m = Maker()
    x = m.conv(_image(m, "N", 4, "H", "H"), 4, 3)
    y = m("MatMul", m("Reshape", x, m.ints(-1, 12)), m.const((12, 7)))
    _, log = checked(m.graph(y), batches=(2,))
    assert "does not flatten images of known size" in reasons(log, "layout_nhwc")


_AFFINE: dict[str, Any] = {
    "norm": lambda m, x, c, s: m.norm(x, c),
    "bias": lambda m, x, c, s: m("Add", m.const((c, *s)), x),
    "two biases": lambda m, x, c, s: m("Add", m("Sub", x, m.const((c, *s))), m.const(2.0)),
    "scale": lambda m, x, c, s: m("Mul", x, m.const((1, c, *s))),
    "scale and bias": lambda m, x, c, s: m("Add", m("Div", x, m.const((c, *s))), m.const((c, *s))),
    "reversed": lambda m, x, c, s: m("Sub", m.const((c, *s)), x),
}


@pytest.mark.parametrize("name", _AFFINE)
@pytest.mark.parametrize(
    "layer", ["Conv", "Conv with bias", "depthwise", "Conv 1-D", "Conv 4-D", "ConvTranspose", "MatMul", "Gemm"]
)
def test_scales_and_shifts_fold_into_the_layer_before(name: str, layer: str) -> None:
    m = Maker()
    spatial: tuple[int, ...] = ()
    if layer == "Conv 1-D":
        y, spatial = m("Conv", _image(m, "N", 4, 9), m.const((4, 4, 3))), (1,)
        left = ["Unsqueeze", "Transpose", "nhwc.Conv", "Transpose", "Squeeze"]
    elif layer == "Conv 4-D":
        y, spatial, left = m("Conv", _image(m, "N", 4, 2, 2, 2, 2), m.const((4, 4, 1, 1, 2, 2))), (1,) * 4, ["Conv"]
    elif layer == "ConvTranspose":
        y = m("ConvTranspose", _image(m, "N", 4, 3, 3), m.const((4, 2, 3, 3)), group=2, strides=[2, 2])
        left, spatial = ["Transpose", "nhwc.ConvTranspose", "Transpose"], (1, 1)
    elif "atMul" in layer or layer == "Gemm":
        left = ["fused.Linear"]
        c = [m.const((4,))] if layer == "Gemm" else []
        y = m(layer, m.input("x", "N", 7), m.const((7, 4)), *c)
    else:
        left, spatial = ["Transpose", "nhwc.Conv", "Transpose"], (1, 1)
        y = m.conv(_image(m), 4, 4, bias="bias" in layer, group=4 if layer == "depthwise" else 1)
    made, _ = checked(m.graph(_AFFINE[name](m, y, 4, spatial)))
    assert ops(made) == left


@pytest.mark.parametrize("layer", ["Conv", "groups", "activation", "MatMul"])
def test_scales_and_shifts_fold_into_the_layer_behind(layer: str) -> None:
    m = Maker()
    if layer == "MatMul":
        made, _ = checked(m.graph(m("MatMul", m.norm(m.input("x", "N", 6), 6), m.const((6, 3)))))
        assert ops(made) == ["fused.Linear"]
        return
    x = m.norm(_image(m), 4)
    y = m.conv(x, 4, 6, bias=True, pads=[0] * 4, group=2 if layer == "groups" else 1)
    made, _ = checked(m.graph(m("Relu", y) if layer == "activation" else y))
    # The first Transpose stands before the ScaleShift or behind it; both are the same work.
    assert sorted(ops(made)) == ["Transpose", "Transpose", "nhwc.Conv"]


def test_a_convolution_takes_its_activation_along() -> None:
    m = Maker()
    clipped = m("Clip", m.conv(_image(m), 4, 5), m.const(-1.0), m.const(2.0))
    shared = m.conv("x", 4, 3, out="shared")
    made, log = checked(m.graph(clipped, m("Relu", shared), m("Tanh", shared)))
    assert [n.attributes.get("activation") for n in made.nodes if n.op == "Conv"] == ["Clip", None]
    assert "became nhwc.Conv with the activation Clip" in "".join(e.detail for e in log.fired("layout_nhwc"))


def test_a_large_shift_is_not_folded_into_the_layer_behind() -> None:
    m = Maker()
    x = m("Sub", m.input("x", "N", 4), m.const(1e4))
    made, log = checked(m.graph(m("MatMul", x, m.const((4, 3)))))
    assert ops(made) == ["Sub", "fused.Linear"]
    assert "shifts by more than 8" in reasons(log, "fold_affine")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m, y: (m("Add", y, m.const((4,))), m("Exp", y)), "value 'y' is used by 2 nodes"),
        (lambda m, y: (m("Add", y, m.const((4,))), y), "value 'y' is a graph output"),
        (lambda m, y: (m("Add", y, m.const((5, 4))),), "the constant is not one value per channel"),
    ],
)
def test_folds_into_the_layer_before_decline(make: Any, reason: str) -> None:
    m = Maker()
    y = m("MatMul", m.input("x", "N", 5, 7), m.const((7, 4)), out="y")
    made, log = checked(m.graph(*make(m, y)))
    assert "Add" in ops(made)
    assert reason in reasons(log, "fold_affine")


def test_folds_past_padding_decline() -> None:
    m = Maker()
    made, log = checked(m.graph(m.conv(m.norm(m.input("x", 2, 4, 6, 6), 4), 4, 3)))
    assert "fused.ScaleShift" in ops(made)
    assert "cannot go past the padding" in reasons(log, "fold_affine")


@pytest.mark.parametrize("changed", ["scale", "training_mode"])
def test_norms_that_are_not_fixed_stay(changed: str) -> None:
    m = Maker()
    x = _image(m)
    vectors = [m.const((4,)) for _ in range(3)] + [m.const(np.ones(4))]
    if changed == "scale":
        vectors[0] = m.input("scale", 4)
        made, log = checked(m.graph(m("BatchNormalization", x, *vectors)))
        assert "'scale' is not a constant" in reasons(log, "lower_batchnorm")
    else:
        made, log = checked(m.graph(m("BatchNormalization", x, *vectors, training_mode=1)), batches=(2,))
        assert "training_mode" in reasons(log, "lower_batchnorm")
    assert ops(made) == ["BatchNormalization"]


def test_pads_fold_into_the_convolution() -> None:
    m = Maker()
    x = m("Pad", _image(m), m.ints(0, 0, 1, 2, 0, 0, 3, 0))
    made, _ = checked(m.graph(m.conv(x, 4, 3), m.conv(m("Pad", "x", m.ints(1, 2), "", m.ints(3)), 4, 3)))
    assert sorted(ops(made)) == ["Transpose"] * 3 + ["nhwc.Conv"] * 2
    assert [n.attributes["pads"] for n in made.nodes if n.op == "Conv"] == [[2, 3, 4, 1], [1, 2, 1, 3]]


@pytest.mark.parametrize(
    ("pads", "value", "attributes", "reason"),
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), 1.0, {}, "does not pad with zeros"),
        ((0, 0, 1, 1, 0, 0, 1, 1), 0.0, {"mode": "edge"}, "has mode 'edge'"),
        ((0, 1, 1, 1, 0, 0, 1, 1), 0.0, {}, "crops, or pads more"),
        ((0, 0, 2, 1, 0, 1, -1, 1), 0.0, {}, "crops, or pads more"),
    ],
)
def test_other_pads_stay(pads: tuple[int, ...], value: float, attributes: dict[str, Any], reason: str) -> None:
    m = Maker()
    # Behind a Relu, so that the Pad stands between channels-last values.
    x = m("Relu", m.conv(m.input("x", 2, 2, 6, 6), 2, 4 - pads[1] - pads[5]))
    made, log = checked(m.graph(m.conv(m("Pad", x, m.ints(*pads), m.const(value), **attributes), 4, 3)))
    assert "Pad" in ops(made)
    assert reason in reasons(log, "fold_pad")


def test_residuals_are_fused_into_the_later_layer() -> None:
    m = Maker()
    x = m.input("x", "N", 4)
    a = m("MatMul", m("Relu", m("MatMul", x, m.const((4, 4)))), m.const((4, 4)), out="a")
    made, _ = checked(m.graph(m("Relu", m("Add", a, m("MatMul", x, m.const((4, 4)), out="b")))))
    assert ops(made) == ["fused.Linear"] * 3
    assert made.nodes[-1].inputs[0] == "x"
    assert made.nodes[-1].inputs[3] == "a"
    assert made.nodes[-1].attributes["activation"] == "Relu"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m, x, y: (m("Add", y, x), y), "value 'y' is a graph output"),
        (lambda m, x, y: (m("Add", y, m.input("row", 1, 4)),), "are not known to be equal"),
        (lambda m, x, y: (m("Add", m("Add", y, x, out="s"), m.input("z", "N", 4)),), "has a residual already"),
    ],
)
def test_residuals_decline(make: Any, reason: str) -> None:
    m = Maker()
    x = m.input("x", "N", 4)
    made, log = checked(m.graph(*make(m, x, m("MatMul", x, m.const((4, 4)), out="y"))), batches=(1, 2))
    assert ops(made).count("Add") == 1
    assert reason in reasons(log, "fuse_residual")


def test_unnamed_batches_of_two_inputs_are_not_known_to_be_equal() -> None:
    m = Maker()
    y = m("MatMul", m.input("x", None, 4), m.const((4, 4)))
    _, log = checked(m.graph(m("Add", y, m.input("z", None, 4))))
    assert "are not known to be equal" in reasons(log, "fuse_residual")
    m = Maker()
    x = m.input("x", None, 4)
    made, _ = checked(m.graph(m("Add", m("MatMul", x, m.const((4, 4))), x)))
    assert ops(made) == ["fused.Linear"]


def test_a_depthwise_convolution_takes_no_residual() -> None:
    m = Maker()
    x = m.last(m.first(m.input("x", "N", 6, 6, 4)))
    y = m.last(m.conv(m.first(x), 4, 4, group=4))
    made, log = checked(m.graph(m("Add", x, y)))
    assert ops(made) == ["nhwc.Conv", "Add"]
    assert "is depthwise" in reasons(log, "fuse_residual")


def test_types_of_inputs_resolve_same_padding() -> None:
    m = Maker()
    w = m.const((4, 4, 3, 3))
    graph = m.graph(m("Conv", m.input("x", 1, 4, "H", "W"), w, auto_pad="SAME_UPPER", strides=[2, 2]))
    assert "nhwc.Conv" not in ops(optimize(graph)[0])
    made, _ = optimize(graph, {"x": TensorType(F64, (1, 4, 6, 7))}, check=True)
    assert "nhwc.Conv" in ops(made)
