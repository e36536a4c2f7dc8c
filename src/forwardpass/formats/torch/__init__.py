"""PyTorch's files and programs.

Files of weights are read here, without PyTorch and without running their pickles (`pickles`, `objects`, `containers`);
so are files of programs (`torchscript`, `packages`).
"""

from __future__ import annotations

import os
from typing import Any

from ...errors import FileError, InputError, UnsupportedError
from ...graph import Array, Graph
from ..archive import Archive, excerpt
from ..files import first_bytes, mapped, naming
from .containers import Container, LegacyFile, ZipFile, is_script, root_of
from .objects import Tensor

__all__ = ["read", "read_weights"]

_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
"""Where training scripts put the weights among other things, the likeliest first."""
_MAX_DEPTH = 4


def read(path: str | os.PathLike[str], *, verify: bool = True, inputs: Any = None) -> Graph:
    """Read a program that `torch.jit.save` or `torch.export.save` wrote, without PyTorch. Nothing of it is run.

    Parameters
    ----------
    path
        The file.
    verify
        Of no effect, as for weights.
    inputs
        The shapes of the inputs, which TorchScript does not say: as for `forwardpass.load`.

    Raises
    ------
    FileError
        The file cannot be read or is damaged.
    InputError
        `inputs` are missing, not those of the program, or given for a file that says them itself.
    UnsupportedError
        It is a file of weights, branches depend on the data, or operators are not known here.
    """
    text = os.fsdecode(path)
    if first_bytes(path, 2) == b"PK":
        with naming(text):
            graph = _program(Archive(text), inputs)
        if graph is not None:
            return graph
    if text.lower().endswith(".pt2"):
        hint = "save it again with torch.export.save of a newer PyTorch, such as 2.13, or give from_torch the program"
        raise UnsupportedError("no program in the file", where=text, expected="a file of torch.export.save", hint=hint)
    hint = "if it holds weights alone: build the network with forwardpass.builder, then set_weights(path)"
    raise UnsupportedError("no program in the file", where=text, expected="a TorchScript archive", hint=hint)


def _program(archive: Archive, inputs: Any) -> Graph | None:
    """The graph of a program, None where there is none in the file."""
    root = root_of(archive)
    if root is not None and is_script(archive, root):
        from .inputs import types_of
        from .torchscript import read_archive

        return read_archive(archive, types_of(inputs))
    from .packages import program_of, read_package

    entry = program_of(archive)
    if entry is not None and inputs is not None:
        raise InputError("the file says the shapes of its inputs itself", where=archive.path, expected="no inputs")
    return None if entry is None else read_package(archive, entry)


def read_weights(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """Read the tensors of a file that `torch.save` made from a `state_dict`, or from a dict that holds one.

    Parameters
    ----------
    path
        The file, of any version of PyTorch since 0.1.10. It must not be changed in place while the arrays are in use.
    verify
        Of no effect: the checksums are always looked at, where the file has them.

    Returns
    -------
    dict
        Name -> read-only array, in the order of the file. What is no tensor is left out.

    Raises
    ------
    FileError
        The file cannot be read, is damaged, or names anything but tensors, numbers, text and containers.
    """
    text = os.fsdecode(path)
    container = _container(text)
    found = _weights(container.value, text)
    return {name: container.array(tensor, name) for name, tensor in found.items()}


def _container(path: str) -> Container:
    data = memoryview(mapped(path))
    start = bytes(data[:262])
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return ZipFile(path)
    if start[257:] == b"ustar":
        hint = "load it with a version of PyTorch that can, and save it again"
        raise FileError("a file of PyTorch before 0.1.10", where=path, hint=hint)
    if start[:1] != b"\x80":
        expected = "a zip file or a pickle"
        raise FileError("not a PyTorch file", where=path, expected=expected, got=excerpt(start[:8]))
    return LegacyFile(path, data)


def _weights(value: Any, where: str) -> dict[str, Tensor]:
    """The tensors by name, wherever the file keeps them."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(value, dict):
            break
        inner = next((value[k] for k in _NESTED if _has_tensors(value.get(k))), None)
        if inner is None and not any(isinstance(v, Tensor) for v in value.values()):
            nested = [k for k, v in value.items() if _has_tensors(v)]
            if len(nested) > 1:
                got = ", ".join(repr(k) for k in nested[:10])
                raise FileError("several sets of weights", where=where, expected="one", got=excerpt(got))
            inner = value[nested[0]] if nested else None
        if inner is None:
            found = {k: v for k, v in value.items() if isinstance(v, Tensor) and isinstance(k, str)}
            if found:
                return found
            break
        value = inner
    if isinstance(value, Tensor):
        return {"tensor": value}
    hint = "torch.save(model.state_dict(), path)"
    raise FileError("no weights in the file", where=where, expected="a dict of tensors by name", hint=hint)


def _has_tensors(value: Any, depth: int = _MAX_DEPTH) -> bool:
    if not isinstance(value, dict) or depth == 0:
        return False
    return any(isinstance(v, Tensor) for v in value.values()) or any(
        _has_tensors(value.get(k), depth - 1) for k in _NESTED
    )
