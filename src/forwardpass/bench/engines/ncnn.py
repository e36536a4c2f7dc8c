"""ncnn, on what pnnx makes of an ONNX file. Its blobs have no batch, so that it runs batch 1 alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import Array, Call, NotApplicable, Options

READS = (".onnx",)
PACKAGES = ("ncnn", "pnnx", "onnx")
_NARROW = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")


def version() -> str:
    import ncnn

    converter()
    return str(ncnn.__version__)


def converter() -> str:
    """The program pnnx. Its package is not imported, since that wants PyTorch.

    Raises
    ------
    ImportError
        The package is not installed.
    """
    found = importlib.util.find_spec("pnnx")
    if found is None or not found.origin:
        raise ImportError("ncnn needs the package pnnx to read ONNX files")
    return str(Path(found.origin).with_name("pnnx"))


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    import ncnn
    import onnx

    if any(x.ndim == 0 or len(x) != 1 for x in inputs.values()):
        raise NotApplicable("ncnn runs batch 1 alone")
    if any(x.dtype != np.float32 for x in inputs.values()):
        raise NotApplicable("inputs of other types than float32 are not tried with ncnn")
    graph = onnx.load(path, load_external_data=False).graph
    net = ncnn.Net()
    net.opt.num_threads = options.threads
    for name in _NARROW:
        setattr(net.opt, name, "bf16" in name and options.precision == "bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        _convert(path, inputs, Path(folder))
        if net.load_param(f"{folder}/model.ncnn.param") or net.load_model(f"{folder}/model.ncnn.bin"):
            raise NotApplicable("ncnn has not all of its layers")
    given = [ncnn.Mat(np.ascontiguousarray(x[0])) for x in inputs.values()]
    outputs = [o.name for o in graph.output]

    def call() -> list[Any]:
        run = net.create_extractor()
        for k, x in enumerate(given):
            run.input(f"in{k}", x)
        return [run.extract(f"out{k}")[1] for k in range(len(outputs))]

    def named(result: list[Any]) -> dict[str, Array]:
        return {name: np.array(y)[None] for name, y in zip(outputs, result)}

    return Call(call, (), named)


def _convert(path: str, inputs: Mapping[str, Array], folder: Path) -> None:
    """Write model.ncnn.param and model.ncnn.bin."""
    model = folder / "model.onnx"
    shutil.copyfile(path, model)
    shapes = ",".join(f"[{','.join(map(str, x.shape))}]f32" for x in inputs.values())
    done = subprocess.run(
        [converter(), str(model), f"inputshape={shapes}", "fp16=0"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode or not (folder / "model.ncnn.param").exists():
        raise NotApplicable("pnnx cannot convert it")
