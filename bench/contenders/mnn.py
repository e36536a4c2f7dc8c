"""MNN, with its own converter from ONNX; its output is read back into an array, which is when it computes."""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

from network import Array, Network
from onnx_model import channels_first, channels_last, onnx_bytes

from . import Options, Ready


def version() -> str:
    import MNN  # noqa: F401
    import onnx  # noqa: F401 - the model is made with it

    return importlib.metadata.version("MNN")


def setup(network: Network, x: Array, options: Options) -> Ready:
    import MNN.expr as expr
    from forwardpass_bench.engines.mnn import module

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        source.write_bytes(onnx_bytes(network, x))
        made = module(str(source), ["x"], ["y"], options.threads)
    first = channels_first(x)
    given = [expr.const(first, list(first.shape), expr.NCHW)]

    def call() -> Any:
        return made.forward(given)[0].read()

    return Ready(call, (), channels_last)
