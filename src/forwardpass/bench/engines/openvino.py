"""OpenVINO on shared inputs and outputs; shapes are made fixed first, as its guide advises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import Array, Call, Options

READS = (".onnx",)
PACKAGES = ("openvino",)
_PRECISIONS = {"": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def version() -> str:
    import openvino

    return str(openvino.__version__)


def compiled(model: str | bytes, shapes: Mapping[str, tuple[int, ...]], threads: int, precision: str = "") -> Any:
    """An inference request for a path or the bytes of a model."""
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    if any(i.partial_shape.is_dynamic for i in network.inputs):
        network.reshape({name: list(shape) for name, shape in shapes.items()})
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS.get(precision, precision),
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(network, "CPU", settings).create_infer_request()


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    request = compiled(path, {k: x.shape for k, x in inputs.items()}, options.threads, options.precision)

    def outputs(result: Any) -> dict[str, Array]:
        # A port has the names of all values that became one, such as those on both sides of an Identity.
        return {name: np.array(value) for port, value in result.items() for name in port.get_names()}

    return Call(request.infer, (dict(inputs), True, True), outputs)
