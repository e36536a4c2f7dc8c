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
    from forwardpass_bench.engines.openvino import compiled

    request = compiled(onnx_bytes(network, x), {}, options.threads)
    return Ready(request.infer, ({0: channels_first(x)}, True, True), lambda outputs: channels_last(outputs[0]))
