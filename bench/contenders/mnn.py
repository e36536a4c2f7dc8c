"""MNN, with its own converter from ONNX; its output is read back into an array, which is when it computes."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from network import Array, Network
from onnx_model import channels_first, channels_last, onnx_bytes

from . import Options, Ready

# What the command mnnconvert runs, without the log that it sends home. A process of its own, since it prints.
CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def version() -> str:
    import MNN  # noqa: F401
    import onnx  # noqa: F401 - the model is made with it

    return importlib.metadata.version("MNN")


def setup(network: Network, x: Array, options: Options) -> Ready:
    import MNN
    import MNN.expr as expr

    with tempfile.TemporaryDirectory() as folder:
        source, converted = Path(folder, "model.onnx"), Path(folder, "model.mnn")
        source.write_bytes(onnx_bytes(network, x))
        files = ["--modelFile", str(source), "--MNNModel", str(converted)]
        subprocess.run(
            [sys.executable, "-c", CONVERT, "-f", "ONNX", *files, "--bizCode", "bench"],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        config = {"backend": "CPU", "numThread": options.threads, "precision": "high"}
        manager = MNN.nn.create_runtime_manager((config,))
        module = MNN.nn.load_module_from_file(str(converted), ["x"], ["y"], runtime_manager=manager)
    first = channels_first(x)
    given = [expr.const(first, list(first.shape), expr.NCHW)]

    def call() -> Any:
        return module.forward(given)[0].read()

    return Ready(call, (), channels_last)
