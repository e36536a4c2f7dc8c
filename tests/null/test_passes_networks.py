"""What is left of whole networks."""

from __future__ import annotations

from collections import Counter

import numpy as np
from graphs import Maker, checked, ops

from forwardpass.builder import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Network,
    ReLU,
    Sequential,
    ZeroPadding2D,
)
from forwardpass.graph import Graph, TensorType
from forwardpass.passes import optimize
from forwardpass.passes.float_attributes import round_attributes


def _wide(graph: Graph) -> Graph:
    """The graph in float64 with random weights, so that the folds round in float64; what passes round to float32 first,
    the attributes, is so already."""
    round_attributes(graph)
    rng = np.random.default_rng(3)
    for name, array in graph.constants.items():
        if array.dtype.kind == "f":
            values = (
                rng.normal(size=array.shape) / max(1.0, array.size / array.shape[0]) ** 0.5 if array.ndim else array
            )
            graph.constants[name] = np.abs(values) + 0.5 if "variance" in name else values.astype(np.float64)
    graph.inputs = {k: TensorType(np.dtype(np.float64), t.shape) for k, t in graph.inputs.items()}
    return graph


def test_a_small_image_network() -> None:
    network = Sequential(
        [
            Input((16, 16, 3)),
            Conv2D(8, 3, activation="relu", padding="same"),
            MaxPool2D(),
            Conv2D(16, 3, activation="relu", padding="same"),
            MaxPool2D(),
            Flatten(),
            Dense(10, activation="softmax"),
        ]
    )
    made, _ = checked(_wide(network.init(0).graph()))
    assert ops(made) == [
        "nhwc.Conv",
        "nhwc.MaxPool",
        "nhwc.Conv",
        "nhwc.MaxPool",
        "Flatten",
        "fused.Linear",
        "Softmax",
    ]
    assert [n.attributes.get("activation") for n in made.nodes if n.op == "Conv"] == ["Relu", "Relu"]
    assert all(len(n.inputs) == 3 for n in made.nodes if n.op in ("Conv", "Linear"))


def test_the_same_network_channels_first() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 16, 16)
    for c, f in ((3, 8), (8, 16)):
        x = m("MaxPool", m("Relu", m.conv(x, c, f, bias=True)), kernel_shape=[2, 2], strides=[2, 2])
    x = m("Gemm", m("Flatten", x), m.const((10, 256)), m.const((10,)), transB=1)
    made, _ = checked(m.graph(m("Softmax", x)))
    assert ops(made) == [
        "nhwc.Conv",
        "nhwc.MaxPool",
        "nhwc.Conv",
        "nhwc.MaxPool",
        "Flatten",
        "fused.Linear",
        "Softmax",
    ]


def test_a_dense_network() -> None:
    layers = [Input((8,)), Dense(5, activation="sigmoid"), BatchNormalization(), Dense(1, activation="sigmoid")]
    made, _ = checked(_wide(Sequential(layers).init(0).graph()))
    assert ops(made) == ["fused.Linear", "fused.Linear"]


def test_a_mobile_network_from_the_builder() -> None:
    x = inputs = Input((12, 12, 8))
    for expand, stride in ((2, 1), (3, 2)):
        y = ReLU(max_value=6.0)(BatchNormalization()(Conv2D(8 * expand, 1, use_bias=False)(x)))
        y = ZeroPadding2D(1)(y)
        y = BatchNormalization()(DepthwiseConv2D(3, strides=stride, use_bias=False)(y))
        y = BatchNormalization()(Conv2D(8, 1, use_bias=False)(ReLU(max_value=6.0)(y)))
        x = Add()([x, y]) if stride == 1 else y
    y = Dense(3, activation="softmax")(GlobalAveragePool2D()(x))
    made, log = checked(_wide(Network(inputs, y).init(0).graph()))
    assert ops(made) == [
        *["nhwc.Conv"] * 5,
        "nhwc.GlobalAveragePool",
        "nhwc.Conv",
        "Flatten",
        "fused.Linear",
        "Softmax",
    ]
    convs = [n for n in made.nodes if n.op == "Conv"]
    assert [n.attributes.get("activation") or "" for n in convs] == ["Clip", "Clip", ""] * 2
    assert [len(n.inputs) for n in convs] == [3, 3, 4, 3, 3, 3]
    assert convs[1].attributes["pads"] == [1, 1, 1, 1]
    assert not log.declined(), str(log)


