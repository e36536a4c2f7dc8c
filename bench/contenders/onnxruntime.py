"""onnxruntime, called: `session.run(None, {"x": x})`."""

from __future__ import annotations

from typing import Any

from network import Array, Network
from onnx_model import channels_first, channels_last, onnx_bytes

from . import Options, Ready


def version() -> str:
    import onnx  # noqa: F401 - the model is made with it
    import onnxruntime

    return onnxruntime.__version__


def make_session(network: Network, x: Array, options: Options) -> Any:
    from forwardpass_bench.engines.onnxruntime import session

    return session(onnx_bytes(network, x), options.threads)


def setup(network: Network, x: Array, options: Options) -> Ready:
    session = make_session(network, x, options)
    return Ready(session.run, (None, {"x": channels_first(x)}), lambda outputs: channels_last(outputs[0]))
