"""onnxruntime, called: `session.run(None, inputs)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Array, Call, Options, by_name

READS = (".onnx",)
PACKAGES = ("onnxruntime",)


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def session(model: str | bytes, threads: int) -> Any:
    """A session on so many threads, for a path or the bytes of a model."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    return ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def load(path: str, inputs: Mapping[str, Array], options: Options) -> Call:
    made = session(path, options.threads)
    names = [o.name for o in made.get_outputs()]
    return Call(made.run, (None, dict(inputs)), lambda result: by_name(names, result))
