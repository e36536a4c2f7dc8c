"""Neural-network inference for CPUs: models in plain `.npz` files, NumPy the only dependency.

>>> import forwardpass as fp
>>> model = fp.load("model.npz")        # doctest: +SKIP
>>> y = model(x)                        # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import builder as builder
    from . import metrics as metrics
    from . import preprocess as preprocess
    from .batcher import Batcher as Batcher
    from .custom import op as op
    from .errors import ConfigError as ConfigError
    from .errors import Error as Error
    from .errors import FileError as FileError
    from .errors import GraphError as GraphError
    from .errors import InputError as InputError
    from .errors import UnsupportedError as UnsupportedError
    from .explanation import explain as explain
    from .explanation import show_config as show_config
    from .formats import read_weights as read_weights
    from .graph import Graph as Graph
    from .graph import Node as Node
    from .graph import TensorType as TensorType
    from .imports import from_onnx as from_onnx
    from .imports import from_sklearn as from_sklearn
    from .imports import from_torch as from_torch
    from .run import Model as Model
    from .run import load as load
    from .saving import save as save

# Public name -> the module that has it. Loaded at first use, so that importing the package costs nothing beyond NumPy
# and works without the compiled modules.
_HOME = {
    "Batcher": "batcher",
    "ConfigError": "errors",
    "Error": "errors",
    "FileError": "errors",
    "GraphError": "errors",
    "InputError": "errors",
    "UnsupportedError": "errors",
    "Graph": "graph",
    "Node": "graph",
    "TensorType": "graph",
    "Model": "run",
    "explain": "explanation",
    "from_onnx": "imports",
    "from_sklearn": "imports",
    "from_torch": "imports",
    "load": "run",
    "read_weights": "formats",
    "op": "custom",
    "save": "saving",
    "show_config": "explanation",
}

_MODULES = ("builder", "metrics", "preprocess")

__all__ = [*_HOME, *_MODULES, "get_include"]


def get_include() -> str:
    """The folder of `forwardpass.h`, for compilers of embedding extensions."""
    from pathlib import Path

    return str(Path(__file__).parent / "include")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in (*_MODULES, "_native"):  # PyCapsule_Import reaches _native as an attribute
        return import_module(f".{name}", __name__)
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
