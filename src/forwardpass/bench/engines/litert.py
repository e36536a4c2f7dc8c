"""LiteRT (TensorFlow Lite) with XNNPACK, on its own files or on a twin: `model.tflite` beside `model.onnx`.

Nothing here converts. A twin may have its images channels-last: inputs are given, and outputs taken, as it has them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import Array, Call, NotApplicable, Options

READS = (".onnx", ".tflite")
PACKAGES = ("ai-edge-litert",)
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def version() -> str:
    import ai_edge_litert.interpreter  # noqa: F401

    return importlib.metadata.version("ai-edge-litert")


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    twin = Path(path).with_suffix(".tflite")
    if not twin.exists():
        raise NotApplicable(f"LiteRT needs a converted twin of the model: {twin.name} beside it")
    made = Interpreter(str(twin), num_threads=options.threads)
    wanted = made.get_input_details()
    if len(wanted) != len(inputs):
        raise NotApplicable(f"{twin.name} has {len(wanted)} inputs instead of {len(inputs)}")
    given = []
    for info, (name, x) in zip(wanted, inputs.items()):
        array = _as_twin(x, tuple(info["shape"]), f"input {name!r} of {twin.name}")
        made.resize_tensor_input(info["index"], array.shape)
        given.append((info["index"], array.astype(info["dtype"])))
    made.allocate_tensors()
    places = [info["index"] for info in made.get_output_details()]
    outputs = _own_outputs(made) if twin == Path(path) else _outputs_of(path)

    def call() -> list[Any]:
        for index, array in given:
            made.set_tensor(index, array)
        made.invoke()
        return [made.get_tensor(index) for index in places]

    def named(result: list[Any]) -> dict[str, Array]:
        return {name: _as_onnx(y, shape) for (name, shape), y in zip(outputs.items(), result)}

    return Call(call, (), named)


def _as_twin(x: Array, shape: tuple[int, ...], what: str) -> Array:
    """An input as the twin has it, but for the batch."""
    if x.ndim == len(shape) and x.shape[1:] == shape[1:]:
        return x
    if x.ndim == len(shape) == 4 and tuple(x.shape[k] for k in _LAST[1:]) == shape[1:]:
        return np.ascontiguousarray(x.transpose(_LAST))
    raise NotApplicable(f"{what} has the shape {list(shape)} instead of {list(x.shape)}")


def _outputs_of(path: str) -> dict[str, tuple[int, ...]]:
    """The outputs of an ONNX file, and their shapes; 0 for what is not known."""
    import onnx

    found = onnx.load(path, load_external_data=False).graph.output
    return {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in found}


def _own_outputs(made: Any) -> dict[str, tuple[int, ...]]:
    """The outputs in their order, by the names of the first signature where there is one."""
    details = made.get_output_details()
    names = {d["index"]: d["name"] for d in details}
    if signatures := list(made.get_signature_list()):
        runner = made.get_signature_runner(signatures[0])
        names |= {d["index"]: name for name, d in runner.get_output_details().items()}
    return {names[d["index"]]: tuple(d["shape"]) for d in details}


def _as_onnx(y: Array, shape: tuple[int, ...]) -> Array:
    turned = tuple(y.shape[k] for k in _FIRST) if y.ndim == len(shape) == 4 else ()
    return y.transpose(_FIRST) if turned and y.shape[1:] != shape[1:] and turned[1:] == shape[1:] else y
