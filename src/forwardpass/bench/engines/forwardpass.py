"""forwardpass, called: `y = model(x)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import Array, Call, Options

READS = (".npz", ".onnx", ".keras", ".h5", ".hdf5", ".tflite")
PACKAGES = ("forwardpass",)


def version() -> str:
    import forwardpass
    import forwardpass.run  # what a model needs, which the package imports late

    return forwardpass.__version__


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    import forwardpass

    model = forwardpass.load(path, threads=options.threads, precision=options.precision or "float32")
    names = list(model.graph.outputs)

    def outputs(result: Any) -> dict[str, Array]:
        return dict(zip(names, map(np.asarray, [result] if len(names) == 1 else result)))

    args = tuple(inputs[name] for name in model.inputs)
    return Call(model, args, outputs, lambda: _details(model, inputs))


def _details(model: Any, inputs: Mapping[str, Array]) -> dict[str, Any]:
    """What a call computes and reads, and how much of it without native kernels."""
    from forwardpass import explain

    shapes = {k: x.shape for k, x in inputs.items()}
    found = explain(model, shapes)
    return {
        "isa": model.settings.isa,
        "flops": sum(s["flops"] for s in found.steps),
        "weight_bytes": model.memory_plan(shapes).weights,
        "fallbacks": found.fallbacks,
    }
