"""All arrays of an HDF5 file by their paths, whoever wrote it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import FileError
from ...graph import Array
from .hdf5 import MAX_NAMES, Group, opened

__all__ = ["read_weights"]


def read_weights(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """Read the arrays of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    verify
        Of no effect: the checksums are always looked at, where the file has them.

    Returns
    -------
    dict
        Path inside of the file -> read-only array.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    """
    text = os.fsdecode(path)
    with opened(text, text) as root:
        found: dict[str, Array] = {}
        for name, array in _arrays(root, ""):
            found[name] = array
            if len(found) > MAX_NAMES:
                raise FileError("too many arrays", where=text, expected=f"at most {MAX_NAMES}")
    for array in found.values():
        array.flags.writeable = False
    return found


def _arrays(group: Group, prefix: str) -> Iterator[tuple[str, Array]]:
    for name in group.names():
        inner = group.group(name)
        if inner is not None:
            yield from _arrays(inner, f"{prefix}{name}/")
        else:
            array = group.array(name)
            if array is not None:
                yield f"{prefix}{name}", array
