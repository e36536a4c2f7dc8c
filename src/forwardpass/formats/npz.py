"""The native format: an `.npz` that `numpy.load` opens, whose weights can be memory-mapped.

A model is a zip file with `graph.json` (see `schema`) and one `.npy` per array, all stored uncompressed and
64-byte aligned. A bare file of weights has no `graph.json`; it may come from `numpy.savez` or
`numpy.savez_compressed`.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import FileError, GraphError
from ..graph import Array, Graph
from . import npy, schema
from .archive import Archive, archive_bytes, excerpt, write_archive

__all__ = ["from_bytes", "read", "read_weights", "to_bytes", "write"]

_GRAPH_BASE, _GRAPH_PER_BYTE = 1 << 20, 16
"""A compressed graph.json may inflate to base + per_byte * its stored size: parsing multiplies that."""


def read(path: str | os.PathLike[str], *, verify: bool = True) -> Graph:
    """Read a model.

    Parameters
    ----------
    path
        The file. It must not be changed in place while the graph is in use, since the arrays are its memory
        map; `write` replaces it instead, which is safe.
    verify
        Check the CRC-32 of every array; False saves reading all weights before the first run. `graph.json` is
        always checked.

    Returns
    -------
    Graph
        Verified. Its constants are read-only; those stored uncompressed, aligned, in C order and native byte
        order are memory-mapped.

    Raises
    ------
    FileError
        The file cannot be read, is damaged, unsafe, of a newer version, or no model.
    """
    return _graph(Archive(path), verify)


def from_bytes(data: bytes, *, verify: bool = True) -> Graph:
    """As `read`, from what `to_bytes` or the file gives."""
    return _graph(Archive("<bytes>", data), verify)


def _graph(archive: Archive, verify: bool) -> Graph:
    if schema.ENTRY not in archive.members:
        if archive.members and all(m.endswith(".npy") for m in archive.members):
            hint = "these are weights alone: build the network with forwardpass.builder, then set_weights(path)"
        else:
            hint = "forwardpass models and files of weights hold .npy arrays"
        raise FileError("not a model", where=archive.path, expected=f"an entry {schema.ENTRY}", hint=hint)
    member = archive.members[schema.ENTRY]
    limit = _GRAPH_BASE + _GRAPH_PER_BYTE * member.stored
    if member.size > max(member.stored, limit):
        where = f"{archive.path}: {schema.ENTRY}"
        raise FileError("the text is too long", where=where, expected=f"<= {limit} bytes", got=str(member.size))
    arrays = _arrays(archive, verify)
    graph = schema.load(archive.data(schema.ENTRY), arrays, archive.path)
    try:
        graph.verify()
    except GraphError as e:
        raise FileError(
            f"not a valid graph: {excerpt(e.message, 300)}",
            where=f"{archive.path}: {schema.ENTRY}: {excerpt(e.where)}",
            expected=excerpt(e.expected),
            got=excerpt(e.got),
        ) from e
    return graph


def read_weights(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """Read the arrays of a file made with `numpy.savez`, as safely as a model.

    Parameters
    ----------
    path, verify
        As for `read`.

    Returns
    -------
    dict
        Name -> read-only array, in the order of the file.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe, or is a whole model.
    """
    archive = Archive(path)
    if schema.ENTRY in archive.members:
        hint = "forwardpass.load reads it"
        raise FileError("a whole model, not a file of weights", where=archive.path, hint=hint)
    return _arrays(archive, verify)


def _arrays(archive: Archive, verify: bool) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in archive.members:
        where = f"{archive.path}: {excerpt(name)}"
        if name.endswith(".npy"):
            arrays[name[: -len(".npy")]] = npy.parse(archive.data(name, verify=verify), where)
        elif name != schema.ENTRY:
            raise FileError("unexpected entry", where=where, expected=f".npy arrays and {schema.ENTRY}")
    return arrays


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a model. Equal graphs give equal bytes; an existing file is replaced in one step or not at all.

    Tuples among the attributes come back as lists.

    Parameters
    ----------
    graph
        Any valid graph whose arrays are of the dtypes in `npy.DTYPES`.
    path
        The file, taken as it is: no suffix is added.

    Raises
    ------
    GraphError
        The graph is not valid.
    UnsupportedError
        It has an attribute or a dtype that the format cannot hold.
    FileError
        The operating system refuses.
    """
    write_archive(path, _members(graph))


def to_bytes(graph: Graph) -> bytes:
    """The bytes that `write` would write; raises as it does."""
    return archive_bytes(_members(graph))


def _members(graph: Graph) -> list[tuple[str, list[Any]]]:
    graph.verify()
    text, arrays = schema.dump(graph)
    members: list[tuple[str, list[Any]]] = [(schema.ENTRY, [text])]
    return members + [(f"{entry}.npy", list(npy.parts(array))) for entry, array in sorted(arrays.items())]
