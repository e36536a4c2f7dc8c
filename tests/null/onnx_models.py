"""Small ONNX models: one for each thing that an importer has to understand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

node = helper.make_node


def info(name: str, code: int = F, shape: Sequence[Any] | None = ("N", 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def initializer(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def typed(name: str, code: int, shape: Sequence[int], values: Iterable[Any]) -> onnx.TensorProto:
    """A tensor whose values are in a field of their type, not in bytes."""
    return helper.make_tensor(name, code, list(shape), list(values))


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[onnx.TensorProto] = (),
    name: str = "g",
) -> onnx.GraphProto:
    """A graph; values of which only the name matters may be given as names."""

    def made(value: Any) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=value) if isinstance(value, str) else value

    return helper.make_graph(list(nodes), name, list(map(made, inputs)), list(map(made, outputs)), list(constants))


def model(
    main: onnx.GraphProto, opset: int = 21, functions: Sequence[onnx.FunctionProto] = (), ir: int = 10
) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(d, 1) for d in sorted({f.domain for f in functions})]
    return helper.make_model(main, opset_imports=imports, functions=list(functions), ir_version=ir)


def function(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Sequence[str] = (),
    defaults: Sequence[onnx.AttributeProto] = (),
    opset: int = 21,
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function(
        "local", name, list(inputs), list(outputs), list(nodes), imports, list(attributes), list(defaults)
    )


def reference(made: onnx.NodeProto, name: str, source: str, kind: int) -> onnx.NodeProto:
    """The node with an attribute that takes the value of its function's."""
    made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=source, type=kind))
    return made


# ---- models


def dense() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1, name="first"),
        node("Relu", ["h"], ["r"]),
        node("Dropout", ["r"], ["d", "mask"]),
        node("Concat", ["d", "x"], ["y"], axis=-1),
    ]
    w = np.arange(12).reshape(4, 3) / 8
    return model(
        graph(nodes, [info("x")], [info("y", F, ["N", 7])], [initializer("w", w), typed("b", F, [4], range(4))])
    )


def image() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    nodes = [
        node("Conv", ["x", "k"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "z", "z", "s"], ["n"]),
        node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["a"]),
        node("Flatten", ["a"], ["y"]),
    ]
    constants = [
        initializer("k", rng.standard_normal((2, 3, 3, 3))),
        initializer("s", [1, 2]),
        initializer("z", [0, 0.5]),
    ]
    return model(graph(nodes, [info("x", F, [1, 3, 4, 4])], ["y"], constants))


def shapes() -> onnx.ModelProto:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["r"]),
        node("Transpose", ["r"], ["q"], perm=[1, 0]),
        node("Slice", ["q", "zero", "two"], ["y"]),
    ]
    ints = [initializer(n, [v], np.int64) for n, v in (("zero", 0), ("minus", -1), ("two", 2))]
    return model(graph(nodes, [info("x", F, ["N", 3, 2])], ["y", "s"], ints))


def branches() -> onnx.ModelProto:
    """An If in an If: one branch captures a value, the other a constant, the inner ones both."""
    inner_then = graph([node("Add", ["h", "w"], ["t"])], [], ["t"], name="inner then")
    inner_else = graph([node("Neg", ["x"], ["t"])], [], ["t"], name="inner else")
    then = graph([node("If", ["deep"], ["u"], then_branch=inner_then, else_branch=inner_else)], [], ["u"], name="then")
    otherwise = graph([node("Mul", ["own", "w"], ["v"])], [], ["v"], [initializer("own", [1, 2, 3])], name="else")
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise, name="outer"),
    ]
    inputs = [info("x", F, [3]), info("c", B, []), info("deep", B, [])]
    return model(graph(nodes, inputs, ["y"], [initializer("w", [10, 20, 30])]))


def loop() -> onnx.ModelProto:
    """The body reads a value and a constant of the graph around it; the state is an output twice."""
    body = graph(
        [
            node("Mul", ["state", "step"], ["m"]),
            node("Add", ["m", "x"], ["next"]),
            node("Identity", ["going"], ["go"]),
        ],
        [info("i", I, []), info("going", B, []), info("state", F, [3])],
        [info("go", B, []), info("next", F, [3]), info("next", F, [3])],
        name="body",
    )
    nodes = [node("Loop", ["count", "", "x"], ["y", "all"], body=body)]
    constants = [initializer("step", 0.5), initializer("count", 3, np.int64)]
    return model(graph(nodes, [info("x", F, [3])], ["y", "all"], constants))


def scan() -> onnx.ModelProto:
    body = graph(
        [node("Add", ["s", "e"], ["t"]), node("Mul", ["t", "w"], ["o"])],
        [info("s", F, [3]), info("e", F, [3])],
        [info("t", F, [3]), info("o", F, [3])],
        name="body",
    )
    nodes = [node("Scan", ["s0", "x"], ["last", "ys"], body=body, num_scan_inputs=1)]
    return model(graph(nodes, [info("s0", F, [3]), info("x")], ["last", "ys"], [initializer("w", [1, 2, 3])]))


