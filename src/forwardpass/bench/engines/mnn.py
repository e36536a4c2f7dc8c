"""MNN, with its own converter from ONNX; its outputs are read back into arrays, which is when it computes."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import Array, Call, NotApplicable, Options, by_name

READS = (".onnx",)
PACKAGES = ("MNN", "onnx")
# What the command mnnconvert runs, without the log that it sends home. A process of its own, since it prints.
_CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
_PRECISIONS = {"": "high", "float32": "high", "bfloat16": "low_bf16"}


def version() -> str:
    import MNN  # noqa: F401

    return importlib.metadata.version("MNN")


def module(source: str, inputs: Sequence[str], outputs: Sequence[str], threads: int, precision: str = "") -> Any:
    """The converted model of an ONNX file."""
    import MNN

    with tempfile.TemporaryDirectory() as folder:
        converted = str(Path(folder, "model.mnn"))
        words = ["-f", "ONNX", "--modelFile", source, "--MNNModel", converted, "--bizCode", "bench"]
        done = subprocess.run(
            [sys.executable, "-c", _CONVERT, *words],
            check=False,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "2"},  # on one, the converter crashes on recurrent layers
        )
        if done.returncode:
            raise NotApplicable(f"MNN's converter failed with the status {done.returncode}")
        config = {"backend": "CPU", "numThread": threads, "precision": _PRECISIONS.get(precision, precision)}
        manager = MNN.nn.create_runtime_manager((config,))
        return MNN.nn.load_module_from_file(converted, list(inputs), list(outputs), runtime_manager=manager)


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    import MNN.expr as expr
    import onnx

    names = [o.name for o in onnx.load(path, load_external_data=False).graph.output]
    made = module(path, list(inputs), names, options.threads, options.precision)
    given = [_variable(expr, x) for x in inputs.values()]

    def call() -> list[Any]:
        return [y.read() for y in made.forward(given)]

    return Call(call, (), lambda result: by_name(names, result))


def _variable(expr: Any, x: Array) -> Any:
    """An input of a converted model, whose whole numbers are of 32 bits."""
    whole = x.dtype.kind in "iu"
    kept = x.astype(np.int32) if whole else x
    return expr.const(kept, list(x.shape), expr.NCHW, expr.int if whole else expr.float)
