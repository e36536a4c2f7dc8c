"""What PyTorch has made, told apart: modules, exported programs, TorchScript."""

from __future__ import annotations

from typing import Any

from ...errors import InputError
from ...graph import Graph
from .exported import read_exported, read_module, torch_module
from .script import read_script

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
        return read_script(source, example_inputs)
    if isinstance(source, torch.nn.Module):
        return read_module(source, example_inputs, dynamic_shapes)
    expected = "a torch.nn.Module, a torch.export.ExportedProgram or a TorchScript module"
    hint = ""
    if isinstance(source, str):
        hint = "from_torch(torch.export.load(path)) or torch.jit.load(path) for a file that you trust"
    raise InputError("nothing that PyTorch runs", expected=expected, got=type(source).__name__, hint=hint)