def functions() -> onnx.ModelProto:
    """Functions that call functions, with attributes given, defaulted and passed on, and a body inside of one."""
    leaky = function(
        "Leaky",
        [reference(node("LeakyRelu", ["a"], ["b"]), "alpha", "slope", onnx.AttributeProto.FLOAT)],
        ["a"],
        ["b"],
        defaults=[helper.make_attribute("slope", 0.5)],
    )
    then = graph([node("Add", ["m", "bias"], ["t"])], [], ["t"], name="then")
    otherwise = graph(
        [reference(node("Constant", [], ["k"]), "value_float", "other", onnx.AttributeProto.FLOAT),
         node("Mul", ["m", "k"], ["t"])],
        [], ["t"], name="else",
    )  # fmt: skip
    block = function(
        "Block",
        [
            reference(node("Leaky", ["a"], ["m"], domain="local"), "slope", "slope", onnx.AttributeProto.FLOAT),
            node("If", ["c"], ["r"], then_branch=then, else_branch=otherwise),
            node("Squeeze", ["r"], ["q"]),
        ],
        ["a", "c", "bias"],
        ["q"],
        attributes=["other"],
        defaults=[helper.make_attribute("slope", 0.25)],
        opset=12,
    )
    nodes = [
        node("Unsqueeze", ["x", "axis"], ["u"]),
        node("Block", ["u", "c", "bias"], ["p"], domain="local", other=2.0, slope=0.125, name="one"),
        node("Block", ["u", "c", "bias"], ["o"], domain="local", other=3.0, name="two"),
        node("Leaky", ["p"], ["n"], domain="local"),
        node("Sub", ["n", "o"], ["y"]),
    ]
    constants = [initializer("axis", [0], np.int64), initializer("bias", [1, 2, 3])]
    main = graph(nodes, [info("x"), info("c", B, [])], ["y"], constants)
    return model(main, functions=[block, leaky])


def sequences() -> onnx.ModelProto:
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("SequenceAt", ["s", "k"], ["e"]),
        node("Optional", ["e"], ["o"]),
        node("OptionalGetElement", ["o"], ["g"]),
        node("ConcatFromSequence", ["s"], ["c"], axis=0),
        node("Add", ["g", "x"], ["y"]),
    ]
    return model(graph(nodes, [info("x")], ["y", "c", "s"], [initializer("k", 1, np.int64)]))


def constants() -> onnx.ModelProto:
    """Every way to say a constant."""
    sparse = helper.make_sparse_tensor(
        typed("p", F, [2], [5, 7]), typed("i", I, [2], [0, 4]), [2, 3]
    )  # fmt: skip
    nodes = [
        node("Constant", [], ["a"], value=typed("t", F, [3], [1, 2, 3])),
        node("Constant", [], ["b"], value_float=2.5),
        node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0]),
        node("Constant", [], ["d"], value_int=2),
        node("Constant", [], ["e"], value_ints=[3, 4]),
        node("Constant", [], ["f"], value_string="text"),
        node("Constant", [], ["g"], value_strings=["one", "two"]),
        node("Constant", [], ["h"], sparse_value=sparse),
        node("Add", ["x", "a"], ["y"]),
    ]
    return model(graph(nodes, [info("x")], ["y", "b", "c", "d", "e", "f", "g", "h"]))


def old() -> onnx.ModelProto:
    """Opset 9: operators whose attributes became inputs later."""
    nodes = [
        node("Unsqueeze", ["x"], ["u"], axes=[0, 1]),
        node("Upsample", ["u", "scales"], ["p"], mode="nearest"),
        node("Squeeze", ["p"], ["q"], axes=[0, 1]),
        node("ReduceSum", ["q"], ["r"], axes=[1], keepdims=0),
        node("Softmax", ["q"], ["s"]),
        node("Clip", ["r"], ["y"], min=0.0, max=1.0),
    ]
    main = graph(nodes, [info("x", F, [2, 3])], ["y", "s"], [initializer("scales", [1, 1, 2, 2])])
    return model(main, opset=9, ir=4)


def recurrent() -> onnx.ModelProto:
    rng = np.random.default_rng(5)
    nodes = [node("LSTM", ["x", "w", "r"], ["y", "h", ""], hidden_size=2)]
    weights = [initializer(n, rng.standard_normal(s)) for n, s in (("w", (1, 8, 3)), ("r", (1, 8, 2)))]
    return model(graph(nodes, [info("x", F, [4, 1, 3])], ["y", "h"], weights))


def external(folder: Path) -> onnx.ModelProto:
    """`dense` with its weights in a file of the folder, the second one at an offset."""
    made = dense()
    data = [numpy_helper.to_array(t) for t in made.graph.initializer]
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "w.bin").write_bytes(data[0].tobytes() + b"\0" * 16 + data[1].tobytes())
    offsets = [0, data[0].nbytes + 16]
    for tensor, offset, array in zip(made.graph.initializer, offsets, data):
        put_outside(tensor, location="sub/w.bin", offset=str(offset), length=str(array.nbytes))
    return made


def put_outside(tensor: onnx.TensorProto, **entries: str) -> None:
    """Make a tensor say that its data is in another file."""
    for field in ("raw_data", "float_data", "int64_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (dense, image, shapes, branches, loop, scan, functions, sequences, constants, old, recurrent)
}


def example(value: onnx.ValueInfoProto, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Values for an input, with 2 for the sizes that a call decides."""
    kind = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else 2 for d in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if dtype == np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    return np.asarray(rng.standard_normal(shape) * 4).astype(dtype)
