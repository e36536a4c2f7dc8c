"""The networks of the suite as ONNX files with random weights, as exporters write them: folded batch normalization,
attention and GELU in their small steps. Speed does not depend on the weights, but the values stay in range.

    python bench/model_files.py FOLDER [--only mobilenet,lstm]

The first dimension is free. The largest file, BERT, takes 440 MB.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET, IR = 17, 8


class Maker:
    """Grows a graph: methods add nodes and return the name of what they define."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = np.random.default_rng(list(name.encode()))
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        return self.const(self.source.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}" + (f"_{k}" if k else "") for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, inputs: int, units: int) -> str:
        """Of matrices: Gemm, as a linear layer is exported."""
        w = self.random(units, inputs, scale=inputs**-0.5)
        return str(self.node("Gemm", x, w, self.random(units, scale=0.1), transB=1))

    def linear(self, x: str, inputs: int, units: int) -> str:
        """Of sequences: MatMul and Add."""
        y = self.node("MatMul", x, self.random(inputs, units, scale=inputs**-0.5))
        return str(self.node("Add", self.random(units, scale=0.1), y))

    def conv(self, x: str, inputs: int, filters: int, size: int, stride: int = 1, group: int = 1, pad: int = -1) -> str:
        pad = size // 2 if pad < 0 else pad
        each = inputs // group
        w = self.random(filters, each, size, size, scale=(2 / (each * size * size)) ** 0.5)
        return str(
            self.node(
                "Conv", x, w, self.random(filters, scale=0.1), kernel_shape=[size] * 2, strides=[stride] * 2,
                pads=[pad] * 4, group=group, dilations=[1, 1],
            )
        )  # fmt: skip

    def relu6(self, x: str) -> str:
        return str(self.node("Clip", x, self.const(np.float32(0)), self.const(np.float32(6))))

    def model(self, shape: tuple[int | str, ...], dtype: int, y: str) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", dtype, ["N", *shape])
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, self.name, [x], [out], self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        return onnx.shape_inference.infer_shapes(made)


def mlp(*sizes: int, last: str = "") -> Callable[[str], onnx.ModelProto]:
    def make(name: str) -> onnx.ModelProto:
        m, x = Maker(name), "x"
        for k, (inputs, units) in enumerate(pairwise(sizes)):
            x = m.dense(x, inputs, units)
            x = m.node("Relu", x) if k < len(sizes) - 2 else m.node(last, x) if last else x
        return m.model((sizes[0],), TensorProto.FLOAT, x)

    return make


def cifar(name: str) -> onnx.ModelProto:
    m, x, channels = Maker(name), "x", 3
    for filters in (32, 64):
        x = m.node("Relu", m.conv(x, channels, filters, 3, pad=0))
        x, channels = m.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), filters
    x = m.dense(m.node("Flatten", x), 64 * 6 * 6, 10)
    return m.model((3, 32, 32), TensorProto.FLOAT, m.node("Softmax", x, axis=-1))


def recurrent(op: str, inputs: int, hidden: int, steps: int) -> Callable[[str], onnx.ModelProto]:
    gates = {"GRU": 3, "LSTM": 4}[op]

    def make(name: str) -> onnx.ModelProto:
        m = Maker(name)
        weights = [m.random(1, gates * hidden, k, scale=k**-0.5) for k in (inputs, hidden)]
        more = {"linear_before_reset": 1} if op == "GRU" else {}
        x = m.node("Transpose", "x", perm=[1, 0, 2])
        bias = m.random(1, 2 * gates * hidden, scale=0.1)
        _, last = m.node(op, x, *weights, bias, outputs=2, hidden_size=hidden, **more)
        x = m.node("Squeeze", last, m.const(np.array([0])))
        return m.model((steps, inputs), TensorProto.FLOAT, m.dense(x, hidden, 10))

    return make


def mobilenet_v2(name: str) -> onnx.ModelProto:
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    m, channels = Maker(name), 32
    x = m.relu6(m.conv("x", 3, 32, 3, 2))
    for expand, filters, count, first in table:
        for k in range(count):
            stride, wide, before = first if k == 0 else 1, channels * expand, x
            if expand > 1:
                x = m.relu6(m.conv(x, channels, wide, 1))
            x = m.relu6(m.conv(x, wide, wide, 3, stride, group=wide))
            x = m.conv(x, wide, filters, 1)
            x = m.node("Add", before, x) if stride == 1 and channels == filters else x
            channels = filters
    return m.model((3, 224, 224), TensorProto.FLOAT, _classifier(m, m.relu6(m.conv(x, channels, 1280, 1)), 1280))


