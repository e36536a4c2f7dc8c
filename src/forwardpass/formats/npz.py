"""The native format: an `.npz` that `numpy.load` opens, whose weights can be memory-mapped.

A model is a zip file with `graph.json` (see `schema`) and one `.npy` per array, all stored uncompressed and
64-byte aligned. A bare file of weights has no `graph.json`; it may come from `numpy.savez` or
`numpy.savez_compressed`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..errors import FileError, GraphError, UnsupportedError
from ..graph import Array, Graph
from . import npy, schema
from .archive import MAX_MEMBERS, Archive, archive_bytes, excerpt, write_archive

__all__ = ["from_bytes", "read", "read_weights", "to_bytes", "write"]

_GRAPH_BASE, _GRAPH_PER_BYTE = 1 << 20, 16
"""A compressed graph.json may inflate to base + per_byte * its stored size: parsing multiplies that."""
LISTED_BASE = 1 << 20
"""So many elements of arrays, and one for each byte of the file, may become elements of lists."""


def read(path: str | os.PathLike[str], *, verify: bool = True, threads: int = 1) -> Graph:
    """Read a model.

    Parameters
    ----------
    path
        The file. It must not be changed in place while the graph is in use, since the arrays are its memory
        map; `write` replaces it instead, which is safe.
    verify
        Check the CRC-32 of every array; False saves reading all weights before the first run. `graph.json` is
        always checked.
    threads
        More than one: checksums may be looked at by another thread.

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
    archive = Archive(path)
    if not verify or threads == 1:
        return _graph(archive, verify)
    with archive.checked_ahead():
        return _graph(archive, verify)


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
    listed = LISTED_BASE + sum(m.stored for m in archive.members.values())
    graph = schema.load(archive.data(schema.ENTRY), arrays, archive.path, listed)
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


def write(graph: Graph, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> None:
    """Write a model. Equal graphs give equal bytes; an existing file is replaced in one step or not at all.

    Tuples among the attributes come back as lists.

    Parameters
    ----------
    graph
        Any valid graph whose arrays are of the dtypes in `stored.TYPES`.
    path
        The file, taken as it is: no suffix is added.
    progress
        Called after each array with the bytes of all that are written, and of all that there are.

    Raises
    ------
    GraphError
        The graph is not valid.
    UnsupportedError
        It has an attribute or a dtype that the format cannot hold, or too many arrays.
    FileError
        The operating system refuses.
    """
    write_archive(path, _members(graph, progress))


def to_bytes(graph: Graph) -> bytes:
    """The bytes that `write` would write; raises as it does."""
    return archive_bytes(_members(graph))


def _members(
    graph: Graph, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[str, list[bytes | Array]]]:
    """Name and parts of every member; those of an array are made when their turn comes, since some are copies."""
    from .schema_dump import dump  # which a program that only loads models does not need

    graph.verify()
    text, arrays = dump(graph)
    if len(arrays) >= MAX_MEMBERS:
        expected = f"fewer than {MAX_MEMBERS}"
        raise UnsupportedError("too many arrays for a file", expected=expected, got=str(len(arrays)))
    return _each(text, arrays, progress)


def _each(
    text: bytes, arrays: dict[str, Array], progress: Callable[[int, int], None] | None
) -> Iterator[tuple[str, list[bytes | Array]]]:
    done, total = 0, sum(a.nbytes for a in arrays.values())
    yield schema.ENTRY, [text]
    for entry, array in sorted(arrays.items(), key=lambda item: item[0]):
        yield f"{entry}.npy", npy.parts(array)
        done += array.nbytes
        if progress is not None:
            progress(done, total)