def test_a_residual_network() -> None:
    """Two blocks of ResNet, one with a convolution in the short cut, as PyTorch exports them."""
    m = Maker()
    x = m("Relu", m.norm(m.conv(m.input("x", "N", 3, 8, 8), 3, 4), 4))
    for c, f, s in ((4, 4, 1), (4, 8, 2)):
        y = m("Relu", m.norm(m.conv(x, c, f, strides=[s, s]), f))
        y = m.norm(m.conv(y, f, f), f)
        short = x if c == f else m.norm(m.conv(x, c, f, 1, strides=[s, s]), f)
        x = m("Relu", m("Add", y, short))
    x = m("Flatten", m("GlobalAveragePool", x))
    made, log = checked(m.graph(m("Gemm", x, m.const((5, 8)), m.const((5,)), transB=1)))
    counts = Counter(ops(made))
    assert counts == {
        "nhwc.Conv": 6,
        "nhwc.GlobalAveragePool": 1,
        "Flatten": 1,
        "fused.Linear": 1,
    }
    assert sum(len(n.inputs) == 4 for n in made.nodes if n.op == "Conv") == 2
    assert not log.declined(), str(log)


def test_squeeze_and_excitation() -> None:
    m = Maker()
    x = m("HardSwish", m.conv(m.input("x", "N", 4, 6, 6), 4, 8))
    g = m("Relu", m.conv(m("GlobalAveragePool", x), 8, 2, 1, bias=True))
    g = m("HardSigmoid", m.conv(g, 2, 8, 1, bias=True))
    made, _ = checked(m.graph(m("Flatten", m("GlobalAveragePool", m.conv(m("Mul", x, g), 8, 4, 1)))))
    assert Counter(ops(made)) == {
        "Transpose": 1,
        "nhwc.Conv": 4,
        "nhwc.GlobalAveragePool": 2,
        "Reshape": 1,
    }


def test_a_transformer_block_keeps_its_transposes() -> None:
    m = Maker()
    x = m.input("x", "N", 6, 8)
    heads = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        y = m("Add", m("MatMul", x, m.const((8, 8))), m.const((8,)))
        heads.append(m("Transpose", m("Reshape", y, m.ints(0, 6, 2, 4)), perm=order))
    p = m("Softmax", m("Div", m("MatMul", heads[0], heads[1]), m.const(2.0)))
    y = m("Reshape", m("Transpose", m("MatMul", p, heads[2]), perm=[0, 2, 1, 3]), m.ints(0, 6, 8))
    y = m("Add", m("Add", m("MatMul", y, m.const((8, 8))), m.const((8,))), x)
    made, _ = checked(m.graph(y))
    counts = Counter(ops(made))
    assert counts == {"fused.Linear": 4, "Reshape": 4, "Transpose": 4, "MatMul": 2, "Div": 1, "Softmax": 1}
    assert made.nodes[-1].inputs[3] == "x"


def test_activations_of_the_builder() -> None:
    names = ("relu", "relu6", "elu", "gelu", "silu", "hard_sigmoid", "hard_swish", "tanh", "softplus", "mish")
    for name in names:
        layers = [Input((4,)), Dense(3), Activation(name)]
        assert ops(checked(_wide(Sequential(layers).init(0).graph()))[0]) == ["fused.Linear"]


def test_many_nodes_take_about_linear_time() -> None:
    """Twice the nodes must not need much more than twice the rewrites."""

    def rewrites(blocks: int) -> int:
        m = Maker()
        x = m.input("x", "N", 4, 6, 6)
        for _ in range(blocks):
            x = m("Add", x, m("Relu", m.norm(m.conv(x, 4, 4), 4)))
        return len(optimize(m.graph(x))[1])

    few, many = rewrites(10), rewrites(40)
    assert many < 5 * few
