"""What PyTorch has made, told apart: modules, exported programs, TorchScript."""

from __future__ import annotations

import io
from typing import Any

from ...errors import InputError
from ...graph import Graph
from ..archive import Archive
from .exported import quiet, read_exported, read_module, torch_module

__all__ = ["graph_of_source"]


def graph_of_source(source: Any, example_inputs: Any, dynamic_shapes: Any) -> Graph:
    """The graph of an object of PyTorch.

    Raises
    ------
    InputError
        It is none that is known.
    UnsupportedError
        As the readers.
    """
    torch = torch_module()
    if isinstance(source, torch.export.ExportedProgram):
        return read_exported(source)
    if isinstance(source, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return _script(torch, source, example_inputs)
    if isinstance(source, torch.nn.Module):
        return read_module(source, example_inputs, dynamic_shapes)
    expected = "a torch.nn.Module, a torch.export.ExportedProgram or a TorchScript module"
    hint = ""
    if isinstance(source, str):
        hint = "forwardpass.load(path) reads .pt2, forwardpass.load(path, inputs=...) TorchScript's .pt"
    raise InputError("nothing that PyTorch runs", expected=expected, got=type(source).__name__, hint=hint)


def _script(torch: Any, module: Any, example_inputs: Any) -> Graph:
    """The graph of a TorchScript module, through the archive that it would be saved as."""
    from .inputs import types_of
    from .torchscript import read_archive

    if example_inputs is None:
        raise InputError("a TorchScript module needs example inputs", expected="a tensor or a tuple of them")
    if getattr(module, "training", False):
        raise InputError("the module is in training mode", hint="module.eval()")
    saved = io.BytesIO()
    with quiet():
        torch.jit.save(module, saved)
    name = getattr(module, "original_name", "") or "script"
    return read_archive(Archive(name, saved.getvalue()), types_of(example_inputs))
