"""OpenVINO in float32, on shared inputs and outputs."""

from __future__ import annotations

from network import Array, Network
from onnx_model import channels_first, channels_last, onnx_bytes

from . import Options, Ready


def version() -> str:
    import onnx  # noqa: F401 - the model is made with it
    import openvino

    return str(openvino.__version__)


def setup(network: Network, x: Array, options: Options) -> Ready:
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(onnx_bytes(network, x)), "CPU", settings)
    request = compiled.create_infer_request()
    return Ready(request.infer, ({0: channels_first(x)}, True, True), lambda outputs: channels_last(outputs[0]))
