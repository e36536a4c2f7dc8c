"""Files to graphs: one module per format, each with `read(path) -> Graph`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ..errors import InputError, UnsupportedError
from ..graph import Graph
from .files import first_bytes
from .weights import WEIGHTS, read_weights

__all__ = ["READERS", "load_graph", "read_weights"]

READERS = {
    ".npz": "npz",
    ".onnx": "onnx",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".tflite": "tflite",
    ".pt": "torch",
    ".pt2": "torch",
    ".pth": "torch",
}
"""Suffix -> the module of this package that reads it."""

_ASKING = frozenset({"torch"})
"""Modules whose files may not say the shapes of their inputs."""

_KNOWN = {
    ".pkl": "pickle",
    ".joblib": "pickle",
    ".safetensors": "safetensors",
    ".gguf": "GGUF",
    ".pb": "TensorFlow",
    ".xml": "OpenVINO",
    ".mlmodel": "Core ML",
    ".npy": "a single NumPy array",
}
"""Suffixes whose files people try, and what they are."""

_WEIGHTS_HINT = "if it holds weights alone: build the network with forwardpass.builder, then set_weights(path)"
_HINTS = {
    ".pkl": "forwardpass.from_sklearn takes the estimator itself",
    ".joblib": "forwardpass.from_sklearn takes the estimator itself",
}
"""Suffix -> what to do with such a file."""


def load_graph(path: str | os.PathLike[str], *, verify: bool = True, inputs: Any = None, threads: int = 1) -> Graph:
    """Read a model file of any format that this version knows.

    Parameters
    ----------
    path
        The file. Its suffix says the format; without a known suffix its first bytes do.
    verify
        Check the checksums of the weights, where the format has them.
    inputs
        The shapes of the inputs, for a format that does not say them: TorchScript.
    threads
        That may work for it, where it is large and of a format whose reader uses them.

    Raises
    ------
    FileError
        The file cannot be read or is damaged.
    InputError
        `inputs` are missing, wrong, or given for a format that says them itself.
    UnsupportedError
        The format is not read.
    """
    text = os.fsdecode(path)
    suffix = os.path.splitext(text)[1].lower()
    if suffix not in READERS and suffix not in _KNOWN:
        suffix = _sniff(text)
    if suffix not in READERS:
        kind = _KNOWN.get(suffix, "unknown")
        readable = ", ".join(f"*{s}" for s in READERS)
        hint = _HINTS.get(suffix, _WEIGHTS_HINT if suffix in WEIGHTS else "")
        raise UnsupportedError("this format is not read", where=text, expected=readable, got=f"{kind} file", hint=hint)
    options: dict[str, Any] = {} if inputs is None else {"inputs": inputs}
    if options and READERS[suffix] not in _ASKING:
        raise InputError("the file says the shapes of its inputs itself", where=text, expected="no inputs")
    if READERS[suffix] == "npz":
        options["threads"] = threads
    module = import_module(f".{READERS[suffix]}", __name__)
    graph: Graph = module.read(path, verify=verify, **options)
    return graph


def _sniff(path: str) -> str:
    """The suffix that a file's first bytes deserve, or ""."""
    start = first_bytes(path, 64)
    # A zip file begins with its first entry; one of a Keras model is the text of its arguments or of its version.
    if start[:4] == b"PK\3\4" and start[30:].startswith((b"metadata.json", b"config.json")):
        return ".keras"
    if start[4:8] == b"TFL3":
        return ".tflite"
    marks = {b"PK\3\4": ".npz", b"PK\5\6": ".npz", b"\x89HDF": ".h5", b"\x93NUM": ".npy", b"GGUF": ".gguf"}
    return marks.get(start[:4], "")