def resnet_50(name: str) -> onnx.ModelProto:
    m, channels = Maker(name), 64
    x = m.node("Relu", m.conv("x", 3, 64, 7, 2))
    x = m.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for width, count, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(count):
            stride, wide = first if k == 0 else 1, 4 * width
            y = m.node("Relu", m.conv(x, channels, width, 1))
            y = m.conv(m.node("Relu", m.conv(y, width, width, 3, stride)), width, wide, 1)
            x = m.conv(x, channels, wide, 1, stride) if k == 0 else x
            x, channels = m.node("Relu", m.node("Add", y, x)), wide
    return m.model((3, 224, 224), TensorProto.FLOAT, _classifier(m, x, 2048))


def _classifier(m: Maker, x: str, channels: int) -> str:
    return m.dense(m.node("Flatten", m.node("GlobalAveragePool", x)), channels, 1000)


def encoder(layers: int, size: int, heads: int, wide: int, tokens: int | str) -> Callable[[str], onnx.ModelProto]:
    """A transformer encoder of the kind of BERT, with the mean over the tokens at its end."""

    def norm(m: Maker, x: str) -> str:
        one = m.const(np.ones(size, np.float32))
        return str(m.node("LayerNormalization", x, one, m.random(size, scale=0.1), axis=-1, epsilon=1e-5))

    def gelu(m: Maker, x: str) -> str:
        y = m.node("Erf", m.node("Div", x, m.const(np.float32(2**0.5))))
        y = m.node("Mul", x, m.node("Add", y, m.const(np.float32(1))))
        return str(m.node("Mul", y, m.const(np.float32(0.5))))

    def attention(m: Maker, x: str) -> str:
        each = size // heads
        qkv = m.node("Reshape", m.linear(x, size, 3 * size), m.const(np.array([0, 0, 3, heads, each])))
        qkv = m.node("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        q, k, v = (m.node("Gather", qkv, m.const(np.int64(i)), axis=0) for i in range(3))
        scores = m.node("MatMul", q, m.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = m.node("Softmax", m.node("Mul", scores, m.const(np.float32(each**-0.5))), axis=-1)
        mixed = m.node("Transpose", m.node("MatMul", scores, v), perm=[0, 2, 1, 3])
        return m.linear(m.node("Reshape", mixed, m.const(np.array([0, 0, size]))), size, size)

    def make(name: str) -> onnx.ModelProto:
        m = Maker(name)
        places = tokens if isinstance(tokens, int) else 1
        x = m.node("Add", m.node("Gather", m.random(30522, size), "x"), m.random(1, places, size, scale=0.02))
        x = norm(m, x)
        for _ in range(layers):
            x = norm(m, m.node("Add", x, attention(m, x)))
            y = m.linear(gelu(m, m.linear(x, size, wide)), wide, size)
            x = norm(m, m.node("Add", x, y))
        return m.model((tokens,), TensorProto.INT64, m.node("ReduceMean", x, axes=[1], keepdims=0))

    return make


NETWORKS: dict[str, tuple[Callable[[str], onnx.ModelProto], tuple[int, ...]]] = {
    "mlp-8-5-1": (mlp(8, 5, 1, last="Sigmoid"), (1, 1024)),
    "mlp-100-10-20-1": (mlp(100, 10, 20, 1, last="Sigmoid"), (1, 1024)),
    "mlp-16-64-32-1": (mlp(16, 64, 32, 1), (1, 1024)),
    "mlp-784-512-512-10": (mlp(784, 512, 512, 10), (1, 64)),
    "cifar-cnn": (cifar, (1, 32)),
    "lstm-64-128-t32": (recurrent("LSTM", 64, 128, 32), (1, 16)),
    "gru-64-128-t32": (recurrent("GRU", 64, 128, 32), (1, 16)),
    "mobilenet-v2": (mobilenet_v2, (1, 8)),
    "resnet-50": (resnet_50, (1, 8)),
    "minilm-l6-s128": (encoder(6, 384, 12, 1536, 128), (1, 8)),
    "bert-base-s128": (encoder(12, 768, 12, 3072, 128), (1,)),
}
"""Name -> (its maker, the batch sizes that are timed)."""


def write(folder: Path, name: str) -> Path:
    """The file of a network, made if it is not there."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(NETWORKS[name][0](name).SerializeToString())
        part.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[""], metavar="A,B")
    args = parser.parse_args()
    for name in NETWORKS:
        if any(word in name for word in args.only):
            path = write(args.folder, name)
            print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
