"""PyTorch, traced, frozen and optimised for inference, on a module that onnx2torch makes of the ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Array, Call, Options, by_name

READS = (".onnx",)
PACKAGES = ("torch", "onnx2torch")


def version() -> str:
    import onnx2torch  # noqa: F401 - PyTorch itself does not read ONNX
    import torch

    return str(torch.__version__)


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    import onnx
    import torch
    from onnx2torch import convert

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    names = [o.name for o in onnx.load(path, load_external_data=False).graph.output]
    tensors = tuple(torch.from_numpy(x) for x in inputs.values())
    frozen = torch.jit.freeze(torch.jit.trace(convert(path).eval(), tensors))

    def outputs(result: Any) -> dict[str, Array]:
        return by_name(names, [result] if isinstance(result, torch.Tensor) else result)

    return Call(torch.jit.optimize_for_inference(frozen), tensors, outputs)
